"""The run folder: what was written comes back, what is missing or stale is refused by name."""

import errno
import json
import os
import subprocess
import sys

import matplotlib
import numpy as np
import pandas as pd
import pytest

from personagen_utils.errors import KitError
from personagen_utils.runs import open_run

matplotlib.use("agg")

FRAME = pd.DataFrame(
    {"id": [0, 1], "age": ["Child", None], "tags": [["a"], []], "x": [0.5, np.nan]}
)


@pytest.fixture
def run(tmp_path):
    return open_run(tmp_path / "run")


def chain(run, *, seed=0):
    """Write three stages, each from the one before."""
    run.save_stage("base_persona", FRAME.assign(seed=seed), parameters={"SEED": seed, "N": 2})
    run.save_stage("background", FRAME, parameters={}, inputs=["base_persona"])
    run.save_stage("scene", FRAME, parameters={}, inputs=["background"])


def test_stage_comes_back_as_it_was(run):
    run.save_stage("base_persona", FRAME, parameters={"SEED": np.int64(3), "ALLOWED": ("a", "b")})
    back = run.read_stage("base_persona").assign(tags=lambda f: f.tags.map(list))
    pd.testing.assert_frame_equal(back, FRAME)
    assert run.parameters("base_persona") == {"SEED": 3, "ALLOWED": ["a", "b"]}


def test_missing_stage_names_both_ways_out(run):
    with pytest.raises(KitError) as error:
        run.read_stage("scene")
    message = str(error.value)
    assert "scene.parquet is missing" in message
    assert "Run 03_scenario_and_style.ipynb first" in message
    assert 'set RUN_DIR = "data/runs/demo"' in message
    assert "\n" not in message


def test_change_upstream_makes_everything_below_stale(run):
    chain(run)
    run.read_stage("scene")
    run.save_stage("base_persona", FRAME.assign(seed=1), parameters={"SEED": 1, "N": 2})
    with pytest.raises(KitError, match=r"background .* is stale: base_persona has changed"):
        run.read_stage("background")
    with pytest.raises(
        KitError,
        match=r"scene .* stale: base_persona .* background .*Run 02_\w+.ipynb, then 03_\w+.ipynb",
    ):
        run.read_stage("scene")
    with pytest.raises(KitError, match="stale"):  # nothing new is made from what is stale
        run.save_results("rq1_diversity", [{"metric": "cv", "value": 1}], inputs=["scene"])
    assert run.read_stage("base_persona").seed.eq(1).all()


def test_same_content_made_again_stales_nothing(run):
    chain(run)
    run.save_stage("base_persona", FRAME.assign(seed=0), parameters={"SEED": 0, "N": 2})
    run.read_stage("scene")


def test_deleted_input_is_stale(run):
    chain(run)
    (run.folder / "base_persona.parquet").unlink()
    with pytest.raises(KitError, match=r"Run 01_base_persona.ipynb, then 02"):
        run.read_stage("background")


def test_current(run):
    chain(run)
    made = {"parameters": {"SEED": 0, "N": 2}}
    assert run.current("base_persona", **made)
    assert not run.current("base_persona", parameters={"SEED": 1, "N": 2})
    assert not run.current("base_persona", **made, hashes={"ages.csv": "ff"})
    assert not run.current("nothing", **made)
    assert run.current("background", parameters={}, inputs=["base_persona"])
    assert not run.current("background", parameters={})
    chain(run, seed=1)
    run.save_stage("base_persona", FRAME, parameters={"SEED": 2})
    assert not run.current("background", parameters={}, inputs=["base_persona"])


def test_results_are_tidy_and_fingerprinted(run):
    chain(run)
    rows = [{"metric": "fid", "value": np.float64(1.5), "n": np.int64(7)}, {"metric": "x", "k": 3}]
    run.save_results("rq3_similarity", rows, inputs=["scene"], parameters={"K": 5})
    stored = json.loads((run.folder / "results/rq3_similarity.json").read_text())
    first = {"metric": "fid", "method": None, "emotion": None, "value": 1.5}
    assert stored["rows"][0] == {**first, "low": None, "high": None, "n": 7, "k": None}
    assert len(stored["fingerprint"]) == 16
    assert stored["inputs"] == {"scene": run.records.read("scene")["fingerprint"]}
    assert run.read_results("rq3_similarity").value[0] == 1.5
    with pytest.raises(KitError, match=r"rq9\.json is missing .* the notebook that writes rq9"):
        run.read_results("rq9")
    with pytest.raises(KitError, match="no row"):
        run.save_results("empty", [])


def test_manifest_sums_up_and_header_says_where_texts_come_from(run):
    chain(run)
    texts = FRAME.assign(backend="recorded", model="recorded-llm", match=["exact", "nearest"])
    for name in ("expression", "tweets"):
        run.save_stage(
            name,
            texts,
            parameters={"TEMPERATURE": 1.2},
            inputs=["scene"],
            hashes={"prompts/expression.j2": "abc"},
            counts={"in": 2, "out": 2},
            usage={"prompt_tokens": 10, "cost_usd": 0.5, "models": {"a": 1}},
        )
    manifest = run.manifest
    assert manifest["usage"] == {"prompt_tokens": 20, "cost_usd": 1.0}
    assert manifest["replies"]["match"] == {"exact": 2, "nearest": 2}
    assert manifest["hashes"] == {"prompts/expression.j2": "abc"}
    assert manifest["stages"]["expression"]["counts"] == {"in": 2, "out": 2}
    assert json.loads((run.folder / "manifest.json").read_text())["python"].startswith("3.11")
    lines = run.header().data.splitlines()
    assert 2 <= len(lines) <= 4
    assert "seed 0" in lines[0]
    assert "1 taken from the nearest" in lines[1]
    assert "recorded-llm" in lines[1]


def test_no_secret_and_no_machine_path_is_written(run, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    run.save_stage("base_persona", FRAME, parameters={"X": "sk-canary-0123456789", "T": tmp_path})
    run.save_results("a", [{"metric": "m", "note": "my sk-canary-0123456789 key"}])
    run.note(study={"name": "demo", "file": str(tmp_path / "study.yaml")})
    for path in run.folder.rglob("*"):
        assert path.is_dir() or b"sk-canary" not in path.read_bytes(), path
    assert str(tmp_path) not in (run.folder / "manifest.json").read_text()


def test_full_disk_is_one_line_and_leaves_the_old_file(run, monkeypatch):
    chain(run)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = (run.folder / "base_persona.parquet").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(KitError, match="the disk is full"):
        run.save_stage("base_persona", FRAME, parameters={"SEED": 9})
    assert (run.folder / "base_persona.parquet").read_bytes() == before
    assert not list(run.folder.glob(".base_persona*"))
    run.read_stage("scene")


def test_unwritable_folder_and_foreign_file(tmp_path, run):
    (tmp_path / "file").write_text("")
    with pytest.raises(KitError, match=r"Cannot write in the run folder .*Set RUN_DIR"):
        open_run(tmp_path / "file" / "run")
    FRAME.to_parquet(run.folder / "scene.parquet")
    with pytest.raises(KitError, match="was not written by this kit"):
        run.read_stage("scene")
    with pytest.raises(KitError, match="cannot name a file"):
        run.read_stage("../scene")


def test_two_processes_share_one_manifest(run):
    code = (
        "import sys, pandas as pd; from personagen_utils.runs import open_run\n"
        "run = open_run(sys.argv[1])\n"
        "for i in range(5): run.save_stage(f'{sys.argv[2]}{i}', pd.DataFrame({'a': [i]}),"
        " parameters={})\n"
        "run.note(notebooks={sys.argv[2]: 1})"
    )
    command = [sys.executable, "-c", code, str(run.folder)]
    for process in [subprocess.Popen([*command, name]) for name in ("a", "b")]:
        assert process.wait() == 0
    manifest = json.loads((run.folder / "manifest.json").read_text())
    assert len(manifest["stages"]) == 10
    assert manifest["noted"]["notebooks"] == {"a": 1, "b": 1}


def test_figures_are_the_same_bytes(run):
    from matplotlib.figure import Figure

    for name in ("a", "b"):
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([1, 2])
        run.save_figure(figure, name)
    assert (run.folder / "figures/a.png").read_bytes() == (
        run.folder / "figures/b.png"
    ).read_bytes()
