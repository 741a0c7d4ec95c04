"""Which distributions the personas are drawn from (Tables I, II and III of the paper).

A locale is a folder of tidy CSV files, one per attribute, with one figure per row::

    given,value,item,percent,status,source,year,note
    age,Late Teens,High School Students,96.429,fitted,employment-2022,2022,raked

which reads: of those whose `age` is Late Teens, 96.429 percent are High School Students. An empty
`given` makes the row unconditional. Two YAML files beside them hold the rules. Copy a folder, edit
it, and name it in the parameter TABLES to use your own figures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from personagen_utils.errors import KitError, did_you_mean
from personagen_utils.paths import DATA, resolve, shown

BASE = ("age", "gender", "occupation", "mbti")
BACKGROUND = (
    "education",
    "residence",
    "geographic_location",
    "family_structure",
    "religion",
    "belief",
    "income",
)
SCENARIO = ("activity", "medium", "interlocutor", "location")
STYLE = ("style_register", "style_variety", "style_affect", "style_mode")
PERSONA = BASE + BACKGROUND
SCENE = SCENARIO + STYLE

STATUSES = ("measured", "fitted", "approximate", "assumed", "anchor")
COLUMNS = ("given", "value", "item", "percent", "status", "source", "year", "note")


@dataclass(frozen=True)
class Table:
    """P(attribute | parents) on the full grid of the parents' items.

    Attributes
    ----------
    attribute : str
    items : tuple of str
        The values of the attribute, in the order of the file.
    parents : tuple of str
        The attributes it is conditional on; empty if unconditional.
    probabilities : ndarray, shape (n_items of each parent, ..., n_items)
        Rows sum to one; a row of zeros is a condition that nobody can meet.
    """

    attribute: str
    items: tuple[str, ...]
    parents: tuple[str, ...]
    probabilities: np.ndarray

    @cached_property
    def cumulative(self) -> np.ndarray:
        """Flat cumulative rows, each shifted by its row number: one search draws them all."""
        rows = self.probabilities.reshape(-1, len(self.items))
        cumulative = np.cumsum(rows, axis=1)
        cumulative[:, -1] = 1.0
        return (cumulative + np.arange(len(rows))[:, None]).ravel()

    @cached_property
    def last_possible(self) -> np.ndarray:
        """Per row the last item with a positive share, the answer where rounding overshoots."""
        rows = self.probabilities.reshape(-1, len(self.items)) > 0
        return rows.shape[1] - 1 - np.argmax(rows[:, ::-1], axis=1)


@dataclass
class Tables:
    """All distributions and rules of one locale.

    Attributes
    ----------
    name : str
        The name or folder they were asked for by.
    folder : Path
    figures : DataFrame
        Every figure of every table with its source, year and status, for reading.
    tables : dict of str to Table
        P(attribute | parents) for the attributes of stages 1 and 2, in drawing order.
    weights : dict of str to Series
        Unconditional weights of the scene elements, summing to one.
    persona_rules, scenario_rules : dict
        The two YAML files as they stand.
    """

    name: str
    folder: Path
    figures: pd.DataFrame
    sources: pd.DataFrame
    persona_rules: dict
    scenario_rules: dict
    tables: dict[str, Table] = field(default_factory=dict)
    weights: dict[str, pd.Series] = field(default_factory=dict)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content of every file, for the manifest."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*.csv")) + sorted(self.folder.glob("*.yaml")):
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def country(self) -> str:
        return self.persona_rules["country"]

    def items(self, attribute: str) -> tuple[str, ...]:
        """Return the values an attribute can take."""
        if attribute in self.tables:
            return self.tables[attribute].items
        return tuple(self.weights[attribute].index)

    def margin(self, attribute: str) -> pd.Series:
        """Return the share of each item in the whole population (before any verdict).

        Parameters
        ----------
        attribute : str
            An attribute of stage 1 or 2.

        Returns
        -------
        Series
            Shares summing to one, indexed by item: the target that a draw is compared with.
        """
        axes, weight = self._joint((attribute,))
        return pd.Series(weight, index=list(self.items(axes[0])), name="target")

    def _joint(self, wanted: tuple[str, ...]) -> tuple[tuple[str, ...], np.ndarray]:
        """Joint probability of some attributes of stages 1 and 2."""
        needed = set(wanted)
        for name in reversed(PERSONA):  # parents always come earlier
            if name in needed:
                needed.update(self.tables[name].parents)
        axes = tuple(name for name in PERSONA if name in needed)
        letters = {name: chr(ord("a") + i) for i, name in enumerate(axes)}
        terms = ["".join(letters[p] for p in (*self.tables[name].parents, name)) for name in axes]
        arrays = [self.tables[name].probabilities for name in axes]
        kept = tuple(name for name in axes if name in wanted)
        joint = np.einsum(
            ",".join(terms) + "->" + "".join(letters[name] for name in kept),
            *arrays,
            optimize="greedy",
        )
        return kept, joint


def age_ranges(tables: Tables) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and last year of each age category, shape (n_ages,) each, in years."""
    rows = tables.figures[tables.figures["attribute"] == "age"]
    path = shown(tables.folder / "age.csv")
    bounds = []
    for column in ("from_age", "to_age"):
        if column not in rows:
            raise KitError(f"{path}, line 1: the column {column!r} is missing.")
        numbers = pd.to_numeric(rows[column], errors="coerce")
        if numbers.isna().any():
            line = rows.loc[numbers.isna(), "line"].iloc[0]
            raise KitError(f"{path}, line {line}: {column} is no number.")
        bounds.append(numbers.to_numpy(int))
    return bounds[0], bounds[1]


def load_tables(name: str | Path) -> Tables:
    """Read a locale and refuse it if anything in it does not fit.

    Parameters
    ----------
    name : str or Path
        ``"jp"`` or ``"us"`` for the shipped ones, or a folder of one's own.

    Returns
    -------
    Tables

    Raises
    ------
    KitError
        For a missing file or column, a share that is no number, a condition whose shares do not
        add up to 100, a name that no table knows, or a reachable condition without a row; the
        message names file, line and reason.
    """
    from personagen_utils.conditional import build_table  # which needs the classes above

    if not str(name).strip():
        raise KitError("TABLES is empty: name jp, us, or a folder of your own tables.")
    shipped = DATA / "distributions" / str(name)
    folder = shipped if shipped.is_dir() else resolve(name)
    if not folder.is_dir():
        known = ", ".join(sorted(p.name for p in (DATA / "distributions").iterdir() if p.is_dir()))
        raise KitError(
            f"TABLES = {str(name)!r} is neither a shipped locale ({known}) nor a folder."
        )
    persona_rules = _read_rules(folder / "persona_rules.yaml")
    scenario_rules = _read_rules(folder / "scenario_rules.yaml")
    sources = _read_csv(folder / "sources.csv", ("source", "year", "reference"))
    frames = {name: _read_figures(folder, name, sources) for name in PERSONA + SCENARIO}
    style = _read_figures(folder, "style", sources)
    loaded = Tables(
        name=str(name),
        folder=folder,
        figures=pd.concat(
            [frame.assign(attribute=name) for name, frame in frames.items()]
            + [style.assign(attribute="style_" + style["value"])],
            ignore_index=True,
        ),
        sources=sources,
        persona_rules=persona_rules,
        scenario_rules=scenario_rules,
    )
    for attribute in PERSONA:
        if frames[attribute].empty:
            raise KitError(f"{shown(folder / (attribute + '.csv'))} holds no row.")
        with rules_of(folder / "persona_rules.yaml"):
            loaded.tables[attribute] = build_table(loaded, attribute, frames[attribute])
    for attribute in SCENARIO:
        loaded.weights[attribute] = frames[attribute].set_index("item")["percent"] / 100
    for attribute in STYLE:
        rows = style[style["value"] == attribute.removeprefix("style_")]
        if rows.empty:
            raise KitError(f"{shown(folder / 'style.csv')}: no row for the dimension {attribute}.")
        loaded.weights[attribute] = rows.set_index("item")["percent"] / 100
    return loaded


@contextmanager
def rules_of(path: Path) -> Iterator[None]:
    """Say which rules file is built otherwise than the kit expects, in one line.

    A rule left empty, a list in place of a mapping or a missing section would otherwise end in an
    error that names neither file nor rule.
    """
    try:
        yield
    except (TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
        raise KitError(
            f"{shown(path)} is not built like data/distributions/jp/{path.name} "
            f"({type(error).__name__}: {error}): a rule is empty, missing, or a list where names "
            "with lists are wanted."
        ) from error


def _read_rules(path: Path) -> dict:
    if not path.is_file():
        raise KitError(f"{shown(path)} is missing; copy it from data/distributions/jp and edit it.")
    try:
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise KitError(f"{shown(path)} is not UTF-8; save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise KitError(f"{shown(path)} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(rules, dict):
        raise KitError(f"{shown(path)} must hold named rules, as data/distributions/jp does.")
    known = SECTIONS[path.name]
    if strange := [name for name in rules if name not in known]:
        raise KitError(
            f"{shown(path)}: there is no section {strange[0]!r}{did_you_mean(strange[0], known)}; "
            f"there are {', '.join(known)}."
        )
    if absent := [name for name in known if name not in rules]:
        raise KitError(
            f"{shown(path)}: the section {absent[0]!r} is missing; copy it from "
            "data/distributions/jp and take out what does not hold."
        )
    if not isinstance(rules.get("country", ""), str) or not rules.get("country", "?").strip():
        raise KitError(f"{shown(path)}: country names no country.")
    return rules


SECTIONS = {
    "persona_rules.yaml": ("country", "groups", "min_age", "whitelist", "education", "combine"),
    "scenario_rules.yaml": (
        "persona_groups",
        "persona_required",
        "activity_locations",
        "medium_activities",
        "activity_media",
        "medium_interlocutors",
        "activity_interlocutors",
        "interlocutor_locations_face_to_face",
        "style_interlocutors",
        "style_media",
        "work_activities",
        "workplaces",
        "medium_locations",
        "family_structure_locations",
        "family_structure_activities_excluded",
    ),
}
"""What the two rules files of a locale are made of; a misspelt section would do nothing."""


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    if not path.is_file():
        raise KitError(f"{shown(path)} is missing; copy it from data/distributions/jp and edit it.")
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise KitError(f"{shown(path)} is not UTF-8; save it as UTF-8 CSV.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise KitError(f"{shown(path)} cannot be read as CSV: {str(error).strip()}") from None
    if frame.shape[1] == 1 and ";" in str(frame.columns[0]):
        raise KitError(f"{shown(path)} is separated by semicolons; save it with commas.")
    absent = [column for column in columns if column not in frame]
    if absent:
        raise KitError(f"{shown(path)}, line 1: the column {absent[0]!r} is missing.")
    return frame.map(str.strip)


def _read_figures(folder: Path, attribute: str, sources: pd.DataFrame) -> pd.DataFrame:
    """Read one table and check each figure and each sum."""
    path = folder / f"{attribute}.csv"
    frame = _read_csv(path, COLUMNS)
    frame.insert(0, "line", np.arange(2, len(frame) + 2))
    frame["percent"] = pd.to_numeric(frame["percent"], errors="coerce")
    for bad, reason in (
        (~np.isfinite(frame["percent"]), "the percent is no number"),
        (frame["percent"] < 0, "the percent is negative"),
        (frame["item"] == "", "the item is empty"),
        (~frame["status"].isin(STATUSES), "the status is none of " + ", ".join(STATUSES)),
        (~frame["source"].isin(sources["source"]), "the source is not listed in sources.csv"),
        (frame.duplicated(["given", "value", "item"]), "the item stands here a second time"),
    ):
        if bad.any():
            row = frame[bad].iloc[0]
            raise KitError(f"{shown(path)}, line {row['line']} ({row['item']}): {reason}.")
    for (given, value), rows in frame.groupby(["given", "value"], sort=False):
        total = rows["percent"].sum()
        if abs(total - 100) > 0.05:
            where = f"{given} = {value}, " if given else ""
            first, last = rows["line"].iloc[[0, -1]]
            raise KitError(
                f"{shown(path)}, lines {first}-{last}: {where}the percentages add up to "
                f"{total:.2f}, not 100."
            )
    return frame
