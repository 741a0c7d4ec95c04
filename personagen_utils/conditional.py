"""How do the rows of a table become P(attribute | everything it depends on)?

Each condition of a file is spread over the grid of the attributes it rests on, several conditions
are combined by the rule in persona_rules.yaml, whitelists are applied, and what is left of a row
is renormalised. A combination that people can reach must have a row.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.paths import shown
from personagen_utils.tables import PERSONA, Table, Tables, age_ranges

# Conditions that follow from attributes already drawn.
DERIVED = {"student_status": ("age", "occupation"), "residence_class": ("residence",)}
STUDENT_STATUS = ("Student under 18", "Student 18 or over")


def build_table(tables: Tables, attribute: str, frame: pd.DataFrame) -> Table:
    """Turn the rows of one file into P(attribute | parents), rules applied.

    Parameters
    ----------
    tables : Tables
        With the tables of all attributes drawn before this one.
    attribute : str
    frame : DataFrame
        The checked rows of the attribute's file.

    Returns
    -------
    Table

    Raises
    ------
    KitError
        For a condition that is not drawn earlier, a value or item that nobody knows, several
        conditions without a rule, or a reachable condition without a row.
    """
    path = tables.folder / f"{attribute}.csv"
    items = tuple(dict.fromkeys(frame["item"]))
    conditions = [given for given in dict.fromkeys(frame["given"]) if given]
    masks = _rule_masks(tables, attribute, items)
    earlier = PERSONA[: PERSONA.index(attribute)]
    for given in conditions:
        if given not in earlier and not set(DERIVED.get(given, ("",))) <= set(earlier):
            line = frame.loc[frame["given"] == given, "line"].iloc[0]
            raise KitError(
                f"{shown(path)}, line {line}: {given!r} is not drawn before {attribute}; "
                f"conditions can be {', '.join((*earlier, *DERIVED)) or 'none here'}."
            )
    wanted = {parent for given in conditions for parent in DERIVED.get(given, (given,))}
    wanted.update(parent for parents, _ in masks for parent in parents)
    parents = tuple(name for name in PERSONA if name in wanted)
    shape = tuple(len(tables.items(name)) for name in parents)

    column = {item: i for i, item in enumerate(items)}
    blocks = {}
    for given, rows in frame.groupby("given", sort=False):
        values = _values(tables, given)
        block = np.full((len(values), len(items)), np.nan)
        position = {value: i for i, value in enumerate(values)}
        for row in rows.itertuples():
            if row.value not in position:
                raise KitError(
                    f"{shown(path)}, line {row.line}: {given} has no value {row.value!r}; "
                    f"it can be {', '.join(values) or 'empty'}."
                )
            block[position[row.value], column[row.item]] = row.percent / 100
        present = ~np.isnan(block).all(axis=1)
        block[present] = np.nan_to_num(block[present])
        block = np.vstack([block, np.full(len(items), np.nan)])  # row -1: no row for this person
        blocks[given] = block[_index(tables, given, parents, shape)]  # on the parents' grid

    probabilities = _combine(tables, attribute, blocks, shape, len(items), path)
    for mask_parents, mask in masks:
        axes = tuple(i for i, name in enumerate(parents) if name not in mask_parents)
        probabilities = probabilities * np.expand_dims(mask, axes)
    total = probabilities.sum(axis=-1, keepdims=True)
    empty = ~(np.nan_to_num(total[..., 0]) > 0)
    if empty.any():
        _refuse_if_reachable(tables, attribute, parents, empty, path)
    with np.errstate(invalid="ignore", divide="ignore"):
        probabilities = np.nan_to_num(probabilities / total)
    return Table(attribute, items, parents, probabilities)


def _combine(
    tables: Tables,
    attribute: str,
    blocks: dict[str, np.ndarray],
    shape: tuple[int, ...],
    n_items: int,
    path: Path,
) -> np.ndarray:
    """Join the rows of several conditions by the rule that persona_rules.yaml names."""
    if len(blocks) == 1:
        (block,) = blocks.values()
        return np.broadcast_to(block, (*shape, n_items)).copy()
    rule = tables.persona_rules.get("combine", {}).get(attribute, {})
    how, order = next(iter(rule.items()), (None, []))
    named = {given for given in blocks if given}
    if how not in ("first", "ratio") or set(order) != named:
        raise KitError(
            f"{shown(path)} has several conditions ({', '.join(sorted(named))}); "
            f"persona_rules.yaml must say how under combine.{attribute} ('first' or 'ratio')."
        )
    if how == "first":
        result = np.full((*shape, n_items), np.nan)
        for given in [*order, *([""] if "" in blocks else [])]:
            missing = np.isnan(result).all(axis=-1, keepdims=True)
            result = np.where(missing, blocks[given], result)
        return result
    if "" not in blocks:
        raise KitError(f"{shown(path)}: combining by ratio needs unconditional base rows.")
    base = blocks[""]
    result = np.broadcast_to(base, (*shape, n_items)).copy()
    with np.errstate(invalid="ignore", divide="ignore"):
        for given in order:
            ratio = np.where(base > 0, blocks[given] / base, 0.0)
            result = result * np.where(np.isnan(blocks[given]), 1.0, ratio)
    return result


def _values(tables: Tables, given: str) -> tuple[str, ...]:
    if given == "":
        return ("",)
    if given == "student_status":
        return STUDENT_STATUS
    if given == "residence_class":
        return tuple(dict.fromkeys(_residence_class(tables)))
    return tables.items(given)


def _residence_class(tables: Tables) -> list[str]:
    rows = tables.figures[tables.figures["attribute"] == "residence"]
    if "class" not in rows or (rows["class"] == "").any():
        raise KitError(f"{shown(tables.folder / 'residence.csv')}: every row needs its class.")
    return rows["class"].tolist()


def _index(
    tables: Tables, given: str, parents: tuple[str, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """Row of the condition `given` at every point of the parents' grid; -1 is a missing row."""
    if given == "":
        return np.zeros((1,) * len(shape), dtype=int)
    if given == "student_status":
        students = set(tables.persona_rules["groups"]["student"])
        minor = np.array([to < 18 for to in age_ranges(tables)[1]])
        student = np.array([item in students for item in tables.items("occupation")])
        codes = np.where(minor[:, None], 0, 1) * np.ones((1, len(student)), dtype=int)
        codes = np.where(student[None, :], codes, -1)
    elif given == "residence_class":
        order = {value: i for i, value in enumerate(_values(tables, given))}
        codes = np.array([order[name] for name in _residence_class(tables)])
    else:
        codes = np.arange(len(tables.items(given)))
    own = DERIVED.get(given, (given,))
    return np.expand_dims(codes, tuple(i for i, name in enumerate(parents) if name not in own))


def _rule_masks(
    tables: Tables, attribute: str, items: tuple[str, ...]
) -> list[tuple[tuple[str, ...], np.ndarray]]:
    """Return (parents, mask) of each whitelist rule; a mask is 1 where the item may be drawn."""
    rules, path = tables.persona_rules, shown(tables.folder / "persona_rules.yaml")
    column = {item: i for i, item in enumerate(items)}

    def columns(names: list[str], rule: str) -> list[int]:
        for name in names:
            if name not in column:
                raise KitError(f"{path}: {rule} names {name!r}, which {attribute}.csv does not.")
        return [column[name] for name in names]

    def rows(mapping: dict, parent: str, rule: str) -> dict[int, object]:
        known = {item: i for i, item in enumerate(tables.items(parent))}
        for name in mapping:
            if name not in known:
                raise KitError(f"{path}: {rule} names {name!r}, which {parent}.csv does not.")
        return {known[name]: value for name, value in mapping.items()}

    masks = []
    for name, allowed in rules.get("whitelist", {}).items():
        target, _, parent = name.partition("_by_")
        if target != attribute:
            continue
        mask = np.zeros((len(tables.items(parent)), len(items)))
        for row, names in rows(allowed, parent, f"whitelist.{name}").items():
            mask[row, columns(names, f"whitelist.{name}")] = 1
        masks.append(((parent,), mask))
    if attribute == "education" and "education" in rules:
        rule = rules["education"]
        mask = np.ones((len(tables.items("occupation")), len(items)))
        mask[:, columns(rule["in_progress"], "education.in_progress")] = 0
        allowed = rows(rule["allowed_by_occupation"], "occupation", "education.allowed")
        for row, names in allowed.items():
            only = np.zeros(len(items))
            only[columns(names, "education.allowed_by_occupation")] = 1
            mask[row] *= only
        forced = rows(rule["forced_by_occupation"], "occupation", "education.forced_by_occupation")
        for row, name in forced.items():
            mask[row] = 0
            mask[row, columns([name], "education.forced_by_occupation")] = 1
        masks.append((("occupation",), mask))
    return masks


def _refuse_if_reachable(
    tables: Tables, attribute: str, parents: tuple[str, ...], empty: np.ndarray, path: Path
) -> None:
    if not parents:
        raise KitError(f"{shown(path)} holds no row.")
    _, joint = tables._joint(parents)
    reachable = np.argwhere(empty & (joint > 0))
    if len(reachable):
        where = ", ".join(
            f"{name} = {tables.items(name)[i]}"
            for name, i in zip(parents, reachable[0], strict=True)
        )
        raise KitError(f"{shown(path)}: people with {where} can be drawn, but no row serves them.")
