"""How do the methods' corpora compare on the surface? Length, vocabulary, openings, cost (RQ3).

Gold stands beside them as numbers only: its texts are never shown.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd

from personagen_utils.chat import Request
from personagen_utils.costs import estimate_prompt, estimate_tokens, price_of
from personagen_utils.intervals import jackknife
from personagen_utils.repetition import distinct_2

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation and emoji."""
    return _WORD.findall(text.lower())


def describe_corpus(texts: pd.DataFrame, method: str, *, seed: int = 0) -> pd.DataFrame:
    """Measure the surface of one corpus.

    Parameters
    ----------
    texts : DataFrame
        Columns text, emotion and item.
    method : str
        Name of the rows.
    seed : int
        Of the jackknife groups.

    Returns
    -------
    DataFrame
        Tidy rows: words (mean and standard deviation), vocabulary (different words among the
        first 5,000), distinct-2, share of the most common four-word opening, share of texts that
        name their own emotion, and share in lower case throughout; means with a 95 % jackknife
        interval over items.
    """
    tokens = [words_of(text) for text in texts["text"]]
    items = texts["item"].to_numpy()
    lengths = np.array([len(words) for words in tokens], dtype=float)
    named = np.array(
        [emotion in words for emotion, words in zip(texts["emotion"], tokens, strict=True)]
    )
    lower = np.array([text == text.lower() for text in texts["text"]])
    openings = Counter(tuple(words[:4]) for words in tokens if len(words) >= 4)
    running = [word for words in tokens for word in words][:5000]
    rows = []
    for metric, values in (
        ("words per text", lengths),
        ("names its emotion, share", named.astype(float)),
        ("lower case only, share", lower.astype(float)),
    ):
        mean = jackknife(lambda kept, v=values: float(v[kept].mean()), items, seed=seed)
        low, high = mean.low, mean.high
        if metric.endswith("share") and low is not None:
            low, high = max(low, 0.0), min(high, 1.0)
        rows.append((metric, method, mean.value, low, high, len(texts)))
    rows += [
        ("words per text, sd", method, float(lengths.std(ddof=1)), None, None, len(texts)),
        ("vocabulary of 5,000 words", method, len(set(running)), None, None, len(running)),
        ("distinct-2", method, distinct_2(texts["text"].tolist()), None, None, len(texts)),
        (
            "most common four-word opening, share",
            method,
            max(openings.values(), default=0) / len(texts),
            None,
            None,
            len(texts),
        ),
    ]
    return pd.DataFrame(rows, columns=["metric", "method", "value", "low", "high", "n"])


def cost_per_text(
    requests: Sequence[Request], accepted: pd.DataFrame, method: str, *, model: str
) -> pd.DataFrame:
    """Estimate what one accepted text costs, everything that was asked for it included.

    Parameters
    ----------
    requests : sequence of Request
        All requests of the method: verdicts, texts, and texts that were filtered.
    accepted : DataFrame
        The texts kept.
    method : str
    model : str
        Whose price counts.

    Returns
    -------
    DataFrame
        Tidy rows: requests, prompt tokens and dollars per accepted text. Tokens are estimated
        from the number of characters; replies are taken to be as long as the accepted texts.
    """
    n = len(accepted)
    prompt = sum(estimate_prompt(request) for request in requests) / n
    reply = float(np.mean([estimate_tokens(text) for text in accepted["text"]]))
    asked = len(requests) / n
    rows = [("requests per text", asked), ("prompt tokens per text (estimate)", prompt)]
    if (price := price_of(model)) is not None:
        cents = 100 * 100 * price.usd(prompt, asked * reply)
        rows.append(("US cents per 100 texts (estimate)", cents))
    frame = pd.DataFrame(rows, columns=["metric", "value"])
    return frame.assign(method=method, low=None, high=None, n=n)
