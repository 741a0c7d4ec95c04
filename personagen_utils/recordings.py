"""How are replies recorded?

`export_requests` writes open requests in the shape of OpenAI Batch input files. Anyone answers
them: the Batch API, another host, a person, a model at a desk. `import_replies` checks the answers,
refuses the bad ones by file and line, and merges the good ones into a recording.
"""

from __future__ import annotations

import gzip
import io
import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema

from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.paths import resolve, shown
from personagen_utils.replay import (
    RECORDINGS,
    Recorded,
    Recordings,
    json_lines,
    load_recordings,
    read_recording,
)
from personagen_utils.store import Answer

if TYPE_CHECKING:
    from personagen_utils.chat import Request

__all__ = ["ImportReport", "Recordings", "export_requests", "import_replies", "load_recordings"]

WRITER = "recorded-llm"  # the model of a reply that does not say who wrote it
SAME_PROMPT = 3  # most requests with the very same messages in one batch
NOTES = ("method", "emotion", "language")


@dataclass
class ImportReport:
    """What became of imported answers: accepted, refused (file:line and reason), still open."""

    accepted: int = 0
    refused: list[str] = field(default_factory=list)
    open: int = 0
    path: Path | None = None

    def __str__(self) -> str:
        where = f" in {shown(self.path)}" if self.path else ""
        lines = [f"{self.accepted} accepted{where}, {len(self.refused)} refused, {self.open} open"]
        return "\n".join(lines + self.refused)


def export_requests(
    requests: Mapping[str, Request], folder: str | Path, *, batch_size: int = 180, seed: int = 0
) -> list[Path]:
    """Write requests as Batch input files, mixed at random, with a note on each in meta.jsonl.

    A batch holds requests to one model, and at most three with the very same prompt.

    Parameters
    ----------
    requests : mapping of str to Request
        By key, as in ``Client.outbox``.
    folder : str or Path
        A new or empty folder.
    batch_size : int
        About how many requests a file holds.
    seed : int
        Of the mixing.

    Returns
    -------
    list of Path
        The request files.

    Raises
    ------
    KitError
        When the folder holds an export already.
    """
    folder = resolve(folder)
    if any(folder.glob("requests-*.jsonl")):
        raise KitError(f"{shown(folder)} holds exported requests already: choose another folder.")
    paths, meta = [], []
    for model in sorted({request.model for request in requests.values()}):
        of_model = {key: one for key, one in requests.items() if one.model == model}
        for batch in _mixed(of_model, batch_size, seed):
            paths.append(folder / f"requests-{len(paths) + 1:03}.jsonl")
            _write_lines(paths[-1], [_batch_line(key, requests[key]) for key in batch])
            meta += [_meta_line(key, requests[key], paths[-1].stem[-3:]) for key in batch]
    order = {key: number for number, key in enumerate(requests)}
    _write_lines(folder / "meta.jsonl", sorted(meta, key=lambda row: order[row["custom_id"]]))
    return paths


def import_replies(
    folder: str | Path,
    *,
    name: str,
    recordings: str | Path = RECORDINGS,
    check: Callable[[dict[str, Any], str], str | None] | None = None,
) -> ImportReport:
    """Check answered requests and merge the good ones into a recording.

    Parameters
    ----------
    folder : str or Path
        An export folder with answers next to the requests: ``replies-*.jsonl`` of Batch output
        lines, or of the short form ``{"custom_id", "content"[, "model"]}``.
    name : str
        The recording, ``NAME.jsonl.gz``; made or added to.
    recordings : str or Path
        The folder of the recordings.
    check : callable, optional
        Given a line of meta.jsonl and the content, says what is wrong with a reply, or None.
        By default texts must keep the form of the kit (two sentences, 60 words).

    Returns
    -------
    ImportReport
        Print it: what was refused stands there by file, line and reason. Correct the lines and
        import again; what was accepted before is passed over.

    Raises
    ------
    KitError
        When the folder holds no export.
    """
    folder, path = resolve(folder), resolve(recordings) / f"{name}.jsonl.gz"
    if not (folder / "meta.jsonl").exists():
        raise KitError(f"{shown(folder)} has no meta.jsonl: name the folder that export wrote.")
    meta = {row["custom_id"]: row for row, _ in json_lines(folder / "meta.jsonl")}
    recorded = {row.key: row for row, _ in read_recording(path)} if path.exists() else {}
    elsewhere = load_recordings(path.parent).index.keys() - recorded.keys()
    report, good = ImportReport(path=path), {}
    for file in sorted(folder.glob("replies-*.jsonl")):
        for number, line in enumerate(file.read_bytes().splitlines(), 1):
            if not line.strip():
                continue
            try:
                key, body = _reply(line)
                if key not in meta:
                    raise ValueError(f"custom_id {key!r} was never exported here")
                if key in good:
                    raise ValueError(f"custom_id {key} was answered before, one reply per request")
                new = Recorded(key, _valid(body, meta[key], check or _form), _note(meta[key], name))
                if key in elsewhere or recorded.get(key, new).answer.content != new.answer.content:
                    raise ValueError(f"custom_id {key} is recorded already with another reply")
                good[key] = new
            except ValueError as error:
                report.refused.append(f"{shown(file)}:{number}: {error}")
    report.accepted = len(good)
    recorded |= {key: good[key] for key in meta if key in good and key not in recorded}
    report.open = sum(key not in recorded and key not in elsewhere for key in meta)
    if recorded:
        _write_recording(path, recorded)
    return report


def _mixed(requests: Mapping[str, Request], batch_size: int, seed: int) -> list[list[str]]:
    """Deal the keys out to batches at random, equal prompts apart."""
    prompt = {key: json.dumps(request.messages) for key, request in requests.items()}
    most = max(Counter(prompt.values()).values(), default=0)
    batches = max(math.ceil(len(requests) / batch_size), math.ceil(most / SAME_PROMPT))
    dealt: list[list[str]] = [[] for _ in range(batches)]
    alike: list[Counter[str]] = [Counter() for _ in range(batches)]
    for key in random.Random(seed).sample(sorted(requests), len(requests)):
        here = min(
            (number for number in range(batches) if alike[number][prompt[key]] < SAME_PROMPT),
            key=lambda number: len(dealt[number]),
        )
        dealt[here].append(key)
        alike[here][prompt[key]] += 1
    return dealt


def _batch_line(key: str, request: Request) -> dict[str, Any]:
    url = "/v1/chat/completions"
    return {"custom_id": key, "method": "POST", "url": url, "body": request.body()}


def _meta_line(key: str, request: Request, batch: str) -> dict[str, Any]:
    form = request.body().get("response_format")
    return {
        "custom_id": key,
        "kind": request.kind,
        "batch": batch,
        "schema": form["json_schema"]["schema"] if form else None,
        "meta": dict(request.meta),
    }


def _reply(line: bytes) -> tuple[str, dict[str, Any]]:
    """Read one answer, Batch output or short form, as request key and chat completion."""
    try:
        row = json.loads(line)
        key = row["custom_id"]
        if "response" not in row and "error" not in row:
            content = row["content"]
            if isinstance(content, dict):
                content = json.dumps(content, ensure_ascii=False)
            return key, {"model": row.get("model"), "choices": [{"message": {"content": content}}]}
    except json.JSONDecodeError as error:
        raise ValueError(f"no JSON ({error})") from error
    except (KeyError, TypeError) as error:
        raise ValueError("needs custom_id and content, or custom_id and response") from error
    response = row.get("response") or {}
    if row.get("error") or response.get("status_code") != 200:
        raise ValueError(f"failed there: {row.get('error') or response.get('status_code')}")
    return key, response.get("body") or {}


def _valid(
    body: dict[str, Any], meta: dict[str, Any], check: Callable[[dict, str], str | None]
) -> dict[str, Any]:
    """Return the chat completion to be recorded, or raise ValueError with what is wrong."""
    answer = Answer.from_body(body)
    problem = answer.problem()
    if not problem and meta["schema"]:
        try:
            jsonschema.validate(json.loads(answer.content), meta["schema"])
        except json.JSONDecodeError:
            problem = f"no JSON: {answer.content[:60]!r}"
        except jsonschema.ValidationError as error:
            problem = f"{error.json_path}: {error.message}"[:160]
    problem = problem or check(meta, answer.content)
    if problem:
        raise ValueError(problem)
    message = {"role": "assistant", "content": answer.content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"usage": body["usage"]} if body.get("usage") else {}
    return {
        "object": "chat.completion",
        "model": answer.model or WRITER,
        "choices": [choice],
    } | usage


def _form(meta: dict[str, Any], content: str) -> str | None:
    from personagen_utils.expression import form_problem

    if meta["kind"] != "text":
        body = json.loads(content) if meta["schema"] else {}
        if "text" not in body:
            return None
        content = body["text"]  # a text that came with its own score
    return form_problem(content, meta["meta"].get("language") or "English")


def _note(meta: dict[str, Any], name: str) -> dict[str, Any]:
    known = {key: meta["meta"].get(key) for key in NOTES}
    attributes = meta["meta"].get("attributes") or {}
    batch = f"{name}-{meta['batch']}"
    return {"kind": meta["kind"], **known, "batch": batch, "attributes": attributes}


def _write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    write_atomic(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())


def _write_recording(path: Path, recorded: Mapping[str, Recorded]) -> None:
    """Write a recording; the same replies give the same bytes."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as file:
        for key, row in recorded.items():
            line = {
                "custom_id": key,
                "response": {"status_code": 200, "body": row.body},
                "error": None,
                "personagen": row.note,
            }
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
    write_atomic(path, buffer.getvalue())
