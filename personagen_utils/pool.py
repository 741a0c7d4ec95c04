"""How are thousands of requests kept under way without a flood?

A fixed number of workers takes one job after the other. Until the host has answered once there is
only one, so that a wrong key costs one request and not a thousand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import TypeVar

from personagen_utils.errors import KitError

Job = TypeVar("Job")


class Stop(KitError):
    """Nothing that is sent from now on could succeed."""


class Stopped(Exception):
    """The run is being stopped; this job was left unfinished."""


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
