"""What is asked of a run? Reads a study's parameters and holds them against the notebooks' own.

A notebook's parameters cell is its signature: names, defaults and, by the defaults, types. A study
file is flat YAML; a name that no notebook declares, or a value of another type, is refused.
"""

import ast
import contextlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from personagen_utils.errors import KitError, did_you_mean
from personagen_utils.files import redact
from personagen_utils.paths import DATA, ROOT, shown


class StudyError(KitError):
    """A run that was asked for in a way that cannot be meant; the command ends with status 2."""


@dataclass(frozen=True)
class Notebook:
    """A notebook on disk, read for its parameters alone."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.stem

    @cached_property
    def cells(self) -> list[dict[str, Any]]:
        """The cells as they stand in the file, with each source as one string."""
        try:
            cells = json.loads(self.path.read_text("utf-8"))["cells"]
        except (OSError, ValueError, KeyError) as error:
            raise KitError(f"{shown(self.path)} cannot be read as a notebook ({error}).") from error
        return [{**cell, "source": "".join(cell["source"])} for cell in cells]

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """Parameter name -> default value, from the cell tagged ``parameters``."""
        found = {}
        for cell in self.cells:
            if "parameters" in cell.get("metadata", {}).get("tags", []):
                for node in ast.parse(cell["source"]).body:
                    target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                    found[target.id] = ast.literal_eval(node.value)
        return found


@dataclass(frozen=True)
class Study:
    """A study's name and every parameter that it sets.

    Attributes
    ----------
    name : str
        ``"demo"`` for ``data/studies/demo.yaml``.
    file : str
        The study file as it is shown.
    parameters : dict
        Name -> plain value. Always holds ``RUN_DIR``.
    """

    name: str
    file: str
    parameters: dict[str, Any]

    def given_to(self, notebook: Notebook) -> dict[str, Any]:
        """Return the parameters that a notebook declares."""
        return {k: v for k, v in self.parameters.items() if k in notebook.defaults}


def find_notebooks(folder: Path | None = None) -> list[Notebook]:
    """Return the numbered notebooks of a folder, in order.

    Raises
    ------
    StudyError
        If there is none.
    """
    folder = folder or ROOT / "notebooks"
    found = [Notebook(path) for path in sorted(folder.glob("[0-9]*.ipynb"))]
    if not found:
        raise StudyError(f"No notebook whose name starts with a digit in {shown(folder)}.")
    return found


def choose(notebooks: Sequence[Notebook], only: Sequence[str]) -> list[Notebook]:
    """Return the notebooks that `only` names, in order; all of them when it is empty.

    Parameters
    ----------
    notebooks : sequence of Notebook
    only : sequence of str
        Beginnings of names: ``"05"`` or ``"05_rq1_diversity"``.

    Raises
    ------
    StudyError
        If a beginning fits no notebook.
    """
    for start in only:
        if not any(nb.name.startswith(start.removesuffix(".ipynb")) for nb in notebooks):
            names = [nb.name for nb in notebooks]
            raise StudyError(f"No notebook begins with {start!r}{did_you_mean(start, names)}.")
    starts = tuple(start.removesuffix(".ipynb") for start in only)
    return [nb for nb in notebooks if not only or nb.name.startswith(starts)]


def load_study(
    study: str,
    notebooks: Sequence[Notebook],
    *,
    overrides: Sequence[str] = (),
    out: str | None = None,
    chosen: Sequence[Notebook] | None = None,
) -> Study:
    """Read a study file and the overrides of the command line, strictly.

    Parameters
    ----------
    study : str
        A name in ``data/studies``, or the path of a YAML file.
    notebooks : sequence of Notebook
        All notebooks: what any of them declares may be set.
    overrides : sequence of str
        ``"NAME=VALUE"``, the value by the rules of YAML.
    out : str, optional
        The run folder, in place of the study's own.
    chosen : sequence of Notebook, optional
        The notebooks that will run; an override that reaches none of them is refused.

    Returns
    -------
    Study

    Raises
    ------
    StudyError
        If the file is missing or not flat, a name is declared by no notebook, a value has another
        type than the notebook's default, or a value is that of a key in the environment.

    Examples
    --------
    >>> load_study("demo", find_notebooks(), overrides=["SEED=1"])  # doctest: +SKIP
    """
    path = _study_file(study)
    parameters = _flat(path)
    for name, value in parameters.items():
        _check(name, value, notebooks, where=shown(path))
    for override in overrides:
        name, equals, text = override.partition("=")
        if not equals or not name:
            raise StudyError(f"-p {override}: write NAME=VALUE, for example -p SEED=1.")
        parameters[name] = _typed(name, text, notebooks)
        if chosen is not None and not any(name in nb.defaults for nb in chosen):
            owners = ", ".join(nb.name for nb in notebooks if name in nb.defaults)
            raise StudyError(f"-p {name}: used by {owners} only, which --only leaves out.")
    if out is not None:
        parameters["RUN_DIR"] = out
    parameters.setdefault("RUN_DIR", f"data/runs/{path.stem}")
    return Study(path.stem, shown(path), parameters)


def _study_file(study: str) -> Path:
    shipped = {path.stem: path for path in sorted((DATA / "studies").glob("*.yaml"))}
    if study in shipped:
        return shipped[study]
    path = Path(study).expanduser().resolve()
    if not path.is_file():
        raise StudyError(
            f"There is no study {study!r}{did_you_mean(study, shipped)}. "
            f"Shipped: {', '.join(shipped) or 'none'}; or give the path of a YAML file."
        )
    return path


def _flat(path: Path) -> dict[str, Any]:
    try:
        with path.open(encoding="utf-8") as lines:
            read = yaml.load(lines, _Once) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise StudyError(f"{shown(path)} cannot be read as YAML: {reason}") from error
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise StudyError(f"{shown(path)}: write one NAME: VALUE on each line, nothing else.")
    return read


class _Once(yaml.SafeLoader):
    """YAML whose keys stand once: a second line would silently overrule the first."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for place, key in enumerate(keys):
            if key in keys[:place]:
                raise StudyError(
                    f"{shown(Path(self.name))}, line {node.value[place][0].start_mark.line + 1}: "
                    f"{key} is set twice; leave one line."
                )
        return super().construct_mapping(node, deep)


def _typed(name: str, text: str, notebooks: Sequence[Notebook]) -> Any:
    """Return the value of ``-p NAME=TEXT`` by the rules of YAML, a text parameter as it stands."""
    try:
        value = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError):
        value = text
    defaults = [nb.defaults[name] for nb in notebooks if name in nb.defaults]
    if defaults and all(isinstance(default, str) for default in defaults):
        value = value if isinstance(value, str) else text
    elif isinstance(value, str) and any(isinstance(default, float) for default in defaults):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML takes 1e-3 for a text
    _check(name, value, notebooks, where=f"-p {name}")
    return value


def _check(name: str, value: Any, notebooks: Sequence[Notebook], *, where: str) -> None:
    """Refuse a parameter that no notebook declares, or a value of the wrong type."""
    declared = {key: None for nb in notebooks for key in nb.defaults}
    if name not in declared:
        raise StudyError(
            f"{where}: no notebook has a parameter {name}{did_you_mean(name, declared)}."
        )
    if redact(repr(value)) != repr(value):
        raise StudyError(
            f"{where}: the value of {name} is a key or token of the environment, and parameters "
            "are written into the executed notebooks. Leave it in the environment."
        )
    for nb in notebooks:
        if name in nb.defaults and not _fits(value, default := nb.defaults[name]):
            kind = _KINDS.get(type(default), type(default).__name__)
            raise StudyError(
                f"{where}: {name} is {value!r}, but {nb.name} wants {kind} like {default!r}."
            )

    least, most = RANGES.get(name, (None, None))
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = least is not None and not value >= least, most is not None and not value <= most
        if low or high:
            allowed = f"at least {least}" if most is None else f"between {least} and {most}"
            raise StudyError(f"{where}: {name} is {value!r}, but must be {allowed}.")


RANGES: dict[str, tuple[float, float | None]] = {
    **dict.fromkeys(("SEED", "ANALYSIS_SEED"), (0, 2**32 - 1000)),
    **dict.fromkeys(("PERSON", "N_FRESH", "LIGHTGBM_DRAWS"), (0, None)),
    **dict.fromkeys(("N_PERSONAS", "N_PLAIN", "N_SECOND", "DRAWS", "CURVE_DRAWS"), (1, None)),
    **dict.fromkeys(("SPLITS", "GOLD_SPLITS"), (1, None)),
    **dict.fromkeys(("N_TWEETS", "N_ABLATION", "N_CALIBRATED"), (6, None)),
    **dict.fromkeys(("RARE_KEEP", "SHOW_RARE_KEEP"), (0, 1)),
    "TEMPERATURE": (0, 2),
    "THRESHOLD": (1, 5),
    "MAX_POINTS": (50, None),
    "N_TARGET": (1000, None),
}
"""The values that a parameter may have, where its type alone does not say so."""

_KINDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a mapping",
}


def _fits(value: Any, default: Any) -> bool:
    """Say whether `value` can stand where a notebook has `default`; None stands for anything."""
    if default is None:
        return value is None or type(value) in _KINDS
    if isinstance(default, float):
        return type(value) in (int, float)
    return type(value) is type(default)
