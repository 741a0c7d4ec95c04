"""Which replies do we have already?

Every reply that passed its checks is one row of a SQLite file (``data/runs/responses.sqlite``,
shared by all studies). A row is found again by where it came from and by everything that shaped
it, so changing an unrelated parameter of a study costs nothing and an interrupted run goes on
where it stopped. Rows are written in small batches; what is written survives a killed process.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from personagen_utils.errors import KitError
from personagen_utils.files import open_sqlite
from personagen_utils.paths import resolve, shown

if TYPE_CHECKING:
    from personagen_utils.chat import Request

LOOKUP = 10_000  # keys per SELECT, below SQLite's limit on bound values

TABLE = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY,      -- sha256 of origin and request_key
    origin TEXT NOT NULL,      -- base_url of the host, or recorded:<fingerprint>
    request_key TEXT NOT NULL,
    kind TEXT NOT NULL,        -- text, verdict or score
    model_asked TEXT NOT NULL,
    model TEXT,                -- as reported by the reply
    content TEXT NOT NULL,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    batch TEXT,                -- which batch of a recording
    created REAL NOT NULL,     -- Unix time
    meta TEXT NOT NULL         -- JSON: method, emotion, language, item, attributes
) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a chat completion says, whoever gave it: a live host, a batch file or a recording."""

    content: str | None
    model: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    batch: str | None = None
    refusal: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Answer:
        """Read the body of a chat completion (recorded ones also name their batch).

        Raises
        ------
        ValueError
            When `body` has not the shape of a chat completion.
        """
        try:
            choice, usage = body["choices"][0], body.get("usage") or {}
            message = choice["message"]
            content = message.get("content")
            return cls(
                content=None if content is None else content.strip(),
                model=body.get("model"),
                finish_reason=choice.get("finish_reason"),
                prompt_tokens=usage.get("prompt_tokens"),
                completion_tokens=usage.get("completion_tokens"),
                batch=body.get("batch"),
                refusal=message.get("refusal"),
            )
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ValueError("not a chat completion") from error

    def problem(self, *, max_tokens: int | None = None) -> str | None:
        """Say why this is no usable reply whatever was asked, or return None."""
        if self.refusal:
            return f"the model refused: {self.refusal[:120]}"
        if self.finish_reason == "length":
            return f"cut off at max_tokens={max_tokens}" if max_tokens else "cut off at max_tokens"
        if self.finish_reason == "content_filter":
            return "stopped by the host's content filter"
        return None if self.content else "empty reply"


class Store:
    """Replies on disk, safe to share between processes.

    Parameters
    ----------
    path : str or Path
        The SQLite file; it and its folder are created when missing.

    Raises
    ------
    KitError
        When the file cannot be opened or written, or is not a SQLite file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = resolve(path)
        self._waiting: list[tuple] = []
        self._lock = threading.Lock()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise KitError(
                f"The reply store {shown(self.path)} cannot be created ({error.strerror}): "
                "choose a writable folder."
            ) from error
        with self._clear_errors():
            self._db = open_sqlite(self.path, check_same_thread=False)
            with self._db:
                self._db.execute(TABLE)

    def get_many(self, origin: str, keys: Iterable[str]) -> dict[str, Answer]:
        """Return the stored answers among `keys`, by request key."""
        by_row = {_row_key(origin, key): key for key in keys}
        rows, found = list(by_row), {}
        with self._clear_errors(), self._lock:
            for start in range(0, len(rows), LOOKUP):
                part = rows[start : start + LOOKUP]
                for row in self._db.execute(
                    "SELECT key, content, model, finish_reason, prompt_tokens, completion_tokens,"
                    f" batch FROM responses WHERE key IN ({','.join('?' * len(part))})",
                    part,
                ):
                    found[by_row[row[0]]] = Answer(*row[1:])
        return found

    def live_origins(self) -> list[str]:
        """Return where the stored replies came from, recordings left aside."""
        with self._clear_errors(), self._lock:
            rows = self._db.execute("SELECT DISTINCT origin FROM responses ORDER BY origin")
            return [row[0] for row in rows if not row[0].startswith("recorded:")]

    def mean_completion(self) -> dict[str, float]:
        """Return the mean number of tokens of the stored replies, by kind."""
        with self._clear_errors(), self._lock:
            return dict(
                self._db.execute(
                    "SELECT kind, AVG(completion_tokens) FROM responses"
                    " WHERE completion_tokens IS NOT NULL GROUP BY kind"
                )
            )

    def put(self, origin: str, request: Request, answer: Answer) -> None:
        """Queue one answer; `flush` writes it. The first answer to a request stays."""
        self._waiting.append(
            (
                _row_key(origin, request.key),
                origin,
                request.key,
                request.kind,
                request.model,
                answer.model,
                answer.content,
                answer.finish_reason,
                answer.prompt_tokens,
                answer.completion_tokens,
                answer.batch,
                time.time(),
                json.dumps(dict(request.meta), ensure_ascii=False, default=str),
            )
        )

    def flush(self) -> int:
        """Write what is queued in one transaction and return how many rows that were.

        Raises
        ------
        KitError
            When the disk is full or the file unwritable; the queue is kept, the file stays whole.
        """
        with self._lock:
            rows, self._waiting = self._waiting, []
            if rows:
                try:
                    with self._clear_errors(), self._db:
                        self._db.executemany(
                            f"INSERT OR IGNORE INTO responses VALUES ({','.join('?' * 13)})", rows
                        )
                except KitError:
                    self._waiting = rows + self._waiting
                    raise
        return len(rows)

    def close(self) -> None:
        """Write what is queued and close the file."""
        try:
            self.flush()
        finally:
            self._db.close()

    @contextmanager
    def _clear_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise KitError(
                f"The reply store {shown(self.path)} failed ({error}): every reply written so far "
                f"is kept; {_way_out(str(error))}, then run again."
            ) from error


def _row_key(origin: str, request_key: str) -> str:
    return hashlib.sha256(f"{origin}\n{request_key}".encode()).hexdigest()


def _way_out(error: str) -> str:
    if "full" in error:
        return "free some disk space"
    if "not a database" in error or "malformed" in error:
        return "move the file away so that a new one is made"
    if "locked" in error:
        return "stop the other process that is using it"
    return "make the file and its folder writable"
