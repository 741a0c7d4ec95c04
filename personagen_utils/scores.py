"""How well does a classifier do, and how sure is that? Scores of Tables V and VII, with intervals.

Predictions are tidy: one row per tested text and split, with columns row (the text's identity),
truth, predicted and, where there are several, split. The interval of a score says how it would
move with other test texts of the same kind; the spread over splits is a column of its own.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError

DRAWS = 2000


def bootstrap_weights(
    rows: Sequence[Any] | np.ndarray,
    *,
    clusters: Sequence[Any] | np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray:
    """Return how often each test text is drawn in each bootstrap sample.

    Parameters
    ----------
    rows : sequence, length n
        Identity of each tested text; a text tested in several splits keeps one weight.
    clusters : sequence, length n, optional
        What is drawn as a whole, for example the persona-scene; default: each text by itself.
    draws, seed : int
        Number of samples and their seed.

    Returns
    -------
    ndarray of int16, shape (draws + 1, n)
        Row 0 is all ones, the sample itself.

    Notes
    -----
    Efron, B. & Tibshirani, R. J. (1993). An Introduction to the Bootstrap, ch. 6 and 13.
    """
    codes, distinct = pd.factorize(
        np.asarray(rows if clusters is None else clusters), use_na_sentinel=False
    )
    m = len(distinct)
    if m < 2:
        raise KitError(f"A bootstrap needs at least two test texts; here is {m}.")
    rng = np.random.default_rng(seed)
    counts = np.ones((draws + 1, m), dtype=np.int16)
    for draw in range(1, draws + 1):
        counts[draw] = np.bincount(rng.integers(m, size=m), minlength=m)
    return counts[:, codes]


def classification_draws(
    predictions: pd.DataFrame, weights: np.ndarray, *, labels: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return accuracy, precision, recall and F1 of each bootstrap sample, mean over splits.

    Parameters
    ----------
    predictions : DataFrame
        One row per tested text and split: columns truth, predicted and, optionally, split.
    weights : ndarray, shape (draws + 1, n)
        From :func:`bootstrap_weights`.
    labels : sequence of str
        The k classes, in order.

    Returns
    -------
    dict of ndarray
        ``accuracy`` (draws + 1,); ``precision``, ``recall``, ``F1`` (draws + 1, k + 1), the last
        column being the macro mean. A class that is never predicted has precision 0.
    """
    k, index = len(labels), {label: i for i, label in enumerate(labels)}
    truth, guess = (predictions[name].map(index) for name in ("truth", "predicted"))
    if truth.isna().any() or guess.isna().any():
        raise KitError(f"Predictions hold a label that is none of {', '.join(labels)}.")
    cell = (truth * k + guess).to_numpy().astype(int)
    split = pd.factorize(predictions["split"])[0] if "split" in predictions else np.zeros(len(cell))
    total: dict[str, np.ndarray] = {}
    for s in np.unique(split):
        at = np.flatnonzero(split == s)
        one_hot = np.zeros((len(at), k * k), dtype=np.float32)
        one_hot[np.arange(len(at)), cell[at]] = 1
        counts = (weights[:, at].astype(np.float32) @ one_hot).reshape(-1, k, k).astype(float)
        for name, scores in _scores(counts).items():
            total[name] = total.get(name, 0) + scores
    return {name: scores / len(np.unique(split)) for name, scores in total.items()}


def _scores(counts: np.ndarray) -> dict[str, np.ndarray]:
    hit = np.diagonal(counts, axis1=1, axis2=2)

    def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    predicted, true = counts.sum(axis=1), counts.sum(axis=2)
    scores = {
        "precision": share(hit, predicted),
        "recall": share(hit, true),
        "F1": share(2 * hit, predicted + true),
    }
    scores = {name: np.c_[s, s.mean(axis=1)] for name, s in scores.items()}
    return {"accuracy": share(hit.sum(axis=1), counts.sum(axis=(1, 2))), **scores}


def score_rows(
    predictions: pd.DataFrame,
    *,
    labels: Sequence[str],
    method: str | None = None,
    clusters: Sequence[Any] | np.ndarray | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return per-class and total scores as tidy rows with 95 % bootstrap intervals.

    Parameters
    ----------
    predictions : DataFrame
        Columns row, truth, predicted and, optionally, split.
    labels : sequence of str
        The k classes, in the order of the table.
    method : str, optional
        Name written into each row.
    clusters : sequence, length of `predictions`, optional
        What is drawn as a whole, for example the persona-scene of each text.
    draws, seed : int
        Bootstrap samples and their seed.

    Returns
    -------
    list of dict
        ``metric`` (accuracy, precision, recall, F1), ``method``, ``emotion`` (``total`` for
        accuracy and macro means), ``value``, ``low``, ``high``, ``n`` (distinct test texts),
        ``splits`` and ``sd_splits`` (standard deviation over splits, None for one split).
    """
    rows = predictions["row"] if "row" in predictions else np.arange(len(predictions))
    weights = bootstrap_weights(rows, clusters=clusters, draws=draws, seed=seed)
    sample = classification_draws(predictions, weights, labels=labels)
    split = predictions["split"] if "split" in predictions else pd.Series(0, predictions.index)
    single = [
        classification_draws(part.drop(columns="split", errors="ignore"), ones, labels=labels)
        for _, part in predictions.groupby(split.to_numpy())
        for ones in [np.ones((1, len(part)))]
    ]
    tested = pd.DataFrame({"row": np.asarray(rows), "truth": predictions["truth"].to_numpy()})
    count = tested.drop_duplicates()["truth"].value_counts()
    columns = [(name, k) for name in ("precision", "recall", "F1") for k in range(len(labels) + 1)]
    result = []
    for name, k in [("accuracy", None), *columns]:
        at = (slice(None),) if k is None else (slice(None), k)
        total = k is None or k == len(labels)
        draw, each = sample[name][at], [float(one[name][at][0]) for one in single]
        low, high = np.quantile(draw[1:], [0.025, 0.975])
        result.append(
            {
                "metric": name,
                "method": method,
                "emotion": "total" if total else labels[k],
                "value": float(draw[0]),
                "low": float(low),
                "high": float(high),
                "n": int(count.sum() if total else count.get(labels[k], 0)),
                "splits": len(each),
                "sd_splits": float(np.std(each, ddof=1)) if len(each) > 1 else None,
            }
        )
    return result


def paired_difference(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    labels: Sequence[str],
    metric: str = "accuracy",
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, float]:
    """Return how much better the first method is on the same test texts.

    Parameters
    ----------
    first, second : DataFrame
        Predictions of two methods for the same tests: columns row, truth, predicted and,
        optionally, split. The order of their rows is free.
    labels : sequence of str
        The classes.
    metric : {"accuracy", "precision", "recall", "F1"}
        Macro mean where the metric is per class.
    draws, seed : int
        Bootstrap samples; both methods are scored on the same ones, hence *paired*.

    Returns
    -------
    dict
        value (first minus second), low, high (percentile 95 %), error, p (two-sided), n (texts).

    Raises
    ------
    KitError
        When the two were not tested on the same texts with the same labels.
    """
    by = [name for name in ("split", "row") if name in first]
    first, second = (
        frame.sort_values(by).reset_index(drop=True) if by else frame.reset_index(drop=True)
        for frame in (first, second)
    )
    if not first[[*by, "truth"]].equals(second[[*by, "truth"]]):
        raise KitError("A paired difference needs both methods tested on the same texts.")
    rows = first["row"] if "row" in first else np.arange(len(first))
    weights = bootstrap_weights(rows, draws=draws, seed=seed)
    scores = [classification_draws(f, weights, labels=labels)[metric] for f in (first, second)]
    difference = scores[0] - scores[1]
    if metric != "accuracy":
        difference = difference[:, -1]
    value, sample = difference[0], difference[1:]
    tail = min((sample <= 0).sum(), (sample >= 0).sum())
    low, high = np.quantile(sample, [0.025, 0.975])
    return {
        "value": float(value),
        "low": float(low),
        "high": float(high),
        "error": float(sample.std(ddof=1)),
        "p": float(min(1.0, 2 * (tail + 1) / (draws + 1))),
        "n": int(pd.Series(rows).nunique()),
    }
