"""How does one request get its answer from a host?

Through the real OpenAI SDK, with the retries done here, where they can be bounded, counted and
stopped at once: what may pass (a busy host, a dropped line) is tried again with growing pauses,
what cannot (a wrong key, an empty account, an unknown model) stops the run with one line.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx2
import openai

from personagen_utils.costs import Usage, most_usd, price_of
from personagen_utils.pool import Gate, Stop, Stopped
from personagen_utils.store import Answer

if TYPE_CHECKING:
    from personagen_utils.chat import Request

RETRIES = 6  # times one request is sent again after a fault that may pass
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds; doubled from one to the other, with jitter
LONGEST_WAIT = 300.0  # seconds of Retry-After that are obeyed; a host that asks for more stops us
LIMITS = ("max_completion_tokens", "max_tokens")  # names of the most tokens of a reply
MODES = ("json_schema", "json_object", "prompt")  # ways to ask for a structure, best first
NO_MONEY = {"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"}
SCHEMA_PROMPT = "\n\nAnswer with one JSON object that fits this JSON schema, nothing else:\n"


class GaveUp(Exception):
    """This one request failed for good; others may succeed."""


class Sender:
    """Sends requests to one host.

    Parameters
    ----------
    api : openai.AsyncOpenAI
        The SDK client, made with ``max_retries=0``.
    gate : Gate
        Concurrency and budget.
    usage : Usage
        Totals to be counted up.
    mode : str
        How structures are asked for, one of `MODES`; falls back by itself, once.
    limit : str
        The name under which ``max_tokens`` is sent, one of `LIMITS`; falls back likewise when a
        host rejects the name or pays no heed to it (Ollama does the latter).
    secret : str
        The key, which no message may show.
    keyed : bool
        Send each request's key in a header. For recordings only, never to a real host.
    """

    def __init__(
        self,
        api: openai.AsyncOpenAI,
        *,
        gate: Gate,
        usage: Usage,
        mode: str = MODES[0],
        limit: str = LIMITS[0],
        secret: str = "",
        keyed: bool = False,
    ) -> None:
        self.api, self.gate, self.usage, self.mode = api, gate, usage, mode
        self.limit, self.secret, self.keyed = limit, secret, keyed
        self.stopping = asyncio.Event()

    async def send(self, request: Request) -> Answer:
        """Return the answer to `request`, trying again while that makes sense.

        Raises
        ------
        Stop
            When no further request could succeed.
        GaveUp
            When this request failed for good.
        """
        retries = 0
        while True:
            mode, limit, fault = self.mode, self.limit, None
            try:
                return await self._send_once(request, mode, limit)
            except openai.APIStatusError as error:
                if request.schema and _rejects_structure(error) and mode != MODES[-1]:
                    if self.mode == mode:  # the first to notice steps down for everybody
                        self.mode = MODES[MODES.index(mode) + 1]
                    continue
                if limit == LIMITS[0] and _rejects(error, limit):
                    self.limit = LIMITS[1]
                    continue
                stop_if_final(error, self.secret)
                fault, asked_pause = f"HTTP {error.status_code}", retry_after(error.response)
                if asked_pause is not None and asked_pause > LONGEST_WAIT:
                    raise Stop(
                        f"The host asks to wait {asked_pause:.0f} s before the next request: run "
                        "again then, nothing is asked twice."
                    ) from error
            except openai.APITimeoutError:
                fault, asked_pause = "no reply in time", None
            except openai.APIConnectionError as error:
                cause = type(error.__cause__).__name__ if error.__cause__ else "no connection"
                fault = f"connection to {self.api.base_url.host} failed ({cause})"
                asked_pause = None
            except ValueError as error:  # 200, but no chat completion inside
                fault, asked_pause = f"unreadable reply ({type(error).__name__})", None
            if retries == RETRIES:
                raise GaveUp(f"{fault}, {retries + 1} times in a row")
            retries += 1
            self.usage.retries += 1
            await self._pause(pause_before(retries) if asked_pause is None else asked_pause)

    async def _send_once(self, request: Request, mode: str, limit: str) -> Answer:
        most = most_usd(request)
        await self.gate.enter(most)
        if self.stopping.is_set():
            await self.gate.leave(most, 0.0)
            raise Stopped
        sent, cost = time.monotonic(), most  # a reply that got lost may still be charged
        options = {"headers": {"x-personagen-key": request.key}} if self.keyed else {}
        self.usage.sent += 1
        try:
            # The SDK's own POST: what `chat.completions.create` does, in a third of its time,
            # with the body exactly as it stands in a batch file.
            response = await self.api.post(
                "/chat/completions",
                body=body_in_mode(request, mode, limit),
                cast_to=httpx2.Response,
                options=options,
            )
            answer = Answer.from_body(response.json())
            cost = self._book(request, answer, most)
            if (answer.completion_tokens or 0) > request.max_tokens:
                self.limit = LIMITS[1]
        except openai.APIStatusError as error:
            cost = 0.0
            if error.status_code == 429:
                self.gate.throttled(sent)
            raise
        finally:
            await self.gate.leave(most, cost)
        self.gate.succeeded()
        return answer

    def _book(self, request: Request, answer: Answer, most: float) -> float:
        """Count tokens and dollars; return the dollars (`most` when the host counts nothing)."""
        self.usage.prompt_tokens += answer.prompt_tokens or 0
        self.usage.completion_tokens += answer.completion_tokens or 0
        price = None if self.keyed else price_of(request.model)
        if price is None:
            return 0.0
        if answer.prompt_tokens is None or answer.completion_tokens is None:
            cost = most
        else:
            cost = price.usd(answer.prompt_tokens, answer.completion_tokens)
        self.usage.cost_usd += cost
        return cost

    async def _pause(self, seconds: float) -> None:
        """Sleep, unless the run is being stopped."""
        try:
            await asyncio.wait_for(self.stopping.wait(), timeout=seconds)
        except TimeoutError:
            return
        raise Stopped


def stop_if_final(error: openai.APIStatusError, secret: str = "") -> None:
    """Raise Stop or GaveUp for a status that no repetition would change."""
    status, said = error.status_code, scrub(_message(error), secret)
    if {error.code, error.type} & NO_MONEY or status == 402:
        raise Stop(
            f"The account has no money left (HTTP {status}, insufficient quota): top it up and "
            "run again, nothing is asked twice."
        ) from None
    if status in (401, 403):
        raise Stop(
            f"The host refused the key in OPENAI_API_KEY (HTTP {status}): set a valid key, "
            "restart and run again."
        ) from None
    if status == 404:
        raise Stop(
            f"The host knows no such model or address (HTTP 404: {said}): check the model name "
            "and OPENAI_BASE_URL."
        ) from None
    if status < 500 and status not in (408, 409, 429):
        raise GaveUp(f"the host rejected the request (HTTP {status}: {said})") from None


def body_in_mode(request: Request, mode: str, limit: str = LIMITS[0]) -> dict[str, Any]:
    """Return the body of `request` for a host that understands `mode` and `limit`.

    From the second attempt on the schema stands in the prompt as well: some hosts accept
    ``response_format`` and ignore it.
    """
    body = request.body()
    body[limit] = body.pop(LIMITS[0])
    if request.schema is None or (mode == MODES[0] and request.attempt == 0):
        return body
    schema = body["response_format"]["json_schema"]["schema"]
    *before, last = body["messages"]
    prompt = last["content"] + SCHEMA_PROMPT + json.dumps(schema, ensure_ascii=False)
    body["messages"] = [*before, {**last, "content": prompt}]
    if mode == "json_object":
        body["response_format"] = {"type": "json_object"}
    elif mode == "prompt":
        del body["response_format"]
    return body


def pause_before(retry: int) -> float:
    """Return the seconds before the `retry`-th retry: doubled each time, half of it random."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (retry - 1))
    return longest * random.uniform(0.5, 1.0)


def retry_after(response: Any) -> float | None:
    """Return the seconds a response asks to wait (a number or an HTTP date), or None."""
    value = response.headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


def scrub(text: str, secret: str) -> str:
    """Return `text` on one line, without `secret` and without words that show an end of it.

    >>> scrub("Incorrect key sk-tes**********1234 given", "sk-test-abcdef-1234")
    'Incorrect key [key] given'
    """
    text = " ".join(text.split())
    if len(secret) < 8:
        return text.replace(secret, "[key]") if secret else text
    ends = "|".join(re.escape(end) for end in (secret, secret[:4], secret[-4:]))
    return re.sub(rf"\S*(?:{ends})\S*", "[key]", text)


def _message(error: openai.APIStatusError) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    return str(body.get("message") or body.get("detail") or body.get("error") or error.message)[
        :300
    ]


def _rejects_structure(error: openai.APIStatusError) -> bool:
    """Tell a host that lacks structured replies from one that found our schema wrong."""
    names = ("response_format", "json_schema", "json_object")
    return any(_rejects(error, name) for name in names) and "invalid schema" not in _said(error)


def _rejects(error: openai.APIStatusError, name: str) -> bool:
    """Tell whether a host refused a request because of the parameter `name`."""
    return error.status_code in (400, 415, 422, 501) and name in _said(error)


def _said(error: openai.APIStatusError) -> str:
    return f"{error.param} {_message(error)}".lower()
