"""Diversity: hand-computed cases, pairwise loops, limits, invariances, and the gold reference."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import ortho_group

from personagen_utils import memo
from personagen_utils.diversity import (
    centroid_distance,
    centroid_distances,
    cluster_entropy,
    gaussian_entropy_null,
    mean_cosine_distance,
    vendi_score,
)
from personagen_utils.diversity_groups import diversity_by, diversity_sources
from personagen_utils.diversity_tables import diversity_table, tsne
from personagen_utils.embedding import embed
from personagen_utils.errors import KitError
from personagen_utils.gold import gold_vectors
from personagen_utils.intervals import jackknife
from personagen_utils.paths import ROOT
from personagen_utils.repetition import distinct_2, near_duplicates, neighbour_groups

EYE = np.eye(4)


def unit(n, d=8, *, seed=0, pull=1.0):
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, 0] += pull
    return x / np.linalg.norm(x, axis=1, keepdims=True)


# --- MCD -------------------------------------------------------------------------------------


def test_mcd_limits():
    assert mean_cosine_distance(np.repeat(EYE[:1], 9, axis=0)) == 0
    assert mean_cosine_distance(EYE) == pytest.approx(1)
    assert mean_cosine_distance(np.array([[1.0, 0], [-1, 0]])) == pytest.approx(2)
    # Pairs by hand: (a, a) 0, (a, b) 1, (a, b) 1.
    assert mean_cosine_distance(EYE[[0, 0, 1]]) == pytest.approx(2 / 3)


@given(st.integers(2, 40), st.integers(0, 99))
def test_mcd_is_the_mean_over_all_pairs(n, seed):
    u = unit(n, seed=seed)
    assert mean_cosine_distance(u) == pytest.approx(pdist(u, "cosine").mean())
    loop = [1 - u[i] @ u[j] for i, j in itertools.combinations(range(n), 2)]
    assert mean_cosine_distance(u) == pytest.approx(np.mean(loop))


def test_mcd_does_not_depend_on_n():
    values = [[mean_cosine_distance(unit(n, seed=s)) for s in range(300)] for n in (5, 80)]
    difference = np.mean(values[0]) - np.mean(values[1])
    assert abs(difference) < 3 * np.std(values[0]) / np.sqrt(300)


# --- CE --------------------------------------------------------------------------------------


def test_ce_by_hand():
    five = np.repeat(np.eye(5), [10, 20, 30, 20, 20], axis=0)
    share = np.array([0.1, 0.2, 0.3, 0.2, 0.2])
    assert cluster_entropy(five) == pytest.approx(-(share * np.log(share)).sum())
    assert cluster_entropy(np.repeat(np.eye(5), 7, axis=0)) == pytest.approx(np.log(5))


def test_ce_of_one_cluster_is_zero_without_a_warning(recwarn):
    assert cluster_entropy(np.repeat(EYE[:1], 30, axis=0)) == 0
    assert not recwarn.list


def test_the_gaussian_null_of_a_round_cloud_is_near_the_ceiling():
    u = unit(400, 30, pull=3)
    assert 1.5 < gaussian_entropy_null(u) <= np.log(5)
    assert 1.5 < cluster_entropy(u) <= np.log(5)


def test_the_gaussian_null_keeps_mean_and_covariance(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "personagen_utils.diversity.cluster_entropy", lambda x, **_: seen.append(x) or 0.0
    )
    u = unit(20_000, 4, pull=2)
    gaussian_entropy_null(u)
    assert np.allclose(seen[0].mean(axis=0), u.mean(axis=0), atol=0.02)
    assert np.allclose(np.cov(seen[0].T), np.cov(u.T), atol=0.01)


# --- CD --------------------------------------------------------------------------------------


def test_cd_of_separate_points():
    u, label = np.repeat(EYE[:3], 5, axis=0), np.repeat(list("abc"), 5)
    assert centroid_distance(u, label) == pytest.approx(np.sqrt(2))
    assert centroid_distance(u, label, cosine=True) == pytest.approx(1)
    table = centroid_distances(u, label)
    assert table.loc["a", "c"] == table.loc["c", "a"] == pytest.approx(np.sqrt(2))
    assert (np.diag(table) == 0).all()


def u_statistic(a, b, item_a, item_b):
    """Squared distance from pairs of different items, by loops."""

    def mean(x, y, ix, iy):
        pairs = [x[i] @ y[j] for i in range(len(x)) for j in range(len(y)) if ix[i] != iy[j]]
        return np.mean(pairs)

    return mean(a, a, item_a, item_a) + mean(b, b, item_b, item_b) - 2 * mean(a, b, item_a, item_b)


@pytest.mark.parametrize("crossed", [False, True])
def test_cd_is_the_u_statistic(crossed):
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(12, 6))
    a, b = (
        x / np.linalg.norm(x, axis=1, keepdims=True)
        for x in (
            shared + rng.normal(size=(12, 6)) + 1,
            shared + rng.normal(size=(12, 6)) - np.arange(6) / 3,
        )
    )
    u, label = np.vstack([a, b]), np.repeat(["a", "b"], 12)
    item = np.tile(np.arange(12), 2) if crossed else np.arange(24)
    order = rng.permutation(24)
    found = centroid_distance(u[order], label[order], items=item[order] if crossed else None)
    assert found**2 == pytest.approx(u_statistic(a, b, item[:12], item[12:]))


def test_cd_is_debiased_for_n():
    def naive(u, label):
        return np.linalg.norm(u[label == "a"].mean(axis=0) - u[label == "b"].mean(axis=0))

    label, debiased, plain = np.repeat(["a", "b"], 10), [], []
    for seed in range(400):
        u = np.vstack([unit(10, 40, seed=seed, pull=6), unit(10, 40, seed=seed + 999, pull=9)])
        debiased.append(centroid_distances(u, label).loc["a", "b"])
        plain.append(naive(u, label))
    many = np.vstack([unit(9999, 40, pull=6), unit(9999, 40, seed=1, pull=9)])
    truth = naive(many, np.repeat(["a", "b"], 9999))
    assert abs(np.mean(debiased) - truth) < 0.03
    assert np.mean(plain) - truth > 0.1


def test_cd_of_equal_emotions_is_about_zero():
    u = unit(2000, 30)
    assert centroid_distance(u, np.resize(["a", "b"], 2000)) < 0.03
    assert abs(centroid_distance(u, np.resize(["a", "b"], 2000), cosine=True)) < 0.02


def test_cd_needs_two_emotions_of_two_texts():
    with pytest.raises(KitError, match="at least two emotions"):
        centroid_distance(EYE, ["joy"] * 4)
    with pytest.raises(KitError, match="'fear' has texts of 1 item"):
        centroid_distance(EYE, ["joy"] * 3 + ["fear"])
    with pytest.raises(KitError, match="4 vectors, 3 labels"):
        centroid_distance(EYE, ["joy"] * 3)


# --- Vendi, distinct-2, near-duplicates ------------------------------------------------------


def test_vendi_limits():
    assert vendi_score(EYE) == pytest.approx(4)
    assert vendi_score(np.repeat(EYE[:1], 9, axis=0)) == pytest.approx(1)
    assert vendi_score(np.repeat(EYE, 25, axis=0)) == pytest.approx(4)
    assert vendi_score(EYE[:1]) == pytest.approx(1)


@pytest.mark.parametrize("n", [5, 60])
def test_vendi_is_its_definition(n):
    u = unit(n, 12)
    value = np.linalg.eigvalsh(u @ u.T / n)
    value = value[value > 1e-12]
    assert vendi_score(u) == pytest.approx(np.exp(-(value * np.log(value)).sum()))


def test_distinct_2_by_hand():
    assert distinct_2(["I am glad", "I am sad"]) == 0.75
    assert distinct_2(["So, so GOOD!", "so good"]) == pytest.approx(2 / 3)
    assert distinct_2(["I don't know", "I don’t know"]) == 1
    assert distinct_2(["嬉しい嬉しい"]) == pytest.approx(3 / 5)
    with pytest.raises(KitError, match="no text has two words"):
        distinct_2(["glad", "sad"])


def near_by_loop(u, threshold):
    s = u @ u.T
    np.fill_diagonal(s, -1)
    return (s >= threshold).any(axis=1).mean()


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("n", [7, 300, 2500])
def test_near_duplicates_are_those_of_the_full_matrix(n, threshold):
    u = unit(n, 60, pull=9)
    u[: n // 4] = u[n // 2 : n // 2 + n // 4] + 0.02 * unit(n // 4, 60, seed=1)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    assert near_duplicates(u, threshold=threshold) == near_by_loop(u, threshold)


def test_near_duplicates_limits():
    assert near_duplicates(np.repeat(EYE[:1], 5000, axis=0)) == 1  # more than one block
    assert near_duplicates(EYE) == 0
    assert near_duplicates(EYE[[0, 0, 1]]) == pytest.approx(2 / 3)


def test_neighbours_are_told_by_group():
    found = neighbour_groups(EYE[[0, 0, 0, 1, 1, 2]], np.array([0, 1, 1, 0, 0, 1]))
    assert found.tolist() == [[0, 1], [1, 1], [1, 1], [1, 0], [1, 0], [0, 0]]


# --- invariances and refusals ----------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_row_order_and_rotation_change_nothing(seed):
    rng = np.random.default_rng(seed)
    u, label = unit(30, seed=seed), np.resize(["a", "b", "c"], 30)
    item, order = np.arange(30) // 3, rng.permutation(30)
    turn = ortho_group.rvs(8, random_state=seed)
    for measure in (mean_cosine_distance, vendi_score):
        assert measure(u[order]) == pytest.approx(measure(u))
        assert measure(u @ turn) == pytest.approx(measure(u))
    for cosine in (False, True):
        value = centroid_distance(u, label, items=item, cosine=cosine)
        again = centroid_distance(u[order], label[order], items=item[order], cosine=cosine)
        turned = centroid_distance(u @ turn, label, items=item, cosine=cosine)
        assert (again, turned) == pytest.approx((value, value))


@pytest.mark.parametrize(
    ("measure", "vectors", "message"),
    [
        (mean_cosine_distance, EYE[:1], "MCD needs at least 2 texts; here are 1"),
        (mean_cosine_distance, EYE[:0], "at least 2 texts; here are 0"),
        (mean_cosine_distance, np.array([]), "here are 0"),
        (cluster_entropy, EYE, "CE needs at least 5 texts; here are 4"),
        (near_duplicates, EYE[:1], "at least 2 texts"),
        (vendi_score, EYE[:0], "at least 1 texts"),
        (mean_cosine_distance, EYE * 2, "not of length 1"),
        (vendi_score, EYE * np.nan, "not finite"),
    ],
)
def test_what_is_undefined_is_refused(measure, vectors, message):
    with pytest.raises(KitError, match=message):
        measure(vectors)


# --- tables ----------------------------------------------------------------------------------


@pytest.fixture
def corpus():
    """Crossed: 40 scenes speak in three emotions; age moves the texts, the dice do not."""
    rng = np.random.default_rng(0)
    scene, emotion = np.divmod(np.arange(120), 3)
    age = np.where(scene % 4 == 0, "old", "young")
    x = rng.normal(size=(120, 20)) + 3 * np.eye(20)[emotion] + 2 * np.eye(20)[10 + (age == "old")]
    texts = pd.DataFrame(
        {
            "text": [
                f"text {w} of {s}" for w, s in zip(rng.integers(99, size=120), scene, strict=True)
            ],
            "emotion": np.array(["joy", "fear", "anger"])[emotion],
            "item": scene,
            "age": age,
            "dice": rng.integers(6, size=120)[scene],
        }
    )
    return texts, x / np.linalg.norm(x, axis=1, keepdims=True)


def test_the_table_holds_the_measures_with_n_and_interval(corpus):
    texts, u = corpus
    table = diversity_table(texts, u, clusterings=3)
    joy = table[table.emotion == "joy"].set_index("metric")
    at = (texts.emotion == "joy").to_numpy()
    assert joy.loc["MCD", "value"] == mean_cosine_distance(u[at])
    assert joy.loc["Vendi score", "value"] == vendi_score(u[at])
    assert joy.loc["distinct-2", "value"] == distinct_2(texts.text[at])
    assert joy.loc["near-duplicates", "value"] == near_duplicates(u[at])
    assert (joy.n == 40).all()
    cd = table[table.metric == "CD"].iloc[0]
    assert cd.value == centroid_distance(u, texts.emotion, items=texts.item)
    assert (cd.n, cd.interval) == (120, "jackknife")
    assert pd.isna(cd.emotion)
    assert set(table.interval[table.metric.str.startswith("CE")]) == {"clusterings"}
    assert (table.low <= table.value).all()
    assert (table.value <= table.high).all()
    assert table.high[table.metric == "near-duplicates"].tolist() == [3 / 40] * 3


def test_the_jackknife_of_near_duplicates_is_the_slow_one(corpus):
    texts, u = corpus
    u = u.copy()
    u[3::12] = u[0::12][: len(u[3::12])]  # some scenes repeat the scene before in joy
    table = diversity_table(texts, u, clusterings=1).set_index(["metric", "emotion"])
    at = np.flatnonzero(texts.emotion == "joy")
    slow = jackknife(lambda kept: near_duplicates(u[at][kept]), texts.item[at].to_numpy())
    row = table.loc[("near-duplicates", "joy")]
    assert 0 < row.value < 1
    assert (row.value, row.error) == pytest.approx((slow.value, slow.error))


def test_an_own_corpus_without_scenes_has_a_table(corpus):
    texts, u = corpus
    table = diversity_table(texts[["text", "emotion"]], u, clusterings=1)
    assert len(table) == 3 * 6 + 2


def test_small_groups_come_with_n_and_no_value(corpus):
    texts, u = corpus
    table = diversity_by(texts, u, by="age", least=20)
    old = table[table.group == "old"]
    assert len(old) == 1
    assert old.value.isna().all()
    assert old.n.tolist() == [30]
    young = table[(table.group == "young") & (table.metric == "MCD")].iloc[0]
    parts = [u[(texts.age == "young") & (texts.emotion == e)] for e in ("joy", "fear", "anger")]
    assert young.value == pytest.approx(np.mean([mean_cosine_distance(x) for x in parts]))


def test_groups_are_compared_at_equal_n(corpus):
    texts, u = corpus
    table = diversity_by(texts, u, by="age", least=5).set_index(["metric", "group"])
    assert table.loc[("MCD", "young"), "n"] == 90
    for metric in ("Vendi score", "distinct-2", "near-duplicates"):
        assert table.loc[metric, "n"].tolist() == [30, 30]


def test_what_moves_texts_has_a_share_of_the_diversity(corpus):
    texts, u = corpus
    table = diversity_sources(texts, u, columns=["dice", "age"]).set_index("group")
    assert table.index[0] == "age"
    assert table.loc["age", "low"] > 0.02
    assert table.loc["dice", "low"] < 0 < table.loc["dice", "high"]
    parts = [(u[texts.emotion == e], texts.age[texts.emotion == e]) for e in texts.emotion.unique()]
    within = []
    for x, age in parts:
        age = age.tolist()
        pairs = itertools.combinations(range(len(x)), 2)
        within.append(np.mean([1 - x[i] @ x[j] for i, j in pairs if age[i] == age[j]]))
    overall = np.mean([mean_cosine_distance(x) for x, _ in parts])
    assert table.loc["age", "value"] == pytest.approx(1 - np.mean(within) / overall)


def test_tables_refuse_what_does_not_fit(corpus):
    texts, u = corpus
    with pytest.raises(KitError, match="no column 'emotion'; they have text"):
        diversity_table(texts[["text"]], u)
    with pytest.raises(KitError, match="120 texts came with 119 vectors"):
        diversity_table(texts, u[1:])
    few = texts.assign(emotion=["rare"] * 3 + texts.emotion.tolist()[3:])
    with pytest.raises(KitError, match="of 'rare' needs at least 5 texts; here are 3"):
        diversity_table(few, u, clusterings=1)
    with pytest.raises(KitError, match="no column 'shoe'"):
        diversity_by(texts, u, by="shoe")
    with pytest.raises(KitError, match="no group of 'dice' has 30"):
        diversity_by(texts, u, by="dice", least=30)
    with pytest.raises(KitError, match="every text has a 'item' of its own"):
        diversity_sources(texts, u, columns=["item"])


def test_the_jackknife_of_mcd_and_cd_covers_the_truth():
    """A population of scenes, crossed; intervals of samples of 80 scenes hold its true values."""
    rng = np.random.default_rng(5)

    def draw(scenes):
        shared = rng.normal(size=(scenes, 1, 10))
        x = 0.7 * shared + rng.normal(size=(scenes, 2, 10)) + 1.2 * np.eye(10)[:2]
        return (x / np.linalg.norm(x, axis=2, keepdims=True)).reshape(-1, 10)

    def measure(u, item):
        label = np.resize(["a", "b"], len(u))
        return mean_cosine_distance(u[::2]), centroid_distance(u, label, items=item)

    truth = measure(draw(60_000), np.repeat(np.arange(60_000), 2))
    label, item, inside = np.resize(["a", "b"], 160), np.repeat(np.arange(80), 2), [0, 0]
    for _ in range(200):
        u = draw(80)
        found = (
            jackknife(lambda kept, x=u[::2]: mean_cosine_distance(x[kept]), range(80)),
            jackknife(lambda k, x=u: centroid_distance(x[k], label[k], items=item[k]), item),
        )
        for k in range(2):
            inside[k] += found[k].low <= truth[k] <= found[k].high
    assert all(0.90 < share / 200 < 0.99 for share in inside)


def test_tsne_takes_a_fixed_sample_and_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(memo, "FOLDER", tmp_path)
    u = unit(90, 10)
    first = tsne(u, max_points=40)
    assert first.columns.tolist() == ["row", "x", "y"]
    assert len(first) == 40
    assert first.row.is_monotonic_increasing
    assert np.isfinite(first[["x", "y"]]).all().all()
    monkeypatch.setattr("sklearn.manifold.TSNE.fit_transform", None)  # a second fit would fail
    pd.testing.assert_frame_equal(tsne(u, max_points=40), first)


# --- gold reference --------------------------------------------------------------------------


def test_reference_values_of_the_gold_vectors():
    u, label, _ = gold_vectors("emotion", "evaluation")
    for emotion in np.unique(label):
        x = u[label == emotion]
        assert 0.77 < mean_cosine_distance(x) < 0.84
        assert 1.53 < np.mean([cluster_entropy(x, seed=s) for s in range(8)]) < np.log(5)
    assert centroid_distance(u, label) == pytest.approx(0.23, abs=0.015)


def test_reference_values_of_the_gold_texts():
    folder = Path(os.environ.get("PERSONAGEN_GOLD") or ROOT.parent / "shared" / "gold")
    file = folder / "emotion20k_train.csv"
    if not file.exists():
        pytest.skip("the gold texts are not on this machine (PERSONAGEN_GOLD names their folder)")
    texts = pd.read_csv(file).groupby("label").head(50)
    u = embed(texts["text"].tolist(), cache=None)
    values = [mean_cosine_distance(u[texts["label"] == e]) for e in texts["label"].unique()]
    assert np.mean(values) == pytest.approx(0.805, abs=0.025)
    assert centroid_distance(u, texts["label"].to_numpy()) == pytest.approx(0.23, abs=0.04)
