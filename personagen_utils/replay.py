"""Which replies were recorded, and how do they reach the SDK?

A recording, ``data/recordings/NAME.jsonl.gz``, holds replies in the shape of an OpenAI Batch output
file, one line each, with a note on what the reply was for. A transport under the real SDK hands
them out, so that a recorded run goes through the same code as a live one.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from personagen_utils.costs import estimate_tokens
from personagen_utils.errors import KitError
from personagen_utils.paths import DATA, resolve, shown
from personagen_utils.store import Answer

RECORDINGS = DATA / "recordings"


@dataclass(frozen=True, slots=True)
class Recorded:
    """One recorded reply: the request's key, the chat completion, and what it was for."""

    key: str
    body: dict[str, Any]
    note: dict[str, Any]

    @property
    def batch(self) -> str | None:
        """Which batch of which recording it was written in."""
        return self.note.get("batch")

    @property
    def answer(self) -> Answer:
        """What the reply says."""
        return Answer.from_body(self.body | {"batch": self.batch})


@dataclass(frozen=True)
class Recordings:
    """All recorded replies of a folder, in the order of files and lines.

    Attributes
    ----------
    rows : list of Recorded
    index : dict of str to int
        Position in `rows` by request key.
    fingerprint : str
        16 hex digits over the files; changes when any reply does.
    """

    rows: list[Recorded]
    index: dict[str, int]
    fingerprint: str

    def get(self, key: str) -> Recorded | None:
        """Return the reply recorded for exactly this request, or None."""
        row = self.index.get(key)
        return None if row is None else self.rows[row]

    def mean_completion(self) -> dict[str, float]:
        """Return the mean estimated tokens of the recorded replies, by kind."""
        tokens: dict[str, list[int]] = {}
        for row in self.rows:
            tokens.setdefault(row.note["kind"], []).append(estimate_tokens(row.answer.content))
        return {kind: sum(counts) / len(counts) for kind, counts in tokens.items()}


class RecordedTransport(httpx2.AsyncBaseTransport):
    """Stands where the network would be under the SDK and sends nothing anywhere.

    Parameters
    ----------
    bodies : mapping of str to dict
        The chat completion of each request, with its batch, by request key.
    """

    def __init__(self, bodies: Mapping[str, dict[str, Any]]) -> None:
        self.bodies = bodies

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer with the recorded chat completion."""
        body = self.bodies[request.headers["x-personagen-key"]]
        return httpx2.Response(200, json=body, request=request)


def load_recordings(folder: str | Path = RECORDINGS) -> Recordings:
    """Read every recording of a folder.

    Parameters
    ----------
    folder : str or Path
        Holds files ``*.jsonl.gz``; a folder that does not exist holds none.

    Returns
    -------
    Recordings

    Raises
    ------
    KitError
        When a line is no recorded reply, or a request was recorded twice; names file and line.
    """
    rows: list[Recorded] = []
    index: dict[str, int] = {}
    digest = hashlib.sha256()
    for path in sorted(resolve(folder).glob("*.jsonl.gz")):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        for row, where in read_recording(path):
            if row.key in index:
                raise KitError(f"{where}: the request {row.key} is recorded twice; remove one.")
            index[row.key] = len(rows)
            rows.append(row)
    return Recordings(rows, index, digest.hexdigest()[:16])


def read_recording(path: Path) -> Iterator[tuple[Recorded, str]]:
    """Yield the replies of a recording with file:line."""
    for row, where in json_lines(path):
        try:
            body, note = row["response"]["body"], row["personagen"]
            if not isinstance(body["choices"][0]["message"]["content"], str) or "kind" not in note:
                raise ValueError
            yield Recorded(row["custom_id"], body, note), where
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise KitError(
                f"{where}: not a recorded reply (custom_id, response.body, personagen.kind)."
            ) from error


def json_lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield the objects of a JSONL file, gzipped or not, with file:line."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, gzip.BadGzipFile) as error:
        raise KitError(f"{shown(path)} is damaged ({error}): restore it.") from error
    for number, line in enumerate(data.splitlines(), 1):
        if line.strip():
            where = f"{shown(path)}:{number}"
            try:
                yield json.loads(line), where
            except ValueError as error:
                raise KitError(f"{where}: no JSON ({error}).") from error
