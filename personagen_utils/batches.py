"""How are thousands of requests answered at half the price, within a day?

The Batch API takes a file of requests and answers it within 24 hours. What is open goes out as such
files; the ids of the jobs (``batches/jobs.json`` in the run folder) and everything fetched
(``batches/<id>.jsonl``) are kept, so that running the same cell or command again collects. Nothing
is submitted twice while a job is open, whenever the process was killed.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import filelock
import openai

from personagen_utils.costs import Spending, Usage, most_usd, price_of
from personagen_utils.errors import KitError
from personagen_utils.files import lock, write_atomic
from personagen_utils.paths import shown
from personagen_utils.pool import Stop
from personagen_utils.sending import MODES, GaveUp, body_in_mode, stop_if_final
from personagen_utils.store import Answer

if TYPE_CHECKING:
    from personagen_utils.chat import Request

URL = "/v1/chat/completions"
PER_FILE, FILE_BYTES = 50_000, 190_000_000  # the API's limits are 50,000 requests and 200 MB
RETRIES = 4  # of uploads and downloads, by the SDK with growing pauses
FINISHED = ("completed", "failed", "expired", "cancelled")
MAY_PASS = (401, 402, 403, 408, 409, 429)  # what may be mended; the other 4xx are final


class Waiting(KitError):
    """Requests are under way as a batch; run again to collect them."""


@dataclass(frozen=True)
class Refused:
    """A request of a finished job that came back without an answer; `final` if it always will."""

    reason: str
    final: bool


class Batches:
    """The jobs of one run folder at one host.

    Parameters
    ----------
    folder : Path
        ``batches`` in the run folder.
    origin : str
        Address of the host; jobs of other hosts are left alone.
    usage : Usage
        Where tokens and dollars are counted as replies are fetched.
    spending : Spending
        What the run folder has cost: the most a job can cost while it is open, then what it did.
    secret : str
        The key, which no message may show.
    """

    def __init__(
        self, folder: Path, *, origin: str, usage: Usage, spending: Spending, secret: str = ""
    ) -> None:
        self.folder, self.origin, self.secret = folder, origin, secret
        self.usage, self.spending = usage, spending
        self._jobs: list[dict[str, Any]] = []
        self._found: dict[str, Answer | Refused] = {}
        self._read: set[str] = set()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from submitting for this run folder, and read its jobs."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with lock(self.folder):
                file = self.folder / "jobs.json"
                self._jobs = json.loads(file.read_text("utf-8")) if file.exists() else []
                for job in self._own():
                    self._take_in(job)
                yield
        except filelock.Timeout as error:
            raise KitError(
                f"Another process is using {shown(self.folder)}: wait for it."
            ) from error

    def open_keys(self) -> set[str]:
        """Return the requests that are under way."""
        return {key for job in self._open() for key in job["keys"]}

    def found(self, key: str) -> Answer | Refused | None:
        """Return what a finished job said to a request."""
        return self._found.get(key)

    def under_way(self) -> str:
        """Name the open jobs and how far they are."""
        return ", ".join(
            f"{job['id']} ({job['status']}, {job['done']} of {len(job['keys'])} done)"
            for job in self._open()
        )

    async def collect(self, api: openai.AsyncOpenAI) -> None:
        """Ask after the open jobs and fetch what the finished ones hold.

        Raises
        ------
        Stop
            When the host refuses, cannot be reached, or rejected a whole file.
        """
        api = api.with_options(max_retries=RETRIES)
        for job in self._open():
            if job["id"] is None and not await self._adopt(api, job):
                continue
            way_out = f"or delete {shown(self.folder / 'jobs.json')} to submit anew"
            gone = f"knows no batch {job['id']}: use the key it was submitted with, {way_out}"
            with self._clear(gone):
                batch = await api.batches.retrieve(job["id"])
            if batch.status in FINISHED:
                data = b""
                for file in (batch.output_file_id, batch.error_file_id):
                    if file:
                        with self._clear(f"no longer has the file {file}"):
                            data += (await api.files.content(file)).content.rstrip() + b"\n"
                await asyncio.to_thread(write_atomic, self._file(job), data)
            counts = batch.request_counts
            done = counts.completed + counts.failed if counts else 0
            job |= {"status": batch.status, "done": done}
            if batch.status in FINISHED:
                self.spending.book(job["token"], self._take_in(job, fresh=True))
            self._save()
            if batch.status == "failed":
                said = "; ".join(
                    e.message or "" for e in (batch.errors and batch.errors.data) or []
                )
                raise Stop(
                    f"The host rejected the whole batch {job['id']} ({said or 'no reason given'}): "
                    f"run again to submit its {len(job['keys'])} requests anew."
                )

    async def submit(self, api: openai.AsyncOpenAI, requests: Sequence[Request]) -> list[str]:
        """Upload requests as Batch input files, at most one model a file; return the jobs' ids."""
        ids = []
        for model, part in _files(requests):
            # Written down first: a process killed between here and the host's answer finds the
            # job again by its token.
            job = {"token": f"personagen-{secrets.token_hex(8)}", "id": None, "model": model}
            job |= {"origin": self.origin, "status": "submitting", "created": time.time()}
            job |= {"done": 0, "keys": [request.key for request in part]}
            self._jobs.append(job)
            self.spending.book(job["token"], sum(most_usd(r, batch=True) for r in part))
            self._save()
            try:
                with self._clear("has no Batch API: use backend 'openai'"):
                    data = b"".join(map(_line, part))
                    patient = api.with_options(max_retries=RETRIES)
                    file = await patient.files.create(
                        file=("requests.jsonl", data), purpose="batch"
                    )
                    # Not repeated by itself: a lost answer may have left a job behind.
                    batch = await api.batches.create(
                        input_file_id=file.id,
                        endpoint=URL,
                        completion_window="24h",
                        metadata={"personagen": job["token"]},
                    )
            except Stop as fault:
                if not isinstance(fault.__cause__, openai.APIConnectionError):
                    self._drop(job)  # refused: there is certainly no such job
                raise
            job |= {"id": batch.id, "status": batch.status}
            self._save()
            self.usage.sent += len(part)
            ids.append(batch.id)
        return ids

    async def _adopt(self, api: openai.AsyncOpenAI, job: dict[str, Any]) -> bool:
        """Find the job whose id was never written down; forget it when the host has none."""
        with self._clear("has no Batch API: use backend 'openai'"):
            async for batch in api.batches.list(limit=100):
                if (batch.metadata or {}).get("personagen") == job["token"]:
                    job["id"] = batch.id
                    self._save()
                    return True
                if batch.created_at < job["created"] - 3600:  # newest first: no need to go on
                    break
        self._drop(job)
        return False

    def _drop(self, job: dict[str, Any]) -> None:
        self._jobs.remove(job)
        self.spending.book(job["token"], 0.0)
        self._save()

    def _take_in(self, job: dict[str, Any], *, fresh: bool = False) -> float:
        """Read what a finished job said, once; return what it cost in dollars."""
        file, usd, price = self._file(job), 0.0, price_of(job["model"])
        if job["token"] in self._read or job["status"] not in FINISHED or not file.exists():
            return usd
        self._read.add(job["token"])
        unanswered = Refused(f"no answer from the {job['status']} batch {job['id']}", False)
        self._found |= dict.fromkeys(job["keys"], unanswered)
        for key, said in _outcomes(file, job["id"]):
            self._found[key] = said
            if isinstance(said, Answer) and fresh:
                tokens = said.prompt_tokens or 0, said.completion_tokens or 0
                self.usage.prompt_tokens += tokens[0]
                self.usage.completion_tokens += tokens[1]
                usd += price.usd(*tokens, batch=True) if price else 0.0
        self.usage.cost_usd += usd
        return usd

    def _own(self) -> list[dict[str, Any]]:
        return [job for job in self._jobs if job["origin"] == self.origin]

    def _open(self) -> list[dict[str, Any]]:
        return [job for job in self._own() if job["status"] not in FINISHED]

    def _file(self, job: dict[str, Any]) -> Path:
        return self.folder / f"{job['id']}.jsonl"

    def _save(self) -> None:
        write_atomic(self.folder / "jobs.json", json.dumps(self._jobs, indent=1).encode())

    @contextmanager
    def _clear(self, not_found: str) -> Iterator[None]:
        """Turn what the SDK raises into one line that stops the run."""
        try:
            yield
        except openai.APIStatusError as error:
            if error.status_code in (404, 405, 501):
                raise Stop(f"The host {not_found} (HTTP {error.status_code}).") from error
            try:
                stop_if_final(error, self.secret)
            except GaveUp as fault:
                raise Stop(f"The batch failed, {fault}.") from error
            raise Stop(f"The host is busy (HTTP {error.status_code}): run again later.") from error
        except openai.APIConnectionError as error:
            raise Stop(
                "The connection to the host failed: run again, nothing is submitted twice."
            ) from error


def _files(requests: Sequence[Request]) -> Iterator[tuple[str, list[Request]]]:
    """Deal requests out to files of one model and a size that the API takes."""
    for model in sorted({request.model for request in requests}):
        part, size = [], 0
        for request in (one for one in requests if one.model == model):
            length = len(_line(request))
            if part and (len(part) == PER_FILE or size + length > FILE_BYTES):
                yield model, part
                part, size = [], 0
            part.append(request)
            size += length
        yield model, part


def _line(request: Request) -> bytes:
    row = {"custom_id": request.key, "method": "POST", "url": URL}
    row["body"] = body_in_mode(request, MODES[0])
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def _outcomes(file: Path, batch: str) -> Iterator[tuple[str, Answer | Refused]]:
    """Read the lines of a job's output and error files; a broken line is no outcome."""
    for line in file.read_bytes().splitlines():
        try:
            row = json.loads(line)
            key, response = row["custom_id"], row.get("response") or {}
            status, body = response.get("status_code"), response.get("body") or {}
            if status == 200:
                yield key, Answer.from_body(body | {"batch": batch})
                continue
            error = row.get("error") or body.get("error") or {}
            said = " ".join(str(error.get("message") or error.get("code") or "no reason").split())
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        final = status is not None and 400 <= status < 500 and status not in MAY_PASS
        kind = f"HTTP {status}: " if status else ""
        yield key, Refused(f"failed in batch {batch} ({kind}{said[:200]})", final)
