"""Measures on 100,000 texts: `pytest tests/benchmarks --benchmark-only`."""

import numpy as np
import pytest

from personagen_utils import embedding
from personagen_utils.diversity import centroid_distance, mean_cosine_distance, vendi_score
from personagen_utils.repetition import distinct_2, near_duplicates
from personagen_utils.scores import bootstrap_weights, classification_draws

N = 100_000


@pytest.fixture(scope="module")
def vectors():
    """Spread like sentence embeddings: mean cosine about .25, a few leading directions."""
    rng = np.random.default_rng(0)
    x = (
        rng.normal(size=(N, 384)).astype(np.float32) * np.linspace(3, 0.1, 384, dtype=np.float32)
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
    label, item = np.arange(N) % 7, np.arange(N) // 7
    assert once(benchmark, centroid_distance, vectors, label, items=item) < 0.05


def test_near_duplicates(benchmark, vectors):
    assert once(benchmark, near_duplicates, vectors) == pytest.approx(0.002)


def test_distinct_2(benchmark):
    words = np.random.default_rng(0).integers(5000, size=(N, 15)).astype(str)
    assert 0 < once(benchmark, distinct_2, [" ".join(line) for line in words]) < 1


def test_lookup_of_known_texts(benchmark, vectors, tmp_path, monkeypatch):
    class Encoder:
        def encode(self, texts, **_):
            return vectors[[int(text) for text in texts]]

    monkeypatch.setattr(embedding, "load_model", lambda model=None: Encoder())
    texts = [str(i) for i in range(N)]
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
