"""Where do the outputs in the committed notebooks come from? From a run, and without its traces.

A notebook shown with outputs was executed by the runner under the very parameters that it shows.
What changes from run to run (timings, memory addresses, papermill's own cell, noise on stderr) is
left out.
"""

import json
import re
from pathlib import Path

import nbformat

from personagen_utils import committed
from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.paths import ROOT, resolve, shown
from personagen_utils.runner import author_cells
from personagen_utils.study import Notebook, choose, find_notebooks

_ADDRESS = re.compile(r" at 0x[0-9a-f]+(?=>)")


def publish(
    run_dir: str | Path, only: tuple[str, ...] | list[str] = (), *, notebooks: Path | None = None
) -> list[str]:
    """Copy the outputs of a run's executed notebooks into the notebooks themselves.

    Parameters
    ----------
    run_dir : str or Path
        The run folder.
    only : sequence of str
        Beginnings of notebook names; all executed ones when empty.
    notebooks : Path, optional
        Another folder of notebooks.

    Returns
    -------
    list of str
        Names of the notebooks written. When all were asked for, the run's results go to
        data/published as well, with hashes of what made them (`committed`).

    Raises
    ------
    KitError
        If nothing was executed, the notebook was edited since, or it ran under parameters other
        than those it shows.
    """
    folder = resolve(run_dir)
    published = []
    for notebook in choose(find_notebooks(notebooks), only):
        executed = folder / "notebooks" / notebook.path.name
        if executed.exists():
            nb = _with_outputs(notebook, executed)
            write_atomic(notebook.path, (nbformat.writes(nb) + "\n").encode())
            published.append(notebook.name)
    if not published:
        raise KitError(f"No executed notebook in {shown(folder)}/notebooks to take outputs from.")
    if notebooks is None and not only:
        committed.keep(folder)
    return published


def _with_outputs(notebook: Notebook, executed: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of its executed copy."""
    nb, done = (nbformat.read(path, as_version=4) for path in (notebook.path, executed))
    given = done.metadata.get("papermill", {}).get("parameters", {})
    for name, value in given.items():
        default = notebook.defaults.get(name)
        if value != default and not _same_folder(value, default):
            raise KitError(
                f"{notebook.path.name} shows {name} = {default!r}, but was executed with "
                f"{value!r}. Execute it with the parameters that it shows."
            )
    mine, theirs = author_cells(nb.cells), author_cells(done.cells)
    if [cell.source for cell in mine] != [cell.source for cell in theirs]:
        raise KitError(f"{notebook.path.name} was edited since it was executed. Run it again.")
    for number, (cell, source) in enumerate(zip(mine, theirs, strict=True), start=1):
        kept = [o for o in source.outputs if o.get("name") != "stderr"]
        if any(output.output_type == "error" for output in kept):
            raise KitError(f"{notebook.path.name} was executed with an error in cell {number}.")
        for output in kept:
            if output.output_type == "execute_result":
                output.execution_count = number
            if "text/plain" in output.get("data", {}):
                output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
            if ROOT.as_posix() in json.dumps(output):
                raise KitError(
                    f"{notebook.path.name}, cell {number} prints a path of this machine."
                )
        cell.outputs, cell.execution_count = kept, number
    for cell in nb.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k == "tags"}
    nb.metadata = {"kernelspec": nb.metadata.kernelspec}
    return nb


def _same_folder(value: object, default: object) -> bool:
    both = isinstance(value, str) and isinstance(default, str) and default
    return bool(both) and resolve(value) == resolve(default)
