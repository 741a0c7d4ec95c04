"""RQ1: how diverse are the texts of one emotion, and how far apart are the emotions?

MCD, CE and CD are the measures of Table IV (Section IV.B); the paper names them and the kit pins
what it leaves open; the Vendi score stands beside them. All take unit vectors (n texts, d
dimensions) as :func:`personagen_utils.embedding.embed` returns them.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError

K = 5  # clusters; the published entropies stay below ln 5 = 1.609 and imply it


def mean_cosine_distance(vectors: np.ndarray) -> float:
    """Return MCD: the mean cosine distance over all unordered pairs of texts.

    Closed form on unit vectors, ``1 - (|sum u|^2 - n) / (n (n - 1))``: linear in n, and unbiased,
    so sets of different size compare.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors of one emotion, n >= 2.

    Returns
    -------
    float
        0 for identical texts, 1 for unrelated ones.

    Notes
    -----
    Table IV, column MCD.
    """
    u = checked(vectors, least=2, what="MCD")
    total = u.sum(axis=0)
    n, squares = len(u), np.einsum("ij,ij->", u, u)  # squares is n, up to rounding
    return max(0.0, float(1 - (total @ total - squares) / (n * (n - 1))))


def cluster_entropy(vectors: np.ndarray, *, k: int = K, seed: int = 0, n_init: int = 10) -> float:
    """Return CE: the Shannon entropy, in nats, of the shares of k KMeans clusters.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors of one emotion, n >= k.
    k : int
        Clusters.
    seed, n_init : int
        Seed and restarts of KMeans. The value moves with the seed in the second decimal.

    Returns
    -------
    float
        Between 0 (one cluster holds all) and ln k. Clusters of about equal size are what KMeans
        makes of any round cloud: compare with :func:`gaussian_entropy_null`.

    Notes
    -----
    Table IV, column CE; k = 5 and nats are inferred from the published values.
    """
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    u = checked(vectors, least=k, what="CE", unit=False)
    with warnings.catch_warnings():
        # Fewer distinct texts than clusters: the entropy of the clusters there are is the answer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        member = KMeans(k, n_init=n_init, random_state=seed).fit_predict(u.astype(np.float32))
    share = np.bincount(member, minlength=k) / len(u)
    return float(-(share[share > 0] * np.log(share[share > 0])).sum())


def gaussian_entropy_null(vectors: np.ndarray, *, k: int = K, seed: int = 0) -> float:
    """Return the CE of as many points drawn from one Gaussian with the same mean and covariance.

    What :func:`cluster_entropy` would be without any clusters at all, in nats.
    """
    u = checked(vectors, least=k, what="CE")
    rng, mean = np.random.default_rng(seed), u.mean(axis=0)
    values, axes = np.linalg.eigh(np.cov(u, rowvar=False))
    points = rng.standard_normal(u.shape) * np.sqrt(np.maximum(values, 0)) @ axes.T + mean
    return cluster_entropy(points, k=k, seed=seed)


def centroid_distances(
    vectors: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    items: Sequence[Any] | np.ndarray | None = None,
    cosine: bool = False,
) -> pd.DataFrame:
    """Return the distance between the emotions' centroids, for each pair of emotions.

    A centroid of n texts misses the true one by about sd/sqrt(n), which lengthens every distance;
    that part is estimated and taken off (the squared distance is then unbiased, and cut at 0).

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors.
    labels : sequence of str, length n
        Emotion of each text.
    items : sequence, length n, optional
        Persona-scene of each text. In the crossed design one scene speaks in every emotion, so
        the centroids' errors go together; naming the items takes that into account.
    cosine : bool
        Cosine distance in place of the Euclidean one.

    Returns
    -------
    DataFrame, shape (k, k)
        Symmetric, zero diagonal, labels sorted.

    Notes
    -----
    Debiased, this is the square root of the U-statistic: the mean of ``a.a' + b.b' - 2 a.b`` over
    texts of different items.
    """
    u, labels = checked(vectors, least=2, what="CD"), np.asarray(labels, dtype=object)
    codes = np.arange(len(u)) if items is None else pd.factorize(np.asarray(items))[0]
    if not len(u) == len(labels) == len(codes):
        raise KitError(f"CD: {len(u)} vectors, {len(labels)} labels and {len(codes)} items.")
    names = sorted(set(labels))
    parts = [_residuals(u[labels == e], codes[labels == e], e) for e in names]
    centroids = np.array([part[0] for part in parts])
    covariance = np.array([[_shared(a, b) for b in parts] for a in parts])
    product = centroids @ centroids.T - covariance
    length = np.diag(product)
    if cosine:
        scale = np.sqrt(np.maximum(length, 1e-12))
        distance = 1 - product / np.outer(scale, scale)
    else:
        distance = np.sqrt(np.maximum(length[:, None] + length[None] - 2 * product, 0))
    np.fill_diagonal(distance, 0)
    return pd.DataFrame(distance, index=names, columns=names)


def centroid_distance(
    vectors: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    items: Sequence[Any] | np.ndarray | None = None,
    cosine: bool = False,
) -> float:
    """Return CD: the mean of :func:`centroid_distances` over all pairs of emotions.

    Notes
    -----
    Table IV, column CD. The paper does not say whether it is Euclidean or cosine.
    """
    table = centroid_distances(vectors, labels, items=items, cosine=cosine)
    if len(table) < 2:
        raise KitError(f"CD needs at least two emotions; here is only {table.index[0]!r}.")
    return float(table.to_numpy()[np.triu_indices(len(table), 1)].mean())


def _residuals(u: np.ndarray, codes: np.ndarray, name: str) -> tuple[np.ndarray, ...]:
    """Centroid, items, and the sum of each item's deviations from the centroid, over n."""
    item, start = np.unique(np.sort(codes), return_index=True)
    if len(item) < 2:
        raise KitError(f"CD: emotion {name!r} has texts of {len(item)} item; it needs two.")
    centroid = u.mean(axis=0)
    deviation = (u - centroid)[np.argsort(codes, kind="stable")]
    return centroid, item, np.add.reduceat(deviation, start, axis=0) / len(u)


def _shared(a: tuple[np.ndarray, ...], b: tuple[np.ndarray, ...]) -> float:
    """Trace of the covariance of two centroids, from the items that both contain."""
    common, in_a, in_b = np.intersect1d(a[1], b[1], assume_unique=True, return_indices=True)
    m = len(common)
    return m / (m - 1) * float(np.einsum("ij,ij->", a[2][in_a], b[2][in_b])) if m > 1 else 0.0


def vendi_score(vectors: np.ndarray) -> float:
    """Return the Vendi score: the effective number of unrelated texts, between 1 and n.

    The exponential of the entropy of the eigenvalues of the similarity matrix over n, taken from
    the d x d matrix with the same eigenvalues, so it is linear in n. It grows with n: compare at
    equal n only.

    Notes
    -----
    Friedman, D. & Dieng, A. B. (2023). The Vendi Score. TMLR. Cosine kernel.
    """
    u = checked(vectors, least=1, what="the Vendi score")
    share = np.linalg.eigvalsh((u.T @ u if len(u) > u.shape[1] else u @ u.T) / len(u))
    share = share[share > 1e-12] / share[share > 1e-12].sum()
    return float(np.exp(-(share * np.log(share)).sum()))


def checked(
    vectors: np.ndarray, *, least: int, what: str, name: str | None = None, unit: bool = True
) -> np.ndarray:
    """Return vectors as float64 after refusing too few, non-finite or non-unit ones."""
    u = np.asarray(vectors, dtype=float)
    where = f" of {name!r}" if name else ""
    if u.ndim != 2 or len(u) < least:
        n = len(u) if u.ndim == 2 else 0
        raise KitError(f"{what}{where} needs at least {least} texts; here are {n}.")
    if not np.isfinite(u).all():
        raise KitError(f"{what}{where}: the vectors hold values that are not finite.")
    if unit and np.abs(np.einsum("ij,ij->i", u, u) - 1).max() > 2e-3:
        raise KitError(f"{what}{where}: the vectors are not of length 1; take them from embed().")
    return u
