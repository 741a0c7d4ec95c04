"""RQ2: does a text read as if a person had written it? A language model gives the scores.

The judge of Section IV.C sees a text and its designated emotion, no persona, and answers with four
integers from 1 to 5. Planted controls go with the texts: copies whose label, grammar or word order
was spoilt. How well the scores find them says what the scores are worth; the statistics are in
:mod:`personagen_utils.judge_statistics` and :mod:`personagen_utils.judge_worth`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Literal

import pandas as pd
from pydantic import BaseModel

from personagen_utils import prompts
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, Request

CRITERIA = ("emotion_match", "grammaticality", "lexical_diversity", "structure_logic")
TITLES = {  # as the paper writes them
    "emotion_match": "Emotion Match",
    "grammaticality": "Grammaticality",
    "lexical_diversity": "Lexical Diversity",
    "structure_logic": "Structure & Logic",
}
CONTROLS = ("wrong_label", "broken_grammar", "shuffled_words")

Score = Literal[1, 2, 3, 4, 5]  # an enum in the schema: hosts differ over minimum and maximum


class Scores(BaseModel, extra="forbid"):
    # No docstring: it would go out with the schema and into the key of every request.

    emotion_match: Score
    grammaticality: Score
    lexical_diversity: Score
    structure_logic: Score


# Emotions too close for one to be a wrong label of another.
_CLOSE = frozenset({"joy", "pleasure", "love"})
_ARTICLES = frozenset({"a", "an", "the"})
_DISAGREEING = {
    "am": "are", "is": "are", "are": "is", "was": "were", "were": "was",
    "has": "have", "have": "has", "does": "do", "do": "does",
    "doesn't": "don't", "don't": "doesn't", "isn't": "aren't", "aren't": "isn't",
    "wasn't": "weren't", "weren't": "wasn't", "hasn't": "haven't", "haven't": "hasn't",
    "i'm": "i are", "it's": "it are", "that's": "that are", "he's": "he are", "she's": "she are",
    "you're": "you is", "we're": "we is", "they're": "they is", "i've": "i has",
}  # fmt: skip


def planted_controls(texts: pd.DataFrame, *, share: float = 0.05, seed: int) -> pd.DataFrame:
    """Add spoilt copies of some texts, for the judge to find.

    Parameters
    ----------
    texts : DataFrame
        One row per text: item, emotion, text, and whatever else is to be carried along.
    share : float
        Share of the texts that are copied and spoilt, 0 to 1.
    seed : int

    Returns
    -------
    DataFrame
        The texts as they are (`control` missing), then the spoilt copies. `control` names what was
        done, `emotion` is what the judge is told, `written_for` what the text was written for.

        - wrong_label: another emotion of the study; joy, pleasure and love never stand for one
          another.
        - broken_grammar: English loses its articles and gets verbs that disagree with their
          subjects; in any language about every fifth word changes places with the next, where no
          punctuation stands between or after them.
        - shuffled_words: all words in another order.

    Raises
    ------
    KitError
        If a column is missing, a text or an emotion is empty, or `share` is no share.

    Notes
    -----
    Whether a text is copied, and how it is spoilt, follows from a hash of seed, item and emotion:
    the controls of a small study are among those of a larger one, and those of a small share among
    those of a larger share. So `share` and equal thirds are met on average only. A text too short
    to be damaged gets a wrong label instead; with a single emotion it stays out.
    """
    check_texts(texts)
    if not 0 <= share <= 1:
        raise KitError(f"CONTROL_SHARE = {share} must lie between 0 and 1.")
    emotions = sorted(set(texts["emotion"]))
    copies = []
    for row in texts.to_dict("records"):
        name = (seed, row["item"], row["emotion"])
        if _fraction(*name, "chosen") < share:
            kind = CONTROLS[int(_fraction(*name, "kind") * len(CONTROLS))]
            copies += [row | spoilt for spoilt in _spoil(row, kind, name, emotions)]
    real = texts.assign(control=None, written_for=texts["emotion"])
    both = pd.concat([real, pd.DataFrame(copies, columns=real.columns)], ignore_index=True)
    return both.astype(texts.dtypes.to_dict() | {"control": "str", "written_for": "str"})


def second_look(texts: pd.DataFrame, n: int) -> pd.DataFrame:
    """Return the rows that the second judge sees: those of the first n persona-scenes.

    Parameters
    ----------
    texts : DataFrame
        From `planted_controls`.
    n : int
        How many persona-scenes; all rows if there are not more.

    Returns
    -------
    DataFrame
        With the original index.
    """
    if n < 1:
        raise KitError(f"N_SECOND = {n} must be at least 1; SECOND_JUDGE = '' asks none.")
    return texts[texts["item"].isin(sorted(set(texts["item"]))[:n])]


def check_texts(texts: pd.DataFrame) -> None:
    """Refuse a frame of texts that cannot be judged, in one line that names the row."""
    for column in ("item", "emotion", "text"):
        if column not in texts:
            raise KitError(f"The texts lack the column {column!r}; they have {list(texts)}.")
        empty = texts[column].isna() | (texts[column].astype(str).str.strip() == "")
        if empty.any():
            raise KitError(f"Row {int(empty.argmax()) + 1} of the texts has no {column}.")
    if texts.empty:
        raise KitError("There are no texts to judge; run the notebook that writes them first.")


def _spoil(row: dict, kind: str, name: tuple, emotions: Sequence[str]) -> list[dict]:
    words, gap = _split_words(row["text"])
    if kind == "broken_grammar":
        damaged = gap.join(_break_grammar(words))
    else:
        order = sorted(range(len(words)), key=lambda k: _fraction(*name, k))
        damaged = gap.join(words[k] for k in order)
    if kind != "wrong_label" and damaged != gap.join(words):
        return [{"control": kind, "written_for": row["emotion"], "text": damaged}]
    close = _CLOSE if row["emotion"] in _CLOSE else {row["emotion"]}
    others = [emotion for emotion in emotions if emotion not in close]
    if not others:
        return []
    wrong = max(others, key=lambda other: _fraction(*name, other))
    return [{"control": "wrong_label", "written_for": row["emotion"], "emotion": wrong}]


def _split_words(text: str) -> tuple[list[str], str]:
    """Return the words and what joins them; pairs of characters where a script has no spaces."""
    words = text.split()
    if len(words) < 3 and re.search(r"[\u3040-\u30ff\u4e00-\u9fff\u0e00-\u0e7f]", text):
        return re.findall(r".{1,2}", "".join(words)), ""
    return words, " "


def _break_grammar(words: Sequence[str]) -> list[str]:
    broken = []
    for word in words:
        bare, tail = re.fullmatch(r"(.*?)(\W*)", word, flags=re.DOTALL).groups()
        plain = bare.lower().replace("’", "'")
        if plain in _ARTICLES:
            continue
        wrong = _DISAGREEING.get(plain)
        if wrong and bare[0].isupper():
            wrong = wrong.capitalize()
        broken.append((wrong or bare) + tail)
    k = 1
    while k < len(broken) - 1:
        if broken[k][-1].isalnum() and broken[k + 1][-1].isalnum():
            broken[k], broken[k + 1] = broken[k + 1], broken[k]
            k += 4
        k += 1
    return broken


def _fraction(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone, on every machine."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:6]) / 2**48


def judge_requests(texts: pd.DataFrame, *, model: str = "gpt-4o", repeat: int = 0) -> list[Request]:
    """Render one request per text: its designated emotion and the text, nothing of the persona.

    Parameters
    ----------
    texts : DataFrame
        As returned by `planted_controls`, or any frame with item, emotion and text.
    model : str
        The judge (paper: GPT-4o).
    repeat : int
        0 for a first judge, and for a second one of another name; 1 when the same model is to
        look a second time.

    Returns
    -------
    list of Request
        In the order of the rows; temperature 0, structured as `Scores`.
    """
    check_texts(texts)
    glosses = _glosses()
    return [
        Request(
            kind="score",
            messages=prompts.render(
                "judge",
                {
                    "emotion": row["emotion"],
                    "gloss": glosses.get(row["emotion"]),
                    "text": " ".join(row["text"].split()),
                },
            ),
            model=model,
            temperature=0.0,
            schema=Scores,
            max_tokens=80,
            sample=repeat,
            meta={
                "method": row.get("method"),
                "emotion": row["emotion"],
                "language": row.get("language"),
                "item": row["item"],
                "control": row["control"] if pd.notna(row.get("control")) else None,
                "attributes": {},
            },
        )
        for row in texts.to_dict("records")
    ]


async def judge(
    client: Client, texts: pd.DataFrame, *, model: str = "gpt-4o", repeat: int = 0
) -> pd.DataFrame:
    """Have texts scored.

    Parameters
    ----------
    client : Client
    texts : DataFrame
        As returned by `planted_controls`, or any frame with item, emotion and text.
    model, repeat : str, int
        As in `judge_requests`.

    Returns
    -------
    DataFrame
        The rows of `texts` in their order: method, language, item, emotion, written_for, control,
        text, the four scores (Int64; missing where nobody scored), and the reply's provenance:
        match, model (as the reply reports it), key, error.

    Raises
    ------
    KitError
        If not a single text was scored; while requests are being collected for export, that is no
        error. Scores are never taken from a similar text.
    """
    requests = judge_requests(texts, model=model, repeat=repeat)
    replies = await client.ask(requests, desc="scores")
    known = ("method", "language", "item", "emotion", "written_for", "control", "text")
    scored = texts[[name for name in known if name in texts]].reset_index(drop=True)
    if "control" not in scored:
        scored = scored.assign(control=pd.Series(index=scored.index, dtype="str"))
    for name in CRITERIA:
        values = [getattr(reply.parsed, name, None) for reply in replies]
        scored[name] = pd.array(values, dtype="Int64")
    for name in ("match", "model", "error"):
        values = [getattr(reply, name) for reply in replies]
        scored[name] = pd.Series(values, dtype="str")
    scored["key"] = [request.key for request in requests]
    if scored[list(CRITERIA)].isna().all(axis=None) and client.backend != "export":
        reason = next((reply.error for reply in replies if reply.error), "they are not recorded")
        raise KitError(
            f"None of the {len(texts)} texts was scored by {model} ({reason}). Set BACKEND = "
            f"'openai' to have a live model score them; recorded scores are never borrowed from "
            f"similar texts."
        )
    return scored


def _glosses() -> dict[str, str]:
    """Return the gloss of every emotion the kit knows; a user's own label goes without one."""
    table = pd.read_csv(prompts.PROMPTS / "emotions.csv", dtype=str, keep_default_na=False)
    return dict(zip(table["emotion"], table["gloss"], strict=True))
