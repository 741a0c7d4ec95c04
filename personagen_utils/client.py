"""How do many requests get their replies?

First from what is on disk, then, for the rest, from the backend: thousands at once, each reply
checked as it arrives, asked again when it breaks the form, and stored within a tenth of a second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pandas as pd

from personagen_utils.chat import Check, Reply, Request, again, read_reply
from personagen_utils.costs import (
    Spending,
    Usage,
    estimate_table,
    price_of,
    require_prices,
)
from personagen_utils.errors import KitError
from personagen_utils.nearest import Assignment
from personagen_utils.pool import Gate, Stop, run_pool
from personagen_utils.replay import Recordings
from personagen_utils.sending import LIMITS, MODES, GaveUp, Sender
from personagen_utils.store import Store
from personagen_utils.tracking import Tracker, record_failures

LIVE = ("openai", "openai-batch")  # backends that spend money
OPENING = 3  # requests that may fail for good before a host that never answered is given up
GO_ON = "Run again, or pass on_error='continue' to go on without such requests."
FLUSH_SECONDS = 0.1  # a killed process loses at most the replies of this long
BOOK_SECONDS = 0.5  # between two writings of spending.json


_NUMBER = itertools.count(1)


class Client:
    """Asks many requests at once. Made by `open_client`.

    Attributes
    ----------
    outbox : dict of str to Request
        Requests without an answer, by key (backend "export").
    asked : dict of str to Request
        All requests, by key (backend "export").
    usage : Usage
        Running totals.
    """

    def __init__(
        self,
        *,
        backend: str,
        origin: str,
        store: Store,
        recordings: Recordings | None = None,
        api: Callable[..., openai.AsyncOpenAI] | None = None,
        secret: str = "",
        run_dir: Path | None = None,
        concurrency: int = 64,
        tries: int = 3,
        on_error: str = "stop",
        max_usd: float | None = None,
        progress: bool = True,
    ) -> None:
        self.backend, self.origin, self.store, self.recordings = backend, origin, store, recordings
        self.run_dir, self.concurrency, self.progress = run_dir, concurrency, progress
        self.tries = 1 if backend == "recorded" else tries  # a recording says the same each time
        self.on_error, self.max_usd = on_error, max_usd if backend in LIVE else None
        self.outbox: dict[str, Request] = {}
        self.asked: dict[str, Request] = {}
        self.usage = Usage()
        self._api, self._secret = api, secret
        self._mode, self._limit = MODES[0], LIMITS[0]
        self._gate: Gate | None = None
        self.spending = Spending(run_dir if backend in LIVE else None)
        self._earlier = 0.0  # dollars spent by others in this run folder
        self._claimed = 0.0  # dollars that this client has written down ahead of spending them
        self._name = f"{time.strftime('%Y-%m-%d %H:%M:%S')}, client {os.getpid()}.{next(_NUMBER)}"
        self._assignment = Assignment(recordings) if recordings else None

    async def ask(
        self, requests: Sequence[Request], *, check: Check | None = None, desc: str = ""
    ) -> list[Reply]:
        """Get a reply to each request; identical ones are asked once.

        Parameters
        ----------
        requests : sequence of Request
        check : callable, optional
            Given a request and the content of its reply, says what is wrong with it, or None.
            Such a reply is asked again, like one that breaks its schema, and never stored.
        desc : str
            A word for the progress bar.

        Returns
        -------
        list of Reply
            In the order of `requests`.

        Raises
        ------
        KitError
            When no further request can succeed, or the budget is spent, or (with
            ``on_error="stop"``) one request failed for good. Replies received before are stored.
        Waiting
            A KitError of the backend "openai-batch": the requests are under way, run again to
            collect the replies.
        """
        asked: dict[str, Request] = {}
        for request in requests:
            asked.setdefault(request.key, request)
        if self.max_usd is not None:
            require_prices(list(asked.values()))
        matches = self._matches(asked)
        open_to_others = asked
        if self.backend == "export":  # what is recorded does not ask what other hosts have said
            self.asked |= asked
            open_to_others = {k: r for k, r in asked.items() if self.recordings.get(k) is None}
        replies, first_try = self._stored(open_to_others, check)
        self.usage.earlier_usd += sum(map(_paid, replies.values()))
        open_ = []
        for key, request in asked.items():
            if key in replies:
                continue
            if key in matches:
                open_.append(request)
            else:
                replies[key] = self._unsent(request, check)
        tracker = Tracker(
            total=len(asked),
            done=len(replies),
            desc=desc,
            usage=self.usage,
            run_dir=self.run_dir,
            show=self.progress,
        )
        try:
            if open_:
                with tracker:
                    await self._send(
                        open_,
                        matches=matches,
                        first_try=first_try,
                        check=check,
                        replies=replies,
                        tracker=tracker,
                    )
        except Stop as fault:
            good = sum(reply.match != "failed" for reply in replies.values())
            raise KitError(f"{fault} {good} of {len(asked)} replies are here and stored.") from None
        finally:
            if self.run_dir:
                failed = [reply for reply in replies.values() if reply.match == "failed"]
                record_failures(self.run_dir, replies.keys(), failed)
        for reply in replies.values():
            self.usage.matches[reply.match] += 1
            if reply.model and reply.match != "failed":
                self.usage.models[reply.model] += 1
        return [replace(replies[request.key], request=request) for request in requests]

    def estimate(self, requests: Sequence[Request]) -> pd.DataFrame:
        """Estimate tokens and dollars of requests; nothing is sent. See `estimate_table`."""
        asked = {request.key: request for request in requests}
        answered = set(self._stored(asked, None)[0])
        seen = self.store.mean_completion()
        if self.recordings:
            seen = self.recordings.mean_completion() | seen
        if self.backend == "recorded":
            answered |= asked.keys() & self.recordings.index.keys()
        return estimate_table(
            requests,
            answered=answered,
            mean_completion=seen,
            batch=self.backend == "openai-batch",
        )

    def summary(self) -> dict[str, Any]:
        """Return what a manifest says of this client: where replies came from, and their cost."""
        usage = self.usage
        accepted = sum(usage.matches[match] for match in ("live", "exact", "nearest"))
        return {
            "backend": self.backend,
            "origin": self.origin,
            **vars(usage),
            "matches": dict(usage.matches),
            "models": dict(usage.models),
            "usd_per_accepted": (
                (usage.cost_usd + usage.earlier_usd) / accepted if accepted else None
            ),
        }

    def cost_rows(self) -> list[dict[str, Any]]:
        """Return what this client's replies have cost as tidy result rows; none if nothing.

        "usd per accepted reply" counts what was paid for the accepted ones, now or in an earlier
        run, and for replies that broke the form or got lost.
        """
        usage, summary = self.usage, self.summary()
        if not usage.cost_usd + usage.earlier_usd:
            return []
        n = usage.matches["live"]
        return [
            {"metric": "usd per accepted reply", "value": summary["usd_per_accepted"], "n": n},
            {"metric": "usd, whole run folder", "value": self.spending.total(), "n": None},
        ]

    def _matches(self, asked: Mapping[str, Request]) -> dict[str, str]:
        """Say which requests can be sent, and what a reply to each will count as."""
        if self.backend in LIVE:
            return dict.fromkeys(asked, "live")
        if self.backend == "recorded":
            served = self._assignment.assign(list(asked.values()))
            return {key: match for key, (_, match) in served.items()}
        return {}

    def _stored(
        self, asked: Mapping[str, Request], check: Check | None
    ) -> tuple[dict[str, Reply], dict[str, int]]:
        """Find what the store answers, and for the rest the first attempt it does not hold."""
        exporting = self.backend == "export"
        origins = self.store.live_origins() if exporting else [self.origin]
        match = "exact" if self.backend == "recorded" else "live"
        replies: dict[str, Reply] = {}
        first_try: dict[str, int] = {}
        for attempt in range(self.tries):
            tried = {
                again(request, attempt).key: request
                for key, request in asked.items()
                if key not in replies
            }
            for origin in origins:
                for key, answer in self.store.get_many(origin, tried).items():
                    reply = read_reply(
                        tried[key],
                        answer,
                        check,
                        match=match,
                        backend=self.backend,
                        attempts=attempt + 1,
                    )
                    if reply.match != "failed":
                        replies.setdefault(tried[key].key, reply)
                    tried.pop(key)
            for request in tried.values():
                first_try.setdefault(request.key, attempt)
        return replies, first_try

    def _unsent(self, request: Request, check: Check | None) -> Reply:
        """Answer a request that is not to be sent: from the recordings, or not at all."""
        recorded = self.recordings.get(request.key) if self.backend == "export" else None
        if recorded:
            return read_reply(request, recorded.answer, check, match="exact", backend=self.backend)
        if self.backend == "export":
            self.outbox[request.key] = request
        return Reply(request, backend=self.backend)

    async def _send(
        self,
        requests: list[Request],
        *,
        matches: Mapping[str, str],
        first_try: Mapping[str, int],
        check: Check | None,
        replies: dict[str, Reply],
        tracker: Tracker,
    ) -> None:
        """Send `requests` and put what becomes of each into `replies`."""
        if self._gate is None:
            self._earlier = self.spending.total()
        self._gate = gate = Gate(
            self.concurrency,
            max_usd=self.max_usd,
            spent=self._earlier,
            claim=self._claim if self.max_usd is not None else None,
            before=self._gate,
        )
        async with self._api(self._bodies(requests)) as api:
            sender = Sender(
                api,
                gate=gate,
                usage=self.usage,
                mode=self._mode,
                limit=self._limit,
                secret=self._secret,
                keyed=self.backend == "recorded",
            )

            async def work(request: Request) -> None:
                key = request.key
                first = first_try.get(key, self.tries)
                try:
                    replies[key] = await self._ask_one(sender, request, first, matches[key], check)
                except GaveUp as fault:
                    replies[key] = self._failed(request, str(fault), first + 1)
                    failed = [reply for reply in replies.values() if reply.match == "failed"]
                    if not gate.answered and len(failed) >= OPENING:
                        raise Stop(f"The host has answered nothing so far: {fault}.") from fault
                    if self.on_error == "stop":
                        raise Stop(f"A request failed for good: {fault}. {GO_ON}") from fault
                tracker.step()

            try:
                async with self._keeping(tracker, sender.stopping):
                    await run_pool(
                        requests,
                        work,
                        workers=self.concurrency,
                        stopping=sender.stopping,
                        opened=lambda: gate.answered,
                    )
            finally:
                self._mode, self._limit = sender.mode, sender.limit

    async def _ask_one(
        self, sender: Sender, request: Request, first: int, match: str, check: Check | None
    ) -> Reply:
        """Ask until a reply keeps the form, from attempt `first` on; store that one."""
        reply = self._failed(request, "every stored reply breaks the form", first)
        for attempt in range(first, self.tries):
            asked = again(request, attempt)
            answer = await sender.send(asked)
            reply = read_reply(
                request, answer, check, match=match, backend=self.backend, attempts=attempt + 1
            )
            if reply.match != "failed":
                if match != "nearest":
                    self.store.put(self.origin, asked, answer)
                return reply
            self.usage.malformed += 1
        return reply

    def _failed(self, request: Request, reason: str, attempts: int) -> Reply:
        return Reply(request, match="failed", backend=self.backend, error=reason, attempts=attempts)

    def _book(self) -> None:
        """Write down what this client has spent and may still spend on what is under way."""
        if self.backend in LIVE:
            self._claimed = self._gate.spent + self._gate.reserved - self._earlier
            self.spending.book(self._name, self._claimed)

    def _claim(self, usd: float) -> None:
        """Write a hundredth of the budget down before it is spent, so that no kill can hide it."""
        if usd - self._earlier > self._claimed:
            self._claimed = min(usd + self.max_usd / 100, self.max_usd) - self._earlier
            self.spending.book(self._name, self._claimed)

    def _bodies(self, requests: Sequence[Request]) -> dict[str, dict[str, Any]]:
        """Return what the recordings say to each request (nothing for a live host)."""
        if self.backend != "recorded":
            return {}
        served = self._assignment.assign(requests)
        rows = {key: self.recordings.rows[row] for key, (row, _) in served.items()}
        return {key: row.body | {"batch": row.batch} for key, row in rows.items()}

    @asynccontextmanager
    async def _keeping(self, tracker: Tracker, stopping: asyncio.Event) -> AsyncIterator[None]:
        """Write what arrives to disk, again and again, until the block ends."""
        done = asyncio.Event()

        async def keep() -> None:
            booked, last = 0.0, False
            try:
                while not last:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(done.wait(), FLUSH_SECONDS)
                    last = done.is_set()  # asked before writing: nothing arrives after it is set
                    self.store.flush()  # here: a thread would starve beside a busy event loop
                    tracker.write()
                    due = self.max_usd is None and time.monotonic() - booked > BOOK_SECONDS
                    if due or last:
                        booked = time.monotonic()
                        self._book()
            except KitError:
                stopping.set()
                raise

        keeper = asyncio.create_task(keep())
        try:
            yield
        finally:
            done.set()
            await asyncio.wait([keeper])
            keeper.result()


def _paid(reply: Reply) -> float:
    """Return what a reply did cost, by the tokens that the host counted."""
    price = price_of(reply.request.model) if reply.match == "live" else None
    if price is None:
        return 0.0
    batch = reply.batch is not None
    return price.usd(reply.prompt_tokens or 0, reply.completion_tokens or 0, batch=batch)
