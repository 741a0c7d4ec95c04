"""The committed outputs belong to what is committed, and a comparison sees what has moved."""

import ast
import json

import pytest

from personagen_utils import committed
from personagen_utils.committed import PUBLISHED, compare, keep, outdated
from personagen_utils.errors import KitError

ROWS = [
    {
        "metric": "FID",
        "method": "A",
        "emotion": None,
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 9,
    },
    {
        "metric": "FID",
        "method": "B",
        "emotion": None,
        "value": 0.7,
        "low": None,
        "high": None,
        "n": 9,
    },
    {
        "metric": "F1",
        "method": "A",
        "emotion": "joy",
        "value": None,
        "low": None,
        "high": None,
        "n": 3,
    },
]


def write(folder, rows):
    (folder / "results").mkdir(parents=True, exist_ok=True)
    (folder / "results" / "x.json").write_text(json.dumps({"rows": rows}))
    return folder


def test_the_committed_outputs_belong_to_the_committed_code_prompts_and_recordings():
    changed = outdated()
    assert changed == [], (
        f"changed since the outputs were published: {', '.join(changed)}. Run the paper study and "
        "`python -m personagen_utils publish data/runs/paper`."
    )


def test_the_hash_of_the_code_ignores_words_and_sees_deeds():
    def of(source):
        return ast.dump(committed._without_docstrings(ast.parse(source)))

    code = 'def f(x):\n    """One."""\n    return x + 1  # why\n'
    assert of(code) == of(code.replace("One", "Two").replace("why", "because"))
    assert of(code) != of(code.replace("+ 1", "+ 2"))


def test_every_kind_of_change_is_named(monkeypatch, tmp_path):
    keep(write(tmp_path / "run", ROWS), folder=tmp_path / "kept")
    now = committed.hashes()
    monkeypatch.setattr(committed, "hashes", lambda: now | {"prompts": "0", "15_new": "1"})
    assert {"prompts", "15_new"} <= set(outdated(tmp_path / "kept"))


def moved(**change):
    return [ROWS[0] | change, *ROWS[1:]]


@pytest.mark.parametrize(
    ("rows", "differing"),
    [
        (ROWS, 0),
        (moved(value=0.58), 0),  # inside the committed interval
        (moved(value=0.65), 1),
        ([*ROWS[:1], ROWS[1] | {"value": 0.72}, ROWS[2]], 0),  # within a twentieth
        ([*ROWS[:1], ROWS[1] | {"value": 0.8}, ROWS[2]], 1),
        ([*ROWS[:2], ROWS[2] | {"value": 0.3}], 1),
        (ROWS[:2], 0),  # the row without a value is as good as none
        (ROWS[1:], 1),
        ([*ROWS, ROWS[0] | {"method": "C"}], 1),
    ],
)
def test_a_comparison_finds_what_moved(rows, differing, tmp_path):
    keep(write(tmp_path / "old", ROWS), folder=tmp_path / "kept")
    assert len(compare(write(tmp_path / "new", rows), folder=tmp_path / "kept")) == differing


def test_a_missing_result_is_named(tmp_path):
    keep(write(tmp_path / "old", ROWS), folder=tmp_path / "kept")
    with pytest.raises(KitError, match=r"x\.json is missing: run the whole study first"):
        compare(tmp_path / "new", folder=tmp_path / "kept")
    with pytest.raises(KitError, match="No results in"):
        keep(tmp_path / "new", folder=tmp_path / "kept")


def test_the_published_results_are_those_of_the_tables():
    names = {path.stem for path in PUBLISHED.glob("*.json")}
    assert {"rq1_diversity", "rq3_downstream", "ablation", "closing_the_gap", "audits"} <= names
