"""How are thousands of requests kept under way without a flood?

A fixed number of workers takes one job after the other. Until the host has answered once there is
only one, so that a wrong key costs one request and not a thousand. A gate holds them to what the
host bears and to what the budget allows.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from personagen_utils.errors import KitError

Job = TypeVar("Job")


class Stop(KitError):
    """Nothing that is sent from now on could succeed."""


class Stopped(Exception):
    """The run is being stopped; this job was left unfinished."""


class Gate:
    """How many requests may be under way, and does the next one fit the budget?

    The limit falls by a quarter when the host says 429 (once per round trip, not once per reply)
    and rises by one for every 25 successes, up to `ceiling`.

    Parameters
    ----------
    ceiling : int
        Most requests under way at once.
    max_usd : float, optional
        Dollars that may be spent. A request passes only when what was spent, what the requests
        under way can cost at most and what it can cost itself stay within.
    spent : float
        Dollars spent before.
    claim : callable, optional
        Told, before a request passes, the dollars that will have been spent at most.
    before : Gate, optional
        An earlier gate, whose limit and spending go on.
    """

    def __init__(
        self,
        ceiling: int,
        *,
        max_usd: float | None = None,
        spent: float = 0.0,
        claim: Callable[[float], None] | None = None,
        before: Gate | None = None,
    ) -> None:
        self.ceiling, self.max_usd, self._claim = ceiling, max_usd, claim
        self.limit = before.limit if before else float(ceiling)
        self.spent = before.spent if before else spent
        self.answered = before.answered if before else False
        self.under_way, self.reserved = 0, 0.0
        self._successes, self._lowered = 0, 0.0
        self._changed = asyncio.Condition()

    async def enter(self, usd: float) -> None:
        """Wait for a place; raise Stop when `usd` more would break the budget."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self.under_way < int(self.limit) and (self._fits(usd) or not self.under_way)
            )
            if not self._fits(usd):
                raise Stop(over_budget(self.max_usd, self.spent))
            if self._claim:
                self._claim(self.spent + self.reserved + usd)
            self.under_way += 1
            self.reserved += usd

    async def leave(self, reserved: float, spent: float) -> None:
        """Give the place back and book what the request did cost."""
        async with self._changed:
            self.under_way -= 1
            self.reserved -= reserved
            self.spent += spent
            self._changed.notify_all()

    def succeeded(self) -> None:
        """Count a success; every 25th raises the limit by one."""
        self.answered = True
        self._successes += 1
        if self._successes % 25 == 0:
            self.limit = min(self.ceiling, self.limit + 1)

    def throttled(self, sent: float) -> None:
        """Lower the limit for a request `sent` (``time.monotonic``) since the last lowering."""
        if sent > self._lowered:
            self.limit, self._lowered = max(1.0, self.limit * 0.75), time.monotonic()

    def _fits(self, usd: float) -> bool:
        return self.max_usd is None or self.spent + self.reserved + usd <= self.max_usd


def over_budget(max_usd: float, spent: float) -> str:
    """Say that the budget is reached."""
    return (
        f"The budget max_usd={max_usd:g} is reached ({spent:.4f} dollars spent): raise max_usd and "
        "run again, nothing is asked twice."
    )


async def run_pool(
    jobs: Iterable[Job],
    work: Callable[[Job], Awaitable[None]],
    *,
    workers: int,
    stopping: asyncio.Event,
    opened: Callable[[], bool],
) -> None:
    """Run `work` on every job, at most `workers` at once.

    Parameters
    ----------
    jobs : iterable
        Taken in order.
    work : callable
        An exception from it (other than Stopped) stops the pool: nothing new is begun, what is
        under way may finish, then the exception is raised.
    workers : int
        Most jobs at once.
    stopping : asyncio.Event
        Set when the pool stops; may be set from outside.
    opened : callable
        Tells whether the host has answered; until then one job runs at a time.
    """
    waiting, faults = iter(jobs), []

    async def worker(most: int | None = None) -> bool:
        """Work through so many jobs; tell whether there was one."""
        begun = False
        for job in islice(waiting, most):
            begun = True
            if stopping.is_set():
                break
            try:
                await work(job)
            except Stopped:
                break
            except Exception as fault:
                faults.append(fault)
                stopping.set()
        return begun

    while not opened() and not stopping.is_set() and await worker(1):
        pass
    await asyncio.gather(*(worker() for _ in range(workers)))
    if faults:
        raise faults[0]
