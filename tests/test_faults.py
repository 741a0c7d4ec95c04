"""What the language-model layer survives: kills, full disks, revoked keys, spent budgets."""

import json
import multiprocessing
import os
import random
import sqlite3
import time
from pathlib import Path

import httpx2
import pytest
from killed_study import STAGES, answer, study
from llm_servers import Host, Scripted, completion, fault, ok
from test_llm import CANARY, TROUBLES, ask, child, said, text, verdict

from personagen_utils import sending
from personagen_utils.errors import KitError
from personagen_utils.llm import open_client
from personagen_utils.runs import open_run
from personagen_utils.store import Store

KILLS = int(os.environ.get("PERSONAGEN_KILLS", "3"))  # 20 for the full measure


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host.invalid/v1")
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.001)


def test_a_study_killed_again_and_again_equals_the_uninterrupted_one(tmp_path):
    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload(["killed_study"])
    chance, kills, whole, killed = random.Random(3), 0, tmp_path / "whole", tmp_path / "killed"
    with Host(answer, latency=0.02) as host:
        process = start.Process(target=study, args=(str(whole), host.url))
        process.start()
        process.join()
        asked = len(host.bodies)
        while not (killed / "done").exists():
            process = start.Process(target=study, args=(str(killed), host.url))
            process.start()
            if kills < KILLS:
                while not killed.exists() and process.is_alive():
                    time.sleep(0.001)  # the time that starting takes proves nothing
                process.join(chance.uniform(0.05, 4.0 / KILLS))
                kills += process.is_alive()
                process.kill()
            process.join()
        again = len(host.bodies) - asked
        charged = again * (20 * 0.40 + 5 * 1.60) / 1e6
    booked = json.loads((killed / "spending.json").read_text()).values()
    assert sum(booked) >= charged  # what a kill cut off was written down before it was sent
    assert kills == KILLS
    for stage in STAGES:
        frames = [open_run(folder).read_stage(stage) for folder in (whole, killed)]
        assert len(frames[0]) >= 12
        assert frames[0].equals(frames[1])
    # What was under way when a kill came, or arrived within a tenth of a second, is asked again.
    assert again <= asked + kills * (4 + 4 * 6)
    check = sqlite3.connect(killed / "responses.sqlite").execute("PRAGMA integrity_check")
    assert check.fetchone() == ("ok",)


def test_two_processes_on_one_store_for_a_thousand_overlapping_requests(tmp_path):
    store = tmp_path / "store.sqlite"
    with Host(lambda body, n: ok(said(body)), latency=0.01) as host:
        pair = [child(store, host.url, 0, 1000, 32) for _ in range(2)]
        assert [process.communicate(timeout=60)[0].strip() for process in pair] == ["1000"] * 2
    found = Store(store).get_many(host.url, [text(i).key for i in range(1000)])
    assert [found[text(i).key].content for i in range(1000)] == [
        said(text(i).body()) for i in range(1000)
    ]
    db = sqlite3.connect(store)
    assert db.execute("SELECT COUNT(*) FROM responses").fetchone() == (1000,)
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def opened(tmp_path: Path, script, *, latency: float = 0.0, **options):
    host = Scripted(script, latency)
    options = {"run_dir": tmp_path / "run", "progress": False} | options
    store = tmp_path / "store.sqlite"
    return open_client(backend="openai", store=store, transport=host, **options), host


def test_a_key_that_is_revoked_stops_the_run_and_keeps_what_was_received(tmp_path):
    revoked = fault(401, f"Key {CANARY} was revoked")
    client, host = opened(
        tmp_path, lambda body, n: ok(said(body)) if n <= 150 else revoked, concurrency=16
    )
    requests = [text(i) for i in range(1000)]
    with pytest.raises(KitError, match=r"refused the key.*150 of 1000 replies are here") as caught:
        ask(client, requests)
    assert CANARY not in str(caught.value)
    assert len(host.bodies) <= 150 + 16
    client, host = opened(tmp_path, lambda body, n: ok(said(body)))
    assert {reply.match for reply in ask(client, requests)} == {"live"}
    assert len(host.bodies) == 850


def test_a_disk_that_fills_up_stops_the_run_and_keeps_what_was_written(tmp_path):
    client, host = opened(
        tmp_path, lambda body, n: ok(said(body) * 200), concurrency=8, latency=0.001
    )
    pages = client.store._db.execute("PRAGMA page_count").fetchone()[0]
    client.store._db.execute(f"PRAGMA max_page_count={pages + 1500}")
    requests = [text(i) for i in range(3000)]
    with pytest.raises(KitError, match=r"disk is full.*free some disk space") as caught:
        ask(client, requests)
    assert "\n" not in str(caught.value)
    sent = len(host.bodies)
    assert sent < 3000
    client, host = opened(tmp_path, lambda body, n: ok(said(body) * 200))
    kept = client.store.get_many(client.origin, [request.key for request in requests])
    assert len(kept) > 50
    assert {reply.match for reply in ask(client, requests)} == {"live"}
    assert len(host.bodies) == 3000 - len(kept)


def test_the_cap_is_never_exceeded_in_a_storm_of_faults_and_restarts(tmp_path):
    """The host charges every reply that it wrote, also those that never arrived."""
    chance, charged = random.Random(5), []

    def script(body, number):
        draw = chance.random() / 0.05
        if draw < 7:
            status, headers, reply = TROUBLES[int(draw)]()
            if status == 200:
                charged.append((20 * 0.40 + 5 * 1.60) / 1e6)
            return status, headers, reply
        tokens = chance.randint(20, 200)
        charged.append((20 * 0.40 + tokens * 1.60) / 1e6)
        if draw < 9:
            raise httpx2.ReadTimeout("gone")
        reply = completion('{"label": "natural", "score": 3}')
        return 200, {}, reply | {"usage": {"prompt_tokens": 20, "completion_tokens": tokens}}

    cap, stops = 0.02, 0
    for _ in range(4):
        client, _ = opened(
            tmp_path, script, max_usd=cap, on_error="continue", tries=4, latency=0.001
        )
        try:
            ask(client, [verdict(i) for i in range(2000)])
        except KitError as error:
            stops += "budget max_usd=0.02" in str(error)
        booked = sum(json.loads((tmp_path / "run" / "spending.json").read_text()).values())
        assert sum(charged) <= booked + 1e-9 <= cap + 1e-9
    assert stops == 4
    assert sum(charged) > 0.6 * cap  # replies that got lost count with the most they can cost
