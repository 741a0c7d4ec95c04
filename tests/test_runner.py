"""The headless runner: strict about what it is given, frugal about what it repeats."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from personagen_utils import runner
from personagen_utils.errors import KitError
from personagen_utils.publish import publish
from personagen_utils.runner import run_study
from personagen_utils.study import RANGES, StudyError, find_notebooks, load_study

KEY = "sk-canary-0123456789"


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text("N_PERSONAS: 4\nUNIT: persons\n")
    return str(path)


@pytest.fixture
def go(chain, study, tmp_path):
    """Return a function that runs the tiny study and gives back what it printed."""

    def run(**options):
        stream = io.StringIO()
        options = {"out": str(tmp_path / "run"), "notebooks": chain, "stream": stream} | options
        run.report = run_study(study, **options)
        return stream.getvalue()

    return run


def test_runs_in_order_skips_what_is_unchanged_and_repeats_what_is_not(
    go, tmp_path, chain, monkeypatch
):
    monkeypatch.setattr(runner, "_surroundings", lambda: "the same package and data")
    first = go()
    assert re.search(r"\[1/2\] 01_base_persona  done in .*\[2/2\] 02_count  done in", first, re.S)
    results = json.loads((tmp_path / "run/results/count.json").read_text())
    assert results["rows"][0]["value"] == 4
    assert results["rows"][0]["metric"] == "persons"

    assert go().count("unchanged, kept") == 2
    changed = go(overrides=["UNIT=x"])  # declared by the second only
    assert "01_base_persona  unchanged" in changed
    assert "02_count  done" in changed
    assert go(overrides=["UNIT=x"], force=True).count("done in") == 2
    assert go(overrides=["UNIT=x"], only=["02"]) == "[1/1] 02_count  unchanged, kept\n"

    (tmp_path / "run/base_persona.parquet").unlink()  # then its notebook has to run again
    again = go(overrides=["UNIT=x"])
    assert "01_base_persona  done" in again
    assert "02_count  unchanged" in again  # for the stage came out the same
    path = chain / "02_count.ipynb"
    path.write_text(path.read_text().replace("## Count", "## Count them"))
    assert "02_count  done" in go(overrides=["UNIT=x"])


def test_kernel_is_this_interpreter_in_the_notebooks_folder(
    go, chain, write_notebook, tmp_path, monkeypatch
):
    poisoned = tmp_path / "jupyter/kernels/python3"
    poisoned.mkdir(parents=True)
    spec = {"argv": ["/bin/false"], "display_name": "stale", "language": "python"}
    (poisoned / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "jupyter"))
    monkeypatch.setenv("MPLBACKEND", "agg")
    write_notebook(
        "03_where", 'RUN_DIR = ""  # run', "import os, sys\n(sys.executable, os.getcwd())"
    )
    go(only=["03"])
    copy = json.loads((tmp_path / "run/notebooks/03_where.ipynb").read_text())
    (output,) = copy["cells"][-1]["outputs"]  # one: no warning of ipykernel's on stderr
    assert eval("".join(output["data"]["text/plain"])) == (sys.executable, str(chain))
    assert "stderr" not in json.dumps(copy)


def test_failing_cell_is_one_line_and_its_traceback_is_kept(go, write_notebook, tmp_path):
    write_notebook("03_wrong", 'RUN_DIR = ""  # run', "1 + 1", "def f():\n    1 / 0", "f()")
    with pytest.raises(KitError) as error:
        go()
    message = str(error.value)
    assert message.startswith("03_wrong.ipynb, cell 4 of 4: ZeroDivisionError: division by zero")
    assert "\n" not in message
    assert (
        "Traceback (most recent call last)"
        in (tmp_path / "run/notebooks/03_wrong.ipynb").read_text()
    )


def test_process_that_dies_is_one_line(go, write_notebook):
    write_notebook("03_dead", 'RUN_DIR = ""  # run', "import os; os._exit(1)")
    with pytest.raises(KitError, match=r"^03_dead.ipynb: its process died .* run again\.$"):
        go(only=["03"])


def test_missing_input_is_said_in_the_kits_own_words(go, tmp_path):
    with pytest.raises(KitError) as error:
        go(only=["02"])
    assert re.match(
        r"02_count.ipynb, cell 3 of 3: base_persona.parquet is missing in .*"
        r"Run 01_base_persona.ipynb first",
        str(error.value),
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overrides": ["N_PERSONA=3"]}, r"-p N_PERSONA: no .* \(did you mean N_PERSONAS\?\)"),
        ({"overrides": ["n_personas=3"]}, r"did you mean N_PERSONAS\?"),
        (
            {"overrides": ["N_PERSONAS=abc"]},
            "is 'abc', but 01_base_persona wants a whole",
        ),
        ({"overrides": ["N_PERSONAS=true"]}, "wants a whole number like 3"),
        ({"overrides": ["N_PERSONAS="]}, "N_PERSONAS is None"),
        ({"overrides": ["STRICT=1"]}, "wants true or false"),
        ({"overrides": ["RATE=[1]"]}, "wants a number"),
        ({"overrides": ["RATE"]}, "write NAME=VALUE"),
        ({"overrides": ["UNIT=x"], "only": ["01"]}, "used by 02_count only"),
        ({"overrides": [f"UNIT={KEY}"]}, "key or token of the environment"),
        ({"only": ["07"]}, "No notebook begins with '07'"),
    ],
)
def test_what_cannot_be_meant_is_refused(go, options, message, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(StudyError, match=message) as error:
        go(**options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("N_PERSONS: 3", r"no notebook has a parameter N_PERSONS \(did you mean N_PERSONAS\?\)"),
        ("LOCALE: 81", "LOCALE is 81, but 01_base_persona wants a text"),
        ("- 3", "NAME: VALUE on each line"),
        ("a: [", "cannot be read as YAML"),
        ("SEED: 1\nRUN_DIR: x\nSEED: 2", r"small\.yaml, line 3: SEED is set twice; leave one"),
    ],
)
def test_study_files_are_held_to_the_same(chain, study, content, message):
    with open(study, "w") as file:
        file.write(content)
    with pytest.raises(StudyError, match=message):
        load_study(study, find_notebooks(chain))
    with pytest.raises(StudyError, match=r"no study 'demi' \(did you mean demo\?\)"):
        load_study("demi", find_notebooks(chain))


def test_values_are_typed_by_yaml_and_texts_stay_texts(chain, study):
    given = ["N_PERSONAS=7", "RATE=1e-3", "LOCALE=no", "STRICT=false", "UNIT=007"]
    loaded = load_study(study, find_notebooks(chain), overrides=given).parameters
    expected = {"N_PERSONAS": 7, "RATE": 0.001, "LOCALE": "no", "STRICT": False, "UNIT": "007"}
    assert loaded == {"RUN_DIR": "data/runs/small", **expected}


def test_no_secret_and_no_machine_path_is_written(go, write_notebook, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    write_notebook("03_leak", 'RUN_DIR = ""  # run', "import os\ndict(os.environ)")
    go()
    for path in (tmp_path / "run").rglob("*"):
        assert path.is_dir() or KEY.encode() not in path.read_bytes(), path
    assert str(tmp_path) not in (tmp_path / "run/manifest.json").read_text()


def test_interrupted_run_says_that_work_is_kept(chain, study, write_notebook, tmp_path):
    write_notebook(
        "03_long",
        'RUN_DIR = ""  # run',
        "import json, os, time",
        "## Generation",
        "with open(f'{RUN_DIR}/progress.json', 'w') as file:\n"
        "    json.dump({'desc': 'texts', 'done': 3, 'total': 9, 'eta_seconds': 65}, file)\n"
        "open(f'{RUN_DIR}/pid', 'w').write(str(os.getpid())); time.sleep(60)",
    )
    run = tmp_path / "run"
    command = [sys.executable, "-m", "personagen_utils", "run", "--study", study]
    command += ["--notebooks", str(chain), "--out", str(run)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that starts the tests in the background has them ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (run / "pid").exists() or not (run / "pid").read_text():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "02_count  done" in out
    assert err.strip().count("\n") == 0
    assert "kept: run the same command again" in err
    kernel = int((run / "pid").read_text())
    for _ in range(50):
        try:
            os.kill(kernel, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        pytest.fail("the notebook's process is still there")


def test_progress_lines(tmp_path):
    from personagen_utils import terminal

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    with terminal.Progress(tmp_path, 12, stream) as progress:
        progress.start(3, "02_b")
        progress.cell(4, 9, "Generation")
        (tmp_path / "progress.json").write_text(
            '{"desc": "texts", "done": 3, "total": 1000, "eta_seconds": 65, "cost_usd": 0.5}'
        )
        progress.cell(4, 9, "Generation")
        progress.finish("done in 7 s")
    assert "texts: 3 of 1,000 · 1 min 5 s left · $0.50" in stream.getvalue().replace("…", "") or (
        "[ 3/12] 02_b · cell 4 of 9, Generation · texts: 3 of 1,000" in stream.getvalue()
    )
    assert stream.getvalue().endswith("[ 3/12] 02_b  done in 7 s\n")
    os.utime(tmp_path / "progress.json", (1, 1))
    assert terminal.texts(tmp_path / "progress.json", time.time()) == []


def test_report_holds_together_without_anything_else(go, write_notebook, tmp_path):
    write_notebook(
        "03_figure",
        'RUN_DIR = ""  # run',
        "## A figure\nSee [the draw](01_base_persona.ipynb) and [a file](../README.md).",
        "import matplotlib.pyplot as plt, sys\nplt.plot([1, 2])\nprint('noise', file=sys.stderr);",
        "**The line rises.**",
    )
    go()
    page = go.report.read_text()
    assert "solution" not in page
    assert "Exercises" not in page
    assert "noise" not in page
    assert "<math" in page
    assert 'alt="The line rises."' in page
    assert 'href="#01_base_persona"' in page
    assert "a file" in page
    addresses = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert all(a.startswith(("#", "data:", "https://")) for a in addresses)
    assert "<script" not in page
    assert "--study" in page
    assert page.count("<section") == 3


def test_outputs_are_published_as_if_run_by_hand(go, chain, tmp_path, write_notebook):
    write_notebook(
        "03_shown",
        f'RUN_DIR = "{tmp_path}/run"  # run\nUNIT = "persons"  # word',
        "import sys; print('noise', file=sys.stderr)",
        "UNIT",
        "object()",
    )
    go()
    assert publish(tmp_path / "run", ["03"], notebooks=chain) == ["03_shown"]
    nb = json.loads((chain / "03_shown.ipynb").read_text())
    code = [cell for cell in nb["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [1, 2, 3, 4]
    assert [len(cell["outputs"]) for cell in code] == [0, 0, 1, 1]
    assert code[3]["outputs"][0]["data"]["text/plain"] == ["<object>"]
    assert code[2]["outputs"][0]["execution_count"] == 3
    assert set(nb["metadata"]) == {"kernelspec"}
    assert "papermill" not in json.dumps(nb)
    before = (chain / "03_shown.ipynb").read_bytes()
    go(force=True, only=["03"])
    publish(tmp_path / "run", ["03"], notebooks=chain)
    assert (chain / "03_shown.ipynb").read_bytes() == before
    with pytest.raises(KitError, match=r"02_count\.ipynb shows"):
        publish(tmp_path / "run", ["02"], notebooks=chain)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("N_PERSONAS=0", "N_PERSONAS is 0, but must be at least 1"),
        ("SEED=-1", "SEED is -1, but must be between 0 and"),
        ("RARE_KEEP=1.5", "RARE_KEEP is 1.5, but must be between 0 and 1"),
        ("TEMPERATURE=.nan", "TEMPERATURE is nan, but must be between 0 and 2"),
    ],
)
def test_numbers_out_of_range_are_refused_before_anything_runs(override, said):
    with pytest.raises(StudyError, match=said):
        load_study("demo", find_notebooks(), overrides=[override])


def test_every_range_is_of_a_parameter_and_holds_its_default():
    defaults = {name: value for nb in find_notebooks() for name, value in nb.defaults.items()}
    for name, (least, most) in RANGES.items():
        assert defaults[name] >= least
        assert most is None or defaults[name] <= most
