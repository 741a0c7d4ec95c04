"""Audits against hand-made populations and texts, and redraws that keep a quota."""

import asyncio

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from test_verdicts import TABLES, Opinion

from personagen_utils.audits import (
    attribute_leakage,
    first_draws,
    group_words,
    guessable,
    match_by_group,
    nearest_gold,
    rejection_rates,
    share_audit,
    telling_words,
)
from personagen_utils.errors import KitError
from personagen_utils.population import draw_population
from personagen_utils.tables import PERSONA
from personagen_utils.verdicts import Judge, accept


def test_total_variation_and_chi_square_by_hand():
    target = pd.DataFrame({"a": ["x"] * 50 + ["y"] * 30 + ["z"] * 20})
    people = pd.DataFrame({"a": ["x"] * 30 + ["y"] * 50 + ["z"] * 20})
    row = share_audit(people, target, ["a"]).iloc[0]
    assert row["tv"] == pytest.approx(0.2)
    expected = stats.chisquare([30, 50, 20], [50, 30, 20])
    assert row["chi2"] == pytest.approx(expected.statistic)
    assert row["p"] == pytest.approx(expected.pvalue)
    same = share_audit(target, target, ["a"]).iloc[0]
    assert (same["tv"], same["p"]) == (0.0, 1.0)
    assert 0 < same["tv_chance"] < 0.15


def test_rare_cells_are_pooled_and_unseen_ones_count():
    target = pd.DataFrame({"a": ["x"] * 9990 + [f"r{k}" for k in range(10)]})
    row = share_audit(pd.DataFrame({"a": ["x"] * 99 + ["new"]}), target, ["a"]).iloc[0]
    assert row["df"] == 1
    assert row["tv"] == pytest.approx(0.01, abs=1e-6)


def test_an_unfiltered_draw_passes_its_own_audit():
    target = draw_population(TABLES, 50_000, seed=1)
    audit = share_audit(
        draw_population(TABLES, 2000, seed=2), target, [*PERSONA, ("age", "gender")]
    )
    assert (audit["p"] > 1e-4).all()
    assert (audit["tv"] < 3 * audit["tv_chance"] + 0.01).all()
    filtered = draw_population(TABLES, 4000, seed=3)
    filtered = filtered[filtered["gender"] == "Males"]
    assert share_audit(filtered, target, ["gender"])["p"].iloc[0] < 1e-10


def test_rejections_by_item():
    verdicts = pd.DataFrame(
        {
            "age": ["Adults", "Adults", "Elderly", "Elderly", "Elderly"],
            "label": ["natural", "implausible", "implausible", "implausible", "not judged"],
        }
    )
    table = rejection_rates(verdicts, "age").set_index("item")
    assert table.loc["Elderly", ["rejected", "n"]].tolist() == [1.0, 2]
    assert table.loc["Adults", "rejected"] == 0.5
    assert table.loc["Adults", "low"] < 0.5 < table.loc["Adults", "high"]


def accepted(quota, label, n=80, upto=2):
    judge = Judge(Opinion(label), quota=quota)
    return asyncio.run(accept(TABLES, range(n), upto=upto, seed=5, judge=judge)).people


def no_men_of_the_city(attributes):
    if attributes.get("geographic_location") == "Urban centre" and attributes["gender"] == "Males":
        return "implausible"
    return "implausible" if attributes["mbti"].endswith("T") else "natural"


def test_a_quota_keeps_what_rejections_would_shift():
    first = first_draws(TABLES, range(80), seed=5)
    free, held = (accepted(q, no_men_of_the_city) for q in ([], ["gender", "age", "occupation"]))
    for name in ("gender", "age"):
        assert (held[name].to_numpy() == first[name].to_numpy()).all()
        assert (free[name].to_numpy() != first[name].to_numpy()).any()
    assert (held["occupation"].to_numpy() == first["occupation"].to_numpy()).mean() > 0.9
    assert (held["mbti"].str.endswith("A")).all()  # what was rejected is still rejected
    # Each person is redrawn from an own stream, so a smaller study is a part of a larger one.
    pd.testing.assert_frame_equal(
        held.head(20), accepted(["gender", "age", "occupation"], no_men_of_the_city, n=20)
    )


def test_a_quota_of_stage_two_and_one_that_cannot_be():
    def by_family(attributes):
        return (
            "implausible"
            if attributes.get("family_structure", "").startswith("Single")
            else "natural"
        )

    held = accepted(["education", "income"], by_family)
    first = first_draws(TABLES, range(80), seed=5)
    assert (held["education"].to_numpy() == first["education"].to_numpy()).all()
    with pytest.raises(KitError, match=r"QUOTA names 'activity'; it may name age"):
        Judge(None, quota=["activity"])


def test_words_of_a_group():
    texts = pd.DataFrame(
        {
            "text": ["grandson garden tea"] * 10 + ["exam phone train"] * 10 + ["tea phone"] * 4,
            "age": ["old"] * 10 + ["young"] * 10 + ["old", "young"] * 2,
        }
    )
    words = group_words(texts, "age", n=2)
    by = words.groupby("group")["word"].agg(set)
    assert by["old"] == {"grandson", "garden"}
    assert by["young"] <= {"exam", "train", "phone"}
    assert (words["z"] > 1.96).all()
    with pytest.raises(KitError, match="one age only"):
        group_words(texts.assign(age="old"), "age")
    told = telling_words(["red apple"] * 6, ["green pear"] * 6, n=2)
    assert set(told[told["group"] == "gold"]["word"]) == {"green", "pear"}


def test_words_that_tell_as_much_go_by_the_alphabet():
    texts = pd.DataFrame(
        {
            "text": ["gaming beetles zebra apple"] * 6 + ["knitting tea"] * 6,
            "age": ["a"] * 6 + ["b"] * 6,
        }
    )
    words = group_words(texts, "age", n=4)
    assert words[words["group"] == "a"]["word"].tolist() == ["apple", "beetles", "gaming", "zebra"]


def test_leaks_are_counted_against_somebody_elses_attributes():
    texts = pd.DataFrame(
        {
            "item": range(40),
            "occupation": ["Nurses", "Fishermen"] * 20,
            "text": ["as a nurse i smile", "the sea is calm"] * 20,
        }
    )
    row = attribute_leakage(texts, ["occupation"]).iloc[0]
    assert row["value"] == 0.5
    assert 0.1 < row["chance"] < 0.4
    assert row["low"] <= 0.5 <= row["high"]


def test_a_guess_is_sure_where_the_text_says_it_and_chance_where_not():
    rng = np.random.default_rng(0)
    gender = np.repeat(["f", "m"], 60)
    X = rng.normal(size=(120, 5))
    X[:, 0] += 4 * (gender == "f")
    texts = pd.DataFrame(
        {"item": np.arange(120), "gender": gender, "coin": rng.permutation(gender), "one": "x"}
    )
    table = guessable(texts, X, ["gender", "coin", "one"]).set_index("attribute")
    assert table.loc["gender", "value"] > 0.95
    assert 0.3 < table.loc["coin", "value"] < 0.7
    assert "one" not in table.index


def test_match_by_group_and_nearest_gold():
    scores = pd.DataFrame(
        {"item": range(40), "gender": ["f", "m"] * 20, "emotion_match": [5, 3] * 20}
    )
    table = match_by_group(scores, ["gender"]).set_index("group")
    assert table["value"].to_dict() == {"f": 5.0, "m": 3.0}
    gold = np.eye(3)
    assert nearest_gold(np.array([[1.0, 0, 0], [0.6, 0.8, 0]]), gold).tolist() == pytest.approx(
        [1, 0.8]
    )
