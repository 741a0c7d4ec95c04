"""How far are the requests, what have they cost, and which of them failed?

The answers for a person at a notebook (a progress bar), for a headless runner (``progress.json``
in the run folder, twice a second, gone at the end) and for whoever looks afterwards
(``failures.jsonl``, one line per failed request with the reason).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personagen_utils.costs import Usage
from personagen_utils.files import write_atomic

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # without ipywidgets tqdm draws its plain bar and warns
    from tqdm.auto import tqdm

if TYPE_CHECKING:
    from personagen_utils.chat import Reply

PROGRESS, FAILURES = "progress.json", "failures.jsonl"
WRITE_EVERY = 0.5  # seconds between two writings of progress.json


class Tracker:
    """Counts the replies of one call to ``Client.ask``; use it as a context.

    Parameters
    ----------
    total : int
        Replies that are wanted.
    done : int
        Replies that were there already.
    desc : str
        What is being asked, for example ``"texts"``.
    usage : Usage
        Where the dollars are counted.
    run_dir : Path, optional
        Where progress.json goes.
    show : bool
        Draw a bar.
    """

    def __init__(
        self,
        *,
        total: int,
        done: int,
        desc: str,
        usage: Usage,
        run_dir: Path | None = None,
        show: bool = True,
    ) -> None:
        self.total, self.already, self.done, self.desc = total, done, done, desc
        self.usage, self.start, self._written = usage, time.monotonic(), 0.0
        self._cost_before = usage.cost_usd
        self._file = run_dir / PROGRESS if run_dir else None
        self._bar = tqdm(
            total=total, initial=done, desc=desc or None, disable=not show, unit="reply", delay=0.3
        )

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
        if self._file:
            self._file.unlink(missing_ok=True)

    def step(self) -> None:
        """Count one more reply."""
        self.done += 1
        self._bar.update()

    def state(self) -> dict[str, Any]:
        """Return what progress.json holds."""
        seconds, new = time.monotonic() - self.start, self.done - self.already
        left = seconds / new * (self.total - self.done) if new else None
        return {
            "desc": self.desc,
            "done": self.done,
            "total": self.total,
            "seconds": round(seconds, 1),
            "eta_seconds": None if left is None else round(left, 1),
            "cost_usd": round(self.usage.cost_usd, 6),
            "usd_to_come": round(self.usd_to_come(), 6),
        }

    def usd_to_come(self) -> float:
        """Return what the open replies will cost if they cost as much as those of this call."""
        new = self.done - self.already
        cost = self.usage.cost_usd - self._cost_before
        return cost / new * (self.total - self.done) if new else 0.0

    def write(self) -> None:
        """Bring the cost in the bar and progress.json up to date, twice a second at most."""
        if time.monotonic() - self._written < WRITE_EVERY:
            return
        self._written, cost = time.monotonic(), self.usage.cost_usd - self._cost_before
        if cost and self.done > self.already:
            left = self.usd_to_come()
            self._bar.set_postfix_str(f"${cost:.2f}, ${left:.2f} to come", refresh=False)
        if self._file:
            write_atomic(self._file, json.dumps(self.state()).encode())


def record_failures(run_dir: Path, asked: Collection[str], failed: Iterable[Reply]) -> None:
    """Bring failures.jsonl up to date after asking.

    Parameters
    ----------
    run_dir : Path
        The run folder.
    asked : collection of str
        Keys of all requests that now have a reply; what the file said of them is replaced.
    failed : iterable of Reply
        Those that ended without an answer.
    """
    path = run_dir / FAILURES
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    lines = [line for line in before if json.loads(line)["key"] not in asked]
    for reply in failed:
        schema = reply.request.schema
        row = {
            "key": reply.request.key,
            "kind": reply.request.kind,
            "reason": reply.error,
            "attempts": reply.attempts,
            "backend": reply.backend,
            "sample": reply.request.sample,
            "schema": schema and f"{schema.__module__}:{schema.__qualname__}",
            "meta": dict(reply.request.meta),
            "body": reply.request.body(),
        }
        lines.append(json.dumps(row, ensure_ascii=False, default=str))
    if lines:
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode())
    elif before:
        path.unlink()
