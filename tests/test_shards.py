"""Corpora larger than memory: written in shards, resumed, the same as in one piece."""

import asyncio

import numpy as np
import pytest
from llm_servers import Scripted, fault, ok
from test_llm import said

from personagen_utils import shards
from personagen_utils.errors import KitError
from personagen_utils.expression import EMOTIONS, express, expression_requests
from personagen_utils.llm import open_client
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import load_tables


@pytest.fixture(scope="module")
def population():
    tables = load_tables("jp")
    scenes = draw_population(tables, 30, seed=1, rules=compile_rules(tables)).dropna()
    scenes = scenes.iloc[[*range(10), *range(5)]]  # five people come twice
    return tables, scenes.reset_index(drop=True).rename_axis("item").reset_index()


@pytest.fixture
def client(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host.invalid/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    host = Scripted(lambda body, n: ok(f"I counted {len(said(body))} and {n} stars."))
    store = tmp_path / "s.sqlite"
    return open_client(backend="openai", store=store, transport=host, progress=False), host


def test_requests_are_those_of_the_corpus_in_one_piece(population, monkeypatch):
    monkeypatch.setattr(shards, "SCENES", 4)
    lazy = list(shards.corpus_requests(*population, EMOTIONS))
    whole = expression_requests(*population, EMOTIONS)
    assert [request.key for request in lazy] == [request.key for request in whole]
    assert max(request.sample for request in lazy) == 1


def test_an_interrupted_corpus_goes_on_and_equals_the_whole(population, client, tmp_path):
    (client, host), folder = client, tmp_path / "corpus"
    requests = expression_requests(*population, EMOTIONS)
    answer, host.script = host.script, lambda body, n: answer(body, n) if n <= 60 else fault(401)
    with pytest.raises(KitError, match="refused the key"):
        asyncio.run(shards.write_corpus(client, requests, folder, size=25))
    assert len(list(folder.iterdir())) == 2
    host.script = answer
    assert asyncio.run(shards.write_corpus(client, requests, folder, size=25)) == 105
    assert len(host.bodies) < 105 + 65  # what was under way when the key was refused
    sent = len(host.bodies)
    assert asyncio.run(shards.write_corpus(client, requests, folder, size=25)) == 105
    assert len(host.bodies) == sent
    whole = asyncio.run(express(client, requests))
    assert shards.read_corpus(folder, columns=list(whole)).equals(whole)


def test_vectors_lie_beside_their_texts_and_follow_them(population, client, tmp_path, monkeypatch):
    made = []

    def embed(texts, **options):
        made.append(len(texts))
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    monkeypatch.setattr(shards, "embed", embed)
    (client, _), folder = client, tmp_path / "corpus"
    with pytest.raises(KitError, match="holds no corpus"):
        shards.read_corpus(folder)
    requests = expression_requests(*population, EMOTIONS)
    asyncio.run(shards.write_corpus(client, requests, folder, size=40))
    with pytest.raises(KitError, match=r"vectors-00000\.npy is missing"):
        shards.read_vectors(folder)
    for _ in range(2):
        shards.embed_corpus(folder)
    assert made == [40, 40, 25]
    lengths = shards.read_corpus(folder)["text"].str.len()
    assert shards.read_vectors(folder)[:, 0].tolist() == lengths.tolist()
    # A corpus of other requests in the same folder takes its vectors along.
    asyncio.run(shards.write_corpus(client, requests[:40] + requests[50:70], folder, size=40))
    shards.embed_corpus(folder)
    assert made == [40, 40, 25, 20]
    assert shards.read_vectors(folder).shape == (60, 2)
