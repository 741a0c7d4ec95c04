"""How close is a set of generated texts to people's texts? The measures of RQ3, Table VI.

The paper names FID, PRD-F-beta, KL and HC (Section IV.D) and defines none. Here they are as
small functions of two arrays of unit embeddings, `X` (generated, shape (n, d)) and `gold`
(shape (m, d)); rows may come in any order. Here: FID, KID and the classifier that tells the two
apart; PRD, KL and HC are in `histograms`, intervals and the table in `similarity_table`.
"""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from personagen_utils.intervals import assign_groups

CHUNK = 512  # rows whose cosines with all others are in memory at one time


# --- FID -------------------------------------------------------------------------------------


def symmetric_root(matrix: np.ndarray) -> np.ndarray:
    """Return the square root of a symmetric positive semi-definite matrix, shape (d, d)."""
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T


def frechet(
    mean: np.ndarray,
    cov: np.ndarray,
    other_mean: np.ndarray,
    other_cov: np.ndarray,
    *,
    root: np.ndarray | None = None,
) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))``, where the trace of the last root is the sum
    of the roots of the eigenvalues of the symmetric ``C1^(1/2) C2 C1^(1/2)``: real and stable
    even where n < d leaves the covariances singular.

    Parameters
    ----------
    mean, other_mean : ndarray, shape (d,)
    cov, other_cov : ndarray, shape (d, d)
    root : ndarray, shape (d, d), optional
        ``cov ** (1/2)``, when it is known already.

    Notes
    -----
    Dowson & Landau 1982; as FID, Heusel et al. 2017 (arXiv:1706.08500).
    """
    root = symmetric_root(cov) if root is None else root
    shared = np.sqrt(np.clip(np.linalg.eigvalsh(root @ other_cov @ root), 0, None)).sum()
    gap = mean - other_mean
    return float(gap @ gap + np.trace(cov) + np.trace(other_cov) - 2 * shared)


def fid(X: np.ndarray, gold: np.ndarray) -> float:
    """Return the Fréchet distance of the Gaussians fitted to two sets of vectors (FID, lower
    is closer).

    Parameters
    ----------
    X, gold : ndarray, shapes (n, d) and (m, d)

    Notes
    -----
    Falls with n even for two samples of one source (about 87/n on this corpus): compare at
    equal n only, beside the value for halves of gold.

    Examples
    --------
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> round(fid(X, X + [1, 0, 0]), 6)  # a pure shift by 1
    1.0
    """
    X, gold = np.asarray(X, float), np.asarray(gold, float)
    return frechet(X.mean(0), np.cov(X.T), gold.mean(0), np.cov(gold.T))


def fid_infinity(
    X: np.ndarray, gold: np.ndarray, *, sizes: int = 6, draws: int = 3, seed: int = 0
) -> float:
    """Return FID extrapolated to infinitely many texts.

    FID is computed at `sizes` equal sample sizes between n/2 and n (evenly spaced in 1/n, the
    mean of `draws` random subsets each) and fitted by a straight line over 1/n; the intercept is
    the estimate. Below about 1,000 texts the line still bends: read it beside FID, not instead.

    Notes
    -----
    Chong & Forsyth 2020, "Effectively unbiased FID" (arXiv:1911.07023).
    """
    X, gold = sorted_rows(X), sorted_rows(gold)
    n = min(len(X), len(gold))
    rng = np.random.default_rng(seed)
    points = []
    for k in np.round(1 / np.linspace(1 / n, 2 / n, sizes)).astype(int):
        for _ in range(draws if k < n else 1):
            rows = [rng.permutation(len(part))[:k] for part in (X, gold)]
            points.append((1 / k, fid(X[rows[0]], gold[rows[1]])))
    inverse, values = np.array(points).T
    return float(np.polyfit(inverse, values, 1)[1])


# --- KID -------------------------------------------------------------------------------------


def kernel_sums(X: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column sums of KID's kernel ``(x.y/d + 1)**3``, shapes (n,) and (m,)."""
    rows, columns = np.empty(len(X)), np.zeros(len(other))
    for start in range(0, len(X), CHUNK):
        part = X[start : start + CHUNK]
        kernel = ((part @ other.T).astype(float) / X.shape[1] + 1) ** 3
        rows[start : start + len(part)] = kernel.sum(axis=1)
        columns += kernel.sum(axis=0)
    return rows, columns


def kid(X: np.ndarray, gold: np.ndarray) -> float:
    """Return the unbiased squared MMD with the polynomial kernel of degree 3 (KID).

    Zero in expectation for two samples of one source at any n, hence possibly negative.

    Notes
    -----
    Bińkowski et al. 2018 (arXiv:1801.01401), on all pairs instead of random subsets.
    """
    n, m = len(X), len(gold)

    def within(Z: np.ndarray) -> float:
        norms = np.einsum("ij,ij->i", Z, Z).astype(float)
        own = ((norms / Z.shape[1] + 1) ** 3).sum()
        return float(kernel_sums(Z, Z)[0].sum() - own)

    across = kernel_sums(X, gold)[0].sum() / (n * m)
    return within(X) / (n * (n - 1)) + within(gold) / (m * (m - 1)) - 2 * float(across)


# --- can they be told apart? -----------------------------------------------------------------


def origin_scores(
    X: np.ndarray, gold: np.ndarray, items: np.ndarray, gold_items: np.ndarray, *, folds: int = 5
) -> tuple[np.ndarray, np.ndarray]:
    """Score how generated each text looks to a classifier that never saw it or its scene.

    Logistic regression on the embeddings, cross-validated over whole items.

    Returns
    -------
    tuple of ndarray
        Decision values of the rows of X, shape (n,), and of gold, shape (m,).
    """
    both = np.concatenate([X, gold])
    made = np.r_[np.ones(len(X), int), np.zeros(len(gold), int)]
    fold = np.concatenate([assign_groups(part, groups=folds) for part in (items, gold_items)])
    scores = np.empty(len(both))
    for f in range(folds):
        learner = LogisticRegression(C=10, max_iter=1000).fit(both[fold != f], made[fold != f])
        scores[fold == f] = learner.decision_function(both[fold == f])
    return scores[: len(X)], scores[len(X) :]


def auc(scores: np.ndarray, gold_scores: np.ndarray) -> float:
    """Return the chance that a generated text scores above a gold one (.5 = cannot be told)."""
    made = np.r_[np.ones(len(scores)), np.zeros(len(gold_scores))]
    return float(roc_auc_score(made, np.r_[scores, gold_scores]))


# --- order -----------------------------------------------------------------------------------


def row_order(X: np.ndarray, *keys: np.ndarray) -> np.ndarray:
    """Return an order of the rows that depends on their contents alone, shape (n,)."""
    X = np.ascontiguousarray(X)
    return np.array(
        sorted(range(len(X)), key=lambda i: (*(str(k[i]) for k in keys), X[i].tobytes()))
    )


def sorted_rows(X: np.ndarray) -> np.ndarray:
    """Return the rows of X in the order of their contents."""
    return X[row_order(X)]
