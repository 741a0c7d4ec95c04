"""The Batch API: submitted once, collected by running again, half the price, nothing lost."""

import json
import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
from batch_host import BatchHost
from llm_servers import completion, fault, ok
from test_llm import CANARY, GOOD, ask, files_hold, said, text, verdict

from personagen_utils import batches
from personagen_utils.batches import Waiting
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, open_client
from personagen_utils.recordings import json_lines

PRICE = (20 * 0.40 + 5 * 1.60) / 1e6 / 2  # of one scripted reply, by batch


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.001)


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Return a function that opens a client of a host, as a new process would."""

    def open_(host: BatchHost, backend: str = "openai-batch", **options) -> Client:
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        options = {"run_dir": tmp_path / "run", "progress": False} | options
        return open_client(backend=backend, store=tmp_path / "store.sqlite", **options)

    return open_


def answering(body, number):
    return ok(GOOD if "response_format" in body else said(body))


REQUESTS = [text(i) for i in range(30)] + [verdict(i) for i in range(10)]


def jobs(tmp_path: Path) -> list[dict]:
    return json.loads((tmp_path / "run" / "batches" / "jobs.json").read_text())


def test_submit_wait_collect(batch, tmp_path):
    with BatchHost(answering) as host:
        with pytest.raises(
            Waiting, match=r"^40 requests submitted as batch batch_1: run this cell"
        ):
            ask(batch(host), REQUESTS)
        (lines,) = host.inputs.values()
        assert {line["custom_id"] for line in lines} == {request.key for request in REQUESTS}
        assert lines[0]["body"] == REQUESTS[0].body()
        assert (lines[0]["method"], lines[0]["url"]) == ("POST", "/v1/chat/completions")
        for _ in range(3):  # nothing is submitted twice while the job is open
            with pytest.raises(
                Waiting, match=r"40 requests under way as batch_1 \(validating, 0 of"
            ):
                ask(batch(host), REQUESTS)
        host.finish()
        client = batch(host)
        replies = ask(client, REQUESTS)
        assert [r.content for r in replies[:30]] == [said(r.body()) for r in REQUESTS[:30]]
        assert {(r.match, r.backend, r.batch) for r in replies} == {
            ("live", "openai-batch", "batch_1")
        }
        assert all(reply.parsed for reply in replies[30:])
        assert client.usage.cost_usd == pytest.approx(40 * PRICE)
        assert client.summary()["usd_per_accepted"] == pytest.approx(PRICE)
        # Stored under the keys of live requests: the other backend finds them too.
        assert {r.match for r in ask(batch(host, "openai"), REQUESTS)} == {"live"}
        again = batch(host)
        ask(again, REQUESTS)
        assert len(host.batches) == 1
        assert (again.usage.sent, again.usage.cost_usd) == (0, 0.0)
        assert again.summary()["usd_per_accepted"] == pytest.approx(PRICE)
        assert files_hold(tmp_path, CANARY) == []


def test_what_is_stored_is_not_submitted(batch):
    with BatchHost(answering) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS[:10])
        host.finish()
        with pytest.raises(Waiting, match=r"30 requests submitted.*10 of 40 replies are here"):
            ask(batch(host), REQUESTS)


def test_an_expired_batch_keeps_its_answers_and_asks_the_rest_again(batch, tmp_path):
    with BatchHost(answering) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS)
        host.finish(status="expired", share=0.6)
        with pytest.raises(Waiting, match=r"16 requests submitted as batch batch_2.*24 of 40"):
            ask(batch(host), REQUESTS)
        listed = [row for row, _ in json_lines(tmp_path / "run" / "failures.jsonl")]
        assert len(listed) == 16
        assert "failed in batch batch_1 (This request could not" in listed[0]["reason"]
        host.finish()
        assert {reply.match for reply in ask(batch(host), REQUESTS)} == {"live"}
        assert not (tmp_path / "run" / "failures.jsonl").exists()
        asked = [line["custom_id"] for lines in host.inputs.values() for line in lines]
        assert len(asked) == 56


def test_a_rejected_file_stops_with_its_reason_and_can_be_submitted_anew(batch, tmp_path):
    with BatchHost(answering) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS)
        host.finish(status="failed")
        with pytest.raises(
            KitError, match=r"rejected the whole batch batch_1 \(Enqueued token lim"
        ):
            ask(batch(host), REQUESTS)
        spent = json.loads((tmp_path / "run" / "spending.json").read_text())
        assert list(spent.values()) == [0.0]
        with pytest.raises(Waiting, match="40 requests submitted as batch batch_2"):
            ask(batch(host), REQUESTS)


def test_a_job_that_the_host_forgot_is_named_with_the_way_out(batch):
    with BatchHost(answering) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS)
        host.batches.clear()
        with pytest.raises(KitError, match=r"no batch batch_1.*delete .*jobs\.json to submit anew"):
            ask(batch(host), REQUESTS)


def test_malformed_replies_are_submitted_with_the_next_attempt_and_never_stored(batch, tmp_path):
    def script(body, number):
        return ok("nonsense") if "number 3." in said(body) else ok(GOOD)

    requests = [verdict(i) for i in range(6)]
    with BatchHost(script) as host:
        for round_ in range(3):
            with pytest.raises(
                Waiting, match="1 request submitted" if round_ else "6 requests submitted"
            ):
                ask(batch(host), requests)
            host.finish()
        client = batch(host)
        replies = ask(client, requests)
    keys = [line["custom_id"] for lines in host.inputs.values() for line in lines]
    assert keys[6:] == [verdict(3, attempt=attempt).key for attempt in (1, 2)]
    assert "JSON schema" in said(host.inputs["batch_2"][0]["body"])
    assert [reply.match for reply in replies].count("live") == 5
    assert (replies[3].match, replies[3].attempts) == ("failed", 3)
    assert "Invalid JSON" in replies[3].error
    (row, _) = next(iter(json_lines(tmp_path / "run" / "failures.jsonl")))
    assert row["key"] == requests[3].key
    assert len(client.store.get_many(client.origin, keys)) == 5


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(fault(500, "boom"), "HTTP 500: boom"), (fault(429, "slow down"), "HTTP 429")],
)
def test_an_item_that_failed_is_listed_and_asked_again(batch, tmp_path, answer, reason):
    with BatchHost(lambda body, n: answer if n == 5 else ok()) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS[:20])
        host.finish()
        with pytest.raises(Waiting, match="1 request submitted as batch batch_2"):
            ask(batch(host), REQUESTS[:20])
        (row, _) = next(iter(json_lines(tmp_path / "run" / "failures.jsonl")))
        assert reason in row["reason"]
        assert host.inputs["batch_2"] == [host.inputs["batch_1"][4]]


def test_an_item_that_the_host_rejects_stops_or_is_left_out(batch, tmp_path):
    with BatchHost(lambda body, n: fault(400, "prompt is too long") if n == 5 else ok()) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS[:20])
        host.finish()
        with pytest.raises(KitError, match=r"HTTP 400: prompt is too long.*on_error='continue'"):
            ask(batch(host), REQUESTS[:20])
        replies = ask(batch(host, on_error="continue"), REQUESTS[:20])
        assert [reply.match for reply in replies].count("failed") == 1
        assert "prompt is too long" in (tmp_path / "run" / "failures.jsonl").read_text()


def test_broken_lines_and_strangers_in_an_output_file_are_no_answers(batch):
    def garble(data: bytes) -> bytes:
        first, second, *rest = data.splitlines()
        stranger = re.sub(rb'"custom_id": "\w+"', b'"custom_id": "nobody"', second)
        return b"\n".join([first[:40], stranger, b"[]", b"", *rest, rest[0]])

    with BatchHost(answering) as host:
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS[:20])
        host.finish(garble=garble)
        with pytest.raises(Waiting, match=r"2 requests submitted.*18 of 20"):
            ask(batch(host), REQUESTS[:20])


@pytest.mark.parametrize("created", [True, False], ids=["created", "not created"])
def test_a_job_whose_id_was_lost_is_found_again_and_never_doubled(batch, tmp_path, created):
    with BatchHost(answering) as host:
        host.refuse = lambda method, path: (
            "drop" if (method, path) == ("POST", "/batches" if created else "/files") else None
        )
        with pytest.raises(KitError, match="nothing is submitted twice"):
            ask(batch(host), REQUESTS)
        assert [job["id"] for job in jobs(tmp_path)] == [None]
        host.refuse = None
        with pytest.raises(Waiting, match="under way as batch_1" if created else "submitted as"):
            ask(batch(host), REQUESTS)
        assert len(host.batches) == 1
        host.finish()
        assert {reply.match for reply in ask(batch(host), REQUESTS)} == {"live"}


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, {"message": f"Incorrect key {CANARY}"}, "refused the key"),
        (429, {"message": "no", "code": "insufficient_quota"}, "no money left"),
        (404, {"message": "Not Found"}, "no Batch API.*use backend 'openai'"),
        (400, {"message": "bad purpose"}, "batch failed.*bad purpose"),
    ],
)
def test_a_refusal_is_one_line_and_leaves_nothing_open(batch, tmp_path, status, error, reason):
    with BatchHost(answering) as host:
        host.refuse = lambda method, path: (status, {"error": error})
        with pytest.raises(KitError, match=reason) as caught:
            ask(batch(host), REQUESTS)
        assert CANARY not in str(caught.value)
        assert "\n" not in str(caught.value)
        assert jobs(tmp_path) == []
        host.refuse = None
        with pytest.raises(Waiting, match="40 requests submitted"):
            ask(batch(host), REQUESTS)


def test_a_host_that_fails_now_and_then_is_asked_again(batch):
    chance = random.Random(1)
    with BatchHost(answering) as host:
        host.refuse = lambda method, path: (
            (503, {"error": {"message": "busy"}})
            if path != "/batches" and chance.random() < 0.3
            else None
        )
        with pytest.raises(Waiting):
            ask(batch(host), REQUESTS)
        host.finish()
        assert {reply.match for reply in ask(batch(host), REQUESTS)} == {"live"}


def test_one_model_and_a_bounded_number_of_requests_to_a_file(batch, monkeypatch):
    monkeypatch.setattr(batches, "PER_FILE", 12)
    requests = [text(i, model=("gpt-4o", "gpt-4.1-mini")[i % 2]) for i in range(40)]
    with BatchHost(answering) as host:
        with pytest.raises(Waiting, match="40 requests submitted as batches batch_1, batch_2"):
            ask(batch(host), requests)
        assert [len(lines) for lines in host.inputs.values()] == [12, 8, 12, 8]
        for lines in host.inputs.values():
            assert len({line["body"]["model"] for line in lines}) == 1
        host.finish()
        assert {reply.match for reply in ask(batch(host), requests)} == {"live"}


def test_the_budget_holds_over_submissions_at_the_price_of_a_batch(batch, tmp_path):
    def dear(body, number):
        usage = {"prompt_tokens": 20, "completion_tokens": 180}
        return 200, {}, completion() | {"usage": usage}

    price, cap = (20 * 0.40 + 180 * 1.60) / 2e6, 10.5 * batches.most_usd(text(0), batch=True)
    with BatchHost(dear) as host:
        with pytest.raises(KitError, match=r"budget max_usd=.*\d+ of 30 replies"):  # noqa: PT012
            for _ in range(20):
                with suppress(Waiting):
                    ask(batch(host, max_usd=cap), REQUESTS[:30])
                host.finish()
        assert len(host.inputs["batch_1"]) == 10
        assert host.answered > 10  # what replies really cost left room for more
        assert host.answered * price <= cap
        spent = json.loads((tmp_path / "run" / "spending.json").read_text())
        assert sum(spent.values()) == pytest.approx(host.answered * price)
        with pytest.raises(KitError, match="budget"):  # the live backend counts the batches too
            ask(batch(host, "openai", max_usd=cap), [text(99)])


def test_the_estimate_shows_half_the_price(batch):
    with BatchHost(answering) as host:
        by_batch = batch(host).estimate(REQUESTS)
        live = batch(host, "openai").estimate(REQUESTS)
    for column in ("usd_estimate", "usd_at_most"):
        assert by_batch[column].to_numpy() == pytest.approx(live[column].to_numpy() / 2)


def test_a_batch_needs_a_run_folder(tmp_path):
    with pytest.raises(KitError, match="pass run_dir"):
        open_client(backend="openai-batch", store=tmp_path / "s.sqlite")


def test_a_thousand_lines_with_every_trouble(batch, tmp_path):
    chance = random.Random(0)
    troubles = [
        fault(500),
        fault(429),
        fault(503),
        ok(""),
        ok(None, refusal="No."),
        ok(GOOD, finish_reason="length"),
        ok(GOOD, finish_reason="content_filter"),
        ok('{"label": "natural"}'),
        (200, {}, {"error": {"message": "upstream"}}),
        (200, {}, completion('{"label": "n", "score": "x"}')),
    ]

    def script(body, number):
        draw = chance.random() / 0.05
        return troubles[int(draw)] if draw < len(troubles) else ok(GOOD)

    requests = [verdict(i) for i in range(1000)]
    with BatchHost(script) as host:
        for _ in range(30):
            try:
                replies = ask(batch(host, tries=4), requests)
                break
            except Waiting:
                host.finish(status=chance.choice(["completed", "expired"]), share=0.9)
        client = batch(host)
        failed = [reply for reply in replies if reply.match == "failed"]
        assert {reply.match for reply in replies} == {"live", "failed"}
        assert all(reply.parsed for reply in replies if reply.match == "live")
        listed = {row["key"] for row, _ in json_lines(tmp_path / "run" / "failures.jsonl")}
        assert listed == {reply.request.key for reply in failed}
        assert len(failed) < 50
        keys = [line["custom_id"] for lines in host.inputs.values() for line in lines]
        assert len(client.store.get_many(client.origin, keys)) == 1000 - len(failed)
