"""RQ1: do the texts repeat each other, in words (distinct-2) or in meaning (near-duplicates)?"""

import itertools
import re
from collections.abc import Callable, Sequence

import numpy as np

from personagen_utils.diversity import checked
from personagen_utils.errors import KitError

_PROJECTED = 48  # dimensions of the cheap test before a pair's cosine is computed
_BLOCK = 2048  # rows per block: 16 MB of similarities at a time
# A Japanese or Chinese character is a token of its own: those texts have no blanks between words.
_CJK = r"\u3040-\u30ff\u3400-\u9fff"
_TOKEN = re.compile(rf"[{_CJK}]|[^\W{_CJK}]+(?:['’][^\W{_CJK}]+)*")


def distinct_2(texts: Sequence[str]) -> float:
    """Return distinct-2: different word pairs over all word pairs of the texts.

    Pairs do not cross texts; case is ignored; 1 means no pair of neighbouring words comes twice.
    It falls with n: compare at equal n only.

    Notes
    -----
    Li, J. et al. (2016). A Diversity-Promoting Objective Function. NAACL.

    Examples
    --------
    >>> distinct_2(["I am glad", "I am sad"])  # (i am) twice, (am glad), (am sad)
    0.75
    """
    return distinct_2_of(texts)(np.arange(len(texts)))


def distinct_2_of(texts: Sequence[str]) -> Callable[[np.ndarray], float]:
    """Return distinct-2 as a function of kept row numbers: the word pairs are found once."""
    pair, of = _word_pairs(texts)

    def distinct(kept: np.ndarray) -> float:
        present = np.isin(of, kept)
        return len(np.unique(pair[present])) / max(1, int(present.sum()))

    return distinct


def _word_pairs(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return a number for each pair of neighbouring words, and the row of its text."""
    known: dict[tuple[str, str], int] = {}
    codes, rows = [], []
    for row, text in enumerate(texts):
        for pair in itertools.pairwise(_TOKEN.findall(text.lower())):
            codes.append(known.setdefault(pair, len(known)))
            rows.append(row)
    if not codes:
        raise KitError("distinct-2: no text has two words, so there is no word pair to count.")
    return np.array(codes), np.array(rows)


def near_duplicates(vectors: np.ndarray, *, threshold: float = 0.95) -> float:
    """Return the share of texts with another one at this cosine or above (0 to 1)."""
    group = np.zeros(len(vectors), dtype=int)
    return float(neighbour_groups(vectors, group, threshold=threshold).any(axis=1).mean())


def neighbour_groups(
    vectors: np.ndarray, group: np.ndarray, *, threshold: float = 0.95
) -> np.ndarray:
    """Say for each text in which groups it has another text at this cosine or above.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors.
    group : ndarray of int, shape (n,)
        Group 0..G-1 of each text.
    threshold : float
        Cosine from which two texts count as near-duplicates.

    Returns
    -------
    ndarray of bool, shape (n, G)

    Notes
    -----
    Exact, in blocks of bounded memory. Two vectors are never closer than their projections, so a
    product over few dimensions rules out nearly all pairs before their cosine is computed.
    """
    u = checked(vectors, least=2, what="near-duplicates").astype(np.float32)
    p = u
    if len(u) > _BLOCK:  # below that, finding the axes would take longer than it saves
        axes = np.linalg.eigh((u.T @ u).astype(float))[1][:, -_PROJECTED:].astype(np.float32)
        p = u @ axes
    half, one = -(p * p).sum(axis=1, keepdims=True) / 2, np.ones((len(p), 1), np.float32)
    left, right = np.hstack([p, half, one]), np.hstack([p, one, half]).T.copy()
    found = np.zeros((len(u), int(group.max()) + 1), dtype=bool)
    for a in range(0, len(u), _BLOCK):
        for b in range(a, len(u), _BLOCK):
            # left @ right is minus half the squared distance of the projections.
            near = left[a : a + _BLOCK] @ right[:, b : b + _BLOCK] >= threshold - 1 - 1e-4
            i, j = np.divmod(np.flatnonzero(near), near.shape[1])
            i, j = i + a, j + b
            i, j = i[i < j], j[i < j]
            for s in range(0, len(i), 50_000):
                x, y = i[s : s + 50_000], j[s : s + 50_000]
                same = np.einsum("ij,ij->i", u[x], u[y]) >= threshold - 1e-6
                found[x[same], group[y[same]]] = True
                found[y[same], group[x[same]]] = True
    return found
