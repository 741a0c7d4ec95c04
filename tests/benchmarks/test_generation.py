"""Sampling, store, generation and embedding: `pytest tests/benchmarks --benchmark-only`."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import openai
import pytest

from personagen_utils.chat import Request
from personagen_utils.embedding import embed
from personagen_utils.llm import open_client
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.store import Answer, Store
from personagen_utils.tables import load_tables

N, CONCURRENCY = 3500, 64
SERVER = Path(__file__).parents[1] / "llm_servers.py"


def once(benchmark, function, *args, **options):
    return benchmark.pedantic(function, args=args, kwargs=options, rounds=1)


def requests(n: int) -> list[Request]:
    """Return requests as large as those of the kit: 400 characters of system and of user prompt."""
    meta = {"method": "PersonaGen", "emotion": "joy", "language": "English"}
    meta["attributes"] = {f"attribute_{k}": "value" for k in range(19)}
    return [
        Request(
            "text",
            (
                {"role": "system", "content": "x" * 400},
                {"role": "user", "content": f"Number {i}. {'y' * 400}"},
            ),
            temperature=1.2,
            meta=meta,
        )
        for i in range(n)
    ]


@pytest.mark.parametrize("n", [10_000, 1_000_000])
def test_people_with_scenes(benchmark, n):
    tables = load_tables("jp")
    rules = compile_rules(tables)
    assert len(once(benchmark, draw_population, tables, n, seed=0, rules=rules)) == n


def test_store_writes_100_000(benchmark, tmp_path):
    store, asked = Store(tmp_path / "s.sqlite"), requests(100_000)
    answer = Answer("A text of two sentences. It is not long.", "m", "stop", 300, 30)

    def write() -> None:
        for number, request in enumerate(asked):
            store.put("http://host/v1", request, answer)
            if number % 50 == 0:  # what arrives within a tenth of a second
                store.flush()
        store.close()

    once(benchmark, write)


def test_store_finds_100_000(benchmark, tmp_path):
    store, asked = Store(tmp_path / "s.sqlite"), requests(100_000)
    for request in asked:
        store.put("http://host/v1", request, Answer("A text."))
    store.flush()
    keys = [request.key for request in asked]
    assert len(once(benchmark, store.get_many, "http://host/v1", keys)) == 100_000


@pytest.fixture
def serve(monkeypatch):
    """Return a function that starts a local host with a latency in a process of its own."""
    processes = []

    def start(latency: float) -> str:
        command = [sys.executable, str(SERVER), str(latency)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        processes.append(process)
        url = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        monkeypatch.setenv("OPENAI_BASE_URL", url)
        return url

    yield start
    for process in processes:
        process.stdin.close()
        process.wait()


@pytest.mark.parametrize(("latency", "most"), [(0.2, 1.2), (1.0, 1.08)])
def test_generation_with_everything_stored(benchmark, serve, tmp_path, latency, most):
    serve(latency)
    client = open_client(
        backend="openai", store=tmp_path / "s.sqlite", run_dir=tmp_path, progress=True
    )
    asked = requests(N)
    start = time.perf_counter()
    replies = once(benchmark, lambda: asyncio.run(client.ask(asked, desc="texts")))
    ratio = (time.perf_counter() - start) / (N / CONCURRENCY * latency)
    benchmark.extra_info["times the latency bound"] = round(ratio, 3)
    print(f"\n{latency} s: {ratio:.3f} times the latency bound")
    assert {reply.match for reply in replies} == {"live"}
    start = time.perf_counter()
    warm = open_client(backend="openai", store=tmp_path / "s.sqlite", progress=False)
    asyncio.run(warm.ask(asked))
    seconds = time.perf_counter() - start
    print(f"warm: {seconds:.2f} s")
    assert seconds < 1
    assert ratio < most


@pytest.mark.parametrize("latency", [0.2, 1.0])
def test_bare_sdk(benchmark, serve, latency):
    """What the SDK alone takes for the same requests, nothing stored."""
    url = serve(latency)

    async def ask() -> None:
        gate = asyncio.Semaphore(CONCURRENCY)
        async with openai.AsyncOpenAI(api_key="none", base_url=url) as api:

            async def one(request: Request) -> None:
                async with gate:
                    await api.chat.completions.create(**request.body())

            await asyncio.gather(*(one(request) for request in requests(N)))

    start = time.perf_counter()
    once(benchmark, lambda: asyncio.run(ask()))
    ratio = (time.perf_counter() - start) / (N / CONCURRENCY * latency)
    print(f"\n{latency} s: {ratio:.3f} times the latency bound")


def test_embedding_of_1_000_texts(benchmark):
    texts = [f"I walked home after shift number {i}. My hands were cold." for i in range(1000)]
    embed(texts[:8], cache=None)
    assert len(once(benchmark, embed, texts, cache=None)) == 1000
