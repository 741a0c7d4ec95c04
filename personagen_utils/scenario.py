"""Stage 3: in which scene, and in which style? Five elements (paper, Section III.D, Table III).

Activity, medium, interlocutor, location and style are drawn in this order, each from the weights of
the items that the person and the elements already drawn still allow. Items that would leave a later
element without a choice are left out beforehand, so that no draw ends in a dead end; drawing all
five independently and rejecting the misfits would distort the weights badly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.paths import shown
from personagen_utils.sampling import encode, uniforms
from personagen_utils.tables import SCENARIO, SCENE, STYLE, Tables, rules_of

STAGE = 3
CLASS = ("age", "occupation", "family_structure")  # what the rules ask about a person
_CHUNK = 50_000


@dataclass(frozen=True)
class SceneRules:
    """The rules of stage 3 as boolean arrays, restriction included.

    ``person[e]`` has shape (n_ages, n_occupations, n_families, n_items of e); the pair tables have
    the shape their names say. Together they answer what goes with what.
    """

    tables: Tables
    weights: dict[str, np.ndarray]
    person: dict[str, np.ndarray]
    activity_medium: np.ndarray
    activity_interlocutor: np.ndarray
    activity_location: np.ndarray
    medium_interlocutor: np.ndarray
    medium_interlocutor_location: np.ndarray
    work_activity: np.ndarray
    workplace: np.ndarray  # (n_occupations, n_locations)
    style: dict[str, np.ndarray]  # each (n_media, n_interlocutors, n_items)


def compile_rules(tables: Tables, restrict: dict[str, list[str]] | None = None) -> SceneRules:
    """Turn scenario_rules.yaml and a restriction into arrays.

    Parameters
    ----------
    tables : Tables
    restrict : dict of str to list of str, optional
        Allowed items by element, for example ``{"activity": ["SNS posting"]}``; elements not named
        stay open.

    Returns
    -------
    SceneRules

    Raises
    ------
    KitError
        If a rule or the restriction names something unknown, or nobody can meet the restriction.
    """
    for element, allowed in (restrict or {}).items():
        if element in SCENE and not isinstance(allowed, str | list | tuple):
            raise KitError(
                f"RESTRICT: {element} wants a list of items, for example "
                f"{{{element}: [{tables.items(element)[0]}]}}."
            )
    with rules_of(tables.folder / "scenario_rules.yaml"):
        return _compile(tables, restrict)


def _compile(tables: Tables, restrict: dict[str, list[str]] | None) -> SceneRules:
    rules = tables.scenario_rules
    path = shown(tables.folder / "scenario_rules.yaml")
    sizes = {name: len(tables.items(name)) for name in (*CLASS, *SCENE)}
    position = {
        name: {item: i for i, item in enumerate(tables.items(name))} for name in (*CLASS, *SCENE)
    }

    def at(name: str, item: str, rule: str) -> int:
        if item not in position[name]:
            raise KitError(f"{path}: {rule} names {item!r}, which {name} does not have.")
        return position[name][item]

    def pairs(rule: str, key: str, other: str) -> np.ndarray:
        """Allow-list as a matrix; a key that is not named allows everything."""
        matrix = np.ones((sizes[key], sizes[other]), dtype=bool)
        for name, allowed in rules.get(rule, {}).items():
            row = at(key, name, rule)
            matrix[row] = False
            matrix[row, [at(other, item, rule) for item in allowed]] = True
        return matrix

    groups = {}
    for group, wanted in rules.get("persona_groups", {}).items():
        member = np.ones([sizes[name] for name in CLASS], dtype=bool)
        for attribute, values in wanted.items():
            if attribute not in CLASS:
                raise KitError(f"{path}: persona_groups.{group} asks for {attribute!r}.")
            line = np.zeros(sizes[attribute], dtype=bool)
            line[[at(attribute, value, f"persona_groups.{group}") for value in values]] = True
            member &= line.reshape([-1 if name == attribute else 1 for name in CLASS])
        groups[group] = member

    person = {
        name: np.ones((*(sizes[c] for c in CLASS), sizes[name]), dtype=bool) for name in SCENE
    }
    for block, required in rules.get("persona_required", {}).items():
        element = block.removeprefix("scenario_")
        for item, wanted in required.items():
            unknown = [group for group in wanted if group not in groups]
            if unknown:
                raise KitError(f"{path}: persona_required.{block}.{item} names {unknown[0]!r}.")
            if element == "style":
                names = [name for name in STYLE if item in position[name]]
            else:
                names = [element]
            if not names:
                raise KitError(f"{path}: persona_required.{block} names {item!r}.")
            for name in names:
                k = at(name, item, f"persona_required.{block}")
                person[name][..., k] = np.any([groups[group] for group in wanted], axis=0)
    for family, allowed in rules.get("family_structure_locations", {}).items():
        closed = np.ones(sizes["location"], dtype=bool)
        closed[[at("location", item, "family_structure_locations") for item in allowed]] = False
        row = at("family_structure", family, "family_structure_locations")
        person["location"][:, :, row, closed] = False
    for family, excluded in rules.get("family_structure_activities_excluded", {}).items():
        rule = "family_structure_activities_excluded"
        columns = [at("activity", item, rule) for item in excluded]
        person["activity"][:, :, at("family_structure", family, rule), columns] = False

    medium_interlocutor_location = np.repeat(
        pairs("medium_locations", "medium", "location")[:, None], sizes["interlocutor"], axis=1
    )
    face = at("medium", "Face-to-face", "interlocutor_locations_face_to_face")
    medium_interlocutor_location[face] &= pairs(
        "interlocutor_locations_face_to_face", "interlocutor", "location"
    )
    style = {}
    for name in STYLE:
        allowed = np.ones((sizes["medium"], sizes["interlocutor"], sizes[name]), dtype=bool)
        for rule, element, axis in (
            ("style_media", "medium", (slice(None), None)),
            ("style_interlocutors", "interlocutor", (None, slice(None))),
        ):
            for item, open_to in rules.get(rule, {}).items():
                if not any(item in position[s] for s in STYLE):
                    raise KitError(f"{path}: {rule} names {item!r}, which style does not have.")
                if item in position[name]:
                    line = np.zeros(sizes[element], dtype=bool)
                    line[[at(element, other, rule) for other in open_to]] = True
                    allowed[..., position[name][item]] &= line[axis]
        style[name] = allowed
    work = np.zeros(sizes["activity"], dtype=bool)
    work[[at("activity", item, "work_activities") for item in rules.get("work_activities", [])]] = (
        True
    )

    weights = {name: tables.weights[name].to_numpy(float) for name in SCENE}
    for element, allowed in (restrict or {}).items():
        if element not in SCENE:
            raise KitError(f"RESTRICT names {element!r}; elements are {', '.join(SCENE)}.")
        chosen = [allowed] if isinstance(allowed, str) else list(allowed)
        for item in chosen:
            if item not in position[element]:
                raise KitError(
                    f"RESTRICT: {element} has no {item!r}; it has {', '.join(position[element])}."
                )
        closed = [item not in chosen for item in tables.items(element)]
        weights[element] = np.where(closed, 0.0, weights[element])

    compiled = SceneRules(
        tables=tables,
        weights=weights,
        person=person,
        activity_medium=pairs("medium_activities", "medium", "activity").T
        & pairs("activity_media", "activity", "medium"),
        activity_interlocutor=pairs("activity_interlocutors", "activity", "interlocutor"),
        activity_location=pairs("activity_locations", "activity", "location"),
        medium_interlocutor=pairs("medium_interlocutors", "medium", "interlocutor"),
        medium_interlocutor_location=medium_interlocutor_location,
        work_activity=work,
        workplace=pairs("workplaces", "occupation", "location"),
        style=style,
    )
    axes, joint = tables._joint(CLASS)
    reachable = np.argwhere(np.moveaxis(joint, [axes.index(name) for name in CLASS], [0, 1, 2]) > 0)
    if not feasible(compiled, reachable).any():
        asked = "; ".join(f"{k}: {v}" for k, v in (restrict or {}).items()) or path
        raise KitError(f"No person and scene can meet {asked}. Allow further items.")
    return compiled


def feasible(rules: SceneRules, classes: np.ndarray) -> np.ndarray:
    """Say which (activity, medium, interlocutor) leave a location and a style for a person.

    Parameters
    ----------
    rules : SceneRules
    classes : ndarray of int, shape (n, 3)
        Codes of age, occupation and family structure.

    Returns
    -------
    ndarray of bool, shape (n, n_activities, n_media, n_interlocutors)
    """
    a, o, f = classes.T
    open_to = {name: rules.person[name][a, o, f] & (rules.weights[name] > 0) for name in SCENE}
    # Where can each person do each activity? Work happens at the workplace of the occupation.
    place = open_to["location"][:, None] & rules.activity_location
    place &= ~rules.work_activity[:, None] | rules.workplace[o][:, None]
    n_media, n_partners = rules.medium_interlocutor.shape
    possible = np.empty((len(classes), len(rules.work_activity), n_media, n_partners), dtype=bool)
    flat = place.reshape(-1, place.shape[-1]).astype(np.float32)
    for m in range(n_media):
        met = flat @ rules.medium_interlocutor_location[m].T.astype(np.float32) > 0
        possible[:, :, m] = met.reshape(*place.shape[:2], n_partners)
    for name in STYLE:
        choices = rules.style[name].reshape(n_media * n_partners, -1).T.astype(np.float32)
        some = (open_to[name].astype(np.float32) @ choices > 0).reshape(-1, n_media, n_partners)
        possible &= some[:, None]
    possible &= rules.activity_medium[:, :, None] & rules.medium_interlocutor
    possible &= rules.activity_interlocutor[:, None, :]
    possible &= open_to["activity"][:, :, None, None] & open_to["medium"][:, None, :, None]
    return possible & open_to["interlocutor"][:, None, None, :]


def draw_scenes(
    rules: SceneRules,
    people: pd.DataFrame,
    items: np.ndarray,
    *,
    seed: int,
    restart: int = 0,
    redraw: int = 0,
) -> pd.DataFrame:
    """Draw the scene s and the style v of each person.

    Parameters
    ----------
    rules : SceneRules
    people : DataFrame
        Personas with background, one row per item.
    items : ndarray of int, shape (n,)
    seed, restart, redraw : int
        As in stage 1.

    Returns
    -------
    DataFrame
        activity, medium, interlocutor, location and the four style dimensions (register, variety,
        affect, mode), one row per item; all empty for a person who cannot meet the restriction.
    """
    tables = rules.tables
    u = uniforms(seed, (STAGE, restart, redraw), items, len(SCENE))
    known = encode(tables, people, CLASS)
    classes = np.stack([known[name] for name in CLASS], axis=1)
    unique, which = np.unique(classes, axis=0, return_inverse=True)
    codes = {name: np.full(len(u), -1, dtype=np.int16) for name in SCENE}
    possible = feasible(rules, unique) if len(unique) else None
    for start in range(0, len(u), _CHUNK):
        rows = slice(start, start + _CHUNK)
        drawn = _draw_chunk(rules, unique, possible, which[rows], u[rows])
        for name, values in drawn.items():
            codes[name][rows] = values
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(codes[name], categories=list(tables.items(name)))
            for name in SCENE
        }
    )


def _draw_chunk(
    rules: SceneRules, unique: np.ndarray, possible: np.ndarray, which: np.ndarray, u: np.ndarray
) -> dict[str, np.ndarray]:
    a, o, f = unique[which].T

    def choose(name: str, allowed: np.ndarray) -> np.ndarray:
        cumulative = np.cumsum(allowed * rules.weights[name], axis=1)
        target = u[:, SCENE.index(name)] * cumulative[:, -1]
        found = (cumulative <= target[:, None]).sum(axis=1)
        last = allowed.shape[1] - 1 - np.argmax(allowed[:, ::-1], axis=1)
        return np.where(allowed.any(axis=1), np.minimum(found, last), -1)

    activity = choose("activity", possible.any(axis=(2, 3))[which])
    medium = choose("medium", possible.any(axis=3)[which, activity])
    partner = choose("interlocutor", possible[which, activity, medium])
    place = rules.person["location"][a, o, f] & (rules.weights["location"] > 0)
    place &= rules.activity_location[activity] & rules.medium_interlocutor_location[medium, partner]
    place &= ~rules.work_activity[activity][:, None] | rules.workplace[o]
    drawn = {
        "activity": activity,
        "medium": medium,
        "interlocutor": partner,
        "location": choose("location", place),
    }
    for name in STYLE:
        allowed = rules.person[name][a, o, f] & (rules.weights[name] > 0)
        drawn[name] = choose(name, allowed & rules.style[name][medium, partner])
    return {name: np.where(activity >= 0, values, -1) for name, values in drawn.items()}


def independent_scenes(rules: SceneRules, people: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Draw every element by itself, blind to the person and to the other elements.

    The foil of `draw_scenes`, for notebook 03: most of these scenes break a rule.

    Parameters
    ----------
    rules : SceneRules
    people : DataFrame
        Personas with background; their scenes, if any, are replaced.
    seed : int

    Returns
    -------
    DataFrame
        `people` with independent scenes.
    """
    rng = np.random.default_rng(seed)
    drawn = {
        name: rng.choice(rules.tables.items(name), len(people), p=weights / weights.sum())
        for name, weights in rules.weights.items()
    }
    return people.assign(**drawn)


def broken_constraints(rules: SceneRules, people: pd.DataFrame) -> pd.Series:
    """Return, per person, whether the scene breaks any rule: the check behind the tests.

    Parameters
    ----------
    rules : SceneRules
    people : DataFrame
        Personas with background and scene.

    Returns
    -------
    Series of bool
    """
    tables = rules.tables
    code = encode(tables, people, (*CLASS, *SCENE))
    a, o, f = (code[name] for name in CLASS)
    act, med, who, loc = (code[name] for name in SCENARIO)
    fine = np.logical_and.reduce([rules.person[name][a, o, f, code[name]] for name in SCENE])
    fine &= rules.activity_medium[act, med] & rules.activity_interlocutor[act, who]
    fine &= rules.medium_interlocutor[med, who] & rules.activity_location[act, loc]
    fine &= rules.medium_interlocutor_location[med, who, loc]
    fine &= ~rules.work_activity[act] | rules.workplace[o, loc]
    fine &= np.logical_and.reduce([rules.style[name][med, who, code[name]] for name in STYLE])
    return pd.Series(~fine, index=people.index)
