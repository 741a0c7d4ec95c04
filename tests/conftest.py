"""What several test files share: a folder of tiny notebooks that stand in for the real ones."""

from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


@pytest.fixture
def write_notebook(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes one notebook from a parameters cell and further cells."""

    def write(name: str, parameters: str, *cells: str) -> Path:
        nb = new_notebook(metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})
        nb.cells = [
            new_markdown_cell(f"# {name}\n**Reads** nothing"),
            new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        ]
        for source in cells:
            new = new_markdown_cell if source.startswith(("#", "*")) else new_code_cell
            nb.cells.append(new(source))
        path = tmp_path / "notebooks" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(nb, path)
        return path

    return write


@pytest.fixture
def chain(write_notebook: Callable[..., Path], tmp_path: Path) -> Path:
    """Write two notebooks, the second from the first's stage, and return their folder."""
    start = (
        "from personagen_utils.runs import open_run\nrun = open_run(RUN_DIR)\nimport pandas as pd"
    )
    write_notebook(
        "01_base_persona",
        f'RUN_DIR = "{tmp_path}/elsewhere"  # run folder\nN_PERSONAS: int = 3  # people\n'
        'LOCALE: str = "jp"  # population\nRATE: float = 0.5  # kept\nSTRICT: bool = True  # rules',
        start,
        "## Draw\nFormula $x^2$.",
        'people = pd.DataFrame({"i": range(N_PERSONAS)})\n'
        'run.save_stage("base_persona", people, parameters={"N_PERSONAS": N_PERSONAS})\npeople',
        "## Exercises\nOne.",
        'print("solution")',
    )
    write_notebook(
        "02_count",
        f'RUN_DIR = "{tmp_path}/elsewhere"  # run folder\nUNIT = "people"  # word',
        start,
        "## Count",
        'n = len(run.read_stage("base_persona"))\n'
        'run.save_results("count", [{"metric": UNIT, "value": n}], inputs=["base_persona"])\nn',
    )
    return tmp_path / "notebooks"
