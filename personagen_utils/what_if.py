"""What else changes when one attribute of a person does? Holds some and re-draws what depends.

Every attribute keeps the random number it was drawn with. Holding one therefore changes only those
whose distribution it shapes: a new age moves occupation and income, never the prefecture. Scene and
style depend on each other in both directions, so there what still fits stays and the rest is drawn
anew. Nothing forbids a contradiction: it is named, with the rule that it breaks.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from personagen_utils.sampling import draw_codes, encode, uniforms
from personagen_utils.scenario import CLASS, SceneRules, draw_scenes, feasible
from personagen_utils.tables import BACKGROUND, BASE, PERSONA, SCENE, STYLE, Tables
from personagen_utils.verdicts import Accepted

_SHOWN = 6  # alternatives named in a message


@dataclass(frozen=True)
class Drawn:
    """One person as drawn and accepted, with the streams the draws came from.

    Attributes
    ----------
    item, seed : int
    attributes : dict of str to str
        All 19, stages 1 to 3.
    restart : int
    redraws : tuple of int, length 3
        How often each stage had been drawn again when it passed.
    """

    item: int
    seed: int
    attributes: dict[str, str]
    restart: int
    redraws: tuple[int, int, int]

    @classmethod
    def of(cls, accepted: Accepted, seed: int) -> Drawn:
        """Return the first person of a frame that `verdicts.accept` made for stage 3."""
        row = accepted.people.iloc[0]
        attributes = {name: str(row[name]) for name in (*PERSONA, *SCENE)}
        redraws = tuple(int(row[f"redraws_{stage}"]) for stage in (1, 2, 3))
        return cls(int(row["item"]), seed, attributes, int(row["restart"]), redraws)

    def uniforms(self, stage: int, width: int) -> np.ndarray:
        """Return the random numbers of one stage, shape (1, width)."""
        stream = (stage, self.restart, self.redraws[stage - 1])
        return uniforms(self.seed, stream, np.array([self.item]), width)


def change_person(
    tables: Tables, rules: SceneRules, drawn: Drawn, held: Mapping[str, str]
) -> dict[str, str]:
    """Return the person with some attributes held and what depends on them re-drawn.

    Parameters
    ----------
    tables : Tables
    rules : SceneRules
    drawn : Drawn
        The person to start from.
    held : mapping of str to str
        Attributes that have these values whatever the tables say.

    Returns
    -------
    dict of str to str
        All 19 attributes; without `held` those of `drawn`. An attribute that nobody of this kind
        can have stays as drawn: `contradictions` names it.
    """
    person: dict[str, str] = {}
    for stage, names in ((1, BASE), (2, BACKGROUND)):
        u = drawn.uniforms(stage, len(names))
        for k, name in enumerate(names):
            table = tables.tables[name]
            parents = {p: np.array([tables.items(p).index(person[p])]) for p in table.parents}
            row = tuple(int(code[0]) for code in parents.values())
            if name in held:
                person[name] = held[name]
            elif not table.probabilities[row].any():
                person[name] = drawn.attributes[name]
            else:
                person[name] = table.items[draw_codes(table, parents, u[:, k])[0]]
    return person | _change_scene(rules, person, drawn, held)


def _change_scene(
    rules: SceneRules, person: dict[str, str], drawn: Drawn, held: Mapping[str, str]
) -> dict[str, str]:
    """Hold what is held, keep of the rest what fits the person and the scene, draw the others."""
    people = pd.DataFrame([person])
    classes = np.stack(list(encode(rules.tables, people, CLASS).values()), axis=1)
    kept = {name: held[name] for name in SCENE if name in held}
    if not feasible(_only(rules, kept), classes).any():
        return {name: kept.get(name, drawn.attributes[name]) for name in SCENE}
    for name in SCENE:
        tried = {name: drawn.attributes[name]} | kept
        if feasible(_only(rules, tried), classes).any():
            kept = tried
    at = {"seed": drawn.seed, "restart": drawn.restart, "redraw": drawn.redraws[2]}
    scene = draw_scenes(_only(rules, kept), people, np.array([drawn.item]), **at)
    return {name: str(scene[name].iloc[0]) for name in SCENE}


def _only(rules: SceneRules, kept: Mapping[str, str]) -> SceneRules:
    """Return the rules with one item left of each element that is kept."""
    weights = {
        name: np.array([float(item == kept[name]) for item in rules.tables.items(name)])
        if name in kept
        else rules.weights[name]
        for name in SCENE
    }
    return replace(rules, weights=weights)


def contradictions(tables: Tables, rules: SceneRules, person: Mapping[str, str]) -> list[str]:
    """Name what does not go together in a person, with the file that says so.

    Parameters
    ----------
    tables : Tables
    rules : SceneRules
    person : mapping of str to str
        All 19 attributes.

    Returns
    -------
    list of str
        One line each, in drawing order; empty if the person breaks no rule.

    Examples
    --------
    >>> from personagen_utils.scenario import compile_rules
    >>> from personagen_utils.tables import load_tables
    >>> contradictions(tables, rules, person | {"age": "Children"})  # doctest: +SKIP
    ['occupation "Lawyers" does not go with age "Children" (persona_rules.yaml); it does with ...']
    """
    lines = []
    for axes, allowed, source in _constraints(tables, rules):
        *others, target = axes
        at = {name: tables.items(name).index(person[name]) for name in axes}
        if allowed[tuple(at.values())]:
            continue
        blamed = _blamed(allowed, axes, at)
        what = " and ".join(f'{name} "{person[name]}"' for name in blamed)
        line = f'{target} "{person[target]}" does not go with {what} ({source})'
        if not blamed:
            line = f'{target} "{person[target]}" has no share at all ({source})'
        elif len(blamed) == 1:
            index = tuple(at[n] if n == target else slice(None) for n in axes)
            free = tuple(i for i, name in enumerate(others) if name != blamed[0])
            open_to = np.asarray(allowed[index]).any(axis=free)
            fits = [item for item, ok in zip(tables.items(blamed[0]), open_to, strict=True) if ok]
            more = ", …" if len(fits) > _SHOWN else ""
            line += f"; it goes with {', '.join(fits[:_SHOWN])}{more}" if fits else ""
        lines.append(line + ".")
    return lines


def _blamed(allowed: np.ndarray, axes: tuple[str, ...], at: Mapping[str, int]) -> tuple[str, ...]:
    """Return the fewest attributes that, as they are, shut the last one of `axes` out."""
    others = axes[:-1]
    for size in range(len(others) + 1):
        for blamed in itertools.combinations(others, size):
            fixed = (*blamed, axes[-1])
            if not allowed[tuple(at[n] if n in fixed else slice(None) for n in axes)].any():
                return blamed
    return others


def _constraints(
    tables: Tables, rules: SceneRules
) -> Iterator[tuple[tuple[str, ...], np.ndarray, str]]:
    """Yield what goes with what: attributes, a boolean array over their items, and the source."""
    whitelist = tables.persona_rules.get("whitelist", {})
    ruled = {key.partition("_by_")[0] for key in whitelist} | {"education"}
    for name in PERSONA:
        table = tables.tables[name]
        source = "persona_rules.yaml" if name in ruled else f"{name}.csv"
        yield (*table.parents, name), table.probabilities > 0, source
    work = ~rules.work_activity[:, None, None] | rules.workplace[None]
    media = ("medium", "interlocutor")
    for axes, allowed in [
        *(((*CLASS, name), rules.person[name]) for name in SCENE),
        (("activity", "medium"), rules.activity_medium),
        (("activity", "interlocutor"), rules.activity_interlocutor),
        (media, rules.medium_interlocutor),
        (("activity", "location"), rules.activity_location),
        (("activity", "occupation", "location"), work),
        ((*media, "location"), rules.medium_interlocutor_location),
        *(((*media, name), rules.style[name]) for name in STYLE),
    ]:
        yield axes, allowed, "scenario_rules.yaml"
