"""Do generated and gold texts fill the same bins? PRD, KL and HC of Table VI.

PRD sorts both sets into common clusters, KL and HC sort their cosines (or their coordinates)
into common histograms; each then compares shares. `X` holds the generated texts, shape (n, d),
`gold` the people's, shape (m, d), both as unit vectors in any order of rows.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from personagen_utils.errors import KitError
from personagen_utils.similarity import CHUNK, row_order

BINS = 20

# --- PRD -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PRD:
    """A precision-recall curve of two distributions and its two summaries.

    Attributes
    ----------
    precision, recall : ndarray, shape (angles,)
        Mean curve over the runs; precision is lost where generated texts lie away from gold,
        recall where gold lies away from them.
    f8, f1_8 : float
        Largest F-beta on the curve for beta 8 (weighs recall) and 1/8 (weighs precision).
    """

    precision: np.ndarray
    recall: np.ndarray
    f8: float
    f1_8: float


def prd_curve(
    shares: np.ndarray, gold_shares: np.ndarray, *, angles: int = 1001
) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall of one discrete distribution against another.

    For slopes ``l = tan(angle)``, precision is ``sum_i min(l * gold_i, shares_i)`` and recall is
    precision / l (Sajjadi et al. 2018, eq. 6 to 8).

    Parameters
    ----------
    shares, gold_shares : ndarray, shape (k,)
        Shares of the generated and the gold texts in each cluster.
    """
    slope = np.tan(np.linspace(1e-10, np.pi / 2 - 1e-10, angles))
    precision = np.minimum(slope[:, None] * gold_shares, shares).sum(axis=1)
    return np.clip(precision, 0, 1), np.clip(precision / slope, 0, 1)


def f_beta(precision: np.ndarray, recall: np.ndarray, beta: float) -> float:
    """Return the largest F-beta on a curve."""
    return float(
        ((1 + beta**2) * precision * recall / (beta**2 * precision + recall + 1e-10)).max()
    )


@threadpool_limits.wrap(limits=1)  # small products: threads would wait for one another
def joint_clusters(
    X: np.ndarray, gold: np.ndarray, *, clusters: int = 20, runs: int = 10
) -> tuple[np.ndarray, np.ndarray]:
    """Cluster both sets together, `runs` times over.

    Returns
    -------
    tuple of ndarray
        Cluster numbers of the rows of X, shape (runs, n), and of gold, shape (runs, m).

    Raises
    ------
    KitError
        When the sets differ in size: the clusters would follow the larger one.
    """
    if len(X) != len(gold):
        raise KitError(
            f"PRD needs equally many texts on both sides, here are {len(X)} and {len(gold)}. "
            "Take the same number per emotion from both."
        )
    both = np.concatenate([X, gold]).astype(np.float32)
    order = row_order(both)
    found = np.empty((runs, len(both)), dtype=np.int32)
    for run in range(runs):
        means = MiniBatchKMeans(clusters, n_init=10, random_state=run)
        found[run, order] = means.fit(both[order]).labels_
    return found[:, : len(X)], found[:, len(X) :]


def prd_of_clusters(found: np.ndarray, gold_found: np.ndarray, *, clusters: int = 20) -> PRD:
    """Return the mean curve over runs of clusterings, from `joint_clusters`."""
    curves = [
        prd_curve(
            np.bincount(a, minlength=clusters) / len(a), np.bincount(b, minlength=clusters) / len(b)
        )
        for a, b in zip(found, gold_found, strict=True)
    ]
    precision, recall = np.mean(curves, axis=0)
    return PRD(precision, recall, f_beta(precision, recall, 8), f_beta(precision, recall, 1 / 8))


def prd(X: np.ndarray, gold: np.ndarray, *, clusters: int = 20, runs: int = 10) -> PRD:
    """Return precision and recall of the generated distribution against gold (PRD).

    Both sets, equal in size, are clustered together by mini-batch k-means; the shares per
    cluster give a curve; curves are averaged over runs.

    Notes
    -----
    Sajjadi et al. 2018 (arXiv:1806.00035): k = 20, 10 starts, 1,001 angles, 10 runs, as in the
    authors' implementation. The paper prints "PRD-F-beta (beta = 8)", which is `f8`.
    """
    return prd_of_clusters(
        *joint_clusters(X, gold, clusters=clusters, runs=runs), clusters=clusters
    )


# --- KL and HC -------------------------------------------------------------------------------


def compare_histograms(
    gold_counts: np.ndarray, counts: np.ndarray, *, epsilon: float = 1e-12
) -> tuple[np.ndarray, np.ndarray]:
    """Return KL(gold || generated) in nats and the cosine of two histograms (over the last axis).

    `epsilon` is added to every share, so that a bin that one side leaves empty stays finite.
    """
    p, q = (c / c.sum(axis=-1, keepdims=True) + epsilon for c in (gold_counts, counts))
    cosine = (p * q).sum(-1) / np.sqrt((p * p).sum(-1) * (q * q).sum(-1))
    return stats.entropy(p, q, axis=-1), cosine


def cosine_range(*sets: np.ndarray) -> tuple[float, float]:
    """Return the smallest and largest cosine of two different rows within any one set."""
    low, high = np.inf, -np.inf
    for Z in sets:
        for start in range(0, len(Z), CHUNK):
            C = Z[start : start + CHUNK] @ Z[start:].T
            low = min(low, float(C.min()))
            np.fill_diagonal(C, -np.inf)
            high = max(high, float(C.max()))
    return low, high


def cosine_counts(X: np.ndarray, low: float, high: float, *, bins: int = BINS) -> np.ndarray:
    """Return the histogram of the cosines of all unordered pairs of rows, shape (bins,)."""
    counts = np.zeros(bins)
    for start in range(0, len(X), CHUNK):
        part = X[start : start + CHUNK]
        k = len(part)
        counts += bin_counts((part @ part.T)[np.triu_indices(k, 1)], low, high, bins=bins)
        if start + k < len(X):
            counts += bin_counts(part @ X[start + k :].T, low, high, bins=bins)
    return counts


def bin_counts(values: np.ndarray, low: float, high: float, *, bins: int = BINS) -> np.ndarray:
    """Return counts in equal bins between low and high, the last bin closed; shape (bins,)."""
    scaled = (values.ravel() - np.float32(low)) * np.float32(bins / (high - low))
    return np.bincount(np.clip(scaled.astype(np.int32), 0, bins - 1), minlength=bins).astype(float)


def kl_hc(X: np.ndarray, gold: np.ndarray, *, bins: int = BINS) -> tuple[float, float]:
    """Return KL and HC of the within-set cosines (Table VI as inferred; sees spread, not place).

    Histograms of all within-set pairwise cosines, gold against generated, in 20 bins over their
    shared range: Kullback-Leibler divergence of generated from gold in nats (lower is closer) and
    the cosine of the two histograms (higher is closer).

    Parameters
    ----------
    X, gold : ndarray, shapes (n, d) and (m, d)
        Unit vectors. Memory grows with n, not with n squared.
    """
    low, high = cosine_range(X, gold)
    counts = [cosine_counts(Z, low, high, bins=bins) for Z in (gold, X)]
    kl, hc = compare_histograms(*counts)
    return float(kl), float(hc)


def dimension_bins(X: np.ndarray, gold: np.ndarray, *, bins: int = BINS) -> list[np.ndarray]:
    """Return, for X and gold, the bin of each value in its dimension's shared range, (n, d)."""
    low = np.minimum(X.min(0), gold.min(0))
    width = np.maximum(X.max(0), gold.max(0)) - low
    width[width == 0] = 1
    return [np.clip(((Z - low) / width * bins).astype(np.int32), 0, bins - 1) for Z in (X, gold)]


def dimension_counts(binned: np.ndarray, *, bins: int = BINS) -> np.ndarray:
    """Return the histogram of each dimension, shape (d, bins), of bin numbers of shape (n, d)."""
    d = binned.shape[1]
    flat = np.bincount((binned + bins * np.arange(d)).ravel(), minlength=d * bins)
    return flat.reshape(d, bins).astype(float)


def kl_hc_dimensions(X: np.ndarray, gold: np.ndarray, *, bins: int = BINS) -> tuple[float, float]:
    """Return KL and HC of the embedding's dimensions, the mean over all of them.

    20 shared bins per dimension, 1e-3 added to each share. Unlike `kl_hc` it sees where the
    texts lie.
    """
    counts = [dimension_counts(b, bins=bins) for b in dimension_bins(X, gold, bins=bins)]
    kl, hc = compare_histograms(counts[1], counts[0], epsilon=1e-3)
    return float(kl.mean()), float(hc.mean())
