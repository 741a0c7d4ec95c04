"""Which recorded text stands in for one that was never recorded?

Another seed or a reader's own persona asks for texts that no recording holds. The closest one
answers: same method, language and emotion, fewest differing attributes. Nothing is used twice, and
all texts are assigned in order before anything is sent, so that it cannot matter which is first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from personagen_utils.errors import KitError

if TYPE_CHECKING:
    from personagen_utils.chat import Request
    from personagen_utils.replay import Recordings

POOL = ("method", "language", "emotion")
ABSENT, UNKNOWN = -1, -2  # codes of an attribute a row has not, of a value no row has


class Assignment:
    """Who answers what, for the life of one client.

    Parameters
    ----------
    recordings : Recordings
    """

    def __init__(self, recordings: Recordings) -> None:
        self.recordings = recordings
        self._used = np.zeros(len(recordings.rows), dtype=bool)
        self._given: dict[str, tuple[int, str]] = {}
        self._pools: dict[tuple, _Pool] | None = None

    def assign(self, requests: Sequence[Request]) -> dict[str, tuple[int, str]]:
        """Find the recorded reply of each request.

        Parameters
        ----------
        requests : sequence of Request
            In the order in which they choose. Exact matches are served before all others.

        Returns
        -------
        dict
            Request key to (index in ``recordings.rows``, "exact" or "nearest"). Verdicts and
            scores that were not recorded are left out.

        Raises
        ------
        KitError
            When a text has no recorded neighbour left.
        """
        for request in requests:
            row = self.recordings.index.get(request.key)
            if row is not None:
                self._given[request.key] = (row, "exact")
                self._used[row] = True
        for request in requests:
            if request.kind == "text" and request.key not in self._given:
                self._given[request.key] = (self._nearest(request), "nearest")
        return {r.key: self._given[r.key] for r in requests if r.key in self._given}

    def _nearest(self, request: Request) -> int:
        if self._pools is None:
            self._pools = _pools(self.recordings)
        names = tuple(request.meta.get(name) for name in POOL)
        pool = self._pools.get(names)
        row = pool.closest(request.meta.get("attributes") or {}, self._used) if pool else None
        if row is None:
            left = (
                "No recorded text" if pool is None else f"None of {len(pool.rows)} recorded texts"
            )
            said = ", ".join(f"{name} {value}" for name, value in zip(POOL, names, strict=True))
            raise KitError(
                f"{left} is left for {said}: ask for fewer texts, or for new ones from a live host "
                "(backend 'openai'), or export the requests and import the answers."
            )
        self._used[row] = True
        return row


class _Pool:
    """Recorded texts of one method, language and emotion, their attributes as numbers."""

    def __init__(self, rows: list[int], attributes: list[dict[str, str]]) -> None:
        self.rows = np.array(rows)
        self.names = sorted({name for one in attributes for name in one})
        self.values: list[dict[str, int]] = [{} for _ in self.names]
        self.codes = np.array(  # shape (rows, names)
            [
                [
                    codes.setdefault(one[name], len(codes)) if name in one else ABSENT
                    for name, codes in zip(self.names, self.values, strict=True)
                ]
                for one in attributes
            ],
            dtype=np.int32,
        ).reshape(len(rows), len(self.names))

    def closest(self, attributes: dict[str, str], used: np.ndarray) -> int | None:
        """Return the unused row with the fewest differing attributes, the earliest of equals."""
        asked = np.array(
            [
                codes.get(attributes[name], UNKNOWN) if name in attributes else ABSENT
                for name, codes in zip(self.names, self.values, strict=True)
            ],
            dtype=np.int32,
        )
        differing = (self.codes != asked).sum(axis=1)
        differing[used[self.rows]] = len(self.names) + 1
        best = int(differing.argmin())
        return None if differing[best] > len(self.names) else int(self.rows[best])


def _pools(recordings: Recordings) -> dict[tuple, _Pool]:
    """Group the recorded texts by what a neighbour must share."""
    members: dict[tuple, list[int]] = {}
    for index, row in enumerate(recordings.rows):
        if row.note["kind"] == "text":
            members.setdefault(tuple(row.note.get(name) for name in POOL), []).append(index)
    return {
        names: _Pool(rows, [recordings.rows[row].note.get("attributes") or {} for row in rows])
        for names, rows in members.items()
    }
