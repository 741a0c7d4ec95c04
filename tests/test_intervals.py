"""Intervals: hand-computed cases, references, and coverage where the truth is known."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from personagen_utils.errors import KitError
from personagen_utils.intervals import (
    assign_groups,
    holm,
    jackknife,
    joint_jackknife,
    value_with_interval,
)
from personagen_utils.scores import (
    bootstrap_weights,
    classification_draws,
    paired_difference,
    score_rows,
)


def test_jackknife_of_a_mean_is_its_standard_error():
    x = np.array([2.0, 4.0, 4.0, 10.0])
    result = jackknife(lambda rows: x[rows].mean(), range(4))
    error = x.std(ddof=1) / 2
    reach = stats.t.ppf(0.975, 3) * error
    assert result.value == 5
    assert result.error == pytest.approx(error)
    assert (result.low, result.high) == pytest.approx((5 - reach, 5 + reach))
    assert result.n == 4


def test_jackknife_by_hand_with_two_groups_of_items():
    x, item = np.array([1.0, 3.0, 5.0, 7.0]), ["a", "a", "b", "b"]
    # The replicates are 6 and 2; their mean is 4; (1/2) * (4 + 4) = 4.
    assert jackknife(lambda rows: x[rows].mean(), item).error == pytest.approx(2)


def test_jackknife_leaves_out_whole_items():
    item = np.repeat(np.arange(50), 7)
    seen = []
    jackknife(lambda rows: seen.append(rows) or 0.0, item)
    assert len(seen[0]) == 350
    for kept in seen[1:]:
        gone = np.setdiff1d(np.arange(350), kept)
        assert not set(item[gone]) & set(item[kept])
    left_out = np.concatenate([np.setdiff1d(np.arange(350), kept) for kept in seen[1:]])
    assert sorted(left_out) == list(range(350))


def test_jackknife_of_many_values_at_once():
    x = np.random.default_rng(0).normal(size=(60, 3))
    together = jackknife(lambda rows: x[rows].mean(axis=0), range(60))
    alone = jackknife(lambda rows: x[rows, 1].mean(), range(60))
    assert together.low[1] == pytest.approx(alone.low)
    assert together.value.shape == (3,)


def test_a_bias_in_one_over_n_is_no_variance():
    result = jackknife(lambda rows: 87 / len(rows), range(400))
    assert result.error == pytest.approx(0, abs=1e-12)


@given(st.integers(2, 90), st.integers(0, 5))
def test_groups_are_whole_items_of_equal_size(items, seed):
    item = np.repeat(np.arange(items), 3)
    group = assign_groups(item, seed=seed)
    sizes = np.bincount(group[::3])
    assert len(sizes) == min(20, items)
    assert sizes.max() - sizes.min() <= 1
    assert (group.reshape(-1, 3) == group[::3, None]).all()


def test_one_item_has_no_interval():
    with pytest.raises(KitError, match="at least two persona-scenes"):
        jackknife(lambda rows: 1.0, ["a", "a"])


def test_jackknife_covers_clustered_means_and_ratios():
    rng, truth, inside = np.random.default_rng(1), 2 / 3, [0, 0]
    item = np.repeat(np.arange(100), 3)
    for _ in range(600):
        x = 2 + np.repeat(rng.normal(size=100), 3) + rng.normal(size=300)
        y = 3 + np.repeat(rng.normal(size=100), 3) + rng.normal(size=300)
        mean = jackknife(lambda rows, x=x: x[rows].mean(), item)
        ratio = jackknife(lambda rows, x=x, y=y: x[rows].mean() / y[rows].mean(), item)
        inside[0] += mean.low <= 2 <= mean.high
        inside[1] += ratio.low <= truth <= ratio.high
    assert 0.925 < inside[0] / 600 < 0.975
    assert 0.925 < inside[1] / 600 < 0.975


def test_joint_jackknife_adds_the_variances_of_both_samples():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=20), rng.normal(size=20) * 3
    result = joint_jackknife(lambda a, b: x[a].mean() - y[b].mean(), range(20), range(20))
    assert result.error == pytest.approx(np.sqrt(x.var(ddof=1) / 20 + y.var(ddof=1) / 20))
    assert result.value == pytest.approx(x.mean() - y.mean())


def test_joint_jackknife_covers_a_difference():
    rng, inside = np.random.default_rng(3), 0
    for _ in range(500):
        x, y = rng.exponential(size=200), rng.normal(1.5, 2, size=300)
        result = joint_jackknife(
            lambda a, b, x=x, y=y: x[a].mean() - y[b].mean(), range(200), range(300)
        )
        inside += result.low <= -0.5 <= result.high
    assert 0.925 < inside / 500 < 0.985  # G-1 degrees of freedom are on the safe side


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1, 1]
    assert holm([0.02]).tolist() == [0.02]
    for wrong in ([], [1.2], [float("nan")]):
        with pytest.raises(KitError, match="between 0 and 1"):
            holm(wrong)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=9))
def test_holm_is_between_the_p_value_and_bonferroni(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(np.array(p) * len(p), 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(
    ("given_", "shown"),
    [
        ((0.7104, 0.688, 0.7321), "0.71\u00a0[0.69,\u00a00.73]"),
        ((0.5, None, None), "0.50"),
        ((float("nan"), 0.1, 0.2), "—"),
        ((None,), "—"),
    ],
)
def test_value_with_interval(given_, shown):
    assert value_with_interval(*given_) == shown


# --- classification --------------------------------------------------------------------------

LABELS = ["anger", "fear", "joy"]


def predictions(n, *, seed=0, right=0.7, split=0):
    rng = np.random.default_rng(seed)
    truth = np.resize(LABELS, n)
    guess = np.where(rng.random(n) < right, truth, rng.choice(LABELS, n))
    return pd.DataFrame({"split": split, "row": np.arange(n), "truth": truth, "predicted": guess})


def test_scores_are_those_of_scikit_learn():
    table = predictions(200)
    draws = classification_draws(table, np.ones((1, 200)), labels=LABELS)
    p, r, f, _ = precision_recall_fscore_support(table.truth, table.predicted, labels=LABELS)
    for name, expected in (("precision", p), ("recall", r), ("F1", f)):
        assert draws[name][0] == pytest.approx([*expected, expected.mean()])
    assert draws["accuracy"][0] == pytest.approx(accuracy_score(table.truth, table.predicted))


def test_a_draw_is_the_score_of_the_drawn_texts():
    table = predictions(40)
    weights = bootstrap_weights(table["row"], draws=5)
    assert (weights.sum(axis=1) == 40).all()
    draws = classification_draws(table, weights, labels=LABELS)
    for draw in range(6):
        repeated = table.loc[np.repeat(np.arange(40), weights[draw])]
        f = precision_recall_fscore_support(
            repeated.truth, repeated.predicted, labels=LABELS, zero_division=0
        )[2]
        assert draws["F1"][draw, :3] == pytest.approx(f)


def test_a_text_keeps_its_weight_in_every_split_and_scenes_stay_whole():
    weights = bootstrap_weights([4, 5, 6, 5, 4], draws=50)
    assert (weights[:, 0] == weights[:, 4]).all()
    assert (weights[:, 1] == weights[:, 3]).all()
    scenes = bootstrap_weights(range(6), clusters=list("aabbcc"), draws=50)
    assert (scenes[:, ::2] == scenes[:, 1::2]).all()
    with pytest.raises(KitError, match="two test texts"):
        bootstrap_weights([1])


def test_rows_hold_the_mean_and_the_spread_over_splits():
    parts = [predictions(90, seed=s, split=s) for s in range(3)]
    rows = pd.DataFrame(score_rows(pd.concat(parts), labels=LABELS, draws=200))
    accuracy = rows[rows.metric == "accuracy"].iloc[0]
    each = [(part.truth == part.predicted).mean() for part in parts]
    assert accuracy.value == pytest.approx(np.mean(each))
    assert accuracy.sd_splits == pytest.approx(np.std(each, ddof=1))
    assert (accuracy.n, accuracy.splits) == (90, 3)
    assert len(rows) == 1 + 3 * 4
    assert (rows.low <= rows.value).all()
    assert (rows.value <= rows.high).all()
    assert rows[rows.emotion == "joy"].n.tolist() == [30] * 3


def test_a_class_never_predicted_has_precision_zero():
    table = pd.DataFrame({"truth": ["joy", "fear"], "predicted": ["joy", "joy"]})
    rows = pd.DataFrame(score_rows(table, labels=["fear", "joy"], draws=20))
    assert rows.query("metric == 'precision'").value.tolist() == pytest.approx([0, 0.5, 0.25])


def test_an_unknown_label_is_refused():
    with pytest.raises(KitError, match="none of fear, joy"):
        classification_draws(predictions(9), np.ones((1, 9)), labels=["fear", "joy"])


def test_bootstrap_covers_an_accuracy_and_a_paired_difference():
    inside = [0, 0]
    for k in range(250):
        rng = np.random.default_rng(k)
        easy = rng.random(300)  # both methods find the same texts easy
        truth = np.resize(["a", "b"], 300)
        wrong = np.where(truth == "a", "b", "a")
        first, second = (
            pd.DataFrame(
                {"row": range(300), "truth": truth, "predicted": np.where(easy < s, truth, wrong)}
            )
            for s in (0.7, 0.62)
        )
        row = score_rows(first, labels=["a", "b"], draws=300, seed=k)[0]
        inside[0] += row["low"] <= 0.7 <= row["high"]
        difference = paired_difference(first, second, labels=["a", "b"], draws=300, seed=k)
        inside[1] += difference["low"] <= 0.08 <= difference["high"]
    assert 0.91 < inside[0] / 250 < 0.985
    assert 0.90 < inside[1] / 250 < 0.985


def test_paired_differences():
    table = predictions(300, right=0.9)
    worse = predictions(300, right=0.3, seed=1)
    same = paired_difference(table, table.sample(frac=1, random_state=0), labels=LABELS)
    assert (same["value"], same["low"], same["high"], same["p"]) == (0, 0, 0, 1)
    better = paired_difference(table, worse, labels=LABELS, metric="F1")
    assert better["value"] > 0.3
    assert better["p"] < 0.01
    assert paired_difference(worse, table, labels=LABELS)["value"] < 0
    with pytest.raises(KitError, match="same texts"):
        paired_difference(table, worse.assign(row=worse.row + 1), labels=LABELS)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_scores_do_not_depend_on_the_order_of_rows(seed):
    table = predictions(30)
    shuffled = table.sample(frac=1, random_state=seed)
    ones = np.ones((1, 30))
    a, b = (classification_draws(t, ones, labels=LABELS) for t in (table, shuffled))
    assert all(np.allclose(a[name], b[name]) for name in a)
