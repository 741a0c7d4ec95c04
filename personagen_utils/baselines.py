"""What do simpler methods write? AttrPrompt, PriorWork and a plain prompt (paper, Section IV.D).

All of them write tweets for the same emotions in the same form as PersonaGen (`tweet_requests`),
with the same explanation of each emotion and a shade of it drawn in the same way; they differ in
what the writer is told besides. Every draw depends on the seed, the item and the emotion alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ValidationError

from personagen_utils import prompts
from personagen_utils.chat import Reply, Request
from personagen_utils.errors import KitError
from personagen_utils.expression import expression_requests, form_problem, texts_frame
from personagen_utils.llm import Client
from personagen_utils.sampling import number, uniforms
from personagen_utils.shades import draw_shades, shade_of
from personagen_utils.tables import BASE, Tables

SNS_POSTING = {"activity": ["SNS posting"]}
TWEETS = "PersonaGen tweets"  # how recordings tell them from the texts of the other scenes
FRESH = "PersonaGen fresh"  # the reading with one persona per text
METHODS = ("PersonaGen", "AttrPrompt", "PriorWork", "Plain")
N_ATTRIBUTES, N_VALUES = 6, 10
MAX_DRAWS = 10  # of one text of PriorWork, until it passes its own threshold
_STREAMS = {"AttrPrompt": 40, "PriorWork": 41}


class Attribute(BaseModel, extra="forbid"):
    # No docstring: it would go out with the schema and into the key of every request.

    name: str
    values: list[str]


class AttributeSet(BaseModel, extra="forbid"):
    attributes: list[Attribute]


class ScoredText(BaseModel, extra="forbid"):
    text: str
    score: Literal[1, 2, 3, 4, 5]


def _request(
    prompt: str, values: dict[str, Any], method: str, item: int, *, seed: int, **options: Any
) -> Request:
    # Nobody's age is certain here (PriorWork's may contradict the occupation): no shade for adults.
    (shade,) = draw_shades(np.array([item]), values["emotion"], seed=seed)
    known = {key: str(values[key]) for key in (*BASE, "requirements") if key in values}
    meta = {
        "method": method,
        "emotion": values["emotion"],
        "language": values["language"],
        "item": item,
        "attributes": values.get("requirements", known) | ({"shade": shade} if shade else {}),
    }
    options = {"kind": "text", "max_tokens": 160} | options
    messages = prompts.render(prompt, values | {"shade": shade})
    return Request(messages=messages, meta=meta, **options)


def tweet_requests(
    tables: Tables, scenes: pd.DataFrame, emotions: Sequence[str], *, seed: int, **options: Any
) -> list[Request]:
    """Ask each person for tweets: PersonaGen's stage 4 in the form that all methods share.

    Parameters
    ----------
    tables : Tables
    scenes : DataFrame
        Accepted persona-scenes that post.
    emotions : sequence of str
    seed : int
        Of the shade in which each text speaks of its emotion.
    **options
        Of `expression.expression_requests`.

    Returns
    -------
    list of Request
        As `expression.expression_requests`.
    """
    shade = shade_of(tables, scenes, emotions, seed=seed)
    return expression_requests(
        tables,
        scenes,
        emotions,
        extra=lambda item, emotion: {"tweet": True, "shade": shade(item, emotion)},
        **({"method": TWEETS} | options),
    )


def plain_requests(
    n: int, emotions: Sequence[str], *, seed: int, language: str, model: str, temperature: float
) -> list[Request]:
    """Ask n times for a tweet of each emotion, with nothing but the emotion: the floor.

    Parameters
    ----------
    n : int
        Texts per emotion.
    emotions : sequence of str
    seed : int
        Of the shade in which each text speaks of its emotion.
    language, model, temperature : str, str, float

    Returns
    -------
    list of Request, length n * len(emotions)
    """
    glosses = prompts.load_emotions(list(emotions))
    return [
        _request(
            "plain",
            {"emotion": emotion, "gloss": glosses[emotion], "language": language},
            "Plain",
            item,
            seed=seed,
            model=model,
            temperature=temperature,
            sample=item,
        )
        for item in range(n)
        for emotion in emotions
    ]


async def elicit_attributes(client: Client, *, model: str) -> AttributeSet | None:
    """Ask the model once which attributes make emotional tweets differ, and for their values.

    Parameters
    ----------
    client : Client
    model : str

    Returns
    -------
    AttributeSet or None
        None only while requests are being collected and nobody has answered yet.

    Raises
    ------
    KitError
        If the model gave no usable answer.

    Notes
    -----
    Yu, Y. et al. (2023). Large Language Model as Attributed Training Data Generator. NeurIPS.
    There a person chose among the attributes proposed; here the model's own choice is kept.
    """
    request = Request(
        kind="attributes",
        messages=prompts.render("attributes", {"n_attributes": N_ATTRIBUTES, "n_values": N_VALUES}),
        model=model,
        temperature=0.0,
        schema=AttributeSet,
        max_tokens=1500,
        meta={"method": "AttrPrompt", "attributes": {}},
    )
    (reply,) = await client.ask([request], desc="attributes")
    if reply.parsed is None:
        if client.backend == "export":
            return None
        raise KitError(
            f"AttrPrompt has no attributes: {reply.error or 'they are not recorded for ' + model}. "
            "Set BACKEND = 'openai' to have a live model propose them."
        )
    if not reply.parsed.attributes or any(not a.values for a in reply.parsed.attributes):
        raise KitError("AttrPrompt: the model proposed an attribute without values; run again.")
    return reply.parsed


def attrprompt_requests(
    attributes: AttributeSet,
    n: int,
    emotions: Sequence[str],
    *,
    seed: int,
    language: str,
    model: str,
    temperature: float,
) -> list[Request]:
    """Ask n times for a tweet of each emotion with one random combination of attribute values.

    Parameters
    ----------
    attributes : AttributeSet
    n, emotions, seed, language, model, temperature
        As for the other methods.

    Returns
    -------
    list of Request, length n * len(emotions)
    """
    glosses = prompts.load_emotions(list(emotions))
    requests, width = [], len(attributes.attributes)
    for emotion in emotions:
        stream = (_STREAMS["AttrPrompt"], number(emotion), 0)
        u = uniforms(seed, stream, np.arange(n), width)
        seen: Counter[str] = Counter()
        for item in range(n):
            requirements = {
                a.name: a.values[int(chance * len(a.values))]
                for a, chance in zip(attributes.attributes, u[item], strict=True)
            }
            values = {
                "emotion": emotion,
                "gloss": glosses[emotion],
                "language": language,
                "requirements": requirements,
            }
            options = {"seed": seed, "model": model, "temperature": temperature}
            request = _request("attrprompt", values, "AttrPrompt", item, **options)
            prompt = request.messages[-1]["content"]
            requests.append(replace(request, sample=seen[prompt]))  # asked anew, not copied
            seen[prompt] += 1
    return requests


def priorwork_request(
    tables: Tables,
    item: int,
    emotion: str,
    draw: int,
    *,
    seed: int,
    language: str,
    model: str,
    temperature: float,
) -> Request:
    """Ask for one tweet of a persona drawn without any condition, with its own score.

    Age, gender, occupation and personality are uniform and independent: no population statistics,
    no rules, no stages (the paper's reference [22]).
    """
    stream = (_STREAMS["PriorWork"], number(emotion), draw)
    u = uniforms(seed, stream, np.array([item]), len(BASE))[0]
    values = {
        name: tables.items(name)[int(chance * len(tables.items(name)))]
        for name, chance in zip(BASE, u, strict=True)
    }
    values |= {
        "emotion": emotion,
        "gloss": prompts.load_emotions([emotion])[emotion],
        "language": language,
    }
    return _request(
        "priorwork",
        values,
        "PriorWork",
        item,
        seed=seed,
        kind="score",
        schema=ScoredText,
        max_tokens=200,
        model=model,
        temperature=temperature,
    )


async def write_priorwork(
    client: Client,
    tables: Tables,
    n: int,
    emotions: Sequence[str],
    *,
    threshold: int = 4,
    seed: int,
    language: str,
    model: str,
    temperature: float,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Have PriorWork write until n texts per emotion pass its own threshold.

    Parameters
    ----------
    client : Client
    tables : Tables
    n, emotions
    threshold : int
        A text whose own score is lower is filtered and replaced by a new persona's.
    seed, language, model, temperature

    Returns
    -------
    texts : DataFrame
        As `expression.texts_frame`, with the column score.
    draws : DataFrame
        Every reply: item, emotion, draw, score, kept. Its share of kept = False is the share
        filtered. Own scores are never taken from another text: a draw that was not recorded is
        missing from both frames.
    """
    options = {"seed": seed, "language": language, "model": model, "temperature": temperature}
    open_ = [(item, emotion) for emotion in emotions for item in range(n)]
    texts, draws = [], []
    for draw in range(MAX_DRAWS):
        if not open_:
            break
        requests = [
            priorwork_request(tables, item, emotion, draw, **options) for item, emotion in open_
        ]
        replies = await client.ask(requests, check=_scored_form, desc="PriorWork")
        rejected = []
        for pair, reply in zip(open_, replies, strict=True):
            if reply.parsed is None:
                continue
            kept = reply.parsed.score >= threshold
            draws.append((*pair, draw, reply.parsed.score, kept))
            if kept:
                texts.append(reply)
            else:
                rejected.append(pair)
        open_ = rejected
    frame = texts_frame([_as_text(reply) for reply in texts])
    frame["score"] = [reply.parsed.score for reply in texts]
    columns = ["item", "emotion", "draw", "score", "kept"]
    return frame, pd.DataFrame(draws, columns=columns)


def _scored_form(request: Request, content: str) -> str | None:
    try:
        text = ScoredText.model_validate_json(content).text
    except ValidationError:
        return None  # what the schema has to say is said elsewhere
    return form_problem(text, request.meta["language"])


def _as_text(reply: Reply) -> Reply:
    return replace(reply, content=reply.parsed.text)
