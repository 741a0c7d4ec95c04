"""The report on a recording finds what a recording must not have."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from personagen_utils.errors import KitError
from personagen_utils.recording_report import (
    most_common_opening,
    neighbours_to_read,
    recording_gates,
    recording_report,
)

OPENINGS = ["Honestly", "My sister", "At the counter today", "Well", "The bus", "Nobody", "Our cat"]
FEELINGS = {"joy": "made me happy", "fear": "makes me tremble with fear", "anger": "is an outrage"}


def texts(method: str) -> list[tuple[str, str, str]]:
    """Return (method, emotion, text) of thirty texts."""
    return [
        (method, emotion, f"{OPENINGS[i % 7]} number {i} {feeling} again.")
        for emotion, feeling in FEELINGS.items()
        for i in range(10)
    ]


def write(folder: Path, rows: Sequence[tuple[str, str, str]], kind: str = "text") -> None:
    lines = []
    for number, (method, emotion, content) in enumerate(rows):
        message = {"role": "assistant", "content": content}
        body = {"model": "recorded-llm", "choices": [{"message": message, "finish_reason": "stop"}]}
        attributes = {"style_register": "polite" if number % 2 else "casual"}
        note = {"kind": kind, "method": method, "emotion": emotion, "attributes": attributes}
        lines.append(
            json.dumps(
                {
                    "custom_id": f"{kind}{method}{number:028}",
                    "response": {"status_code": 200, "body": body},
                    "error": None,
                    "personagen": note,
                }
            )
        )
    path = folder / f"{kind}.jsonl.gz"
    before = gzip.decompress(path.read_bytes()).decode() if path.exists() else ""
    path.write_bytes(gzip.compress((before + "\n".join(lines) + "\n").encode()))


def figure(report, metric: str, method: str = "PersonaGen", group: str = "") -> tuple[float, str]:
    rows = report[(report["metric"] == metric) & (report["method"] == method)]
    rows = rows[rows["group"] == group] if group else rows
    return rows["value"].iloc[0], rows["gate"].iloc[0]


def test_figures_of_a_sound_recording(tmp_path):
    write(tmp_path, texts("PersonaGen"))
    write(tmp_path, [("verdict", "", '{"label": "natural"}'), ("verdict", "", "?")], "verdict")
    report = recording_report(recordings=tmp_path, cache=None)
    assert figure(report, "replies") == (30, "")
    assert figure(report, "valid, share") == (1.0, "")
    assert figure(report, "equal texts") == (0, "passed")
    assert figure(report, "names its own emotion, share", group="fear")[0] == 1.0
    assert figure(report, "names its own emotion, share", group="joy")[0] == 0.0
    assert figure(report, "valid, share", "verdict (verdict)") == (0.5, "")
    assert figure(report, "in-domain 80/20 accuracy")[0] >= 0
    said = [len(text) for _, _, text in texts("PersonaGen")]
    assert figure(report, "length, mean", group="register: casual")[0] == sum(said[::2]) / 15
    assert "neighbour" not in report.columns


def test_copies_fail_the_gates_of_personagen_only(tmp_path):
    rows = [("joy", "I am glad today.")] * 4 + [("joy", "Rain fell on the harbour wall.")]
    for method in ("PersonaGen", "AttrPrompt"):
        write(tmp_path, [(method, *row) for row in rows])
    report = recording_report("text", recordings=tmp_path, cache=None)
    for metric, value in [
        ("equal texts", 3),
        ("near-duplicates (cosine >= .95), share", 0.8),
        ("most common four-word opening, share", 0.8),
    ]:
        assert figure(report, metric) == (pytest.approx(value), "failed")
        assert figure(report, metric, "AttrPrompt") == (pytest.approx(value), "")


def test_openings_ignore_case_and_punctuation():
    assert most_common_opening(["Oh, no, not again!", "oh no not AGAIN, please"])[1] == 1.0


def test_neighbours_are_the_nearest_others(tmp_path):
    write(tmp_path, texts("PersonaGen"))
    read = neighbours_to_read(recordings=tmp_path, cache=None, texts=4)
    assert len(read) == 4 * 5
    assert (read["text"] != read["neighbour"]).all()
    assert read.groupby("text")["cosine"].apply(lambda c: c.is_monotonic_decreasing).all()


def test_an_unknown_recording_is_named(tmp_path):
    with pytest.raises(KitError, match=r"mine\.jsonl\.gz does not exist"):
        recording_report("mine", recordings=tmp_path)


def test_texts_with_their_own_score_are_described_too(tmp_path):
    said = [("joy", "We won and I am glad."), ("fear", "The lift shook and I am afraid.")]
    write(
        tmp_path,
        [("PriorWork", e, json.dumps({"text": t, "score": 5})) for e, t in said],
        "score",
    )
    report = recording_report(recordings=tmp_path, cache=None)
    assert figure(report, "equal texts", "PriorWork") == (0, "")
    assert figure(report, "valid, share", "PriorWork") == (1.0, "")


def test_the_shipped_texts_of_personagen_pass_their_gates():
    gates = recording_gates()
    assert set(gates["method"]) == {"PersonaGen", "PersonaGen tweets"}
    assert (gates["n"] >= 3000).all()
    failed = gates[gates["gate"] != "passed"]
    assert failed.empty, failed.to_string()
