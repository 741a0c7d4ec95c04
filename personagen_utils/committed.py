"""Do the outputs in the committed notebooks still belong to the code, prompts and recordings?

When outputs are published, the result files of the run go to data/published together with hashes
of all that made them. A fast check compares the hashes; a slow one executes the study again and
compares the numbers.
"""

from __future__ import annotations

import ast
import hashlib
import json
from pathlib import Path

import nbformat
import pandas as pd

from personagen_utils import prompts
from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.paths import DATA, ROOT, resolve, shown
from personagen_utils.study import Notebook, find_notebooks

PUBLISHED = DATA / "published"
PACKAGE = ROOT / "personagen_utils"
FIGURE = "table4_mcd.png"  # shown in the README
RELATIVE, ABSOLUTE = 0.05, 0.01  # how far a number may move with another machine's arithmetic


def hashes() -> dict[str, str]:
    """Return hashes of what the committed outputs rest on.

    Returns
    -------
    dict of str to str
        One per notebook (its code cells), of the code that the notebooks reach (comments and
        docstrings left out), prompts, tables, recordings and gold vectors.
    """
    return {nb.name: _of_notebook(nb) for nb in find_notebooks()} | {
        "code": _of_code(),
        "prompts": prompts.fingerprint(),
        "tables": _of_files(DATA / "distributions"),
        "recordings": _of_files(DATA / "recordings"),
        "gold": _of_files(DATA / "gold"),
        "paper": _of_files(DATA / "paper"),
    }


def _of_notebook(notebook: Notebook) -> str:
    code = [cell["source"] for cell in notebook.cells if cell["cell_type"] == "code"]
    return _short("\n\0".join(code).encode())


def _of_files(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _of_code() -> str:
    """Hash the modules that the notebooks import, and those that these import."""
    waiting = set()
    for notebook in find_notebooks():
        for cell in notebook.cells:
            if cell["cell_type"] == "code":
                waiting |= _imported(ast.parse(cell["source"]))
    digest, seen = hashlib.sha256(), {}
    while waiting:
        name = waiting.pop()
        path = PACKAGE / f"{name}.py"
        if name not in seen and path.exists():
            tree = ast.parse(path.read_text("utf-8"))
            waiting |= _imported(tree)
            seen[name] = ast.dump(_without_docstrings(tree))
    for name in sorted(seen):
        digest.update(f"{name}\0{seen[name]}\0".encode())
    return digest.hexdigest()[:16]


def _imported(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "personagen_utils":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("personagen_"):
            found.add(node.module.split(".")[1])
    return found


def _without_docstrings(tree: ast.Module) -> ast.Module:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return tree


def _short(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def keep(run_dir: str | Path, *, folder: Path = PUBLISHED) -> list[str]:
    """Keep a run's result files and the hashes of what made them.

    Returns
    -------
    list of str
        Names of the results.
    """
    results = sorted((resolve(run_dir) / "results").glob("*.json"))
    if not results:
        raise KitError(f"No results in {shown(resolve(run_dir))}: run the study first.")
    for old in folder.glob("*.json"):
        old.unlink()
    for path in results:
        rows = json.loads(path.read_text("utf-8"))["rows"]
        text = json.dumps(rows, ensure_ascii=False).replace("}, {", "},\n {")
        write_atomic(folder / path.name, (text + "\n").encode())
    figure = resolve(run_dir) / "figures" / FIGURE
    if figure.exists():
        write_atomic(folder / FIGURE, figure.read_bytes())
    write_atomic(folder / "hashes.json", (json.dumps(hashes(), indent=1) + "\n").encode())
    return [path.stem for path in results]


def outdated(folder: Path = PUBLISHED) -> list[str]:
    """Return what has changed since the committed outputs were made: nothing, if all is well."""
    known = json.loads((folder / "hashes.json").read_text("utf-8"))
    now = hashes()
    changed = [name for name in sorted({*known, *now}) if known.get(name) != now.get(name)]
    for notebook in find_notebooks():
        cells = nbformat.read(notebook.path, as_version=4).cells
        counts = [cell.execution_count for cell in cells if cell.cell_type == "code"]
        if counts != list(range(1, len(counts) + 1)):
            changed.append(f"{notebook.name} (not executed 1..n)")
    return changed


def compare(run_dir: str | Path, *, folder: Path = PUBLISHED) -> pd.DataFrame:
    """Compare a run's results with the committed ones.

    Parameters
    ----------
    run_dir : str or Path
    folder : Path

    Returns
    -------
    DataFrame
        The rows that differ: result, the row's keys, value and committed. A value may move by a
        twentieth, by .01, or within the committed interval. Rows that one side lacks differ too.

    Raises
    ------
    KitError
        When a committed result was not computed in this run.
    """
    parts = []
    for path in sorted(folder.glob("*.json")):
        if path.name == "hashes.json":
            continue
        made = resolve(run_dir) / "results" / path.name
        if not made.exists():
            raise KitError(f"{shown(made)} is missing: run the whole study first.")
        old = pd.DataFrame(json.loads(path.read_text("utf-8")))
        new = pd.DataFrame(json.loads(made.read_text("utf-8"))["rows"])
        parts.append(_differences(new, old).assign(result=path.stem))
    return pd.concat(parts, ignore_index=True)


def _differences(new: pd.DataFrame, old: pd.DataFrame) -> pd.DataFrame:
    words = [c for c in old if old[c].dtype == object or pd.api.types.is_string_dtype(old[c])]
    keys = [c for c in {*words, *_COUNTS} if c in old and c in new]
    sides = []
    for side in (new, old):
        side = side.astype({c: object for c in keys}).fillna({c: "" for c in keys})
        side = side.assign(row=side.groupby(keys, dropna=False).cumcount())
        sides.append(side[[*keys, "row", "value", "low", "high"]])
    both = sides[0].merge(sides[1], on=[*keys, "row"], how="outer", suffixes=("", "_old"))
    both = both.assign(**{c: pd.to_numeric(both[c]) for c in ("value", "value_old")})
    near = (both["value"] - both["value_old"]).abs() <= (
        ABSOLUTE + RELATIVE * both["value_old"].abs()
    )
    inside = both["value"].between(pd.to_numeric(both["low_old"]), pd.to_numeric(both["high_old"]))
    same = near | inside | (both["value"].isna() & both["value_old"].isna())
    told = ["metric", *(c for c in keys if c != "metric"), "value", "value_old"]
    return both.loc[~same, [c for c in told if c in both]].rename(
        columns={"value_old": "committed"}
    )


_COUNTS = ("train_n", "shots", "score")
"""Numbers that name a row rather than measure."""
