"""RQ2: what do the scores say? Means and distributions of the four criteria (Section IV.C, Fig. 4).

Scores of a language model and of human raters go through the same functions, here and in
:mod:`personagen_utils.judge_worth`: each takes the frame that
:func:`personagen_utils.human_likeness.judge` or
:func:`personagen_utils.rating_sheet.read_rating_sheet` returns, of one method, and gives tidy rows
metric, method, criterion, emotion, control, value, low, high, n, reason. `reason` says why a value
or its interval is absent. Intervals are delete-a-group jackknives by persona-scene.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.human_likeness import CONTROLS, CRITERIA
from personagen_utils.intervals import jackknife

COLUMNS = (
    "metric", "method", "criterion", "emotion", "control", "value", "low", "high", "n", "reason",
)  # fmt: skip


def coverage(scored: pd.DataFrame) -> pd.DataFrame:
    """Count the rows that were scored, of those sent to the judge.

    Parameters
    ----------
    scored : DataFrame

    Returns
    -------
    DataFrame
        Tidy rows of metric "scored": `value` of `n` rows got the score; criterion None means all
        four scores. Real texts overall, by criterion and by emotion; controls by kind.
    """
    real = real_texts(scored)
    rows = [_scored_row(real)]
    rows += [_scored_row(real, criterion=name) for name in CRITERIA]
    rows += [_scored_row(part, emotion=emotion) for emotion, part in _by_emotion(real)]
    for kind in CONTROLS:
        rows.append(_scored_row(scored[scored["control"] == kind], control=kind))
    return tidy(rows, scored)


def mean_scores(scored: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return the mean score of each criterion, over all texts and by emotion.

    Parameters
    ----------
    scored : DataFrame
    seed : int
        Seed of the jackknife's groups.

    Returns
    -------
    DataFrame
        Tidy rows of metric "mean score", 1 to 5; `n` texts with this score, controls left out.

    Raises
    ------
    KitError
        If no text has any score.
    """
    real = real_texts(scored)
    if real[list(CRITERIA)].isna().all(axis=None):
        raise KitError("No text has a score; run the judge first.")
    rows = []
    for name in CRITERIA:
        for emotion, part in [(None, real), *_by_emotion(real)]:
            part = part[part[name].notna()]
            x = part[name].to_numpy(float)
            row = {"metric": "mean score", "criterion": name, "emotion": emotion}
            rows.append(row | estimate(lambda k, x=x: x[k].mean(), part, seed, limits=(1, 5)))
    return tidy(rows, scored)


def score_distribution(scored: pd.DataFrame) -> pd.DataFrame:
    """Return what Fig. 4 draws: the share of each score by criterion and emotion.

    Returns
    -------
    DataFrame
        criterion, emotion, score (1 to 5, all five present), value (share), count, n (texts of
        the emotion with this score); controls left out.
    """
    real = real_texts(scored)
    rows = []
    for name in CRITERIA:
        for emotion, part in _by_emotion(real):
            counts = part[name].value_counts()
            n = int(counts.sum())
            for score in range(1, 6):
                count = int(counts.get(score, 0))
                rows.append((name, emotion, score, count / n if n else None, count, n))
    columns = ["criterion", "emotion", "score", "value", "count", "n"]
    return pd.DataFrame(rows, columns=columns)


def real_texts(scored: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that are no planted controls."""
    return scored[scored["control"].isna()]


def _by_emotion(real: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return list(real.groupby("emotion", sort=False))


def _scored_row(part: pd.DataFrame, **at: Any) -> dict[str, Any]:
    wanted = [at["criterion"]] if "criterion" in at else list(CRITERIA)
    value = int(part[wanted].notna().all(axis=1).sum())
    return {"metric": "scored", **at, "value": value, "n": len(part)}


def estimate(
    statistic: Callable[[np.ndarray], float],
    frame: pd.DataFrame,
    seed: int,
    *,
    limits: tuple[float, float],
) -> dict[str, Any]:
    """Return value, low, high and n of a statistic, and the reason where one of them is absent.

    Parameters
    ----------
    statistic : callable
        Maps row numbers of `frame` to a number; NaN where it is undefined.
    frame : DataFrame
        Rows with `item`, the persona-scene.
    seed : int
    limits : (float, float)
        Ends of the scale; no interval reaches beyond.
    """
    n = len(frame)
    if n == 0:
        return {"n": 0, "reason": "no scored text"}
    if frame["item"].nunique() < 2:
        value = float(statistic(np.arange(n)))
        return {"value": value, "n": n, "reason": "no interval from a single persona-scene"}
    found = jackknife(statistic, frame["item"].to_numpy(), seed=seed)
    result = {"value": found.value, "n": n}
    if np.isnan(found.error):
        return result | {"reason": "no interval: undefined when some persona-scenes are left out"}
    if found.error == 0:
        return result | {"reason": "no interval: no spread between persona-scenes"}
    low, high = np.clip([found.low, found.high], *limits)
    return result | {"low": float(low), "high": float(high)}


def tidy(rows: list[dict[str, Any]], scored: pd.DataFrame) -> pd.DataFrame:
    """Return rows as a tidy frame with the name of the method, of which there must be one."""
    methods = list(scored["method"].dropna().unique()) if "method" in scored else []
    if len(methods) > 1:
        raise KitError(f"These are scores of {', '.join(methods)}; take one method at a time.")
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame["method"] = methods[0] if methods else None
    numbers = {"value": float, "low": float, "high": float, "n": int}
    return frame.astype({name: numbers.get(name, "str") for name in COLUMNS})
