"""A study as a list of requests: the shipped ones are answered, the others can be exported."""

import asyncio
import json
from pathlib import Path

import pytest

from personagen_utils import pipeline
from personagen_utils.llm import open_client
from personagen_utils.study import find_notebooks, load_study

DEMO = load_study("demo", find_notebooks()).parameters


def collect(tmp_path: Path, **changes):
    client = open_client(backend="export", store=tmp_path / "own.sqlite", progress=False)
    known = asyncio.run(pipeline.collect(DEMO | changes, client))
    return client, known


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return collect(tmp_path_factory.mktemp("demo"))


def test_every_request_of_the_demo_study_is_recorded(demo) -> None:
    """The recordings fit the prompts, tables and code of this very version."""
    client, known = demo
    missing = [(r.kind, r.meta.get("method"), r.meta.get("stage")) for r in client.outbox.values()]
    assert missing == []
    assert len(known["people"]) == DEMO["N_PERSONAS"]
    assert set(known["texts"]["match"]) == {"exact"}
    assert known["texts"]["text"].is_unique


def test_every_request_of_the_paper_study_is_recorded(tmp_path) -> None:
    client = open_client(backend="export", store=tmp_path / "own.sqlite", progress=False)
    paper = load_study("paper", find_notebooks()).parameters
    known = asyncio.run(pipeline.collect(paper, client))
    missing = [(r.kind, r.meta.get("method"), r.meta.get("stage")) for r in client.outbox.values()]
    assert missing == []
    assert len(known["texts"]) == 7 * paper["N_PERSONAS"] == 3500


def test_recorded_texts_say_what_they_are(demo) -> None:
    _, known = demo
    assert set(known["texts"]["model"]) == {"recorded-llm"}
    assert known["texts"]["batch"].notna().all()


def test_a_smaller_study_is_answered_too(tmp_path: Path) -> None:
    """Prefix stability all the way: the first people of the demo bring their own recordings."""
    client, known = collect(tmp_path, N_PERSONAS=7, N_TWEETS=7)
    assert {r.kind for r in client.outbox.values()} <= {"score"}
    assert len(known["texts"]) == 7 * 7


def test_an_unknown_study_is_exported_as_batch_files(tmp_path: Path) -> None:
    parameters = DEMO | {"SEED": 99, "N_PERSONAS": 3, "N_TWEETS": 2}
    said = pipeline.export(parameters, tmp_path / "out")
    assert "a verdict decides what is asked next" in said
    lines = [
        json.loads(line)
        for path in sorted((tmp_path / "out").glob("requests-*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    verdicts = [line for line in lines if "Verdict" in json.dumps(line)]
    assert 1 <= len(verdicts) <= 8
    assert all(line["method"] == "POST" and line["url"] == "/v1/chat/completions" for line in lines)
    assert len({line["custom_id"] for line in lines}) == len(lines)


def test_estimate_and_prompts_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("something was sent")

    monkeypatch.setattr("socket.socket.connect", refuse)
    small = DEMO | {"N_PERSONAS": 3, "N_TWEETS": 2, "SEED": 99}
    table = pipeline.estimate(small).groupby("kind")["requests"].sum()
    assert table["verdict"] >= 3 * 3
    assert table["text"] >= 3 * 7
    assert table["score"] >= 2 * 3 * 7
    everything = pipeline.estimate(DEMO)  # recordings spare a live model nothing
    assert (everything["already_answered"] == 0).all()
    texts = everything.set_index(["kind", "model"]).loc[("text", DEMO.get("MODEL", "gpt-4.1-mini"))]
    assert texts["to_ask"] >= 60 * 7 + 3 * 60 * 6
    assert 15 < texts["completion_tokens_estimate"] / texts["to_ask"] < 60  # as those recorded
    shown = pipeline.prompts(small, 1)
    for kind in ("verdict base_persona", "verdict scene", "text PersonaGen", "text Plain", "score"):
        assert f"===== {kind}" in shown
