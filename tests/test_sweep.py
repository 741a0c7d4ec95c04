"""Sweeps: every combination a study of its own, failures listed, one table across seeds."""

from pathlib import Path

import pandas as pd
import pytest

from personagen_utils.__main__ import main
from personagen_utils.llm import open_client
from personagen_utils.study import StudyError
from personagen_utils.sweep import Job, across_seeds, gather, load_sweep, run_job


@pytest.fixture
def notebooks(write_notebook, tmp_path) -> Path:
    """Write one notebook whose study fails for the US and seed 2 until a file allows it."""
    path = write_notebook(
        "01_number",
        f'RUN_DIR = "{tmp_path}/elsewhere"  # run folder\nSEED: int = 0  # seed\n'
        'TABLES = "jp"  # population\nN: int = 3  # people\n'
        "RESTRICT: dict = {}  # allowed items",
        "from pathlib import Path\nfrom personagen_utils.runs import open_run\n"
        "run = open_run(RUN_DIR)",
        f'assert SEED != 2 or TABLES != "us" or Path("{tmp_path}/allowed").exists(), "no luck"',
        'rows = [{"metric": "size", "method": m, "value": SEED + N} for m in ("a", "b")]\n'
        'run.save_results("number", rows, parameters={"RESTRICT": RESTRICT})',
    )
    return path.parent


@pytest.fixture
def sweep(tmp_path) -> Path:
    (tmp_path / "base.yaml").write_text("N: 10\n")
    file = tmp_path / "seeds.yaml"
    file.write_text(
        f"study: base.yaml\nout: {tmp_path}/sweep\nvary:\n  SEED: [1, 2]\n  TABLES: [us]\n"
    )
    return file


def test_a_sweep_runs_lists_what_failed_and_goes_on(notebooks, sweep, tmp_path, capsys):
    command = ["sweep", str(sweep), "--workers", "2", "--notebooks", str(notebooks)]
    assert main(command) == 1
    said = capsys.readouterr()
    assert "1 of 2 studies are done." in said.out
    (line,) = said.err.strip().splitlines()
    assert line.startswith("seed-2_tables-us: 01_number.ipynb, cell 3 of 4: AssertionError: no l")
    assert "[2/2]" in said.out
    (tmp_path / "allowed").touch()
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 of 2 studies are done." in said
    log = (tmp_path / "sweep" / "seed-1_tables-us" / "log.txt").read_text()
    assert "unchanged, kept" in log  # only the failed one was run again
    results = pd.read_csv(tmp_path / "sweep" / "results.csv")
    assert len(results) == 4
    assert set(results.columns[:4]) == {"study", "SEED", "TABLES", "result"}
    means = pd.read_csv(tmp_path / "sweep" / "across_seeds.csv").set_index(["TABLES", "method"])
    row = means.loc[("us", "b")]
    assert (row.value, row.seeds) == (11.5, 2)
    assert row.high - row.value == pytest.approx(12.706 * 0.7071 / 2**0.5, rel=1e-3)


def test_each_study_has_a_reply_store_of_its_own(tmp_path):
    assert open_client(run_dir=tmp_path, progress=False).store.path.parent != tmp_path
    (tmp_path / "responses.sqlite").touch()
    assert open_client(run_dir=tmp_path, progress=False).store.path.parent == tmp_path


def test_on_a_dask_cluster(notebooks, sweep, tmp_path, capsys):
    distributed = pytest.importorskip("distributed", reason="the extra 'dask' is not installed")
    sweep.write_text(sweep.read_text().replace("[us]", "[jp]"))
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address
        command = ["sweep", str(sweep), "--scheduler", address, "--notebooks", str(notebooks)]
        assert main(command) == 0
    said = capsys.readouterr().out
    assert "Dashboard: " in said
    assert "2 of 2 studies are done." in said


def test_a_study_whose_process_is_killed_is_an_outcome_like_others(tmp_path, monkeypatch):
    killer = tmp_path / "python"
    killer.write_text("#!/bin/sh\nkill -9 $$\n")
    killer.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(killer))
    assert run_job(Job("one", {}, str(tmp_path), ())).reason == "killed by signal 9"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("", "vary needs a list"),
        ("vary: {SEED: 1}", "vary needs a list"),
        ("vary: {SEED: [1, 1]}", "the same study twice"),
        ("vary: {SEDE: [1]}", "no notebook has a parameter SEDE"),
        ("vary: {SEED: [a]}", "SEED is 'a'"),
        ("varry: {SEED: [1]}", "'varry' is not one of"),
        ("vary: {SEED: [1]}\nset: {K: 2}", "no notebook has a parameter K"),
        ("vary: {SEED: [1]}\nstudy: nowhere", "no study 'nowhere'"),
        ("vary: [", "cannot be read"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_before_anything_runs(
    notebooks, tmp_path, change, reason
):
    file = tmp_path / "bad.yaml"
    (tmp_path / "base.yaml").write_text("N: 10\n")
    file.write_text(change if "study" in change else f"study: base.yaml\n{change}\n")
    with pytest.raises(StudyError, match=reason):
        load_sweep(file, notebooks=notebooks)


def test_restrictions_get_a_short_name_that_stays(notebooks, tmp_path):
    (tmp_path / "base.yaml").write_text("N: 10\n")
    file = tmp_path / "r.yaml"
    file.write_text("study: base.yaml\nvary: {RESTRICT: [{}, {medium: [SNS, phone]}]}\n")
    _, jobs = load_sweep(file, notebooks=notebooks)
    assert [job.name for job in jobs] == ["restrict-44136f", "restrict-d23288"]
    assert 'RESTRICT={"medium": ["SNS", "phone"]}' in jobs[1].command


def test_the_mean_over_one_seed_has_no_interval():
    table = pd.DataFrame({"study": "s", "SEED": "1", "metric": ["a"], "value": [2.0]})
    row = across_seeds(table).iloc[0]
    assert (row.value, row.seeds) == (2.0, 1)
    assert pd.isna(row.low)
    assert gather([]).empty
