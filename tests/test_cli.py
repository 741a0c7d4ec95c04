"""The commands and the files that newcomers and machines start from."""

import re
import subprocess
import sys
import time

import pytest
import yaml

from personagen_utils.__main__ import main
from personagen_utils.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
VENV = "python3 -m venv .venv && .venv/bin/pip install -e"
RUN = f"{VENV} . && .venv/bin/python -m personagen_utils run"
TEST = f'{VENV} ".[test]" && .venv/bin/python -m pytest'


def command(*words):
    line = [sys.executable, "-m", "personagen_utils", *words]
    return subprocess.run(line, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "words", [[], ["run"], ["export"], ["import"], ["estimate"], ["prompts"], ["publish"]]
)
def test_help_teaches_and_is_quick(words):
    started = time.perf_counter()
    done = command(*words, "--help")
    assert time.perf_counter() - started < 2  # measured 0.05 s; the rest is for a busy machine
    assert done.returncode == 0
    assert not words or "example" in done.stdout
    imported = command_imports(*words)
    assert not imported & {"torch", "pandas", "papermill", "openai"}


def command_imports(*words):
    code = (
        "import sys\nfrom personagen_utils.__main__ import main\n"
        f"try: main({[*words, '--help']})\nexcept SystemExit: pass\n"
        "print('imported', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    return set(out.splitlines()[-1].split())


@pytest.mark.parametrize(
    ("words", "status"), [(["run", "--study", "dmo"], 2), (["run", "--nonsense"], 2), ([], 2)]
)
def test_misuse_is_status_2(words, status, capsys):
    try:
        returned = main(words)
    except SystemExit as stop:
        returned = stop.code
    assert returned == status
    assert "error: " in capsys.readouterr().err


def test_failure_is_one_line_and_status_1(chain, tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text("{}")
    words = ["--study", str(study), "--notebooks", str(chain), "--out", str(tmp_path / "run")]
    done = command("run", *words, "--only", "02")
    assert done.returncode == 1
    assert re.fullmatch(r"error: 02_count.ipynb, cell 3 of 3: base_pers[^\n]*\n", done.stderr)
    (tmp_path / "file").write_text("")
    done = command("run", *words, "--out", str(tmp_path / "file/run"))
    assert done.returncode == 1
    assert re.fullmatch(r"error: Cannot write in the run folder [^\n]*\n", done.stderr)


def test_success_ends_with_the_path_of_the_report(chain, tmp_path):
    study = tmp_path / "s.yaml"
    study.write_text("N_PERSONAS: 2")
    words = ["--study", str(study), "--notebooks", str(chain), "--out", str(tmp_path / "run")]
    done = command("run", *words)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == f"Report: {tmp_path}/run/report/index.html"


def test_readme_has_the_two_lines_on_its_first_screen_and_ci_runs_the_second():
    first_screen = "\n".join(README.splitlines()[:40])
    assert RUN in first_screen
    assert TEST in first_screen
    pattern = re.search(r"grep -m1 -E '(.*)' README", (ROOT / ".ci/run").read_text())[1]
    found = [line for line in README.splitlines() if re.search(pattern, line)]
    assert found[0].strip() == TEST


def test_environment_ends_in_the_kit_itself():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["dependencies"][-1]["pip"][-1] == "-e ."
    for path in [*(ROOT / ".github/workflows").glob("*.yml"), ROOT / ".pre-commit-config.yaml"]:
        assert yaml.safe_load(path.read_text())


def test_studies_are_flat_and_name_their_own_folder():
    for path in (ROOT / "data/studies").glob("*.yaml"):
        study = yaml.safe_load(path.read_text())
        assert study["RUN_DIR"] == f"data/runs/{path.stem}"
        assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in study)
