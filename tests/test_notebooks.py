"""Every notebook keeps the contract of a parameterised notebook, and executes at a small size."""

import ast
import copy
import http.server
import io
import json
import re
import subprocess
import sys
import threading
from typing import ClassVar

import nbformat
import papermill
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from personagen_utils import runner
from personagen_utils.paths import ROOT
from personagen_utils.study import find_notebooks, load_study

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
SMALL = {
    **{"N_PERSONAS": 12, "N_TWEETS": 12, "N_PLAIN": 6, "N_FRESH": 2, "N_ABLATION": 12},
    **{"N_CALIBRATED": 12, "SHOTS": [5, 20], "DRAWS": 2, "LIGHTGBM_DRAWS": 0, "N_TARGET": 20000},
    **{"SPLITS": 2, "GOLD_SPLITS": 1, "CURVE_DRAWS": 1},
}
"""Parameters that make the chain of all notebooks small; only those declared are given."""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def names(source, context):
    tree = ast.parse(TransformerManager().transform_cell(source))
    found = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in found if isinstance(node.ctx, context)}


def problems(path):
    """Return what is wrong with a notebook as papermill, the runner and a reader will see it."""
    nb = nbformat.read(path, as_version=4)
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    wrong = []
    kernel = nb.metadata.get("kernelspec", {})
    if (kernel.get("name"), kernel.get("language")) != ("python3", "python"):
        wrong.append("kernelspec is not python3 with language python")
    tagged = [i for i, c in enumerate(code) if "parameters" in c.metadata.get("tags", [])]
    if len(tagged) != 1:
        return [*wrong, f"{len(tagged)} cells are tagged parameters"]
    cell, after = code[tagged[0]], code[tagged[0] + 1 :]
    declared = names(cell.source, ast.Store)
    if not all(name.isupper() for name in declared):
        wrong.append("a parameter is not in upper case")
    for node in ast.parse(cell.source).body:
        try:
            ast.literal_eval(node.value)
        except (ValueError, AttributeError):
            wrong.append(f"line {node.lineno} of the parameters is not a plain literal")
    inspected = papermill.inspect_notebook(path)
    if set(inspected) != declared:
        wrong.append(f"papermill sees {sorted(inspected)}, Python {sorted(declared)}")
    wrong += [f"{name} has no comment" for name, p in inspected.items() if not p["help"]]
    read = set().union(*(names(c.source, ast.Load) for c in after))
    reset = set().union(*(names(c.source, ast.Store) for c in after))
    wrong += [f"{name} is never read" for name in declared - read]
    wrong += [f"{name} is assigned again" for name in declared & reset]

    title = nb.cells[0].source if nb.cells[0].cell_type == "markdown" else ""
    if not title.startswith("# "):
        wrong.append("the first cell is not the title")
    wrong += [f"the title has no **{word}**" for word in _TITLE if f"**{word}**" not in title]

    outputs = [output for cell in code for output in cell.outputs]
    counts = [cell.execution_count for cell in code]
    if any(counts) and counts != list(range(1, len(code) + 1)):
        wrong.append("the cells were not run 1..n")
    if any(o.output_type == "error" or o.get("name") == "stderr" for o in outputs):
        wrong.append("an error or something on stderr is kept")
    text = path.read_text("utf-8")
    if '"papermill"' in text or "injected-parameters" in text:
        wrong.append("traces of papermill are kept")
    if found := _MACHINE_PATH.search(words(nb)):
        wrong.append(f"a path of a machine: {found[0]}")
    if any(line.startswith("!") for cell in code for line in cell.source.splitlines()):
        wrong.append("a shell escape, whose failure nobody would notice")
    return wrong


_TITLE = ["Reads", "Writes", "Time", "Paper"]
_MACHINE_PATH = re.compile(r"/(?:home|Users|root|tmp|work|opt)/[\w.-]+|[A-Z]:\\\\\w|PosixPath")


def words(nb):
    """Return all that a notebook says, without its pictures."""
    said = copy.deepcopy(nb)
    for output in (o for c in said.cells for o in c.get("outputs", [])):
        for kind in [kind for kind in output.get("data", {}) if kind.startswith("image/")]:
            del output.data[kind]
    return json.dumps([said.cells, said.metadata])


@each
def test_contract(path):
    assert problems(path) == []


GOOD = nbformat.v4.new_notebook(
    metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    cells=[
        nbformat.v4.new_markdown_cell(f"# 01 {' '.join(f'**{word}** x' for word in _TITLE)}"),
        nbformat.v4.new_code_cell("K: int = 3  # how many", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("K + 1"),
    ],
)
PARAMETERS = {
    "a second = in the comment": "K: int = 3  # how many (n=5)",
    "a union type": "K: int | None = 3  # how many",
    "a derived default": "K: int = 3  # how many\nHALF = K / 2  # half",
    "no comment": "K: int = 3",
    "never read": "K: int = 3  # how many\nL: int = 3  # other",
    "lower case": "k: int = 3  # how many",
}


@pytest.mark.parametrize("change", [*PARAMETERS, "again", "untagged", "twice", "kernel", "stderr"])
def test_contract_catches(change, tmp_path):
    nb = copy.deepcopy(GOOD)
    path = tmp_path / "01_x.ipynb"
    nbformat.write(nb, path)
    assert problems(path) == []
    if change in PARAMETERS:
        nb.cells[1].source = PARAMETERS[change]
    elif change == "again":
        nb.cells[2].source = "K = K + 1"
    elif change == "untagged":
        nb.cells[1].metadata.tags = []
    elif change == "twice":
        nb.cells[2].metadata.tags = ["parameters"]
    elif change == "kernel":
        nb.metadata.kernelspec.name = "venv"
    else:
        nb.cells[2].outputs = [nbformat.v4.new_output("stream", name="stderr", text="noise")]
    nbformat.write(nb, path)
    assert problems(path)


CANARY = "sk-canary-5e1f0b7c9a2d4836"


class _Listener(http.server.BaseHTTPRequestHandler):
    """Stands where a live host would: whatever arrives here should not have been sent."""

    heard: ClassVar[list] = []

    def do_POST(self):
        self.heard.append(self.path)
        self.send_error(500)

    do_GET = do_CONNECT = do_POST


@pytest.fixture(scope="session")
def small_run(tmp_path_factory):
    """Return a function that executes the notebooks up to one; those before it run only once.

    A key and a host are in the environment, and every proxy leads to a listener: the recorded
    backend must use none of them.
    """
    folder = tmp_path_factory.mktemp("runs") / "small"
    surroundings = runner._surroundings()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"http://127.0.0.1:{server.server_port}"
    environment = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": f"{host}/v1"}
    environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), host)
    environment |= {"no_proxy": "", "NO_PROXY": ""}

    def execute(path):
        declared = {name for nb in find_notebooks() for name in nb.defaults}
        chosen = [p.stem for p in NOTEBOOKS if p <= path]
        reached = {name for nb in find_notebooks() if nb.name in chosen for name in nb.defaults}
        overrides = [f"{k}={v}" for k, v in SMALL.items() if k in declared & reached]
        options = {"only": chosen, "overrides": overrides, "out": str(folder)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(runner, "_surroundings", lambda: surroundings)
            for name, value in environment.items():
                patch.setenv(name, value)
            report = runner.run_study("demo", **options, stream=io.StringIO())
        return folder, report

    yield execute
    server.shutdown()


@pytest.mark.notebook
@each
def test_executes_at_a_small_size_and_writes_what_its_title_says(path, small_run):
    folder, report = small_run(path)
    assert f'<section id="{path.stem}"' in report.read_text("utf-8")
    title = nbformat.read(path, as_version=4).cells[0].source
    writes = title.partition("**Writes**")[2].partition("**")[0]
    for name in re.findall(r"[\w-]+\.(?:parquet|json)", writes):
        written = folder / name if name.endswith(".parquet") else folder / "results" / name
        assert written.exists(), f"{name} was not written"
    for written in (folder / "results").glob("*.json"):
        rows = json.loads(written.read_text("utf-8"))["rows"]
        assert rows
        assert {"metric", "method", "emotion", "value", "low", "high", "n"} <= set(rows[0])


@pytest.mark.notebook
def test_a_run_on_recordings_sends_nothing_and_keeps_no_key(small_run):
    folder, _ = small_run(NOTEBOOKS[-1])
    assert _Listener.heard == []
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 40
    secret = CANARY.encode()
    assert [path.name for path in files if secret in path.read_bytes()] == []


@pytest.mark.notebook
@pytest.mark.skipif(len(NOTEBOOKS) < 2, reason="the first stage's notebook is not there yet")
def test_plain_papermill_from_the_root_takes_the_study_file(tmp_path):
    path = next(path for path in NOTEBOOKS if path.stem == "01_base_persona")
    words = [
        str(path.relative_to(ROOT)),
        str(tmp_path / "out.ipynb"),
        "-f",
        "data/studies/demo.yaml",
    ]
    words += ["-p", "RUN_DIR", str(tmp_path / "run"), "-p", "N_PERSONAS", "12"]
    command = [sys.executable, "-m", "papermill", *words, "--no-progress-bar"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run/base_persona.parquet").exists()


@pytest.mark.skipif(not NOTEBOOKS, reason="no notebooks yet")
@pytest.mark.parametrize(
    "path", sorted((ROOT / "data/studies").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_studies_are_accepted(path):
    study = load_study(path.stem, find_notebooks())
    assert study.parameters["RUN_DIR"] == f"data/runs/{path.stem}"
