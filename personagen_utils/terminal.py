"""How far is a run? One live line on a terminal, calm plain lines anywhere else.

Cells are counted by the runner. Texts are counted by the model client, which keeps
``progress.json`` in the run folder: ``{"desc", "done", "total", "seconds", "eta_seconds",
"cost_usd"}``.
"""

import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any, TextIO

PLAIN_EVERY = 20.0
"""Seconds between two lines about the same notebook when nobody watches a terminal."""


class Progress:
    """Shows which notebook, which cell, and how many of how many texts; use it as a context.

    Parameters
    ----------
    folder : Path
        The run folder, where the model client writes ``progress.json``.
    total : int
        How many notebooks the run has.
    stream : text file
        Where the lines go.
    """

    def __init__(self, folder: Path, total: int, stream: TextIO) -> None:
        self.folder, self.total, self.stream = folder, total, stream
        self.live = stream.isatty()
        self._where, self._cell = "", ""
        self._since = self._said = 0.0
        self._running = False
        self._stop, self._lock = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Progress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self.live and self._running:
            self.stream.write("\n")

    def start(self, index: int, name: str) -> None:
        """Begin a notebook, the `index`-th from 1."""
        with self._lock:
            self._where = f"[{index:>{len(str(self.total))}}/{self.total}] {name}"
            self._cell, self._running, self._said = "", True, time.monotonic()

    def cell(self, index: int, total: int, heading: str) -> None:
        """Begin a code cell, the `index`-th of `total`, under a heading."""
        with self._lock:
            if not self.live and not self._cell:
                self._line(self._where)
            self._cell = f"cell {index} of {total}" + (f", {heading}" if heading else "")
            self._since = time.time()
        self._show()

    def finish(self, outcome: str) -> None:
        """End the notebook with a word on it, for example ``"done in 12 s"``."""
        with self._lock:
            self._running = False
            self._line(f"{self._where}  {outcome}", last=True)

    def _watch(self) -> None:
        while not self._stop.wait(0.5):
            self._show()

    def _show(self) -> None:
        with self._lock:
            if not self._running or not self._cell:
                return
            parts = [self._cell, *texts(self.folder / "progress.json", self._since)]
            if self.live:
                self._line(" · ".join([self._where, *parts]))
            elif time.monotonic() - self._said >= PLAIN_EVERY:
                self._said = time.monotonic()
                self._line("    " + " · ".join(parts))

    def _line(self, text: str, *, last: bool = False) -> None:
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            cut = text if len(text) <= width else f"{text[: width - 1]}…"
            self.stream.write(f"\r\x1b[K{cut}" + ("\n" if last else ""))
        else:
            self.stream.write(f"{text}\n")
        self.stream.flush()


def texts(path: Path, since: float) -> list[str]:
    """Return phrases about the texts under way: how many, time left, cost; none if it is old news.

    Parameters
    ----------
    path : Path
        The client's ``progress.json``.
    since : float
        Unix time in seconds; what was written before is passed over.
    """
    try:
        if path.stat().st_mtime < since - 1:
            return []
        seen: dict[str, Any] = json.loads(path.read_text("utf-8"))
        done, total = int(seen["done"]), int(seen["total"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    parts = [f"{seen.get('desc') or 'texts'}: {done:,} of {total:,}"]
    if seen.get("eta_seconds") is not None and done < total:
        parts.append(f"{duration(seen['eta_seconds'])} left")
    if seen.get("cost_usd"):
        rest = seen.get("usd_to_come")
        parts.append(f"${seen['cost_usd']:.2f}" + (f", ${rest:.2f} to come" if rest else ""))
    return parts


def duration(seconds: float) -> str:
    """Return a time for people.

    Examples
    --------
    >>> duration(7.4), duration(95), duration(7260)
    ('7 s', '1 min 35 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
