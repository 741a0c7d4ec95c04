"""The embedding cache: each text once, unit length, safe under use; weights are the real ones."""

import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from personagen_utils import embedding
from personagen_utils.embedding import DIMENSION, check_weights, embed, model_id
from personagen_utils.errors import KitError

TEXTS = ["I passed the exam!", "I miss you so much.", "The bus leaves at nine."]


class Encoder:
    """Stands in for a model: counts what it is given and returns a vector made from the text."""

    def __init__(self):
        self.seen = []

    def encode(self, texts, **_):
        self.seen += texts
        rows = [np.random.default_rng(list(t.encode())).normal(size=DIMENSION) for t in texts]
        return np.array([row / np.linalg.norm(row) for row in rows])


@pytest.fixture
def encoder(monkeypatch):
    fake = Encoder()
    monkeypatch.setattr(embedding, "load_model", lambda model=None: fake)
    return fake


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "deep" / "embeddings.sqlite"


def test_no_text_is_embedded_twice(encoder, cache):
    first = embed([*TEXTS, TEXTS[0]], cache=cache)
    assert sorted(encoder.seen) == sorted(TEXTS)
    assert np.array_equal(first[0], first[3])
    again = embed([TEXTS[1], "A new one."], cache=cache)
    assert encoder.seen[3:] == ["A new one."]
    assert np.array_equal(again[0], first[1])


def test_rows_come_back_in_the_order_of_the_texts(encoder, cache):
    texts = [f"text number {k} " + "x" * (k % 7) for k in range(1200)]
    vectors = embed(texts, cache=cache)
    order = np.random.default_rng(0).permutation(1200)
    assert np.array_equal(embed([texts[k] for k in order], cache=cache), vectors[order])
    assert len(encoder.seen) == 1200
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1)


def test_texts_that_differ_in_anything_are_different(encoder, cache):
    texts = ["I am glad.", "i am glad.", "I am glad. ", "I am glad", "I am glad\u200b.", "嬉しい。"]
    assert len(np.unique(embed(texts, cache=cache), axis=0)) == len(texts)


def test_a_model_never_meets_the_vectors_of_another(encoder, cache, tmp_path):
    embed(TEXTS, cache=cache)
    embed(TEXTS, cache=cache, model="another/model")
    assert len(encoder.seen) == 6
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    before = model_id(folder)
    (folder / "model.safetensors").write_bytes(b"trained further")
    after = model_id(folder)
    assert after != before
    assert model_id(folder.rename(tmp_path / "renamed")) == after


def test_without_a_cache_nothing_is_kept(encoder, tmp_path):
    embed(TEXTS, cache=None)
    embed(TEXTS, cache=None)
    assert len(encoder.seen) == 6
    assert not list(tmp_path.iterdir())


def test_an_interruption_loses_one_chunk_at_most(encoder, cache, monkeypatch):
    monkeypatch.setattr(embedding, "_CHUNK", 10)
    texts = [f"text {k:02}" for k in range(35)]
    whole = encoder.encode

    def fails_late(batch, **options):
        if len(encoder.seen) >= 20:
            raise KeyboardInterrupt
        return whole(batch, **options)

    encoder.encode = fails_late
    with pytest.raises(KeyboardInterrupt):
        embed(texts, cache=cache)
    encoder.encode, encoder.seen = whole, []
    embed(texts, cache=cache)
    assert len(encoder.seen) == 15


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "no texts"),
        ("one string", "pass a list"),
        (["good", " \n"], r"text 1 .* is empty"),
        (["good", None], r"text 1 .* not a string"),
        ([float("nan")], r"text 0 .* not a string"),
    ],
)
def test_what_cannot_be_embedded_is_named(encoder, cache, texts, message):
    with pytest.raises(KitError, match=message):
        embed(texts, cache=cache)
    assert not encoder.seen


def test_a_damaged_cache_is_named(encoder, cache):
    cache.parent.mkdir()
    cache.write_bytes(b"this is not a database, it is something else entirely" * 100)
    with pytest.raises(KitError, match=r"embeddings\.sqlite.*delete it"):
        embed(TEXTS, cache=cache)


def test_vectors_that_are_not_finite_are_refused(encoder, cache):
    encoder.encode = lambda texts, **_: np.full((len(texts), DIMENSION), np.nan)
    with pytest.raises(KitError, match="not finite"):
        embed(TEXTS, cache=cache)
    assert sqlite3.connect(cache).execute("SELECT count(*) FROM vector").fetchone() == (0,)


WRITER = """
import sys, numpy as np
from personagen_utils import embedding
class Encoder:
    def encode(self, texts, **_):
        rows = [np.random.default_rng(list(t.encode())).normal(size=384) for t in texts]
        return np.array([r / np.linalg.norm(r) for r in rows])
embedding.load_model = lambda model=None: Encoder()
embedding._CHUNK = 20
for start in range(0, 200, 50):
    embedding.embed([f"text {k}" for k in range(start, start + 100)], cache=sys.argv[1])
"""


def test_processes_share_one_cache(cache):
    running = [subprocess.Popen([sys.executable, "-c", WRITER, str(cache)]) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    store = sqlite3.connect(cache)
    assert store.execute("SELECT count(*) FROM vector").fetchone() == (250,)
    assert store.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_other_weights_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"not the weights")
    with pytest.raises(KitError, match="not the published weights"):
        check_weights(file)


def test_an_unknown_model_is_named_without_waiting(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(KitError, match=r"nobody/nothing cannot be loaded .* folder"):
        embed(TEXTS, model="nobody/nothing", cache=None)


def test_the_real_model_knows_likeness_and_says_nothing(tmp_path, capfd):
    texts = ["I am so happy today!", "What a joyful day!", "The invoice is due on Friday."]
    vectors = embed(texts, cache=tmp_path / "e.sqlite")
    assert vectors.shape == (3, DIMENSION)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert capfd.readouterr() == ("", "")
    alone = embed(texts[:1], cache=None)
    assert np.allclose(alone[0], vectors[0], atol=1e-5)
    assert np.array_equal(embed(texts, model=embedding.packaged_folder(), cache=None), vectors)
