"""Scenes keep every rule, checked here by reading the rules again, one person at a time."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from personagen_utils.errors import KitError
from personagen_utils.population import draw_population
from personagen_utils.scenario import (
    broken_constraints,
    compile_rules,
    draw_scenes,
    feasible,
    independent_scenes,
)
from personagen_utils.tables import SCENE, STYLE, Tables, load_tables

LOCALES = {name: load_tables(name) for name in ("jp", "us")}


def breaks_a_rule(tables: Tables, person: dict) -> str | None:
    """Say which rule a scene breaks: scenario_rules.yaml read plainly, without arrays."""
    rules = tables.scenario_rules

    def member(group: str) -> bool:
        wanted = rules["persona_groups"][group]
        return all(person[attribute] in values for attribute, values in wanted.items())

    for block, required in rules["persona_required"].items():
        element = block.removeprefix("scenario_")
        names = STYLE if element == "style" else (element,)
        for name in names:
            groups = required.get(person[name])
            if groups is not None and not any(map(member, groups)):
                return f"{person[name]} needs one of {groups}"
    for rule, key, other in (
        ("activity_locations", "activity", "location"),
        ("medium_activities", "medium", "activity"),
        ("activity_media", "activity", "medium"),
        ("medium_interlocutors", "medium", "interlocutor"),
        ("activity_interlocutors", "activity", "interlocutor"),
        ("medium_locations", "medium", "location"),
        ("family_structure_locations", "family_structure", "location"),
    ):
        allowed = rules[rule].get(person[key])
        if allowed is not None and person[other] not in allowed:
            return f"{rule}: {person[key]} with {person[other]}"
    if person["medium"] == "Face-to-face":
        allowed = rules["interlocutor_locations_face_to_face"].get(person["interlocutor"])
        if allowed is not None and person["location"] not in allowed:
            return "interlocutor_locations_face_to_face"
    for name in STYLE:
        for rule, element in (("style_media", "medium"), ("style_interlocutors", "interlocutor")):
            allowed = rules[rule].get(person[name])
            if allowed is not None and person[element] not in allowed:
                return f"{rule}: {person[name]} with {person[element]}"
    excluded = rules["family_structure_activities_excluded"].get(person["family_structure"], [])
    if person["activity"] in excluded:
        return "family_structure_activities_excluded"
    if person["activity"] in rules["work_activities"]:
        allowed = rules["workplaces"].get(person["occupation"])
        if allowed is not None and person["location"] not in allowed:
            return "workplaces"
    return None


@pytest.mark.parametrize("locale", LOCALES)
def test_no_scene_breaks_a_rule(locale: str) -> None:
    tables = LOCALES[locale]
    people = draw_population(tables, 4_000, seed=5, rules=compile_rules(tables)).astype(str)
    broken = [breaks_a_rule(tables, person) for person in people.to_dict("records")]
    assert [reason for reason in broken if reason] == []


@pytest.mark.parametrize("locale", LOCALES)
def test_the_check_agrees_with_a_plain_reading_of_the_rules(locale: str) -> None:
    tables = LOCALES[locale]
    rules = compile_rules(tables)
    people = independent_scenes(rules, draw_population(tables, 1_500, seed=6), seed=6).astype(str)
    plain = [breaks_a_rule(tables, person) is not None for person in people.to_dict("records")]
    assert broken_constraints(rules, people).tolist() == plain
    assert 0.6 < np.mean(plain) < 1


def test_a_scene_is_possible_exactly_when_all_its_parts_are() -> None:
    """`feasible` against trying every location and style of one person's scenes."""
    tables = LOCALES["jp"]
    rules = compile_rules(tables)
    person = {
        "age": "Young Adults",
        "occupation": "Nurses",
        "family_structure": "Single, living alone",
    }
    code = np.array([[tables.items(name).index(value) for name, value in person.items()]])
    possible = feasible(rules, code)[0]
    rng = np.random.default_rng(0)
    for _ in range(60):
        a, m, i = (int(rng.integers(size)) for size in possible.shape)
        scene = person | {
            "activity": tables.items("activity")[a],
            "medium": tables.items("medium")[m],
            "interlocutor": tables.items("interlocutor")[i],
        }
        places = [scene | {"location": place} for place in tables.items("location")]
        neutral = dict(zip(STYLE, ("Polite language", "Standard", "Neutral tone", ""), strict=True))
        met = any(
            breaks_a_rule(tables, place | neutral | {"style_mode": mode}) is None
            for place in places
            for mode in tables.items("style_mode")
        )
        assert possible[a, m, i] == met, scene


def test_the_example_scene_of_the_paper_can_be_drawn() -> None:
    """A chat with a doctor via SNS in a hospital lobby: polite, youth slang, expressive, spoken."""
    tables = LOCALES["jp"]
    wanted = {
        "activity": ["Casual chat"],
        "medium": ["SNS"],
        "interlocutor": ["Doctor or nurse"],
        "location": ["Hospital waiting room"],
        "style_register": ["Polite language"],
        "style_variety": ["Youth slang"],
        "style_affect": ["Emotionally expressive"],
        "style_mode": ["Spoken style"],
    }
    rules = compile_rules(tables, wanted)
    people = draw_population(tables, 500, seed=1)
    scenes = draw_scenes(rules, people, np.arange(500), seed=1)
    drawn = scenes.dropna()
    assert 0 < len(drawn) < 500
    assert all((drawn[name] == items[0]).all() for name, items in wanted.items())
    young = people.loc[drawn.index, "age"].isin(["Early Teens", "Late Teens", "Young Adults"])
    assert young.all()
    unrestricted = compile_rules(tables)
    assert not broken_constraints(unrestricted, people.join(scenes).loc[drawn.index]).any()


def test_a_restriction_holds_for_everybody_who_can_meet_it() -> None:
    tables = LOCALES["jp"]
    rules = compile_rules(tables, {"activity": ["SNS posting"]})
    people = draw_population(tables, 2_000, seed=2)
    scenes = draw_scenes(rules, people, np.arange(2_000), seed=2)
    met = scenes["activity"].notna()
    assert (scenes.loc[met, "activity"] == "SNS posting").all()
    assert (scenes.loc[met, "medium"] == "SNS").all()
    assert not met[people["age"].isin(["Children", "Elderly"])].any()
    assert met[people["age"] == "Young Adults"].all()
    assert scenes.loc[~met].isna().all().all()


def test_the_rest_adapts_to_a_restriction_of_a_late_element() -> None:
    """Restricting the medium must narrow the activities drawn before it."""
    tables = LOCALES["jp"]
    rules = compile_rules(tables, {"medium": ["Handwritten note, letter or diary"]})
    people = draw_population(tables, 300, seed=3)
    scenes = draw_scenes(rules, people, np.arange(300), seed=3)
    assert (scenes["activity"].dropna() == "Writing a diary or letter").all()


@pytest.mark.parametrize(
    ("restrict", "message"),
    [
        ({"activity": ["SNS posting"], "medium": ["Phone call"]}, "No person and scene can meet"),
        ({"activity": ["Flying"]}, "RESTRICT: activity has no 'Flying'; it has Casual chat"),
        ({"mood": ["bad"]}, "RESTRICT names 'mood'; elements are activity"),
    ],
)
def test_a_restriction_that_cannot_be_met_is_refused(restrict: dict, message: str) -> None:
    with pytest.raises(KitError, match=re.escape(message)):
        compile_rules(LOCALES["jp"], restrict)


def test_drawing_in_order_keeps_the_weights_that_rejection_distorts() -> None:
    tables = LOCALES["jp"]
    rules = compile_rules(tables)
    people = draw_population(tables, 20_000, seed=4, rules=rules)
    careless = independent_scenes(rules, people, seed=4)
    left = careless[~broken_constraints(rules, careless)]
    weight = tables.weights["activity"]
    ours = people["activity"].value_counts(normalize=True).reindex(weight.index)
    theirs = left["activity"].value_counts(normalize=True).reindex(weight.index).fillna(0)
    assert (ours - weight).abs().sum() < 0.5 * (theirs - weight).abs().sum()


@pytest.mark.parametrize("locale", LOCALES)
def test_everybody_has_a_scene_when_nothing_is_restricted(locale: str) -> None:
    tables = LOCALES[locale]
    people = draw_population(tables, 30_000, seed=8)
    scenes = draw_scenes(compile_rules(tables), people, np.arange(30_000), seed=8)
    assert scenes.notna().all().all()


def test_scenes_of_a_person_do_not_depend_on_the_others() -> None:
    tables = LOCALES["jp"]
    rules = compile_rules(tables)
    people = draw_population(tables, 200, seed=9)
    every = draw_scenes(rules, people, np.arange(200), seed=9)
    some = draw_scenes(rules, people.iloc[[150, 3]], np.array([150, 3]), seed=9)
    expected = every.iloc[[150, 3]].reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)
    assert list(every) == list(SCENE)


@pytest.mark.parametrize("broken", [{"persona_groups": {"adult": None}}, {"medium_locations": [1]}])
def test_rules_of_another_build_are_named_in_one_line(broken) -> None:
    tables = load_tables("jp")
    with pytest.raises(KitError, match=r"scenario_rules\.yaml is not built like") as caught:
        compile_rules(replace(tables, scenario_rules=tables.scenario_rules | broken))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [None, 3])
def test_a_restriction_without_a_list_is_refused(value) -> None:
    with pytest.raises(KitError, match="RESTRICT: activity wants a list of items"):
        compile_rules(load_tables("jp"), {"activity": value})
