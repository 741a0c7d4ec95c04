"""What failed in a run, and does it succeed now? Asks the requests in failures.jsonl alone.

Good replies go to the reply store under the key of the request; run the study again to take them
up. Nothing else is sent.
"""

from __future__ import annotations

import asyncio
import pkgutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from personagen_utils.chat import Reply, Request
from personagen_utils.errors import KitError
from personagen_utils.expression import form_problem
from personagen_utils.llm import open_client
from personagen_utils.paths import resolve, shown
from personagen_utils.replay import json_lines
from personagen_utils.tracking import FAILURES


def load_failures(run_dir: str | Path) -> list[Request]:
    """Read the requests that failed in a run, exactly as they were asked.

    Parameters
    ----------
    run_dir : str or Path
        The run folder.

    Returns
    -------
    list of Request

    Raises
    ------
    KitError
        When a line is damaged, or its form of reply is no longer what it was.
    """
    path = resolve(run_dir) / FAILURES
    return [_request(row, where) for row, where in json_lines(path)] if path.exists() else []


def retry(run_dir: str | Path, *, options: Mapping[str, Any] | None = None) -> tuple[str, int]:
    """Ask the failed requests of a run again over the live API.

    Parameters
    ----------
    run_dir : str or Path
        The run folder.
    options : mapping, optional
        For `open_client`, for example ``{"max_usd": 1.0}``.

    Returns
    -------
    tuple of str and int
        What came of it, and how many requests still fail.
    """
    requests = load_failures(run_dir)
    if not requests:
        return f"No request has failed in {shown(run_dir)}.", 0
    settings = {"on_error": "continue"} | dict(options or {})
    client = open_client(backend="openai", run_dir=run_dir, options=settings)
    replies = asyncio.run(client.ask(requests, check=_check, desc="failed requests"))
    failed = [reply for reply in replies if reply.match == "failed"]
    lines = [
        f"{len(replies) - len(failed)} of {len(replies)} failed requests are answered now. "
        "Run the study again with --force to take them up."
    ]
    reasons = Counter(_reason(reply) for reply in failed)
    lines += [f"{count} still failed: {reason}" for reason, count in reasons.most_common()]
    return "\n".join(lines), len(failed)


def _request(row: Mapping[str, Any], where: str) -> Request:
    try:
        body = row["body"]
        request = Request(
            kind=row["kind"],
            messages=tuple(body["messages"]),
            model=body["model"],
            temperature=body["temperature"],
            schema=pkgutil.resolve_name(row["schema"]) if row["schema"] else None,
            max_tokens=body["max_completion_tokens"],
            sample=row["sample"],
            meta=row["meta"],
        )
    except (KeyError, TypeError, ValueError, ImportError, AttributeError) as error:
        raise KitError(f"{where}: no failed request ({error!r}); delete the line.") from error
    if request.key != row["key"]:
        raise KitError(
            f"{where}: the form of this request has changed since it failed; run the study again."
        )
    return request


def _check(request: Request, content: str) -> str | None:
    if request.kind != "text" or request.schema:
        return None
    return form_problem(content, request.meta.get("language") or "English")


def _reason(reply: Reply) -> str:
    return reply.error or "no reason given"
