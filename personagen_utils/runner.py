"""How does a study run without anyone watching? Executes the notebooks in order, strictly.

Each notebook gets the parameters it declares, the kernel is always the interpreter that runs the
runner, and a notebook is skipped when nothing that it rests on has changed since it last ran.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import nbformat
import papermill
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError
from traitlets import default

from personagen_utils import manifest, report
from personagen_utils.errors import KitError
from personagen_utils.files import redact, write_atomic
from personagen_utils.paths import DATA, ROOT, resolve, shown
from personagen_utils.runs import Run, open_run
from personagen_utils.study import Notebook, Study, choose, find_notebooks, load_study
from personagen_utils.terminal import Progress, duration

NO_EFFECT = {"__main__", "study", "runner", "terminal", "report", "publish", "sweep", "retry"}
"""Modules of the package that no notebook's outcome depends on."""


def run_study(
    study: str = "demo",
    *,
    only: Sequence[str] = (),
    overrides: Sequence[str] = (),
    out: str | None = None,
    force: bool = False,
    notebooks: Path | None = None,
    stream: TextIO | None = None,
) -> Path:
    """Execute the notebooks of a study and write its report.

    Parameters
    ----------
    study : str
        A name in ``data/studies``, or the path of a YAML file.
    only : sequence of str
        Beginnings of notebook names, for example ``["05", "09"]``; all when empty.
    overrides : sequence of str
        ``"NAME=VALUE"`` parameters.
    out : str, optional
        The run folder, in place of the study's own.
    force : bool
        Run notebooks again even though nothing has changed.
    notebooks : Path, optional
        Another folder of notebooks.
    stream : text file, optional
        Where progress goes; standard output by default.

    Returns
    -------
    Path
        The HTML report.

    Raises
    ------
    StudyError
        If the study, a parameter or a notebook's name is not one that can be meant.
    KitError
        If a cell fails: names notebook, cell and reason.
    """
    found = find_notebooks(notebooks)
    chosen = choose(found, only)
    asked = load_study(study, found, overrides=overrides, out=out, chosen=chosen)
    run = open_run(asked.parameters["RUN_DIR"])
    command = reproduce(study, overrides=overrides, out=out)
    run.note(study={"name": asked.name, "file": asked.file, "command": command})
    surroundings = _surroundings()
    with Progress(run.folder, len(chosen), stream or sys.stdout) as progress:
        for index, notebook in enumerate(chosen, start=1):
            progress.start(index, notebook.name)
            state = _state(notebook, asked, surroundings)
            if not force and _unchanged(run, notebook, state):
                progress.finish("unchanged, kept")
                continue
            seconds = _execute(notebook, asked.given_to(notebook), run, state, progress)
            progress.finish(f"done in {duration(seconds)}")
    return report.write_report(run, [nb.name for nb in found])


def reproduce(study: str, *, overrides: Sequence[str] = (), out: str | None = None) -> str:
    """Return the command line that repeats a study.

    Examples
    --------
    >>> reproduce("demo", overrides=["SEED=1"])
    'python -m personagen_utils run --study demo -p SEED=1'
    """
    study, out = (manifest.portable(shown(p)) if p and os.sep in p else p for p in (study, out))
    parts = ["python -m personagen_utils run --study", study]
    for override in overrides:
        parts += ["-p", override if re.fullmatch(r"[\w=./:+-]+", override) else f"'{override}'"]
    parts += ["--out", out] if out else []
    return " ".join(parts)


class _OwnKernel(AsyncKernelManager):
    """Starts this very interpreter, whatever kernels are registered on the machine."""

    @default("kernel_spec_manager")
    def _kernel_spec_manager_default(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])  # nothing to find: ipykernel's own spec is left


class _WatchedClient(PapermillNotebookClient):
    """Says which cell begins, and under which heading it stands."""

    progress: Progress

    def execute_cell(self, cell: Any, cell_index: int, **kwargs: Any) -> Any:
        if cell in (code := author_cells(self.nb.cells)):
            title = _heading(self.nb.cells[:cell_index])
            self.progress.cell(code.index(cell) + 1, len(code), title)
        return super().execute_cell(cell, cell_index, **kwargs)


class _Engine(NBClientEngine):
    """papermill's own engine, with our kernel, our progress and a quiet ipykernel."""

    @classmethod
    def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **kwargs: Any) -> Any:
        client = _WatchedClient(
            nb_man,
            kernel_name="python3",
            kernel_manager_class=_OwnKernel,
            extra_arguments=["--IPKernelApp.log_level=CRITICAL"],
            startup_timeout=120,
            timeout=None,
        )
        client.progress = kwargs["progress"]
        with kwargs["noise"].open("w") as noise:  # what the kernel says about itself, not the cells
            return client.execute(env=kwargs["environment"], stderr=noise)


papermill_engines.register("personagen", _Engine)


def _execute(
    notebook: Notebook,
    parameters: dict[str, Any],
    run: Run,
    state: str,
    progress: Progress,
) -> float:
    """Execute one notebook into the run folder and return the seconds it took."""
    copy = run.folder / "notebooks" / notebook.path.name
    running = copy.with_name(f".{notebook.name}.running.ipynb")
    copy.parent.mkdir(exist_ok=True)
    environment = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}  # figures stay inline
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        journal, noise = Path(folder) / "touched", Path(folder) / "stderr"
        environment["PERSONAGEN_TOUCHED"] = str(journal)
        try:
            try:
                papermill.execute_notebook(
                    notebook.path,
                    running,
                    parameters=parameters,
                    engine_name="personagen",
                    kernel_name="python3",
                    language="python",
                    progress_bar=False,
                    cwd=notebook.path.parent,
                    progress=progress,
                    environment=environment,
                    noise=noise,
                )
            finally:
                _keep(running, copy)
        except PapermillExecutionError as error:
            raise KitError(_failure(notebook, error, copy)) from error
        except RuntimeError as error:  # nbclient's word for a kernel that died or never started
            said = noise.read_text("utf-8").split("\n") if noise.exists() else []
            last = next((line for line in reversed(said) if line.strip()), "nothing was said")
            raise KitError(
                f"{notebook.path.name}: its process died ({redact(last.strip())}), most often for "
                "want of memory. Close other programs or ask for fewer items, and run again."
            ) from error
        touched = set(journal.read_text("utf-8").split()) if journal.exists() else set()
    seconds = time.monotonic() - started
    entry = {
        "seconds": round(seconds, 1),
        "state": state,
        "parameters": {k: v for k, v in parameters.items() if k != "RUN_DIR"},
        "touched": {name: _fingerprint(run, name) for name in sorted(touched)},
    }
    run.note(notebooks={notebook.name: entry})
    return seconds


def _keep(running: Path, copy: Path) -> None:
    """Put the executed notebook in its place, without machine paths and secrets."""
    if not running.exists():
        return
    nb = nbformat.read(running, as_version=4)
    nb.metadata.papermill.input_path = f"notebooks/{copy.name}"
    nb.metadata.papermill.output_path = shown(copy)
    write_atomic(copy, redact(nbformat.writes(nb)).encode())
    running.unlink()


def _failure(notebook: Notebook, error: PapermillExecutionError, copy: Path) -> str:
    """Say in one line which cell failed and why."""
    cells = author_cells(nbformat.read(copy, as_version=4).cells)
    number = next(
        (i for i, c in enumerate(cells, 1) if any(o.output_type == "error" for o in c.outputs)), 0
    )
    reason = " ".join(redact(str(error.evalue)).replace(f"{ROOT}{os.sep}", "").split())
    kind = "" if error.ename.endswith("KitError") else f"{error.ename}: "
    place = f"{notebook.path.name}, cell {number} of {len(cells)}"
    return f"{place}: {kind}{reason or 'no reason given'} (the full traceback is in {shown(copy)})"


def author_cells(cells: Sequence[Any]) -> list[Any]:
    """Return a notebook's code cells, without papermill's own cell of parameters."""
    return [
        cell
        for cell in cells
        if cell.cell_type == "code" and "injected-parameters" not in cell.metadata.get("tags", [])
    ]


def _heading(cells: Sequence[Any]) -> str:
    """Return the last Markdown heading among `cells`, without its number signs."""
    for cell in reversed(cells):
        if cell.cell_type == "markdown" and (
            found := re.findall(r"^#{1,4} +(.+)$", cell.source, flags=re.MULTILINE)
        ):
            return found[-1].strip()
    return ""


def _unchanged(run: Run, notebook: Notebook, state: str) -> bool:
    """Say whether a notebook ran already in this very state, and what it rests on still stands."""
    entry = run.manifest["noted"].get("notebooks", {}).get(notebook.name, {})
    return (
        entry.get("state") == state
        and (run.folder / "notebooks" / notebook.path.name).exists()
        and all(_fingerprint(run, name) == known for name, known in entry["touched"].items())
    )


def _fingerprint(run: Run, name: str) -> str | None:
    try:
        return run.records.read(name)["fingerprint"]
    except KitError:
        return None


def _state(notebook: Notebook, study: Study, surroundings: str) -> str:
    """Return a hash of a notebook's source, its parameters, and the kit around it."""
    parameters = study.given_to(notebook)
    own = [_content(path) for value in parameters.values() if (path := _path(value))]
    sources = [cell["source"] for cell in notebook.cells]
    return _hash([sources, parameters, own, surroundings])


def _path(value: Any) -> Path | None:
    """Return the file or folder that a parameter names, unless it is a run folder."""
    if not isinstance(value, str) or not value or "\0" in value or len(value) > 1000:
        return None
    path = resolve(value)
    return path if path.exists() and not (path / "manifest.json").exists() else None


def _surroundings() -> str:
    """Return a hash of the package's source, the kit's data and the versions of its packages."""
    modules = sorted((ROOT / "personagen_utils").glob("*.py"))
    data = [p for p in sorted(DATA.iterdir()) if p.name not in ("runs", "studies")]
    parts = [_content(p) for p in modules if p.stem not in NO_EFFECT] + [_content(p) for p in data]
    return _hash([parts, manifest.packages()])


def _content(path: Path) -> str:
    """Return a hash of a file, or of all files in a folder by their names."""
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    files = [p for p in sorted(path.rglob("*")) if p.is_file()]
    return _hash([(str(p.relative_to(path)), _content(p)) for p in files])


def _hash(value: Any) -> str:
    canonical = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]
