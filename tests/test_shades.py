"""Shades: 135 names under six emotions, drawn evenly, the same for an item in any study."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from personagen_utils.errors import KitError
from personagen_utils.shades import draw_shades, load_shades, shade_of
from personagen_utils.tables import load_tables

SEXUAL = {"arousal", "desire", "lust", "passion"}


def names(emotion: str) -> set[str]:
    table = load_shades()
    return set(table.loc[table["emotion"] == emotion, "shade"])


def test_the_names_are_those_that_were_published():
    table = load_shades()
    assert table["emotion"].value_counts().to_dict() == {
        "sadness": 37,
        "joy": 33,
        "anger": 29,
        "fear": 17,
        "love": 16,
        "surprise": 3,
    }
    assert table["shade"].is_unique  # each belongs to one emotion
    assert len(table) == 135


def test_every_shade_is_as_likely_as_another():
    drawn = Counter(draw_shades(np.arange(16_000), "love", seed=3, ages=18))
    assert set(drawn) == names("love")
    assert max(abs(k - 1000) for k in drawn.values()) < 4 * (1000 * 15 / 16) ** 0.5  # 4 sd


def test_an_item_keeps_its_shade_in_a_study_of_any_size_and_order():
    many = draw_shades(np.arange(500), "fear", seed=1)
    assert draw_shades(np.array([77, 3]), "fear", seed=1) == [many[77], many[3]]
    assert draw_shades(np.arange(500), "fear", seed=2) != many


def test_nobody_is_given_a_shade_from_a_higher_age():
    drawn = draw_shades(np.arange(900), "love", seed=1, ages=np.repeat([0, 17, 18], 300))
    assert not SEXUAL & set(drawn[:600])
    assert set(drawn[600:]) == names("love")
    assert not SEXUAL & set(draw_shades(np.arange(900), "love", seed=1))  # nothing is known


@pytest.mark.parametrize("locale", ["jp", "us"])
def test_no_minor_is_given_a_sexual_shade(locale):
    tables = load_tables(locale)
    ages = tables.items("age")
    people = pd.DataFrame({"item": range(4000), "age": [ages[k % len(ages)] for k in range(4000)]})
    shade = shade_of(tables, people, ["love", "neutral"], seed=5)
    drawn = people.assign(shade=[shade(item, "love") for item in people["item"]])
    given = drawn[drawn["shade"].isin(SEXUAL)]["age"].value_counts()
    teens = [age for age in ages if "Teen" in age or "Child" in age]
    assert len(teens) >= 2
    assert not set(given.index) & set(teens)
    assert len(given) == len(ages) - len(teens)  # every adult age is
    assert set(drawn.loc[drawn["age"].isin(teens), "shade"]) == names("love") - SEXUAL
    assert shade(0, "neutral") == ""


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (None, "cannot be read"),
        ("emotion,shade\njoy,glee\n", "columns emotion, shade, from_age"),
        ("emotion,shade,from_age\njoy,,0\n", "none empty"),
        ("emotion,shade,from_age\njoy,glee,adult\n", "glee: from_age is no number"),
        ("emotion,shade,from_age\njoy,glee,0\njoy,glee,0\n", "names 'glee' twice for joy"),
    ],
)
def test_a_table_that_is_no_table_of_shades_is_refused(tmp_path, table, reason):
    if table is not None:
        (tmp_path / "shades.csv").write_text(table)
    with pytest.raises(KitError, match=reason):
        load_shades(folder=tmp_path)
