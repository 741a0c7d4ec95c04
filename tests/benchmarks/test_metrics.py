"""Measures on 3,000 and 100,000 texts: `pytest tests/benchmarks --benchmark-only`."""

import numpy as np
import pytest

from personagen_utils import embedding
from personagen_utils.diversity import (
    centroid_distance,
    cluster_entropy,
    mean_cosine_distance,
    vendi_score,
)
from personagen_utils.diversity_tables import tsne
from personagen_utils.histograms import kl_hc, kl_hc_dimensions, prd
from personagen_utils.repetition import distinct_2, near_duplicates
from personagen_utils.scores import bootstrap_weights, classification_draws
from personagen_utils.similarity import auc, fid, kid, origin_scores

N = 100_000
SIZES = [3_000, N]


@pytest.fixture(scope="module", params=SIZES)
def vectors(request):
    return spread(request.param)


def spread(n, seed=0):
    """Spread like sentence embeddings: mean cosine about .25, a few leading directions."""
    rng = np.random.default_rng(seed)
    x = (
        rng.normal(size=(n, 384)).astype(np.float32) * np.linspace(3, 0.1, 384, dtype=np.float32)
        + 1
    )
    x[::1000] = x[1::1000]
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def once(benchmark, function, *args, **options):
    return benchmark.pedantic(function, args=args, kwargs=options, rounds=1)


def test_mcd(benchmark, vectors):
    assert 0.5 < once(benchmark, mean_cosine_distance, vectors) < 1


def test_vendi(benchmark, vectors):
    assert once(benchmark, vendi_score, vectors) > 50


def test_cd_crossed(benchmark, vectors):
    label, item = np.arange(len(vectors)) % 7, np.arange(len(vectors)) // 7
    assert once(benchmark, centroid_distance, vectors, label, items=item) < 0.05


def test_near_duplicates(benchmark, vectors):
    assert once(benchmark, near_duplicates, vectors) == pytest.approx(0.002)


def test_cluster_entropy(benchmark, vectors):
    assert once(benchmark, cluster_entropy, vectors) > 1


def test_tsne(benchmark, vectors, tmp_path, monkeypatch):
    monkeypatch.setattr("personagen_utils.memo.FOLDER", str(tmp_path))
    laid_out = once(benchmark, tsne, vectors)
    assert len(laid_out) == min(3500, len(vectors))


def test_fid(benchmark, vectors):
    assert once(benchmark, fid, vectors, spread(len(vectors), 1)) < 0.1


def test_prd(benchmark, vectors):
    assert once(benchmark, prd, vectors, spread(len(vectors), 1)).f8 > 0.9


def test_kl_hc_of_dimensions(benchmark, vectors):
    assert once(benchmark, kl_hc_dimensions, vectors, spread(len(vectors), 1))[0] < 0.01


def test_told_apart(benchmark, vectors):
    rows, gold = np.arange(len(vectors)), spread(len(vectors), 1)
    scores = once(benchmark, origin_scores, vectors, gold, rows, rows)
    assert auc(*scores) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("measure", [kid, kl_hc])
@pytest.mark.parametrize("n", [3_000, 20_000])  # over all pairs: the table compares no more
def test_measures_over_pairs(benchmark, measure, n):
    once(benchmark, measure, spread(n), spread(n, 1))


@pytest.mark.parametrize("n", SIZES)
def test_distinct_2(benchmark, n):
    words = np.random.default_rng(0).integers(5000, size=(n, 15)).astype(str)
    assert 0 < once(benchmark, distinct_2, [" ".join(line) for line in words]) < 1


def test_lookup_of_known_texts(benchmark, vectors, tmp_path, monkeypatch):
    class Encoder:
        def encode(self, texts, **_):
            return vectors[[int(text) for text in texts]]

    monkeypatch.setattr(embedding, "load_model", lambda model=None: Encoder())
    texts = [str(i) for i in range(len(vectors))]
    embedding.embed(texts, cache=tmp_path / "e.sqlite")
    found = once(benchmark, embedding.embed, texts, cache=tmp_path / "e.sqlite")
    assert np.array_equal(found, vectors)


def test_bootstrap_of_20_000_tested_texts(benchmark):
    import pandas as pd

    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.choice(list("abcdefg"), size=(20_000, 2)), columns=["truth", "predicted"]
    )

    def run():
        weights = bootstrap_weights(np.arange(20_000), draws=1000)
        return classification_draws(table, weights, labels=list("abcdefg"))

    assert once(benchmark, run)["accuracy"].shape == (1001,)
