"""Stage 4: what does the person say? prompt = f(z, s, v, e) (paper, Section III.D, eq. 2)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import pandas as pd

from personagen_utils import prompts
from personagen_utils.base_persona import age_years
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, Reply, Request
from personagen_utils.tables import PERSONA, SCENE, Tables

EMOTIONS = ("joy", "anger", "sadness", "pleasure", "surprise", "fear", "neutral")
DESIGNS = ("crossed", "fresh")
MAX_SENTENCES = 2
MAX_WORDS = 60
MAX_CHARACTERS = 160  # for languages written without spaces
TEXT_COLUMNS = (
    *("item", "emotion", "text", "method", "language", "backend", "model", "match", "key"),
    *("batch", "attempts", "prompt_tokens", "completion_tokens"),
)

_NOTHING_MORE = {"shade": "", "tweet": False}  # what the tweet study adds to the prompt
_ABBREVIATIONS = re.compile(
    r"\b(?:(?:Mr|Mrs|Ms|Dr|Prof|St|Sr|Jr|vs|approx|e\.g|i\.e|a\.m|p\.m)\.|No\.(?=\s*\d))",
    re.IGNORECASE,
)
# A sentence ends at . ! ? or … (and their full-width forms), with closing quotes or brackets, when
# white space or the end follows; full-width marks need no space. Three dots or a closing quote that
# run on in lower case, decimals (3.5) and abbreviations (Dr.) end nothing.
_END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*(?=\s|$))|(?:[。！？]+[」』）\"”]*)")


def split_sentences(text: str) -> list[str]:
    """Split a text into sentences; text without punctuation is one sentence.

    Parameters
    ----------
    text : str

    Returns
    -------
    list of str

    Examples
    --------
    >>> split_sentences("Dr. Sato called... and I cried! Why me?")
    ['Dr. Sato called... and I cried!', 'Why me?']
    """
    text = " ".join(text.split())
    hidden = _ABBREVIATIONS.sub(lambda match: match.group().replace(".", "\0"), text)
    sentences, start = [], 0
    for match in _END.finditer(hidden):
        rest = hidden[match.end() :].lstrip()
        runs_on = re.fullmatch(r"(?:\.{2,}|…+)|.*[\"'”’)\]]", match.group())
        quoted = match.group()[-1] in "」』" and rest
        if quoted or (runs_on and rest[:1].islower()):
            continue
        sentence = hidden[start : match.end()].strip()
        if re.search(r"\w", sentence):
            sentences.append(sentence)
        elif sentences:
            sentences[-1] += " " + sentence
        else:
            continue  # nothing said yet: the marks belong to what follows
        start = match.end()
    tail = hidden[start:].strip()
    # An emoji, a kaomoji or hashtags after the last sentence belong to it.
    belongs = not re.search(r"\w", re.sub(r"[#@]\w+", "", tail))
    if tail and belongs and sentences:
        sentences[-1] += " " + tail
    elif tail:
        sentences.append(tail)
    return [sentence.replace("\0", ".") for sentence in sentences]


def form_problem(text: str, language: str = "English") -> str | None:
    """Say what breaks the form of a text: at most two sentences and 60 words.

    Parameters
    ----------
    text : str
    language : str
        For Japanese, Chinese and Thai, which have no spaces, 160 characters stand for 60 words.

    Returns
    -------
    str or None
        The reason, or None if the text is fine.
    """
    if not re.search(r"\w", text):
        return "the text is empty"
    n_sentences = len(split_sentences(text))
    if n_sentences > MAX_SENTENCES:
        return f"{n_sentences} sentences instead of at most {MAX_SENTENCES}"
    if language in ("Japanese", "Chinese", "Thai"):
        if len(text) > MAX_CHARACTERS:
            return f"{len(text)} characters instead of at most {MAX_CHARACTERS}"
    elif len(text.split()) > MAX_WORDS:
        return f"{len(text.split())} words instead of at most {MAX_WORDS}"
    return None


def expression_requests(
    tables: Tables,
    scenes: pd.DataFrame,
    emotions: Sequence[str],
    *,
    design: str = "crossed",
    language: str = "English",
    model: str = "gpt-4.1-mini",
    temperature: float = 1.2,
    prompt: str = "expression",
    method: str = "PersonaGen",
    known: Sequence[str] = (*PERSONA, *SCENE),
    extra: Callable[[int, str], Mapping[str, object]] | None = None,
) -> list[Request]:
    """Render one request per text: persona z, scene s, style v and emotion e.

    Parameters
    ----------
    tables : Tables
    scenes : DataFrame
        Accepted persona-scenes, one row each (all attributes of stages 1 to 3 and `item`).
    emotions : sequence of str
    design : {"crossed", "fresh"}
        crossed: each persona-scene speaks once per emotion. fresh: each persona-scene speaks once,
        the emotions taking turns.
    language : str
        Language of the texts.
    model, temperature : str, float
    prompt : str
        Prompt file, without ``.j2``.
    method : str
        Name of the method in all tables.
    known : sequence of str
        The attributes that the writer is told.
    extra : callable, optional
        Given item and emotion, returns what else the prompt file uses.

    Returns
    -------
    list of Request
        In the order of the persona-scenes; ``meta["item"]`` and ``meta["emotion"]`` name the text.
    """
    if design not in DESIGNS:
        raise KitError(f"DESIGN = {design!r} must be one of {', '.join(DESIGNS)}.")
    glosses = prompts.load_emotions(list(emotions))
    seen: dict[tuple, int] = {}
    requests = []
    for k, row in enumerate(scenes.to_dict("records")):
        attributes = {name: str(row[name]) for name in known}
        values = attributes | {
            "country": tables.country,
            "age_years": age_years(tables, attributes["age"], attributes["occupation"]),
            "language": language,
        }
        spoken = emotions if design == "crossed" else [emotions[k % len(emotions)]]
        for emotion in spoken:
            more = {} if extra is None else extra(int(row["item"]), emotion)
            messages = prompts.render(
                prompt,
                values | {"emotion": emotion, "gloss": glosses[emotion]} | _NOTHING_MORE | more,
            )
            sample = seen.get(messages_key := (messages[-1]["content"],), 0)
            seen[messages_key] = sample + 1
            requests.append(
                Request(
                    kind="text",
                    messages=messages,
                    model=model,
                    temperature=temperature,
                    max_tokens=160,
                    sample=sample,
                    meta={
                        "method": method,
                        "emotion": emotion,
                        "language": language,
                        "item": int(row["item"]),
                        "attributes": attributes
                        | ({"shade": more["shade"]} if more.get("shade") else {}),
                    },
                )
            )
    return requests


async def express(client: Client, requests: list[Request]) -> pd.DataFrame:
    """Have the texts written and their form checked.

    A reply that breaks the form (`form_problem`) is asked again; `attempts` counts the asks.

    Parameters
    ----------
    client : Client
    requests : list of Request

    Returns
    -------
    DataFrame
        One row per text: item, emotion, text, method, language, backend, model, match, key,
        batch, attempts, tokens. Rows without a text (failed, or not recorded yet) are left out.
    """
    replies = await client.ask(
        requests,
        check=lambda request, text: form_problem(text, request.meta["language"]),
        desc="texts",
    )
    return texts_frame(replies)


def texts_frame(replies: Sequence[Reply]) -> pd.DataFrame:
    """Return replies as a frame of texts with their provenance."""
    rows = [
        {
            "item": reply.request.meta["item"],
            "emotion": reply.request.meta["emotion"],
            "text": reply.content.strip(),
            "method": reply.request.meta["method"],
            "language": reply.request.meta["language"],
            "backend": reply.backend,
            "model": reply.model,
            "match": reply.match,
            "key": reply.request.key,
            "batch": reply.batch,
            "attempts": reply.attempts,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
        }
        for reply in replies
        if reply.content is not None and reply.match not in ("missing", "failed")
    ]
    return pd.DataFrame(rows, columns=list(TEXT_COLUMNS))
