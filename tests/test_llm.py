"""Requests to a model: named exactly, retried within bounds, stopped at once, paid for once."""

import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx2
import openai
import pytest
from pydantic import BaseModel, ConfigDict

from personagen_utils import client as client_module
from personagen_utils import sending, tracking
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, Request, json_schema, open_client
from personagen_utils.pool import Gate
from personagen_utils.sending import LIMITS
from personagen_utils.store import Store

sys.path.insert(0, str(Path(__file__).parent))
from llm_servers import Host, Scripted, completion, fault, ok

CANARY = "sk-canary-4f1d9c27b8e35a60"


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str
    score: int


GOOD = '{"label": "natural", "score": 3}'


def text(number: int = 0, **changes) -> Request:
    prompt = {"role": "user", "content": f"Say something glad, number {number}."}
    return replace(Request("text", (prompt,), temperature=1.2), **changes)


def verdict(number: int = 0, **changes) -> Request:
    return replace(text(number), kind="verdict", schema=Verdict, temperature=0.0, **changes)


def said(body: dict) -> str:
    return body["messages"][-1]["content"]


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://host.invalid/v1")
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.001)


@pytest.fixture
def live(tmp_path: Path):
    """Return a function that opens a client whose network is a script."""

    def open_(script, *, latency: float = 0.0, **options) -> tuple[Client, Scripted]:
        host = Scripted(script, latency)
        options = {"run_dir": tmp_path / "run", "progress": False} | options
        client = open_client(
            backend="openai", store=tmp_path / "store.sqlite", transport=host, **options
        )
        return client, host

    return open_


def ask(client: Client, requests: list[Request], **options):
    return asyncio.run(client.ask(requests, **options))


def files_hold(folder: Path, secret: str) -> list[Path]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    assert found
    return [path for path in found if secret.encode() in path.read_bytes()]


# Requests


@pytest.mark.parametrize(
    "change",
    [
        {"model": "gpt-4o"},
        {"messages": ({"role": "user", "content": "Say something else."},)},
        {"messages": ({"role": "system", "content": "Say something glad, number 0."},)},
        {"temperature": 0.7},
        {"schema": Verdict},
        {"max_tokens": 100},
        {"sample": 1},
        {"attempt": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_key_changes_with_everything_that_shapes_the_reply(change):
    assert replace(text(), **change).key != text().key


def test_key_does_not_change_with_what_is_not_sent():
    assert replace(text(), meta={"method": "other"}).key == text().key
    assert replace(text(), temperature=1).key == replace(text(), temperature=1.0).key
    assert text() == replace(text(), meta={"item": 1})
    assert len({text(), text()}) == 1


def test_key_is_the_same_on_every_machine():
    assert text().key == "b8cda3860ff7a9f07b80d7d3ab7647eb"
    assert verdict().key == "b511e9b58e70f124b76f163db8dc83dc"


def test_body_asks_for_a_strict_schema_and_no_seed():
    form = verdict().body()["response_format"]["json_schema"]
    assert form["strict"] is True
    assert form["schema"]["additionalProperties"] is False
    assert form["schema"]["required"] == ["label", "score"]
    assert set(text().body()) == {"model", "messages", "temperature", "max_completion_tokens"}


def test_loose_schemas_are_refused():
    class Loose(BaseModel):
        label: str

    class Optional(BaseModel):
        model_config = ConfigDict(extra="forbid")
        label: str = "natural"

    with pytest.raises(KitError, match="extra="):
        json_schema(Loose)
    with pytest.raises(KitError, match="optional fields"):
        json_schema(Optional)


# Faults that may pass


def drop(error: type[Exception]):
    def script(body, number):
        raise error("gone")

    return script


@pytest.mark.parametrize(
    "trouble",
    [
        lambda body, number: fault(429),
        lambda body, number: fault(429, headers={"retry-after": "0"}),
        lambda body, number: fault(408),
        lambda body, number: fault(409),
        lambda body, number: fault(500),
        lambda body, number: fault(503),
        lambda body, number: (200, {"content-type": "application/json"}, b'{"choices": [{'),
        lambda body, number: (200, {"content-type": "text/html"}, b"<html>busy</html>"),
        lambda body, number: (200, {}, {"error": {"message": "upstream"}}),
        drop(httpx2.ReadTimeout),
        drop(httpx2.ConnectTimeout),
        drop(httpx2.ConnectError),
        drop(httpx2.RemoteProtocolError),
        drop(httpx2.ReadError),
    ],
)
def test_what_may_pass_is_tried_again(live, trouble):
    client, host = live(lambda body, n: trouble(body, n) if n <= 2 else ok())
    (reply,) = ask(client, [text()])
    assert (reply.match, reply.content, reply.attempts) == ("live", "I am glad.", 1)
    assert (len(host.bodies), client.usage.retries) == (3, 2)


def test_retries_are_bounded(live):
    client, host = live(lambda body, n: fault(500))
    with pytest.raises(KitError, match="HTTP 500, 7 times in a row"):
        ask(client, [text()])
    assert len(host.bodies) == 1 + sending.RETRIES


@pytest.mark.parametrize(
    "header",
    [
        lambda: "0.4",
        lambda: format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True),
    ],
    ids=["seconds", "date"],
)
def test_retry_after_is_obeyed(live, header):
    client, _ = live(
        lambda body, n: fault(429, headers={"retry-after": header()}) if n < 2 else ok()
    )
    start = time.monotonic()
    ask(client, [text()])
    assert time.monotonic() - start > 0.35


def test_a_host_that_asks_for_an_hour_stops_the_run(live):
    client, host = live(lambda body, n: fault(429, headers={"retry-after": "3600"}))
    with pytest.raises(KitError, match="asks to wait 3600 s"):
        ask(client, [text(i) for i in range(20)])
    assert len(host.bodies) == 1


def test_pauses_double_with_jitter_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(sending, "FIRST_PAUSE", 0.5)
    for retry, longest in ((1, 0.5), (2, 1.0), (4, 4.0), (30, sending.LONGEST_PAUSE)):
        pauses = [sending.pause_before(retry) for _ in range(50)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


# Replies that break the form

BROKEN = {
    "no JSON": (ok("Well, natural I guess."), "Invalid JSON"),
    "wrong type": (ok('{"label": "natural", "score": "many"}'), "score: "),
    "missing field": (ok('{"label": "natural"}'), "score: Field required"),
    "extra field": (ok('{"label": "n", "score": 1, "why": "x"}'), "why: Extra inputs"),
    "empty": (ok(""), "empty reply"),
    "blank": (ok("  \n "), "empty reply"),
    "null": (ok(None), "empty reply"),
    "refused": (ok(None, refusal="I cannot do that."), "the model refused: I cannot"),
    "cut off": (ok(GOOD, finish_reason="length"), "cut off at max_tokens=200"),
    "filtered": (ok(GOOD, finish_reason="content_filter"), "content filter"),
}


@pytest.mark.parametrize(("broken", "reason"), BROKEN.values(), ids=BROKEN)
def test_broken_replies_are_asked_again_and_never_stored(live, broken, reason, tmp_path):
    client, host = live(lambda body, n: broken if "number 1." in said(body) else ok(GOOD))
    good, bad = ask(client, [verdict(0), verdict(1)])
    assert (good.match, good.parsed, good.attempts) == (
        "live",
        Verdict(label="natural", score=3),
        1,
    )
    assert (bad.match, bad.content, bad.parsed, bad.attempts) == ("failed", None, None, 3)
    assert reason in bad.error
    assert "\n" not in bad.error
    assert (len(host.bodies), client.usage.malformed) == (4, 3)
    (line,) = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["key"] == verdict(1).key
    # Asked again alone, it can still succeed; the good one is not paid for twice.
    client, host = live(lambda body, n: ok(GOOD))
    assert [reply.match for reply in ask(client, [verdict(0), verdict(1)])] == ["live", "live"]
    assert len(host.bodies) == 1
    assert not (tmp_path / "run" / "failures.jsonl").exists()


def test_a_reply_that_gets_better_is_kept_with_its_attempts(live):
    client, host = live(lambda body, n: ok("nonsense") if n == 1 else ok(GOOD))
    (reply,) = ask(client, [verdict()])
    assert (reply.match, reply.attempts) == ("live", 2)
    # The second time the schema stands in the prompt too: some hosts ignore response_format.
    assert "JSON schema" in said(host.bodies[1])
    (again,) = ask(live(drop(AssertionError))[0], [verdict()])
    assert (again.parsed, again.attempts) == (reply.parsed, 2)


def test_texts_are_checked_by_the_caller(live):
    def check(request, content):
        return "too long" if len(content) > 20 else None

    client, host = live(lambda body, n: ok("I am so very glad to be here." if n < 3 else "Glad."))
    first, second = ask(client, [text(0), text(1)], check=check)
    assert (first.content, first.attempts) == ("Glad.", 3)
    assert second.attempts == 1
    # A stricter check does not accept what was stored before, and asks again.
    client, host = live(lambda body, n: ok("Happy."))
    (reply,) = ask(client, [text(1)], check=lambda r, c: "no" if c == "Glad." else None)
    assert (reply.content, len(host.bodies)) == ("Happy.", 1)


def test_fenced_json_is_read(live):
    client, _ = live(lambda body, n: ok(f"```json\n{GOOD}\n```"))
    assert ask(client, [verdict()])[0].parsed == Verdict(label="natural", score=3)


# Faults that stop the run

ECHO = f"Incorrect API key provided: {CANARY[:7]}{'*' * 10}{CANARY[-4:]}. {CANARY}"
FINAL = {
    "quota": (fault(429, code="insufficient_quota", type="insufficient_quota"), "no money left"),
    "payment": (fault(402, "pay"), "no money left"),
    "key": (fault(401, ECHO, code="invalid_api_key"), "refused the key"),
    "forbidden": (fault(403, ECHO), "refused the key"),
    "model": (fault(404, f"The model `gpt-9` does not exist. {ECHO}"), "no such model"),
    "body": (fault(400, f"temperature must be below 2. {ECHO}"), "temperature must be below 2"),
}


@pytest.mark.parametrize(("answer", "reason"), FINAL.values(), ids=FINAL)
def test_what_cannot_succeed_stops_with_the_first_request(live, answer, reason, tmp_path):
    client, host = live(lambda body, n: answer)
    with pytest.raises(KitError, match=reason) as caught:
        ask(client, [text(i) for i in range(1000)])
    assert len(host.bodies) == 1
    message = str(caught.value)
    assert "\n" not in message
    assert CANARY[:7] not in message
    assert CANARY[-4:] not in message
    assert files_hold(tmp_path, CANARY) == files_hold(tmp_path, CANARY[-4:]) == []


def test_a_quota_that_runs_out_keeps_everything_received(live):
    quota = fault(429, code="insufficient_quota")
    client, host = live(lambda body, n: ok(said(body)) if n <= 150 else quota, concurrency=16)
    requests = [text(i) for i in range(1000)]
    with pytest.raises(KitError, match="150 of 1000 replies are here and stored"):
        ask(client, requests)
    assert len(host.bodies) <= 150 + 16
    client, host = live(lambda body, n: ok(said(body)))
    replies = ask(client, requests)
    assert len(host.bodies) == 850
    assert [reply.content for reply in replies] == [said(r.body()) for r in requests]


def test_scrubbing_leaves_the_rest_of_a_message():
    assert sending.scrub(f"a\nb {CANARY}, c", CANARY) == "a b [key] c"
    assert sending.scrub("model none is unknown", "none-set-key") == "model [key] is unknown"
    assert sending.scrub("model m is unknown", "") == "model m is unknown"


def reject(body, number):
    return fault(400, "prompt is too long") if "number 7." in said(body) else ok()


def test_on_error_stop_raises_after_those_under_way(live, tmp_path):
    client, host = live(reject, concurrency=4, latency=0.005)
    with pytest.raises(KitError, match="prompt is too long"):
        ask(client, [text(i) for i in range(100)])
    assert 7 < len(host.bodies) < 20
    kept = Store(tmp_path / "store.sqlite").get_many(
        client.origin, [text(i).key for i in range(100)]
    )
    assert len(kept) == len(host.bodies) - 1


def test_on_error_continue_lists_the_failed(live, tmp_path):
    client, _ = live(reject, on_error="continue")
    replies = ask(client, [text(i) for i in range(100)])
    assert Counter(reply.match for reply in replies) == {"live": 99, "failed": 1}
    assert "prompt is too long" in replies[7].error
    (line,) = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    failure = json.loads(line)
    assert failure["key"] == text(7).key
    assert said(failure["body"]) == "Say something glad, number 7."


def test_a_dead_host_is_given_up_even_with_on_error_continue(live):
    client, host = live(drop(httpx2.ConnectError), on_error="continue")
    with pytest.raises(KitError, match=r"nothing so far: connection to host\.invalid failed"):
        ask(client, [text(i) for i in range(1000)])
    assert len(host.bodies) == client_module.OPENING * (1 + sending.RETRIES)


def test_a_single_request_that_fails_for_good_may_go_on(live):
    client, _ = live(drop(httpx2.ConnectError), on_error="continue")
    (reply,) = ask(client, [text()])
    assert (reply.match, reply.attempts) == ("failed", 1)


TROUBLES = [
    lambda: fault(429),
    lambda: fault(429, headers={"retry-after": "0.01"}),
    lambda: fault(500),
    lambda: ok(""),
    lambda: ok(None, refusal="No."),
    lambda: ok(GOOD, finish_reason="length"),
    lambda: ok(GOOD, finish_reason="content_filter"),
    lambda: ok('{"label": "natural"}'),
    lambda: (200, {"content-type": "application/json"}, b'{"choi'),
    lambda: drop(httpx2.ReadTimeout)(None, None),
    lambda: drop(httpx2.RemoteProtocolError)(None, None),
]


def test_chaos_ends_with_every_request_accepted_or_listed(live, tmp_path):
    """Eleven troubles at five per cent each; more than half of all requests meet one."""
    chance = random.Random(0)

    def script(body, number):
        draw = chance.random() / 0.05
        return TROUBLES[int(draw)]() if draw < len(TROUBLES) else ok(GOOD)

    client, host = live(script, on_error="continue", tries=4)
    requests = [verdict(i) for i in range(2000)]
    replies = ask(client, requests)
    matches = Counter(reply.match for reply in replies)
    assert matches.keys() <= {"live", "failed"}
    assert matches["live"] > 1900
    assert all(reply.parsed for reply in replies if reply.match == "live")
    listed = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    failed = {reply.request.key for reply in replies if reply.match == "failed"}
    assert {json.loads(line)["key"] for line in listed} == failed
    assert len(listed) == len(failed) == matches["failed"]
    usage = client.usage
    assert usage.retries > 400
    assert usage.sent == len(host.bodies)
    given_up = sum("times in a row" in (reply.error or "") for reply in replies)
    assert usage.sent == matches["live"] + usage.malformed + usage.retries + given_up
    rows = sqlite3.connect(tmp_path / "store.sqlite").execute("SELECT COUNT(*) FROM responses")
    assert rows.fetchone() == (matches["live"],)
    # The failed alone are asked again, and in calmer weather they succeed.
    client, host = live(lambda body, n: ok(GOOD), tries=4)
    assert {reply.match for reply in ask(client, requests)} == {"live"}
    assert len(host.bodies) == matches["failed"]


def test_an_error_in_a_check_surfaces(live):
    client, _ = live(lambda body, n: ok())
    with pytest.raises(ZeroDivisionError):
        ask(client, [text(i) for i in range(50)], check=lambda request, content: 1 / 0)


# Concurrency, order, progress


def test_one_request_goes_first_and_then_no_more_than_the_limit(live):
    seen = []
    client, host = live(
        lambda body, n: seen.append(host.under_way) or ok(), latency=0.005, concurrency=8
    )
    ask(client, [text(i) for i in range(60)])
    assert seen[0] == 1
    assert host.most_under_way == 8


def test_concurrency_falls_on_429_once_a_round_trip_and_rises_again():
    gate = Gate(64)
    start = time.monotonic()
    for _ in range(10):  # ten replies to requests that were sent together
        gate.throttled(start)
    assert gate.limit == 48
    gate.throttled(time.monotonic() + 1)
    assert gate.limit == 36
    for _ in range(50):
        gate.succeeded()
    assert gate.limit == 38
    for _ in range(25 * 100):
        gate.succeeded()
    assert gate.limit == 64


def test_a_busy_host_lowers_the_limit(live):
    client, host = live(
        lambda body, n: fault(429) if host.under_way > 5 else ok(), latency=0.002, concurrency=32
    )
    replies = ask(client, [text(i) for i in range(300)])
    assert {reply.match for reply in replies} == {"live"}
    assert client._gate.limit < 16


def test_replies_come_in_order_and_equal_requests_are_asked_once(live):
    client, host = live(lambda body, n: ok(said(body)))
    requests = [text(i % 10, meta={"item": i}) for i in range(40)]
    replies = ask(client, requests)
    assert len(host.bodies) == 10
    assert [reply.content for reply in replies] == [said(r.body()) for r in requests]
    assert [reply.request.meta["item"] for reply in replies] == list(range(40))


def test_nothing_to_ask(live):
    client, host = live(lambda body, n: ok())
    assert ask(client, []) == []
    assert not host.bodies


AHEAD = {"eta_seconds", "cost_usd", "usd_to_come"}


def test_progress_file_is_there_while_asking_and_gone_after(live, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "WRITE_EVERY", 0.0)
    file, seen = tmp_path / "run" / "progress.json", []

    def script(body, number):
        if file.exists():
            seen.append(json.loads(file.read_text()))
        return ok()

    client, _ = live(script, latency=0.06, concurrency=2)
    ask(client, [text(i) for i in range(12)], desc="texts")
    assert not file.exists()
    assert seen[-1].keys() == {"desc", "done", "total", "seconds", *AHEAD}
    assert (seen[-1]["desc"], seen[-1]["total"]) == ("texts", 12)
    assert 0 < seen[-1]["done"] < 12
    assert max(state["eta_seconds"] for state in seen if state["done"]) > 0
    assert seen[-1]["cost_usd"] > 0
    assert max(state["usd_to_come"] for state in seen) > 0


# Money


def charged(body, number):
    answer = completion()
    answer["usage"] = {"prompt_tokens": 12, "completion_tokens": 150}
    return 200, {}, answer


PRICE = (12 * 0.40 + 150 * 1.60) / 1e6  # of one reply above


def test_the_budget_is_never_exceeded_and_what_was_paid_is_kept(live):
    client, host = live(charged, max_usd=20.5 * PRICE, latency=0.002)
    with pytest.raises(KitError, match="budget max_usd=") as caught:
        ask(client, [text(i) for i in range(100)])
    assert client.usage.cost_usd == pytest.approx(len(host.bodies) * PRICE)
    assert 15 * PRICE < client.usage.cost_usd <= 20.5 * PRICE
    assert f"{len(host.bodies)} of 100 replies are here and stored" in str(caught.value)
    client, host = live(charged)
    ask(client, [text(i) for i in range(100)])
    assert len(host.bodies) < 86


def test_the_budget_counts_over_several_calls(live):
    client, host = live(charged, max_usd=5.5 * PRICE)
    ask(client, [text(i) for i in range(4)])
    with pytest.raises(KitError, match="budget"):
        ask(client, [text(i) for i in range(4, 100)])
    assert len(host.bodies) <= 5


def test_replies_that_got_lost_count_against_the_budget(live):
    def script(body, number):
        if number % 2:
            raise httpx2.ReadTimeout("gone")
        return charged(body, number)

    client, host = live(script, max_usd=20 * PRICE)
    with pytest.raises(KitError, match="budget"):
        ask(client, [text(i) for i in range(100)])
    assert len(host.bodies) <= 20


def test_a_budget_needs_a_price(live):
    client, _ = live(charged, max_usd=1.0)
    with pytest.raises(KitError, match="needs a price for the model 'my-model'"):
        ask(client, [text(model="my-model")])


def test_costs_follow_the_hosts_own_counts(live):
    client, _ = live(charged)
    ask(client, [text(i) for i in range(10)])
    summary = client.summary()
    assert (summary["prompt_tokens"], summary["completion_tokens"]) == (120, 1500)
    assert summary["cost_usd"] == pytest.approx(10 * PRICE)
    assert summary["usd_per_accepted"] == pytest.approx(PRICE)
    assert summary["matches"] == {"live": 10}
    assert client.cost_rows() == [
        {"metric": "usd per accepted reply", "value": pytest.approx(PRICE), "n": 10},
        {"metric": "usd, whole run folder", "value": pytest.approx(10 * PRICE), "n": None},
    ]
    resumed, _ = live(charged)  # what an earlier process paid for counts as much
    ask(resumed, [text(i) for i in range(20)])
    assert resumed.usage.cost_usd == pytest.approx(10 * PRICE)
    assert resumed.cost_rows()[0]["value"] == pytest.approx(PRICE)
    assert resumed.cost_rows()[1]["value"] == pytest.approx(20 * PRICE)
    assert json.dumps(summary)


def test_estimate_sends_nothing_and_knows_what_is_stored(live):
    client, host = live(charged)
    ask(client, [text(i) for i in range(4)])
    table = client.estimate([text(i) for i in range(10)] + [verdict()]).set_index("kind")
    assert len(host.bodies) == 4
    assert list(table.loc["text", ["requests", "already_answered", "to_ask"]]) == [10, 4, 6]
    assert table.loc["text", "completion_tokens_estimate"] == 6 * 150
    assert table.loc["verdict", "completion_tokens_estimate"] == 200
    assert (table["usd_estimate"] < table["usd_at_most"]).all()
    assert table["usd_estimate_batch"].values == pytest.approx(table["usd_estimate"].values / 2)


# Hosts that lack something


def lacks(*modes):
    def script(body, number):
        form = body.get("response_format", {}).get("type", "none")
        if form in modes:
            return fault(
                400, f"response_format type {form} is not supported", param="response_format"
            )
        return ok(GOOD if "JSON schema" in said(body) else "nonsense")

    return script


@pytest.mark.parametrize(
    ("modes", "used"),
    [(("json_schema",), "json_object"), (("json_schema", "json_object"), "none")],
)
def test_a_host_without_json_schema_is_noticed_once(live, modes, used):
    client, host = live(lacks(*modes))
    for round_ in range(2):
        replies = ask(client, [verdict(round_ * 10 + i) for i in range(10)])
        assert {(reply.match, reply.attempts) for reply in replies} == {("live", 1)}
    forms = Counter(body.get("response_format", {}).get("type", "none") for body in host.bodies)
    assert forms == {used: 20} | dict.fromkeys(modes, 1)


def test_a_host_that_rejects_the_name_of_the_limit_gets_the_older_one(live):
    """As Mistral's does, with FastAPI's list of complaints in place of OpenAI's error."""
    complaint = [{"type": "extra_forbidden", "loc": ["body", "max_completion_tokens"]}]

    def script(body, number):
        return (422, {}, {"detail": complaint}) if "max_completion_tokens" in body else ok()

    client, host = live(script)
    for round_ in range(2):
        replies = ask(client, [text(round_ * 10 + i) for i in range(10)])
        assert {reply.match for reply in replies} == {"live"}
    assert len(host.bodies) == 21
    assert {body.get("max_tokens") for body in host.bodies[1:]} == {200}
    assert client.usage.retries == 0


def test_a_host_that_ignores_the_limit_is_noticed_by_what_it_counts(live):
    """As Ollama does: `max_completion_tokens` is accepted and has no effect."""

    def script(body, number):
        answer = completion()
        tokens = min(422, body.get("max_tokens", 422))
        answer["usage"] = {"prompt_tokens": 20, "completion_tokens": tokens}
        return 200, {}, answer

    client, host = live(script)
    ask(client, [text(i) for i in range(10)])
    limits = [LIMITS[1] in body for body in host.bodies]
    assert limits == [False] + [True] * 9


def test_a_schema_that_the_host_finds_wrong_is_not_worked_around(live):
    wrong = fault(400, "Invalid schema for response_format 'Verdict'", param="response_format")
    client, host = live(lambda body, n: wrong)
    with pytest.raises(KitError, match="Invalid schema"):
        ask(client, [verdict()])
    assert len(host.bodies) == 1


def test_a_real_host_gets_no_header_of_ours(live):
    client, host = live(lambda body, n: ok())
    ask(client, [text()])
    plain = Scripted(lambda body, n: ok())
    http = openai.DefaultAsyncHttpxClient(transport=plain)
    sdk = openai.AsyncOpenAI(api_key="x", base_url="http://host.invalid/v1", http_client=http)
    asyncio.run(sdk.chat.completions.create(**text().body()))
    assert host.headers[0].keys() <= plain.headers[0].keys() | {"x-stainless-read-timeout"}
    assert host.bodies[0] == plain.bodies[0] == text().body()


# Backends


def test_options_are_checked(tmp_path, monkeypatch):
    store = {"store": tmp_path / "s.sqlite"}
    for options, reason in [
        ({"backend": "opnai"}, "choose one of recorded, openai"),
        ({"backend": "openai-batch"}, "pass run_dir"),
        ({"on_error": "ignore"}, "'stop' or 'continue'"),
        ({"concurrency": 0}, "at least 1"),
        ({"options": {"concurrency": "64"}}, "concurrency .'64'. must be a whole number"),
        ({"options": {"ON_ERROR": "skip"}}, "'stop' or 'continue'"),
        ({"options": {"max_usd": "5"}}, "max_usd .'5'. must be a number"),
        ({"options": {"max_dollars": 5}}, "no option 'max_dollars'.*choose from max_usd"),
        ({"options": {"concurency": 5}}, "did you mean concurrency"),
    ]:
        with pytest.raises(KitError, match=reason):
            open_client(**options, **store)
    for address in ("localhost:8000/v1", "http://", "ftp://host/v1"):
        monkeypatch.setenv("OPENAI_BASE_URL", address)
        with pytest.raises(KitError, match="OPENAI_BASE_URL must look like"):
            open_client(backend="openai", **store)
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(KitError, match="needs a key"):
        open_client(backend="openai", **store)


def test_options_of_a_study_take_the_place_of_arguments(live):
    client, _ = live(lambda body, n: ok(), options={"MAX_USD": 2, "concurrency": 7, "tries": 1})
    assert (client.max_usd, client.concurrency, client.tries) == (2, 7, 1)
    assert client.on_error == "stop"


def test_a_password_in_the_address_is_not_stored(monkeypatch, live):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://me:secret-word@host.invalid/v1/")
    client, _ = live(lambda body, n: ok())
    assert client.origin == "http://host.invalid/v1"


def test_one_client_serves_several_event_loops(monkeypatch, tmp_path):
    with Host(lambda body, n: ok(said(body))) as host:
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        client = open_client(backend="openai", store=tmp_path / "s.sqlite", progress=False)
        for part in range(3):
            replies = ask(client, [text(part * 50 + i) for i in range(50)])
            assert {reply.match for reply in replies} == {"live"}
        assert len(host.bodies) == 150


# Crashes and company

CHILD = """
import asyncio, sys
sys.path.insert(0, {tests!r})
from personagen_utils.llm import open_client
from test_llm import text
first, last, concurrency = map(int, sys.argv[1:])
client = open_client(backend="openai", store={store!r}, concurrency=concurrency, progress=False)
replies = asyncio.run(client.ask([text(i) for i in range(first, last)]))
print(sum(reply.match == "live" for reply in replies))
"""


def child(store: Path, url: str, *arguments: int) -> subprocess.Popen:
    code = CHILD.format(tests=str(Path(__file__).parent), store=str(store))
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        env=os.environ | {"OPENAI_BASE_URL": url},
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_killed_run_asks_nothing_twice_that_was_stored(tmp_path, monkeypatch):
    store, total = tmp_path / "store.sqlite", 300
    with Host(lambda body, n: ok(said(body)), latency=0.02) as host:
        process = child(store, host.url, 0, total, 4)
        while len(host.bodies) < 120:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
        requests = [text(i) for i in range(total)]
        monkeypatch.setenv("OPENAI_BASE_URL", host.url)
        client = open_client(backend="openai", store=store, progress=False)
        stored = client.store.get_many(client.origin, [request.key for request in requests])
        assert len(stored) > 50
        before = len(host.bodies)
        replies = ask(client, requests)
        asked = {said(body) for body in host.bodies[before:]}
    assert len(host.bodies) - before == len(asked) == total - len(stored)
    assert not asked & {said(r.body()) for r in requests if r.key in stored}
    assert [reply.content for reply in replies] == [said(r.body()) for r in requests]
