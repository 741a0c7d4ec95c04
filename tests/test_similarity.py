"""Distances to gold: against closed forms and scipy, blind to row order, honest intervals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from scipy.spatial.distance import cosine, pdist
from scipy.stats import entropy
from sklearn.metrics.pairwise import polynomial_kernel

from personagen_utils import similarity_table as table_module
from personagen_utils.errors import KitError
from personagen_utils.gold import gold_vectors
from personagen_utils.histograms import (
    cosine_range,
    joint_clusters,
    kl_hc,
    kl_hc_dimensions,
    prd,
    prd_of_clusters,
)
from personagen_utils.intervals import joint_jackknife
from personagen_utils.similarity import auc, fid, fid_infinity, kid, origin_scores
from personagen_utils.similarity_table import FLOOR, Vectors, similarity_table


def unit(X):
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def cloud(n, d=8, seed=0, shift=0.0):
    return unit(np.random.default_rng(seed).normal(size=(n, d)) + shift)


def exact_gaussian(mean, cov, n=200, seed=0):
    """Return rows whose sample mean and covariance are exactly these."""
    Z = np.random.default_rng(seed).normal(size=(n, len(mean)))
    Z -= Z.mean(0)
    Z = Z @ np.linalg.inv(np.linalg.cholesky(np.cov(Z.T)).T)
    return Z @ np.linalg.cholesky(cov).T + mean


# --- FID and KID -----------------------------------------------------------------------------


def test_fid_closed_form_for_commuting_gaussians():
    first, second = np.array([4.0, 1.0, 9.0]), np.array([1.0, 1.0, 16.0])
    X = exact_gaussian(np.zeros(3), np.diag(first), seed=1)
    Y = exact_gaussian(np.array([1.0, 2.0, -2.0]), np.diag(second), seed=2)
    expected = 9 + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    assert fid(X, Y) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [200, 30])  # 30 < d: singular covariances
def test_fid_against_scipy(n):
    X, Y = cloud(n, d=40, seed=1), cloud(n, d=40, seed=2, shift=0.3)
    A, B = (np.cov(Z.T.astype(float)) for Z in (X, Y))
    gap = X.mean(0, dtype=float) - Y.mean(0, dtype=float)
    expected = gap @ gap + np.trace(A + B - 2 * np.real(sqrtm(A @ B)))
    assert fid(X, Y) == pytest.approx(expected, abs=1e-5)
    assert fid(X, Y) == pytest.approx(fid(Y, X), abs=1e-6)
    assert fid(X, X) == pytest.approx(0, abs=1e-6)


def test_fid_falls_with_n_and_its_limit_does_not():
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(2, 4000, 20))
    small, large = fid(X[:400], Y[:400]), fid(X, Y)
    assert small > 5 * large
    assert abs(fid_infinity(X[:1000], Y[:1000])) < fid(X[:1000], Y[:1000]) / 4


def test_kid_against_the_definition():
    X, Y = cloud(700, seed=1), cloud(600, seed=2, shift=0.4)
    k = [polynomial_kernel(a, b, degree=3, coef0=1) for a, b in ((X, X), (Y, Y), (X, Y))]
    n, m = len(X), len(Y)
    expected = (k[0].sum() - np.trace(k[0])) / (n * (n - 1))
    expected += (k[1].sum() - np.trace(k[1])) / (m * (m - 1)) - 2 * k[2].mean()
    assert kid(X, Y) == pytest.approx(expected, rel=1e-3)
    assert kid(cloud(500, seed=3), cloud(500, seed=4)) == pytest.approx(0, abs=2e-3)


# --- PRD -------------------------------------------------------------------------------------


def modes(which, n=300, seed=0):
    """Return texts around some of ten far corners."""
    rng = np.random.default_rng(seed)
    centres = np.eye(10)[rng.choice(which, n)]
    return unit(centres + rng.normal(scale=0.02, size=(n, 10)))


def test_prd_of_equal_disjoint_and_nested_distributions():
    whole, again = modes(range(10), seed=1), modes(range(10), seed=2)
    equal = prd(whole, again, clusters=10)
    assert min(equal.f8, equal.f1_8) > 0.9
    disjoint = prd(modes(range(5)), modes(range(5, 10)), clusters=10)
    assert max(disjoint.f8, disjoint.f1_8) < 0.01
    half = modes(range(5), seed=3)
    inside = prd(half, whole, clusters=10)  # precise, misses half of gold
    assert inside.f1_8 > 0.9
    assert inside.f8 == pytest.approx(0.5, abs=0.1)
    beyond = prd(whole, half, clusters=10)  # covers gold, half of it elsewhere
    assert beyond.f8 > 0.9
    assert beyond.f1_8 == pytest.approx(0.5, abs=0.1)
    assert equal.precision.shape == equal.recall.shape == (1001,)


def test_prd_of_known_shares():
    # Shares (1/2, 1/2) against (1, 0): the curve's corner is precision 1/2, recall 1.
    found = prd_of_clusters(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 0]]), clusters=2)
    assert found.precision.max() == pytest.approx(0.5)
    assert found.recall.max() == pytest.approx(1.0)
    corner = 65 * 0.5 / (64 * 0.5 + 1)
    assert found.f8 == pytest.approx(corner, rel=1e-3)  # up to the grid of angles


def test_prd_needs_equal_n():
    with pytest.raises(KitError, match="10 and 9"):
        prd(cloud(10), cloud(9))


# --- KL and HC -------------------------------------------------------------------------------


def test_kl_and_hc_against_scipy():
    X, Y = cloud(700, seed=1, shift=0.2), cloud(650, seed=2, shift=0.3)
    cosines = [1 - pdist(Z.astype(float), "cosine") for Z in (Y, X)]
    low, high = min(c.min() for c in cosines), max(c.max() for c in cosines)
    assert cosine_range(X, Y) == pytest.approx((low, high), abs=1e-6)
    p, q = (np.histogram(c, 20, (low, high))[0].astype(float) for c in cosines)
    kl, hc = kl_hc(X, Y)
    assert kl == pytest.approx(entropy(p, q), abs=1e-4)
    assert hc == pytest.approx(1 - cosine(p, q), abs=1e-5)
    assert kl_hc(Y, Y) == pytest.approx((0, 1), abs=1e-9)


def test_dimension_version_against_scipy():
    X, Y = cloud(300, seed=1), cloud(200, seed=2, shift=0.5)
    expected = []
    for a, b in zip(X.T, Y.T, strict=True):
        span = (min(a.min(), b.min()), max(a.max(), b.max()))
        q, p = (np.histogram(v, 20, span)[0] / len(v) + 1e-3 for v in (a, b))
        expected.append((entropy(p, q), 1 - cosine(p, q)))
    assert kl_hc_dimensions(X, Y) == pytest.approx(np.mean(expected, axis=0), abs=1e-3)


def test_kl_sees_spread_and_the_dimension_version_sees_place():
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(8, 8)))[0].astype(np.float32)
    X, Y = cloud(400, seed=1, shift=0.6), cloud(400, seed=2, shift=0.6)
    assert kl_hc(X @ turn, Y)[0] == pytest.approx(kl_hc(X, Y)[0], abs=1e-3)
    assert kl_hc_dimensions(X @ turn, Y)[0] > 3 * kl_hc_dimensions(X, Y)[0]


# --- telling them apart ----------------------------------------------------------------------


def test_origin_auc():
    ids = np.arange(300)
    same = auc(*origin_scores(cloud(300, seed=1), cloud(300, seed=2), ids, ids))
    far = auc(*origin_scores(cloud(300, seed=1), cloud(300, seed=2, shift=3), ids, ids))
    assert same == pytest.approx(0.5, abs=0.08)
    assert far > 0.99


# --- the table -------------------------------------------------------------------------------


def vectors(n=60, seed=0, shift=0.0, prefix="i"):
    labels = np.repeat(["joy", "fear"], n // 2)
    items = np.array([f"{prefix}{k % (n // 2)}" for k in range(n)])
    return Vectors(cloud(n, seed=seed, shift=shift), labels, items)


@settings(max_examples=3, deadline=None)
@given(st.randoms(use_true_random=False))
def test_whole_table_is_blind_to_row_order(random):
    made, gold = vectors(seed=1, shift=0.3), vectors(seed=2, prefix="g")

    def shuffled(v):
        rows = random.sample(range(len(v.X)), len(v.X))
        return Vectors(v.X[rows], v.labels[rows], v.items[rows])

    first = similarity_table({"m": made}, gold)
    second = similarity_table({"m": shuffled(made)}, shuffled(gold))
    np.testing.assert_array_equal(first[["value", "low", "high"]], second[["value", "low", "high"]])


@settings(max_examples=10, deadline=None)
@given(st.randoms(use_true_random=False))
def test_measures_are_blind_to_row_order(random):
    X, Y = cloud(60, seed=1, shift=0.2), cloud(60, seed=2)
    rows = random.sample(range(60), 60)
    for measure in (fid, fid_infinity, kid, kl_hc, kl_hc_dimensions):
        assert measure(X[rows], Y) == pytest.approx(measure(X, Y), abs=1e-5), measure
    assert prd(X[rows], Y, clusters=5, runs=1).f8 == prd(X, Y, clusters=5, runs=1).f8


def test_table_at_equal_n_with_floor():
    made, gold = vectors(80, seed=1, shift=0.3), vectors(60, seed=2, prefix="g")
    table = similarity_table({"m": made, "other": vectors(70, seed=3)}, gold)
    assert list(table.columns) == ["metric", "method", "emotion", "value", "low", "high", "n"]
    assert table.groupby("method")["n"].unique().map(sorted).to_dict() == {
        "m": [30, 60],
        "other": [30, 60],
        FLOOR: [30],
    }
    known = table.dropna(subset=["low"])
    assert (known["low"] <= known["value"]).all()
    assert (known["value"] <= known["high"]).all()
    assert set(table[table["low"].isna()]["metric"]) == {"FID_infinity"}
    value = table.query("metric == 'FID' and method == 'm' and n == 60")["value"].item()
    assert value == pytest.approx(fid(made.first(30).X, gold.X), abs=1e-6)


def test_crossed_texts_stay_crossed():
    kept = vectors(80).first(10)
    assert (np.unique(kept.items, return_counts=True)[1] == 2).all()
    more = vectors(80).first(20)
    assert set(kept.items) < set(more.items)
    assert set(kept.items) != set(vectors(80).first(10, seed=1).items)


def test_other_emotions_or_too_few_texts_are_refused():
    gold = vectors(prefix="g")
    other = Vectors(gold.X, np.where(gold.labels == "joy", "love", "fear"), gold.items)
    with pytest.raises(KitError, match="m: has the emotions"):
        similarity_table({"m": other}, gold)
    with pytest.raises(KitError, match="between 2 and 30"):
        similarity_table({"m": vectors()}, gold, per_label=31)


@pytest.mark.parametrize("name", ["_fid", "_kid", "_prd", "_cosine", "_dimension"])
def test_a_replicate_equals_starting_again(name):
    """What is left after taking rows away is what the remaining rows alone would give."""
    X, Y = cloud(120, seed=1, shift=0.2), cloud(120, seed=2)
    statistic = getattr(table_module, f"{name}_statistic")(X, Y)
    kept, whole = np.arange(10, 120), np.arange(120)
    anew = {
        "_fid": lambda a, b: [fid(X[a], Y[b])],
        "_kid": lambda a, b: [kid(X[a], Y[b])],
    }
    if name in anew:
        for rows in ((whole, whole), (kept, whole), (whole, kept)):
            assert statistic(*rows) == pytest.approx(anew[name](*rows), rel=1e-4, abs=1e-7)
    elif name == "_prd":
        found, gold_found = joint_clusters(X, Y)
        expected = prd_of_clusters(found[:, kept], gold_found)
        assert statistic(kept, whole) == [expected.f8, expected.f1_8]
    else:  # the bins stay those of all rows: keep the rows that span them
        measure = kl_hc if name == "_cosine" else kl_hc_dimensions
        assert statistic(whole, whole) == pytest.approx(measure(X, Y), abs=1e-9)
        near = statistic(kept, whole)
        assert near == pytest.approx(measure(X[kept], Y), abs=0.1)
        assert near != statistic(whole, whole)


# --- intervals by simulation -----------------------------------------------------------------


def test_fid_interval_covers_a_known_distance():
    """Two Gaussians a shift of 2 apart: the distance is 4; scenes of 4 texts share their luck."""
    hits, runs = 0, 120
    for seed in range(runs):
        rng = np.random.default_rng(seed)
        items = np.repeat(np.arange(50), 4)
        X = rng.normal(size=(200, 2)) * 0.7 + rng.normal(size=(50, 2))[items] * 0.7 + [2, 0]
        Y = rng.normal(size=(200, 2)) * np.sqrt(0.98)
        statistic = table_module._fid_statistic(X, Y)
        found = joint_jackknife(statistic, items, np.arange(200), seed=seed)
        hits += found.low[0] <= 4 <= found.high[0]
    assert 0.88 <= hits / runs <= 1


def test_kid_interval_covers_zero_for_one_source():
    hits, runs = 0, 80
    for seed in range(runs):
        X, Y = cloud(100, seed=2 * seed), cloud(100, seed=2 * seed + 1)
        found = joint_jackknife(table_module._kid_statistic(X, Y), range(100), range(100))
        hits += found.low[0] <= 0 <= found.high[0]
    assert 0.85 <= hits / runs <= 1


# --- this corpus -----------------------------------------------------------------------------


def test_reference_values_of_the_shipped_pool():
    X, _, _ = gold_vectors(part="all")
    rows = np.random.default_rng(0).permutation(len(X))
    n = len(X) // 2
    assert fid(X[rows[:n]], X[rows[n:]]) * n == pytest.approx(87, abs=4)
    assert fid(gold_vectors("goemotions")[0], gold_vectors()[0]) == pytest.approx(0.235, abs=0.02)


def test_large_sets_are_compared_on_a_fixed_part(monkeypatch):
    monkeypatch.setattr(table_module, "MOST", 40)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    sets = [Vectors(part, np.array(["a", "b"] * 30)) for part in (x[:60], x[60:])]
    assert set(similarity_table({"m": sets[0]}, sets[1], floor=False)["n"]) == {40}
    whole = similarity_table({"m": sets[0]}, sets[1], floor=False, per_label=30)
    assert set(whole["n"]) == {60}
