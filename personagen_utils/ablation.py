"""Which stage buys what? The same persona-scenes, told to the writer rung by rung (notebook 11).

The lowest rung is the plain prompt, the highest PersonaGen itself; those between leave out the
later stages and keep every other line of the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from personagen_utils.baselines import plain_requests, tweet_requests
from personagen_utils.chat import Request
from personagen_utils.diversity import mean_cosine_distance, vendi_score
from personagen_utils.diversity_tables import centroids
from personagen_utils.errors import KitError
from personagen_utils.intervals import Interval, jackknife
from personagen_utils.repetition import distinct_2_of
from personagen_utils.separability import held_out_predictions
from personagen_utils.tables import BASE, PERSONA, Tables

RUNGS = ("emotion only", "+ base persona", "+ background", "+ scene and style")
STEPS = tuple(zip(RUNGS[1:], RUNGS[:-1], strict=True))  # each rung with the one below
Statistic = Callable[[np.ndarray], float]
_KNOWN = {"+ base persona": BASE, "+ background": PERSONA}


def rung_requests(
    tables: Tables,
    scenes: pd.DataFrame,
    emotions: Sequence[str],
    rung: str,
    *,
    seed: int,
    language: str,
    model: str,
    temperature: float,
) -> list[Request]:
    """Ask for one text per persona-scene and emotion, with what one rung knows.

    Parameters
    ----------
    tables : Tables
    scenes : DataFrame
        Accepted persona-scenes of the tweet study.
    emotions : sequence of str
    rung : str
        One of `RUNGS`.
    seed, language, model, temperature
        As for the other methods.

    Returns
    -------
    list of Request, length len(scenes) * len(emotions)
        The k-th text of an emotion on one rung answers to the k-th on every other, also on the
        lowest, which knows no person.
    """
    how = {"seed": seed, "language": language, "model": model, "temperature": temperature}
    if rung == RUNGS[0]:
        return plain_requests(len(scenes), emotions, **how)
    if rung == RUNGS[-1]:
        return tweet_requests(tables, scenes, emotions, **how)
    if rung not in _KNOWN:
        raise KitError(f"The ablation has no rung {rung!r}; its rungs are {', '.join(RUNGS)}.")
    return tweet_requests(
        tables, scenes, emotions, prompt="ablation", method=rung, known=_KNOWN[rung], **how
    )


def paired(texts: pd.DataFrame) -> pd.DataFrame:
    """Return the texts of all rungs in one order, numbered so that those of one scene share it.

    Parameters
    ----------
    texts : DataFrame
        Columns rung, item, emotion and text.

    Returns
    -------
    DataFrame
        Sorted by rung, emotion and item, with the column scene (0 to n - 1 on every rung); only
        texts that every rung has.
    """
    texts = texts.reset_index(drop=True)
    scene = texts.groupby("rung", sort=False)["item"].rank("dense").astype(int) - 1
    texts = texts.assign(scene=scene)
    rungs = texts["rung"].nunique()
    both = texts.groupby(["scene", "emotion"])["rung"].transform("nunique") == rungs
    order = {rung: k for k, rung in enumerate(RUNGS)}
    return (
        texts[both]
        .assign(order=texts["rung"].map(order))
        .sort_values(["order", "emotion", "scene"], ignore_index=True)
        .drop(columns="order")
    )


def own_measures(texts: pd.DataFrame, vectors: np.ndarray, *, seed: int = 0) -> pd.DataFrame:
    """Measure each rung by itself (RQ1), and each step between two rungs, paired by scene.

    Parameters
    ----------
    texts : DataFrame
        From `paired`.
    vectors : ndarray, shape (n, d)
        Their unit vectors.
    seed : int
        Of jackknife groups and folds.

    Returns
    -------
    DataFrame
        Tidy rows ``metric, method, value, low, high, n``: ``method`` is a rung, or
        ``"rung - rung below"`` for a step. MCD and the Vendi score are means over the emotions;
        macro F1 is that of a logistic regression on folds of whole scenes.
    """
    known: dict[str, dict[str, Statistic]] = {}
    for rung, at in texts.groupby("rung", sort=False).indices.items():
        known[rung] = _statistics(texts.iloc[at], vectors[at], seed)
        scenes = texts["scene"].to_numpy()[at]
    rows = []
    names = list(known)
    with threadpool_limits(1):
        for k, rung in enumerate(names):
            for metric, statistic in known[rung].items():
                found = jackknife(statistic, scenes, seed=seed)
                rows.append(_row(metric, rung, found))
                if k == 0:
                    continue
                below = known[names[k - 1]][metric]
                found = jackknife(
                    lambda kept, a=statistic, b=below: a(kept) - b(kept), scenes, seed=seed
                )
                rows.append(_row(metric, f"{rung} - {names[k - 1]}", found))
    return pd.DataFrame(rows)


def _row(metric: str, method: str, found: Interval) -> dict[str, object]:
    return {
        "metric": metric,
        "method": method,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "n": found.n,
    }


def _statistics(texts: pd.DataFrame, x: np.ndarray, seed: int) -> dict[str, Statistic]:
    emotion = texts["emotion"].to_numpy()
    scene = texts["scene"].to_numpy()
    guess = held_out_predictions(
        x, emotion, model="logistic regression", items=scene, splits=5, seed=seed
    ).sort_values("row")["predicted"]
    guess = guess.to_numpy()
    length = texts["text"].str.split().str.len().to_numpy(float)

    def over_emotions(measure: Callable[[np.ndarray], float]) -> Statistic:
        return lambda kept: float(
            np.mean([measure(x[kept[emotion[kept] == e]]) for e in np.unique(emotion)])
        )

    return {
        "MCD": over_emotions(mean_cosine_distance),
        "Vendi score": over_emotions(vendi_score),
        "CD": centroids(x, texts.assign(item=scene)),
        "distinct-2": distinct_2_of(texts["text"].tolist()),
        "words per text, sd": lambda kept: float(length[kept].std(ddof=1)),
        "macro F1, in domain": lambda kept: float(
            f1_score(emotion[kept], guess[kept], average="macro")
        ),
    }
