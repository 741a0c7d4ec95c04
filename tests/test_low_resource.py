"""Few gold texts with and without company: fair draws, paired gains, and selections that select."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personagen_utils import gold as gold_module
from personagen_utils import low_resource as low_resource_module
from personagen_utils.errors import KitError
from personagen_utils.low_resource import (
    Arm,
    gold_draws,
    keep_tuned,
    low_resource,
    low_resource_tuned,
    measured_tuned,
    over_draws,
    paired_gains,
)
from personagen_utils.selection import by_agreement, by_coverage, mixed
from personagen_utils.similarity_table import Vectors


def unit(X):
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def corpus(per_label, labels=("a", "b", "c"), d=6, noise=0.3, seed=0, prefix="g"):
    rng = np.random.default_rng(seed)
    centres = np.eye(len(labels), d)
    X = np.repeat(centres, per_label, axis=0) + noise * rng.normal(
        size=(per_label * len(labels), d)
    )
    items = np.array([f"{prefix}{i}" for i in range(per_label * len(labels))])
    return Vectors(unit(X), np.repeat(labels, per_label), items)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 20), st.integers(1, 10))
def test_draws_never_test_on_what_they_train_on_and_are_nested(draws, test, shots):
    gold = corpus(40)
    label = dict(zip(gold.items, gold.labels, strict=True))
    seen = {}
    for draw, k, train, tested in gold_draws(gold, [0, shots, 2 * shots], draws, test=test):
        assert not set(train) & set(tested)
        counts = pd.Series([label[i] for i in tested]).value_counts()
        assert counts.tolist() == [test] * 3
        assert len(train) == 3 * k
        seen[draw, k] = set(train)
    assert all(seen[d, shots] <= seen[d, 2 * shots] for d in range(draws))


def test_asking_for_more_than_the_pool_has_is_refused():
    with pytest.raises(KitError, match=r"the gold pool has 40: ask for fewer SHOTS"):
        list(gold_draws(corpus(40), [30], 1, test=20))


def test_company_that_is_right_helps_and_company_that_is_wrong_harms():
    gold = corpus(60, noise=0.6)
    good, bad = corpus(50, noise=0.6, seed=1), corpus(50, noise=0.6, seed=2)
    bad = Vectors(bad.X, np.roll(bad.labels, 50))
    found = low_resource(
        gold,
        {"alone": None, "good": good, "bad": bad},
        shots=[0, 2, 20],
        draws={"logistic": 6},
        elsewhere=corpus(30, noise=0.6, seed=3),
        test=20,
    )
    table = over_draws(found).set_index(["method", "shots", "test"])["value"]
    assert ("alone", 0, "in domain") not in table.index
    assert table["good", 2, "in domain"] > table["alone", 2, "in domain"] > 0.4
    assert table["bad", 2, "in domain"] < table["alone", 2, "in domain"]
    gains = paired_gains(found[found["shots"] > 0], "good", ["alone", "bad"])
    two = gains[(gains["shots"] == 2) & (gains["test"] == "elsewhere")].set_index("method")
    assert two.loc["good - alone", "low"] > 0
    assert two.loc["good - bad", "n"] == 6


def test_intervals_over_draws_by_hand():
    x, y = [0.5, 0.7, 0.6, 0.6, 0.6], [0.4, 0.5, 0.45, 0.45, 0.45]
    found = pd.DataFrame(
        {
            "arm": ["x"] * 5 + ["y"] * 5,
            "model": "logistic",
            "shots": 10,
            "draw": [0, 1, 2, 3, 4] * 2,
            "test": "in domain",
            "accuracy": x + y,
        }
    )
    t = 2.776445  # four degrees of freedom
    row = over_draws(found).set_index("method").loc["x"]
    assert row["value"] == pytest.approx(0.6)
    assert row["high"] - row["value"] == pytest.approx(t * np.std(x, ddof=1) / 5**0.5)
    gain = paired_gains(found, "x", ["y"]).iloc[0]
    assert gain["value"] == pytest.approx(0.15)
    gains = np.subtract(x, y)
    assert gain["high"] - gain["value"] == pytest.approx(t * gains.std(ddof=1) / 5**0.5)
    assert over_draws(found[found["draw"] < 4])["low"].isna().all()


def test_arms_are_tuned_once_and_found_again(tmp_path, monkeypatch):
    for name in ("FIRST", "COMPANY", "FURTHER"):
        monkeypatch.setattr(low_resource_module, name, {"epochs": 1, "least_steps": 6})
    words = {"a": "glad", "b": "cross"}
    rows = [
        (f"{label}{k}", label, f"i feel {words[label]} {k}") for label in "ab" for k in range(104)
    ]
    ids, labels, texts = (list(column) for column in zip(*rows, strict=True))
    gold = Vectors(np.zeros((len(ids), 2)), np.array(labels), np.array(ids))
    added = pd.DataFrame({"text": ["so glad", "so cross"] * 8, "label": ["a", "b"] * 8})
    arms = {"gold + some": Arm(added, [0, 2], 2), "gold alone": Arm(None, [0, 2], 1)}
    outside = pd.DataFrame(
        {"text": ["glad"] * 120 + ["cross"] * 110, "label": ["a"] * 120 + ["b"] * 110}
    )
    call = {"elsewhere": outside, "workers": 1, "keep": tmp_path / "tuned.json"}
    by_id = dict(zip(ids, texts, strict=True))
    found = low_resource_tuned(gold, by_id, arms, **call)
    assert found.groupby(["arm", "shots", "test"])["n"].apply(list).to_dict() == {
        ("gold + some", 0, "in domain"): [208],  # texts alone: one fit, tested on all
        ("gold + some", 0, "elsewhere"): [230],
        ("gold + some", 2, "in domain"): [200, 200],
        ("gold + some", 2, "elsewhere"): [200, 200],
        ("gold alone", 2, "in domain"): [200],
        ("gold alone", 2, "elsewhere"): [230],
    }
    assert found.loc[found["arm"] == "gold + some", "accuracy"].min() > 0.9

    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr(low_resource_module, "MiniLM", never)
    again = low_resource_tuned(gold, by_id, arms, **call)
    pd.testing.assert_frame_equal(again[found.columns], found, check_dtype=False)
    with pytest.raises(AssertionError, match="trained again"):
        low_resource_tuned(gold, by_id, {"gold + some": Arm(added, [0, 2], 3)}, **call)


def test_tuned_numbers_are_kept_for_the_very_texts_only(tmp_path):
    texts = pd.DataFrame({"text": ["p", "q"], "label": ["a", "b"]})
    found = pd.DataFrame(
        [{"arm": "gold alone", "accuracy": 0.3}, {"arm": "gold + both", "accuracy": 0.5}]
    )
    keep_tuned({"gold alone": None, "gold + both": texts}, found, tmp_path / "k.json")
    other = texts.assign(text=["p", "other"])
    read = measured_tuned({"gold alone": None, "gold + both": texts}, tmp_path / "k.json")
    assert read["accuracy"].tolist() == [0.3, 0.5]
    assert measured_tuned({"gold + both": other}, tmp_path / "k.json").empty


def test_agreement_leaves_wrong_labels_out():
    made = corpus(60, noise=0.2)
    labels = made.labels.copy()
    wrong = [0, 1, 60, 61, 120, 121]
    labels[wrong] = ["b", "b", "c", "c", "a", "a"]
    kept = by_agreement(Vectors(made.X, labels, made.items), 50)
    assert not set(kept) & set(wrong)
    assert (pd.Series(labels[kept]).value_counts() == 50).all()


def test_coverage_is_greedy_facility_location():
    rng = np.random.default_rng(0)
    X, target = unit(rng.normal(size=(12, 3))), unit(rng.normal(size=(9, 3)))
    made = Vectors(X, np.array(["a"] * 12), np.arange(12))

    def reached(rows):
        return (X[list(rows)] @ target.T).max(axis=0).sum()

    assert by_coverage(made, target, 1).tolist() == [max(range(12), key=lambda i: reached([i]))]
    three = by_coverage(made, target, 3)
    best = max(combinations(range(12), 3), key=reached)
    assert reached(best) >= reached(three) >= 0.9 * reached(best)


def test_selection_reads_nothing_of_the_evaluation_part(monkeypatch):
    """By construction: neither choice loads gold at all, it is handed the development vectors."""
    monkeypatch.setattr(gold_module, "_shipped", lambda *a: pytest.fail("gold was read"))
    made = corpus(30)
    by_agreement(made, 10)
    by_coverage(made, corpus(5, seed=4).X, 10)


def test_a_mixture_takes_each_scene_from_one_corpus():
    first, second = corpus(20, prefix="s"), corpus(20, seed=1, prefix="s")
    blend = mixed(first, second, 0.25, 16)
    counts = pd.Series(blend.labels).value_counts()
    assert (counts == 16).all()
    assert len(set(zip(blend.items, blend.labels, strict=True))) == len(blend.items)
    own = {tuple(row) for row in first.X}
    assert sum(tuple(row) in own for row in blend.X) == 3 * 4
