"""RQ1: where does diversity come from? The measures by persona group, the attributes' shares."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from personagen_utils import diversity
from personagen_utils.diversity_tables import (
    COLUMNS,
    aligned,
    centroids,
    column_of,
    per_emotion,
    row,
    statistics,
)
from personagen_utils.errors import KitError
from personagen_utils.intervals import GROUPS, Interval, assign_groups, jackknife

AT_EQUAL_N = ("Vendi score", "distinct-2", "near-duplicates")


def diversity_by(
    texts: pd.DataFrame,
    vectors: np.ndarray,
    *,
    by: str,
    least: int = 20,
    groups: int = GROUPS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return diversity within each persona group, for example by age or by style register.

    Parameters
    ----------
    texts, vectors
        As in :func:`diversity_table`.
    by : str
        Column that names the group of each text.
    least : int
        Persona-scenes a group must have; smaller groups come with n and no value.
    groups, seed : int
        As in :func:`diversity_table`.

    Returns
    -------
    DataFrame
        Tidy rows with `group`: MCD (mean over emotions, pairs of the same emotion only) and CD at
        the group's full n, both unbiased in n; Vendi score, distinct-2 and near-duplicates (means
        over emotions) depend on n and are taken at the n of the smallest group, a fixed sample of
        persona-scenes, which their `n` says.
    """
    texts, u = aligned(texts, vectors)
    scenes = texts.groupby(column_of(texts, by))["item"].nunique()
    large = scenes[scenes >= least]
    if large.empty:
        raise KitError(f"diversity_by: no group of {by!r} has {least} persona-scenes; lower least.")
    rows = []
    for level, count in scenes.items():
        at = np.flatnonzero(texts[by] == level)
        if count < least:
            nothing = Interval(None, None, None, None, len(at))
            rows.append(row("MCD", nothing, group=level, interval=None))
            continue
        item = texts["item"].to_numpy()
        sample = at[np.isin(item[at], _some(item[at], int(large.min()), seed))]
        wanted = [("MCD", at), *((metric, sample) for metric in AT_EQUAL_N)]
        if texts["emotion"].iloc[at].nunique() > 1:
            wanted.insert(1, ("CD", at))
        for metric, chosen in wanted:
            group = assign_groups(item[chosen], groups=groups, seed=seed)
            statistic = _mean_over_emotions(metric, texts.iloc[chosen], u[chosen], group)
            result = jackknife(statistic, item[chosen], groups=groups, seed=seed)
            rows.append(row(metric, result, group=level))
    return pd.DataFrame(rows, columns=COLUMNS)


def diversity_sources(
    texts: pd.DataFrame,
    vectors: np.ndarray,
    *,
    columns: Sequence[str],
    groups: int = GROUPS,
    seed: int = 0,
) -> pd.DataFrame:
    """Return which share of the diversity inside an emotion goes with each attribute.

    For an attribute, ``1 - D_within / D``: D is MCD over all pairs of an emotion, D_within over
    pairs that agree in the attribute; mean over emotions. 0 means that texts of one level are as
    far apart as any, 1 that a level says the same thing always.

    Parameters
    ----------
    texts, vectors
        As in :func:`diversity_table`.
    columns : sequence of str
        Attributes, for example ``["age", "occupation", "style_register"]``.
    groups, seed : int
        As in :func:`diversity_table`.

    Returns
    -------
    DataFrame
        Tidy rows; `group` is the attribute, largest share first.
    """
    texts, u = aligned(texts, vectors)
    emotion = pd.factorize(texts["emotion"])[0]
    rows = []
    for column in columns:
        level = pd.factorize(column_of(texts, column), use_na_sentinel=False)[0]
        if not pd.DataFrame({"emotion": emotion, "level": level}).duplicated().any():
            raise KitError(f"diversity_sources: every text has a {column!r} of its own.")
        result = jackknife(
            _share(u, emotion, level), texts["item"].to_numpy(), groups=groups, seed=seed
        )
        rows.append(row("share of MCD", result, group=column))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.sort_values("value", ascending=False, ignore_index=True)


def _share(u: np.ndarray, emotion: np.ndarray, level: np.ndarray) -> Callable[[np.ndarray], float]:
    def share(kept: np.ndarray) -> float:
        parts = [kept[emotion[kept] == e] for e in np.unique(emotion)]
        within = [_within(u[at], level[at]) for at in parts]
        overall = [diversity.mean_cosine_distance(u[at]) for at in parts]
        there = np.isfinite(within)  # an emotion may have no two texts of one level
        return 1 - float(np.compress(there, within).mean() / np.compress(there, overall).mean())

    return share


def _within(u: np.ndarray, level: np.ndarray) -> float:
    """Mean cosine distance over the pairs that share a level; NaN when there is none."""
    order = np.argsort(level, kind="stable")
    _, start, n = np.unique(level[order], return_index=True, return_counts=True)
    total = np.add.reduceat(u[order], start, axis=0)
    pairs = int((n * (n - 1)).sum())
    return 1 - float((total**2).sum() - len(u)) / pairs if pairs else float("nan")


def _mean_over_emotions(
    metric: str, texts: pd.DataFrame, u: np.ndarray, group: np.ndarray
) -> Callable[[np.ndarray], float]:
    if metric == "CD":
        return centroids(u, texts)
    parts = [
        (at, statistics(texts["text"].iloc[at].tolist(), u[at], group[at])[metric])
        for _, at in per_emotion(texts)
        if len(at) > 1
    ]
    return lambda kept: float(
        np.mean([one(np.flatnonzero(np.isin(at, kept))) for at, one in parts])
    )


def _some(item: np.ndarray, m: int, seed: int) -> np.ndarray:
    distinct = pd.unique(item)
    return distinct[np.random.default_rng(seed).permutation(len(distinct))[:m]]
