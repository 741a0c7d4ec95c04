"""How does a client go by the Batch API: collect what is there, submit what is open, and stop?

The rules are those of every client (what is stored is not asked, a malformed reply is asked again
with the next attempt and never stored, a failed request is listed); only the waiting differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from personagen_utils.batches import Batches, Refused, Waiting
from personagen_utils.chat import Check, Reply, Request, again, read_reply
from personagen_utils.client import GO_ON, Client
from personagen_utils.costs import most_usd
from personagen_utils.pool import Stop, over_budget
from personagen_utils.tracking import Tracker


class BatchClient(Client):
    """A client whose requests are answered within a day, at half the price."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._batches = Batches(
            self.run_dir / "batches",
            origin=self.origin,
            usage=self.usage,
            spending=self.spending,
            secret=self._secret,
        )

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
        """Put what finished batches hold into `replies`, submit the rest, and wait by stopping."""
        batches = self._batches
        with batches.alone():
            async with self._api({}) as api:
                await batches.collect(api)
                under_way, waiting, to_ask = batches.open_keys(), 0, []
                for request in requests:
                    first = first_try.get(request.key, self.tries)
                    reply, asked = self._collected(batches, request, first, check)
                    if asked and asked.key in under_way:
                        waiting += 1
                        continue
                    replies[request.key] = reply
                    if asked:
                        to_ask.append(asked)
                self.store.flush()
                if to_ask:
                    to_ask = self._affordable(to_ask, waiting)
                    ids = await batches.submit(api, to_ask)
        if not to_ask and not waiting:
            return
        parts = []
        if to_ask:
            kind = "batch" if len(ids) == 1 else "batches"
            parts.append(f"{_requests(len(to_ask))} submitted as {kind} {', '.join(ids)}")
        if waiting:
            parts.append(f"{_requests(waiting)} under way as {batches.under_way()}")
        good = sum(reply.match == "live" for reply in replies.values())
        raise Waiting(
            f"{'; '.join(parts)}: run this cell or command again to collect "
            f"({good} of {tracker.total} replies are here and stored)."
        )

    def _collected(
        self, batches: Batches, request: Request, first: int, check: Check | None
    ) -> tuple[Reply, Request | None]:
        """Return the reply that batches gave to a request, and what is still to be asked of it."""
        reply = self._failed(request, "not asked yet", first)
        for attempt in range(first, self.tries):
            asked = again(request, attempt)
            said = batches.found(asked.key)
            if said is None:
                return reply, asked
            if isinstance(said, Refused):
                reply = self._failed(request, said.reason, attempt + 1)
                if not said.final:
                    return reply, asked
                if self.on_error == "stop":
                    raise Stop(f"A request failed for good: {said.reason}. {GO_ON}")
                return reply, None
            reply = read_reply(
                request, said, check, match="live", backend=self.backend, attempts=attempt + 1
            )
            if reply.match != "failed":
                self.store.put(self.origin, asked, said)
                return reply, None
            self.usage.malformed += 1
        return reply, None

    def _affordable(self, requests: list[Request], waiting: int) -> list[Request]:
        """Return as many of `requests` as the budget allows; none only while others are open."""
        spent, number = self.spending.total(), 0
        for request in requests:
            spent += most_usd(request, batch=True)
            if self.max_usd is not None and spent > self.max_usd:
                break
            number += 1
        if not number and not waiting:
            raise Stop(over_budget(self.max_usd, self.spending.total()))
        return requests[:number]


def _requests(n: int) -> str:
    return f"{n} request{'s' if n != 1 else ''}"
