"""What is asked of a language model, and what comes back?

A request is named by everything that shapes its reply, and by nothing else: the same request has
the same key in every study, on every machine, in a recording and in the reply store.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any

from pydantic import BaseModel, ValidationError

from personagen_utils.errors import KitError
from personagen_utils.store import Answer


@dataclass(frozen=True)
class Request:
    """One chat completion to be asked for, with all that shapes its reply.

    Attributes
    ----------
    kind : str
        "text", "verdict" or "score". A text may be answered by its nearest recorded neighbour.
    messages : tuple of dict
        Chat messages with "role" and "content".
    schema : type of BaseModel, optional
        The structure of the reply; None asks for plain text.
    max_tokens : int
        Most tokens of the reply, sent as ``max_completion_tokens``.
    sample : int
        Number of this request among those of a study with the very same prompt.
    attempt : int
        How often it was asked before because a reply broke the form.
    meta : Mapping
        What the kit knows about the request (method, emotion, language, item, attributes).
        Neither sent nor part of the key.
    """

    kind: str
    messages: tuple[dict[str, str], ...]
    model: str = "gpt-4.1-mini"
    temperature: float = 0.0
    schema: type[BaseModel] | None = None
    max_tokens: int = 200
    sample: int = 0
    attempt: int = 0
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.key)

    @cached_property
    def key(self) -> str:
        """Name of the request: 32 hex digits over everything that shapes the reply."""
        shaping = {
            "model": self.model,
            "messages": self.messages,
            "temperature": float(self.temperature),
            "schema": json_schema(self.schema) if self.schema else None,
            "max_tokens": self.max_tokens,
            "sample": self.sample,
            "attempt": self.attempt,
        }
        text = json.dumps(shaping, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def body(self) -> dict[str, Any]:
        """Return the body of the chat completion, as the API and a batch file want it."""
        body = {
            "model": self.model,
            "messages": list(self.messages),
            "temperature": self.temperature,
            "max_completion_tokens": self.max_tokens,
        }
        if self.schema:
            schema = json_schema(self.schema)
            form = {"name": self.schema.__name__, "schema": schema, "strict": True}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body


Check = Callable[[Request, str], str | None]  # what is wrong with this content, or None


@dataclass
class Reply:
    """What became of a request.

    Attributes
    ----------
    match : str
        "live" (a host answered, now or earlier), "exact" (recorded for this very request),
        "nearest" (recorded for a similar one), "missing" (not recorded, nothing sent) or
        "failed" (`error` says why).
    attempts : int
        How often it was asked; more than one when replies broke the form.
    """

    request: Request
    content: str | None = None
    parsed: BaseModel | None = None
    match: str = "missing"
    backend: str = ""
    model: str | None = None
    batch: str | None = None
    error: str | None = None
    attempts: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str | None = None


def again(request: Request, attempt: int) -> Request:
    """Return `request` as it is asked the next time, `attempt` times after the first."""
    return replace(request, attempt=request.attempt + attempt) if attempt else request


@cache
def json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON schema of a reply, in the strict form that structured outputs want.

    Parameters
    ----------
    model : type of BaseModel
        Every field required, ``model_config = ConfigDict(extra="forbid")``. Its docstring and
        field descriptions are sent, hence part of every key.

    Raises
    ------
    KitError
        When the model allows further fields or has optional ones.
    """
    schema = model.model_json_schema()
    for part in [schema, *schema.get("$defs", {}).values()]:
        fields = part.get("properties", {})
        if fields and part.get("additionalProperties") is not False:
            raise KitError(
                f"{model.__name__} must refuse unknown fields: give {part.get('title')} "
                'model_config = ConfigDict(extra="forbid").'
            )
        if optional := set(fields) - set(part.get("required", [])):
            raise KitError(
                f"{model.__name__} has optional fields ({', '.join(sorted(optional))}): structured "
                "outputs need every field required; use `| None` without a default."
            )
    return schema


def parse(model: type[BaseModel], content: str) -> tuple[BaseModel | None, str | None]:
    """Read structured content, in a Markdown fence or bare; return it, or what is wrong with it."""
    fenced = re.fullmatch(r"```(?:json)?\s*(.*?)\s*```", content, flags=re.DOTALL)
    try:
        return model.model_validate_json(fenced[1] if fenced else content), None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return None, f"{where}: {first['msg']}" if where else first["msg"]


def read_reply(
    request: Request,
    answer: Answer,
    check: Check | None = None,
    *,
    match: str,
    backend: str,
    attempts: int = 1,
) -> Reply:
    """Make a reply of what came back to `request`.

    Parameters
    ----------
    request : Request
    answer : Answer
    check : callable, optional
        Given the request and the content, says what is wrong with it, or None.
    match, backend : str
        What the reply counts as when it keeps the form.
    attempts : int
        How often the request was asked.

    Returns
    -------
    Reply
        With match "failed" and the reason in `error` when the answer breaks the form.
    """
    problem, parsed = answer.problem(max_tokens=request.max_tokens), None
    if not problem and request.schema:
        parsed, problem = parse(request.schema, answer.content)
    if not problem and check:
        problem = check(request, answer.content)
    if problem and attempts > 1:
        problem = f"{problem} (asked {attempts} times)"
    return Reply(
        request,
        content=answer.content if not problem else None,
        parsed=parsed if not problem else None,
        match="failed" if problem else match,
        backend=backend,
        model=answer.model,
        batch=answer.batch,
        error=problem and problem[:300],
        attempts=attempts,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        finish_reason=answer.finish_reason,
    )
