"""RQ1's table: the measures of Table IV and their companions with n and interval, and Fig. 2.

The measures themselves are in :mod:`personagen_utils.diversity` and
:mod:`personagen_utils.repetition`. `texts` is a table with one row per text, in the order of
`vectors`: columns text, emotion and, where there are personas, item (the persona-scene) and the
attributes of persona and scene.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from personagen_utils import diversity, repetition
from personagen_utils.errors import KitError
from personagen_utils.intervals import GROUPS, Interval, assign_groups, jackknife
from personagen_utils.memo import cached

COLUMNS = ["metric", "emotion", "group", "value", "low", "high", "error", "n", "interval"]


def diversity_table(
    texts: pd.DataFrame,
    vectors: np.ndarray,
    *,
    groups: int = GROUPS,
    clusterings: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Return Table IV and what stands beside it, each value with n and interval.

    Parameters
    ----------
    texts : DataFrame, n rows
        Columns text, emotion and, optionally, item; without item each text is its own.
    vectors : ndarray, shape (n, d)
        Unit vectors of the texts.
    groups : int
        Groups of persona-scenes that the jackknife leaves out in turn.
    clusterings : int
        KMeans runs behind CE and behind its Gaussian null.
    seed : int
        Seed of groups and clusterings.

    Returns
    -------
    DataFrame
        Tidy rows. Per emotion: MCD, CE, "CE, Gaussian null", Vendi score, distinct-2,
        near-duplicates. Over all: CD and "CD, cosine" (emotion and group are None). `interval`
        says what low and high mean: "jackknife" (95 %, other persona-scenes) or, for CE,
        "clusterings" (2.5 and 97.5 % quantile over KMeans seeds on the same texts: how far the
        value is a matter of the seed, not how it would move with other texts).

    Raises
    ------
    KitError
        For a missing column, lengths that differ, or an emotion with too few texts.
    """
    texts, u = aligned(texts, vectors)
    rows = []
    for emotion, at in per_emotion(texts):
        x, part = u[at], texts.iloc[at]
        diversity.checked(x, least=diversity.K, what="The diversity table", name=emotion)
        item = part["item"].to_numpy()
        group = assign_groups(item, groups=groups, seed=seed)  # those that jackknife leaves out
        seeds = range(seed, seed + clusterings)
        with threadpool_limits(1):  # small matrices: a second thread only gets in the way
            result = {
                metric: jackknife(statistic, item, groups=groups, seed=seed)
                for metric, statistic in statistics(part["text"].tolist(), x, group).items()
            }
            entropy = [diversity.cluster_entropy(x, seed=s) for s in seeds]
            null = [diversity.gaussian_entropy_null(x, seed=s) for s in seeds]
        rows += [
            row("MCD", result.pop("MCD"), emotion=emotion),
            row("CE", _over(entropy, len(x)), emotion=emotion, interval="clusterings"),
            row("CE, Gaussian null", _over(null, len(x)), emotion=emotion, interval="clusterings"),
            *(row(metric, value, emotion=emotion) for metric, value in result.items()),
        ]
    if texts["emotion"].nunique() > 1:
        item = texts["item"].to_numpy()
        for metric, cosine in (("CD", False), ("CD, cosine", True)):
            statistic = centroids(u, texts, cosine=cosine)
            rows.append(row(metric, jackknife(statistic, item, groups=groups, seed=seed)))
    return pd.DataFrame(rows, columns=COLUMNS)


def tsne(vectors: np.ndarray, *, seed: int = 0, max_points: int = 3500) -> pd.DataFrame:
    """Return two t-SNE coordinates per text (Fig. 2), for a fixed sample above `max_points`.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors.
    seed : int
        Seed of the sample and of t-SNE.
    max_points : int
        Largest number of texts that are laid out.

    Returns
    -------
    DataFrame
        Columns row (row number in `vectors`, ascending), x, y. Kept on disk by content.

    Notes
    -----
    van der Maaten, L. & Hinton, G. (2008). JMLR 9. Distances between clusters and their sizes
    carry no meaning; what overlaps and what separates is read from numbers.
    """
    u = diversity.checked(vectors, least=4, what="t-SNE")
    rows = np.arange(len(u))
    if len(u) > max_points:
        rows = np.sort(np.random.default_rng(seed).permutation(len(u))[:max_points])
    return pd.DataFrame({"row": rows}).join(
        pd.DataFrame(_tsne(u[rows].astype(np.float32), seed), columns=["x", "y"])
    )


@cached
def _tsne(vectors: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.manifold import TSNE

    perplexity = min(30, (len(vectors) - 1) / 3)
    return TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(vectors)


# --- parts -----------------------------------------------------------------------------------


def aligned(texts: pd.DataFrame, vectors: np.ndarray) -> tuple[pd.DataFrame, np.ndarray]:
    """Return texts (with an item column) and float64 vectors after checking that they match."""
    for column in ("text", "emotion"):
        column_of(texts, column)
    u = diversity.checked(vectors, least=2, what="Diversity")
    if len(texts) != len(u):
        raise KitError(f"{len(texts)} texts came with {len(u)} vectors; embed the same table.")
    texts = texts.reset_index(drop=True)
    return (texts if "item" in texts else texts.assign(item=texts.index)), u


def column_of(texts: pd.DataFrame, column: str) -> pd.Series:
    """Return a column, or raise a KitError that names those there are."""
    if column not in texts:
        there = ", ".join(map(str, texts.columns))
        raise KitError(f"The texts have no column {column!r}; they have {there}.")
    return texts[column]


def per_emotion(texts: pd.DataFrame) -> list[tuple[str, np.ndarray]]:
    """Return each emotion, in order of appearance, with its row numbers."""
    return [(e, np.flatnonzero(texts["emotion"] == e)) for e in texts["emotion"].unique()]


def statistics(
    texts: list[str], x: np.ndarray, group: np.ndarray
) -> dict[str, Callable[[np.ndarray], float]]:
    """Return, by metric, the function of kept row numbers that a jackknife calls.

    What is slow (word pairs, near neighbours) is found once for all replicates.
    """
    found = repetition.neighbour_groups(x, group)

    def near_duplicates(kept: np.ndarray) -> float:
        return float(found[kept][:, np.unique(group[kept])].any(axis=1).mean())

    return {
        "MCD": lambda kept: diversity.mean_cosine_distance(x[kept]),
        "Vendi score": lambda kept: diversity.vendi_score(x[kept]),
        "distinct-2": repetition.distinct_2_of(texts),
        "near-duplicates": near_duplicates,
    }


def centroids(
    u: np.ndarray, texts: pd.DataFrame, *, cosine: bool = False
) -> Callable[[np.ndarray], float]:
    """Return CD as a function of kept row numbers."""
    label, item = texts["emotion"].to_numpy(), texts["item"].to_numpy()
    return lambda kept: diversity.centroid_distance(
        u[kept], label[kept], items=item[kept], cosine=cosine
    )


def row(
    metric: str,
    result: Interval,
    *,
    emotion: str | None = None,
    group: Any = None,
    interval: str | None = "jackknife",
) -> dict[str, Any]:
    """Return one tidy row; limits stay where the metric can be.

    No near-duplicate among n texts has no spread either: its upper limit is the rule of three,
    3/n (Hanley & Lippman-Hand 1983).
    """
    numbers = {name: getattr(result, name) for name in ("value", "low", "high", "error", "n")}
    if metric != "share of MCD" and numbers["low"] is not None:
        numbers["low"] = max(numbers["low"], 0.0)
    if metric == "near-duplicates" and numbers["value"] == 0:
        numbers["high"] = 3 / numbers["n"]
    return {"metric": metric, "emotion": emotion, "group": group, **numbers, "interval": interval}


def _over(values: list[float], n: int) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
    return Interval(float(np.mean(values)), spread, float(low), float(high), n)
