"""What does the language model say?

The one door to language models. A backend is chosen by name, never guessed from the environment:
``recorded`` (default) answers from ``data/recordings`` through the same SDK code as a live host,
``openai`` asks the host in OPENAI_BASE_URL, ``openai-batch`` submits to the same host at half the
price and collects when it is run again, ``export`` sends nothing and collects the requests that
nobody has answered yet.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import openai

from personagen_utils.batch_client import BatchClient
from personagen_utils.chat import Reply, Request, json_schema
from personagen_utils.client import LIVE, Client
from personagen_utils.errors import KitError, did_you_mean
from personagen_utils.paths import DATA, resolve
from personagen_utils.replay import RECORDINGS, RecordedTransport, load_recordings
from personagen_utils.store import Store

__all__ = ["BACKENDS", "Client", "Reply", "Request", "json_schema", "open_client"]

BACKENDS = ("recorded", "openai", "openai-batch", "export")
OPTIONS = ("max_usd", "concurrency", "on_error", "tries", "timeout")
STORE = DATA / "runs" / "responses.sqlite"
OPENAI_URL = "https://api.openai.com/v1"


def open_client(
    *,
    backend: str = "recorded",
    run_dir: str | Path | None = None,
    store: str | Path | None = None,
    recordings: str | Path | None = None,
    concurrency: int = 64,
    tries: int = 3,
    on_error: str = "stop",
    max_usd: float | None = None,
    progress: bool = True,
    timeout: float = 120.0,
    transport: httpx2.AsyncBaseTransport | None = None,
    options: Mapping[str, Any] | None = None,
) -> Client:
    """Open a client.

    Parameters
    ----------
    backend : str
        "recorded": answer from recordings, send nothing. "openai": ask the host named by the
        environment variables OPENAI_BASE_URL and OPENAI_API_KEY. "openai-batch": submit to that
        host's Batch API and stop; run again to collect. "export": collect the requests nobody
        has answered in ``client.outbox``.
    run_dir : str or Path, optional
        Where progress.json, failures.jsonl, spending.json and the ids of batches go.
    store : str or Path, optional
        The reply store; by default the ``responses.sqlite`` of the run folder if it has one, as
        the studies of a sweep do, else the one of the checkout, ``data/runs/responses.sqlite``.
    recordings : str or Path, optional
        The folder of recordings; by default ``data/recordings``.
    concurrency : int
        Most requests under way at once.
    tries : int
        How often a request is asked when its replies break the form.
    on_error : str
        "stop" at the first request that fails for good, or "continue" without it.
    max_usd : float, optional
        Dollars that may be spent for this run folder in all, restarts included; without a
        `run_dir`, through this client.
    progress : bool
        Draw a progress bar.
    timeout : float
        Seconds to wait for one reply.
    transport : httpx2.AsyncBaseTransport, optional
        Takes the place of the network, for tests.
    options : mapping, optional
        Any of concurrency, tries, on_error, max_usd and timeout, in place of the arguments of
        that name: what a study file says under CLIENT. A name that is none of these is refused.

    Returns
    -------
    Client

    Raises
    ------
    KitError
        For an unknown or unavailable backend, a missing key, or an unwritable store.
    """
    chosen = {
        "concurrency": concurrency,
        "tries": tries,
        "on_error": on_error,
        "max_usd": max_usd,
        "timeout": timeout,
    } | _named(options or {})
    _check_options(backend, run_dir, chosen)
    timeout = chosen.pop("timeout")
    recorded, key = None, ""
    if backend in LIVE:
        base_url = os.environ.get("OPENAI_BASE_URL") or OPENAI_URL
        key = os.environ.get("OPENAI_API_KEY", "")
        if not key and base_url.rstrip("/") == OPENAI_URL:
            raise KitError(
                f"backend {backend!r} needs a key: set OPENAI_API_KEY, or OPENAI_BASE_URL for a "
                "local host, or use backend 'recorded'."
            )
        if not urlsplit(base_url).hostname or not base_url.startswith(("http://", "https://")):
            raise KitError("OPENAI_BASE_URL must look like http://localhost:8000/v1.")
        origin = _origin(base_url)
        account: dict[str, Any] = {"api_key": key or "none", "base_url": base_url}
    else:
        recorded = load_recordings(recordings or RECORDINGS)
        origin = f"recorded:{recorded.fingerprint}"
        # Every name that the SDK would otherwise look up in the environment.
        account = dict.fromkeys(("admin_api_key", "organization", "project", "webhook_secret"), "")
        account |= {"api_key": "none", "base_url": "http://recorded.invalid/v1"}

    def api(bodies: Mapping[str, dict[str, Any]]) -> openai.AsyncOpenAI:
        network = transport if recorded is None else RecordedTransport(bodies)
        most = chosen["concurrency"]
        limits = httpx2.Limits(max_connections=most, max_keepalive_connections=most)
        patience = httpx2.Timeout(timeout, connect=min(10.0, timeout))
        http = openai.DefaultAsyncHttpxClient(transport=network, limits=limits, timeout=patience)
        return openai.AsyncOpenAI(http_client=http, max_retries=0, timeout=patience, **account)

    kind = BatchClient if backend == "openai-batch" else Client
    return kind(
        backend=backend,
        origin=origin,
        store=Store(store or _own_store(run_dir) or STORE),
        recordings=recorded,
        api=api,
        secret=key,
        run_dir=resolve(run_dir) if run_dir else None,
        progress=progress,
        **chosen,
    )


def _own_store(run_dir: str | Path | None) -> Path | None:
    file = resolve(run_dir) / STORE.name if run_dir else None
    return file if file and file.exists() else None


def _named(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options under their own names, in lower case; refuse strangers."""
    named = {str(name).lower(): value for name, value in options.items()}
    for name in named:
        if name not in OPTIONS:
            raise KitError(
                f"CLIENT has no option {name!r}{did_you_mean(name, OPTIONS)}: choose from "
                f"{', '.join(OPTIONS)}."
            )
    return named


def _check_options(backend: str, run_dir: str | Path | None, chosen: Mapping[str, Any]) -> None:
    if backend not in BACKENDS:
        raise KitError(f"backend {backend!r} is unknown: choose one of {', '.join(BACKENDS)}.")
    if backend == "openai-batch" and run_dir is None:
        raise KitError("backend 'openai-batch' keeps its jobs in the run folder: pass run_dir.")
    if chosen["on_error"] not in ("stop", "continue"):
        raise KitError(f"on_error {chosen['on_error']!r} is unknown: choose 'stop' or 'continue'.")
    for name in ("concurrency", "tries"):
        if type(chosen[name]) is not int or chosen[name] < 1:
            raise KitError(f"{name} ({chosen[name]!r}) must be a whole number, at least 1.")
    for name in ("max_usd", "timeout"):
        value = chosen[name]
        number = type(value) in (int, float) and value > 0
        if not number and (name == "timeout" or value is not None):
            raise KitError(f"{name} ({value!r}) must be a number above 0.")


def _origin(base_url: str) -> str:
    """Return the address of a host without a name and password in it."""
    parts = urlsplit(base_url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")
