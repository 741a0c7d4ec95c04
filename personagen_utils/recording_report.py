"""Are the recorded texts as good as a recording must be?

For each method: one valid reply per request, no copies, no shared openings, varied words, lengths
that follow the style, emotions that can be told apart, and neighbours to read. The distinctness
figures are gates for PersonaGen; for every other method they are results.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagen_utils.embedding import CACHE, embed
from personagen_utils.errors import KitError
from personagen_utils.expression import form_problem
from personagen_utils.paths import resolve, shown
from personagen_utils.repetition import distinct_2, near_duplicates
from personagen_utils.replay import RECORDINGS, Recorded, load_recordings, read_recording
from personagen_utils.separability import held_out_predictions

GATED = ("PersonaGen", "PersonaGen tweets")
GATES = {  # metric: (at least, at most)
    "equal texts": (0, 0),
    "near-duplicates (cosine >= .95), share": (0, 0.005),
    "most common four-word opening, share": (0, 0.01),
    "distinct-2 of the first 3,000": (0.45, 1),
}
NAMING = {  # forms of an emotion's own word, where they are not the word and an ending
    "anger": "anger|angr(?:y|ily|ier)",
    "sadness": "sad",
    "pleasure": "pleas(?:ure|ed|ant|ing)",
    "surprise": "surpris",
    "love": "lov(?:e|ing)",
}


def recording_report(
    name: str = "all",
    *,
    recordings: str | Path = RECORDINGS,
    cache: str | Path | None = CACHE,
    seed: int = 0,
) -> pd.DataFrame:
    """Say what a recording is like.

    Parameters
    ----------
    name : str
        ``NAME`` of NAME.jsonl.gz, or "all".
    recordings : str or Path
        The folder.
    cache : str, Path or None
        Of the embeddings.
    seed : int
        Of the 80/20 split.

    Returns
    -------
    DataFrame
        Columns method, metric, group (an emotion or a style), value, n, gate ("passed" or
        "failed" where a gate exists). Lengths are in characters, shares between 0 and 1.

    Raises
    ------
    KitError
        When the recording does not exist.
    """
    rows: list[dict[str, Any]] = []
    for (kind, method), members in _methods(name, recordings).items():
        sound = [_is_sound(row) for row in members]
        figures = [("replies", "", len(members), len(members))]
        figures += [("valid, share", "", float(np.mean(sound)), len(members))]
        said = [text for text in map(_said, members) if text is not None]
        if said:
            vectors = embed(said, cache=cache)
            figures += _distinctness(said, vectors)
            figures += _text_figures(members, said, vectors, seed)
        for metric, group, value, n in figures:
            row = {"method": method if said else f"{method} ({kind})", "metric": metric}
            gate = _gate(method, metric, value)
            rows.append(row | {"group": group, "value": value, "n": n, "gate": gate})
    return pd.DataFrame(rows, columns=["method", "metric", "group", "value", "n", "gate"])


def recording_gates(
    *, recordings: str | Path = RECORDINGS, cache: str | Path | None = CACHE
) -> pd.DataFrame:
    """Return the gates of PersonaGen's recorded texts alone: the rows of `recording_report`."""
    rows = []
    for (kind, method), members in _methods("all", recordings).items():
        if method in GATED and kind == "text":
            said = [text for text in map(_said, members) if text is not None]
            for metric, group, value, n in _distinctness(said, embed(said, cache=cache)):
                row = {"method": method, "metric": metric, "group": group, "value": value, "n": n}
                rows.append(row | {"gate": _gate(method, metric, value)})
    return pd.DataFrame(rows)


def neighbours_to_read(
    name: str = "all",
    *,
    texts: int = 10,
    neighbours: int = 5,
    recordings: str | Path = RECORDINGS,
    cache: str | Path | None = CACHE,
    seed: int = 0,
) -> pd.DataFrame:
    """Return random texts of each method with their nearest neighbours, for reading.

    Returns
    -------
    DataFrame
        Columns method, text, rank, cosine, neighbour; `texts` times `neighbours` rows a method.
    """
    rows = []
    for (kind, method), members in _methods(name, recordings).items():
        if kind != "text" or len(members) < 2:
            continue
        said = [row.answer.content for row in members]
        vectors = embed(said, cache=cache)
        rng = np.random.default_rng(seed)
        for here in rng.choice(len(said), min(texts, len(said)), replace=False):
            cosine = vectors @ vectors[here]
            cosine[here] = -np.inf
            nearest = np.argsort(-cosine, kind="stable")[: min(neighbours, len(said) - 1)]
            rows += [
                {
                    "method": method,
                    "text": said[here],
                    "rank": rank,
                    "cosine": float(cosine[other]),
                    "neighbour": said[other],
                }
                for rank, other in enumerate(nearest, 1)
            ]
    return pd.DataFrame(rows, columns=["method", "text", "rank", "cosine", "neighbour"])


def most_common_opening(texts: Sequence[str], *, words: int = 4) -> tuple[str, float]:
    """Return the most common opening of so many words and the share of texts that have it.

    >>> most_common_opening(["I am so glad, Mum.", "I am so glad!", "No."])
    ('i am so glad', 0.6666666666666666)
    """
    openings = Counter(" ".join(re.findall(r"[\w'’]+", t.lower())[:words]) for t in texts)
    opening, count = openings.most_common(1)[0]
    return opening, count / len(texts)


def _methods(name: str, recordings: str | Path) -> dict[tuple[str, str], list[Recorded]]:
    """Group the rows of one or all recordings by kind and method."""
    if name == "all":
        rows = load_recordings(recordings).rows
    else:
        path = resolve(recordings) / f"{name}.jsonl.gz"
        if not path.exists():
            raise KitError(f"{shown(path)} does not exist: name a recording, or 'all'.")
        rows = [row for row, _ in read_recording(path)]
    groups: dict[tuple[str, str], list[Recorded]] = {}
    for row in rows:
        groups.setdefault((row.note["kind"], row.note.get("method") or ""), []).append(row)
    return groups


def _is_sound(row: Recorded) -> bool:
    """Tell whether a recorded reply still keeps its form."""
    if row.answer.problem():
        return False
    if row.note["kind"] == "text":
        return form_problem(row.answer.content, row.note.get("language") or "English") is None
    try:
        return isinstance(json.loads(row.answer.content), dict)
    except ValueError:
        return False


def _said(row: Recorded) -> str | None:
    """Return the text of a reply: all of it, or what came with its own score; None if neither."""
    if row.note["kind"] == "text":
        return row.answer.content
    try:
        return json.loads(row.answer.content).get("text")
    except (ValueError, AttributeError):
        return None


def _distinctness(texts: list[str], vectors: np.ndarray) -> list[tuple[str, str, float, int]]:
    """Return (metric, group, value, n) of the measures that are gates for PersonaGen."""
    n = len(texts)
    opening, share = most_common_opening(texts)
    figures = [
        ("equal texts", "", n - len({text.casefold() for text in texts}), n),
        ("most common four-word opening, share", opening, share, n),
        ("distinct-2 of the first 3,000", "", distinct_2(texts[:3000]), min(n, 3000)),
    ]
    if n > 1:
        same = near_duplicates(vectors)
        figures.append(("near-duplicates (cosine >= .95), share", "", same, n))
    return figures


def _text_figures(
    members: list[Recorded], texts: list[str], vectors: np.ndarray, seed: int
) -> list[tuple[str, str, float, int]]:
    """Return (metric, group, value, n) of what else is to be known of one method's texts."""
    members = [row for row in members if _said(row) is not None]
    emotions, n = [row.note.get("emotion") or "" for row in members], len(texts)
    figures: list[tuple[str, str, float, int]] = []
    frame = pd.DataFrame({"emotion": emotions, "length": [len(text) for text in texts]})
    frame["naming"] = [_names(text, own) for text, own in zip(texts, emotions, strict=True)]
    for emotion, part in frame.groupby("emotion"):
        own = part["naming"].mean()
        figures.append(("names its own emotion, share", emotion, own, len(part)))
    attributes = pd.DataFrame([row.note.get("attributes") or {} for row in members])
    for style in [column for column in attributes if column.startswith("style_")]:
        for item, length in frame["length"].groupby(attributes[style]):
            label = f"{style.removeprefix('style_')}: {item}"
            figures.append(("length, mean", label, length.mean(), len(length)))
            figures.append(("length, standard deviation", label, length.std(), len(length)))
    figures.append(("length, mean", "", frame["length"].mean(), n))
    figures.append(("length, standard deviation", "", frame["length"].std(), n))
    counts = Counter(emotions)
    if len(counts) > 1 and min(counts.values()) >= 5:
        told = held_out_predictions(vectors, emotions, splits=1, seed=seed, jobs=1)
        right = (told["truth"] == told["predicted"]).mean()
        figures.append(("in-domain 80/20 accuracy", "", float(right), len(told)))
    return figures


def _names(text: str, emotion: str) -> bool:
    """Tell whether an English text names its own emotion, in any form of the word."""
    if not emotion:
        return False
    form = NAMING.get(emotion, re.escape(emotion))
    return re.search(rf"\b(?:{form})", text, flags=re.IGNORECASE) is not None


def _gate(method: str, metric: str, value: float) -> str:
    if method not in GATED or metric not in GATES:
        return ""
    least, most = GATES[metric]
    return "passed" if least <= value <= most else "failed"
