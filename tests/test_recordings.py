"""Recordings: exact first, then the nearest; written by anyone, taken only when they are sound."""

import asyncio
import gzip
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

sys.path.insert(0, str(Path(__file__).parent))
from llm_servers import Host, completion, ok

from personagen_utils import replay
from personagen_utils.baselines import ScoredText
from personagen_utils.chat import Request
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, open_client
from personagen_utils.nearest import Assignment
from personagen_utils.recordings import export_requests, import_replies, load_recordings
from personagen_utils.replay import Recorded, Recordings

CANARY = "sk-canary-4f1d9c27b8e35a60"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str


def text(number: int, attributes: dict | None = None, **changes) -> Request:
    message = {"role": "user", "content": f"Speak as person {number}."}
    meta = {"method": "PersonaGen", "language": "English", "emotion": "joy", "item": number}
    meta |= {"attributes": {"age": str(number % 3)} if attributes is None else attributes} | changes
    return Request("text", (message,), temperature=1.2, meta=meta)


def verdict(number: int) -> Request:
    return replace(text(number), kind="verdict", schema=Verdict, temperature=0.0)


def recorded(request: Request, content: str) -> Recorded:
    note = {"kind": request.kind, "batch": "b-001"} | dict(request.meta)
    return Recorded(request.key, completion(content), note)


def in_memory(rows: Sequence[Recorded]) -> Recordings:
    return Recordings(list(rows), {row.key: number for number, row in enumerate(rows)}, "f")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "export", tmp_path / "recordings"


def client(recordings: Path, backend: str = "recorded") -> Client:
    store = recordings.parent / "store.sqlite"
    run_dir = recordings.parent / "run"
    return open_client(
        backend=backend, store=store, recordings=recordings, run_dir=run_dir, progress=False
    )


def ask(one: Client, requests: list[Request], **options):
    return asyncio.run(one.ask(requests, **options))


def reply_lines(requests: Sequence[Request]) -> list[dict]:
    return [
        {"custom_id": r.key, "content": f"I am glad about {r.meta['item']}."}
        if r.kind == "text"
        else {"custom_id": r.key, "content": {"label": "natural"}}
        for r in requests
    ]


def write(folder: Path, lines: Sequence[dict | str], name: str = "replies-001.jsonl") -> None:
    rows = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    (folder / name).write_text("\n".join(rows) + "\n", encoding="utf-8")


def record(folders: tuple[Path, Path], requests: Sequence[Request]) -> None:
    """Take requests all the way: export, answer, import."""
    export, recordings = folders
    export_requests({r.key: r for r in requests}, export)
    write(export, reply_lines(requests))
    report = import_replies(export, name="demo", recordings=recordings)
    assert (report.accepted, report.refused, report.open) == (len(requests), [], 0)


# Export


def test_export_collects_what_nobody_answered(folders):
    one = client(folders[1], "export")
    replies = ask(one, [text(0), text(1), verdict(0), text(1)])
    assert [reply.match for reply in replies] == ["missing"] * 4
    assert list(one.outbox) == [text(0).key, text(1).key, verdict(0).key]
    record(folders, [text(0)])
    one = client(folders[1], "export")
    replies = ask(one, [text(0), text(1)])
    assert [reply.match for reply in replies] == ["exact", "missing"]
    assert list(one.outbox) == [text(1).key]


def test_export_knows_what_a_live_host_answered(folders, monkeypatch, tmp_path):
    with Host(lambda body, n: ok("Glad.")) as host:
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        live = open_client(backend="openai", store=tmp_path / "store.sqlite", progress=False)
        ask(live, [text(0)])
    one = client(folders[1], "export")
    assert [reply.match for reply in ask(one, [text(0), text(1)])] == ["live", "missing"]
    record(folders, [text(0)])
    one = client(folders[1], "export")
    (reply,) = ask(one, [text(0)])
    assert (reply.match, reply.content) == ("exact", "I am glad about 0.")  # recordings go first


def test_batches_are_batch_files_mixed_and_apart(folders):
    plain = [replace(text(0), sample=k) for k in range(40)]
    requests = {r.key: r for r in plain + [text(i) for i in range(1, 300)] + [verdict(1)]}
    judge = replace(verdict(2), model="gpt-4o")
    paths = export_requests(requests | {judge.key: judge}, folders[0], batch_size=50)
    batches = [[json.loads(line) for line in path.read_text().splitlines()] for path in paths]
    assert sorted(row["custom_id"] for rows in batches for row in rows) == sorted(
        [*requests, judge.key]
    )
    for rows in batches:
        assert all(row.keys() == {"custom_id", "method", "url", "body"} for row in rows)
        assert len({row["body"]["model"] for row in rows}) == 1
        prompts = Counter(row["body"]["messages"][-1]["content"] for row in rows)
        assert max(prompts.values()) <= 3
        assert len(rows) <= 50
    items = [int(r["body"]["messages"][0]["content"].split()[-1][:-1]) for r in batches[0]]
    assert items != sorted(items)
    meta = [json.loads(line) for line in (folders[0] / "meta.jsonl").read_text().splitlines()]
    assert [row["custom_id"] for row in meta] == [*requests, judge.key]
    assert meta[-1]["schema"]["properties"].keys() == {"label"}
    with pytest.raises(KitError, match="holds exported requests already"):
        export_requests(requests, folders[0])


# Import


def test_bad_lines_are_refused_by_file_and_line_and_the_good_are_kept(folders):
    export, recordings = folders
    requests = [text(0), text(1), verdict(2), verdict(3), text(4), text(5), text(6)]
    export_requests({r.key: r for r in requests}, export)
    good = reply_lines(requests)
    batch_line = {
        "id": "batch_req_1",
        "custom_id": requests[5].key,
        "response": {"status_code": 200, "body": completion("I am glad, batch.")},
        "error": None,
    }
    expired = {"custom_id": requests[6].key, "response": None, "error": {"code": "batch_expired"}}
    write(
        export,
        [
            good[0],
            "{not json",
            {"custom_id": "0" * 32, "content": "Who am I?"},
            {"custom_id": requests[0].key, "content": "Twice."},
            "",
            {"custom_id": requests[1].key, "content": "  "},
            {"custom_id": requests[2].key, "content": "natural"},
            {"custom_id": requests[3].key, "content": {"label": 3}},
            {"custom_id": requests[4].key, "content": "One. Two. Three."},
            {"custom_id": requests[4].key},
            batch_line,
            expired,
        ],
    )
    report = import_replies(export, name="demo", recordings=recordings)
    said = [line.split("replies-001.jsonl:")[1] for line in report.refused]
    for line, reason in zip(
        said,
        [
            "2: no JSON",
            "3: custom_id '0000",
            "4: custom_id",
            "6: empty reply",
            "7: no JSON: 'natural'",
            "8: $.label: 3 is not of type",
            "9: ",
            "10: needs custom_id and content",
            "12: failed there",
        ],
        strict=True,
    ):
        assert line.startswith(reason)
    assert (report.accepted, report.open) == (2, 5)
    assert "2 accepted" in str(report)
    found = load_recordings(recordings)
    assert [row.answer.content for row in found.rows] == ["I am glad about 0.", "I am glad, batch."]
    assert [row.answer.model for row in found.rows] == ["recorded-llm", "scripted-1"]
    # Correct the lines and import again.
    write(export, [good[0], batch_line, *good[1:5], good[6]])
    report = import_replies(export, name="demo", recordings=recordings)
    assert (report.accepted, report.refused, report.open) == (7, [], 0)
    assert len(load_recordings(recordings).rows) == 7


def test_a_recorded_reply_is_not_replaced(folders):
    record(folders, [text(0)])
    write(folders[0], [{"custom_id": text(0).key, "content": "Something else."}])
    for name in ("demo", "second"):
        report = import_replies(folders[0], name=name, recordings=folders[1])
        assert "recorded already with another reply" in report.refused[0]
    assert not (folders[1] / "second.jsonl.gz").exists()


def test_an_own_check_says_what_is_sound(folders):
    export, recordings = folders
    export_requests({text(0).key: text(0)}, export)
    write(export, reply_lines([text(0)]))
    report = import_replies(
        export, name="demo", recordings=recordings, check=lambda meta, content: "too glad"
    )
    assert report.refused[0].endswith("too glad")


def test_a_text_with_its_own_score_keeps_the_form_too(folders):
    export, recordings = folders
    requests = [replace(text(k), kind="score", schema=ScoredText) for k in range(2)]
    export_requests({r.key: r for r in requests}, export)
    said = [{"text": "One. Two. Three.", "score": 5}, {"text": "One. Two.", "score": 5}]
    lines = [
        json.dumps({"custom_id": request.key, "content": json.dumps(content)})
        for request, content in zip(requests, said, strict=True)
    ]
    (export / "replies-001.jsonl").write_text("\n".join(lines))
    report = import_replies(export, name="own", recordings=recordings)
    assert (report.accepted, report.open) == (1, 1)
    assert "3 sentences instead of at most 2" in report.refused[0]


def test_a_folder_without_an_export_is_named(tmp_path):
    with pytest.raises(KitError, match=r"no meta\.jsonl"):
        import_replies(tmp_path, name="demo", recordings=tmp_path)


def test_a_recording_has_the_same_bytes_whatever_the_order_of_the_replies(folders, tmp_path):
    requests = [text(i) for i in range(30)]
    record(folders, requests)
    export_requests({r.key: r for r in requests}, tmp_path / "again")
    lines = reply_lines(requests)
    write(tmp_path / "again", lines[::-1][:10], "replies-b.jsonl")
    write(tmp_path / "again", lines[:20], "replies-a.jsonl")
    import_replies(tmp_path / "again", name="demo", recordings=tmp_path / "other")
    one, other = (folder / "demo.jsonl.gz" for folder in (folders[1], tmp_path / "other"))
    assert one.read_bytes() == other.read_bytes()
    assert load_recordings(one.parent).fingerprint == load_recordings(other.parent).fingerprint


def test_a_recorded_line_has_the_shape_of_a_batch_output_line(folders):
    record(folders, [text(0, {"age": "Young Adult"})])
    (line,) = gzip.decompress((folders[1] / "demo.jsonl.gz").read_bytes()).splitlines()
    row = json.loads(line)
    assert row["custom_id"] == text(0).key
    assert row["response"]["status_code"] == 200
    assert row["response"]["body"]["choices"][0]["message"]["content"] == "I am glad about 0."
    assert row["personagen"] == {
        "kind": "text",
        "method": "PersonaGen",
        "emotion": "joy",
        "language": "English",
        "batch": "demo-001",
        "attributes": {"age": "Young Adult"},
    }


# Loading


def test_damaged_recordings_are_named_by_file_and_line(folders, tmp_path):
    record(folders, [text(0)])
    good = (folders[1] / "demo.jsonl.gz").read_bytes()
    for name, data, reason in [
        ("a.jsonl.gz", good[:-20], r"a\.jsonl\.gz is damaged"),
        ("b.jsonl.gz", gzip.compress(b'\n{"custom_id": 1}\n'), r"b\.jsonl\.gz:2: not a recorded"),
        ("c.jsonl.gz", gzip.compress(b"{\n"), r"c\.jsonl\.gz:1: no JSON"),
        ("e.jsonl.gz", good, r"e\.jsonl\.gz:1: .* recorded twice"),
    ]:
        path = folders[1] / name
        path.write_bytes(data)
        with pytest.raises(KitError, match=reason):
            load_recordings(folders[1])
        path.unlink()
    assert load_recordings(tmp_path / "nowhere").rows == []


def test_thirty_thousand_replies_load_in_seconds(tmp_path):
    attributes = {f"attribute {number}": "Young Adult" for number in range(25)}
    lines = []
    for number in range(30_000):
        row = recorded(text(0, attributes), f"I am so glad about this, number {number}.")
        response = {"status_code": 200, "body": row.body}
        line = {"custom_id": f"{number:032}", "response": response, "personagen": row.note}
        lines.append(json.dumps(line))
    (tmp_path / "big.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode(), 1))
    start = time.process_time()
    assert len(load_recordings(tmp_path).rows) == 30_000
    assert time.process_time() - start < 6.0  # one second on a quiet machine


# Replay


def test_recorded_replies_are_exact_stored_and_labelled(folders):
    requests = [text(i) for i in range(20)] + [verdict(0)]
    record(folders, requests)
    one = client(folders[1])
    replies = ask(one, requests)
    assert {reply.match for reply in replies} == {"exact"}
    assert replies[3].content == "I am glad about 3."
    assert replies[-1].parsed == Verdict(label="natural")
    assert {reply.model for reply in replies} == {"recorded-llm"}
    assert {reply.batch for reply in replies} == {"demo-001"}
    assert {reply.backend for reply in replies} == {"recorded"}
    assert one.origin == f"recorded:{load_recordings(folders[1]).fingerprint}"
    again = client(folders[1])
    assert ask(again, requests) == replies
    assert (one.usage.sent, again.usage.sent) == (21, 0)


def test_recorded_reads_no_key_and_sends_nothing(folders, monkeypatch, tmp_path):
    record(folders, [text(i) for i in range(10)])
    with Host(lambda body, n: ok()) as host:
        for name in ("API_KEY", "ADMIN_KEY", "ORG_ID", "PROJECT_ID", "WEBHOOK_SECRET"):
            monkeypatch.setenv(f"OPENAI_{name}", CANARY)
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, host.url)
        for backend in ("recorded", "export"):
            one = client(folders[1], backend)
            assert {reply.match for reply in ask(one, [text(i) for i in range(10)])} == {"exact"}
            api = one._api({})
            assert CANARY not in repr(vars(api))
            assert str(api.base_url) == "http://recorded.invalid/v1/"
        assert host.bodies == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_measurements_are_never_made_up(folders):
    record(folders, [verdict(0), text(0)])
    replies = ask(client(folders[1]), [verdict(1), replace(verdict(1), kind="score"), verdict(0)])
    assert [reply.match for reply in replies] == ["missing", "missing", "exact"]
    assert replies[0].parsed is replies[0].content is None


def test_a_text_never_recorded_gets_its_nearest_neighbour_and_is_not_stored(folders):
    record(folders, [text(i, {"age": "old" if i else "young", "sex": "f"}) for i in range(3)])
    one = client(folders[1])
    asked = [text(10, {"age": "old", "sex": "f"}), text(11, {"age": "young", "sex": "m"}), text(12)]
    replies = ask(one, asked)
    assert [reply.match for reply in replies] == ["nearest"] * 3
    assert [reply.content[-2:-1] for reply in replies] == ["1", "0", "2"]
    keys = [request.key for request in asked]
    assert one.store.get_many(one.origin, keys) == {}
    # Asked again by the same client, each keeps its neighbour; nobody else gets one.
    assert ask(one, asked[::-1]) == replies[::-1]
    with pytest.raises(KitError, match=r"None of 3 recorded texts is left .*backend 'openai'"):
        ask(one, [text(13)])
    with pytest.raises(KitError, match=r"No recorded text is left for method PersonaGen.*anger"):
        ask(one, [text(14, emotion="anger")])


def test_an_exact_match_is_not_given_to_a_neighbour(folders):
    record(folders, [text(0), text(1)])
    near, exact = ask(client(folders[1]), [text(30), text(0)])
    assert (near.match, near.content) == ("nearest", "I am glad about 1.")
    assert (exact.match, exact.content) == ("exact", "I am glad about 0.")


def test_a_resumed_run_assigns_the_same_neighbours(folders):
    record(folders, [text(i) for i in range(12)])
    asked = [text(40 + i) if i % 2 else text(i) for i in range(10)]
    whole = ask(client(folders[1]), asked)
    folders[1].parent.joinpath("store.sqlite").unlink()
    ask(client(folders[1]), [asked[0], asked[2]])  # a run that stopped early
    assert ask(client(folders[1]), asked) == whole


def test_a_recorded_reply_that_breaks_the_form_has_failed(folders):
    record(folders, [text(0)])
    (reply,) = ask(client(folders[1]), [text(0)], check=lambda request, content: "too glad")
    assert (reply.match, reply.attempts) == ("failed", 1)
    assert "too glad" in reply.error


# The assignment itself

ATTRIBUTES = st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xyz"), max_size=4)


def differing(one: dict, other: dict) -> int:
    return sum(one.get(name) != other.get(name) for name in one.keys() | other.keys())


@settings(max_examples=150, deadline=None)
@given(
    pool=st.lists(ATTRIBUTES, min_size=1, max_size=12),
    asked=st.lists(ATTRIBUTES, max_size=12),
    exact=st.sets(st.integers(0, 11)),
)
def test_assignment_is_greedy_nearest_without_reuse(pool, asked, exact):
    rows = [recorded(text(i, one), str(i)) for i, one in enumerate(pool)]
    known = [text(i, pool[i]) for i in sorted(exact) if i < len(pool)]
    new = [text(100 + i, one) for i, one in enumerate(asked)][: len(pool) - len(known)]
    given_ = Assignment(in_memory(rows)).assign(new + known)
    free = [i for i in range(len(pool)) if i not in exact]
    for request in known:
        assert given_[request.key] == (request.meta["item"], "exact")
    for request in new:
        best = min(free, key=lambda i: (differing(request.meta["attributes"], pool[i]), i))
        assert given_[request.key] == (best, "nearest")
        free.remove(best)
    assert len({row for row, _ in given_.values()}) == len(given_)


def test_neighbours_share_method_language_and_emotion():
    rows = [
        recorded(text(i, {"age": "x"}, method=m, emotion=e, language=spoken), str(i))
        for i, (m, e, spoken) in enumerate(
            [("A", "joy", "en"), ("A", "fear", "en"), ("B", "joy", "en"), ("A", "joy", "ja")]
        )
    ]
    asked = text(9, {"age": "y"}, method="A", emotion="joy", language="ja")
    assert Assignment(in_memory(rows)).assign([asked]) == {asked.key: (3, "nearest")}


def test_a_whole_study_is_assigned_in_seconds():
    def attributes(number: int) -> dict[str, str]:
        return {f"attribute {k}": str(number * (k + 3) % (k + 2)) for k in range(25)}

    rows = [recorded(text(i, attributes(i)), str(i)) for i in range(3500)]
    asked = [text(10_000 + i, attributes(7 * i)) for i in range(3500)]
    start = time.process_time()
    given_ = Assignment(in_memory(rows)).assign(asked)
    assert time.process_time() - start < 5.0
    assert len({row for row, _ in given_.values()}) == 3500


def test_the_shipped_recordings_load():
    load_recordings(replay.RECORDINGS)
