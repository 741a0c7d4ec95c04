"""Which of the synthetic texts should one keep? Two ways to choose half of them (notebook 12).

Neither sees a text or a figure of the evaluation part: agreement looks at the synthetic texts
alone, coverage at the unlabelled vectors of the development part.
"""

from __future__ import annotations

import numpy as np

from personagen_utils.separability import classifier
from personagen_utils.similarity_table import Vectors


def by_agreement(made: Vectors, per_label: int, *, folds: int = 5, seed: int = 0) -> np.ndarray:
    """Keep the texts whose label a classifier trained on the others is surest of.

    Parameters
    ----------
    made : Vectors
        Synthetic texts; all texts of a persona-scene are in one fold.
    per_label : int
        Texts to keep of each label.
    folds, seed : int
        Of the cross-validation.

    Returns
    -------
    ndarray of int
        Row numbers, ascending.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.asarray(made.labels).astype(str)
    classes = np.unique(labels)
    own = np.zeros(len(labels))
    cutter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    for train, test in cutter.split(made.X, labels, made.items):
        fitted = classifier("logistic regression").fit(made.X[train], labels[train])
        chance = fitted.predict_proba(made.X[test])
        own[test] = chance[np.arange(len(test)), np.searchsorted(classes, labels[test])]
    best = [
        np.flatnonzero(labels == name)[np.argsort(-own[labels == name], kind="stable")[:per_label]]
        for name in classes
    ]
    return np.sort(np.concatenate(best))


def by_coverage(made: Vectors, target: np.ndarray, per_label: int) -> np.ndarray:
    """Keep the texts that together lie nearest to an unlabelled sample of the target corpus.

    Greedy facility location: text after text, the one that most raises the sum, over the target's
    vectors, of the cosine with the nearest text kept; the labels take turns.

    Parameters
    ----------
    made : Vectors
    target : ndarray, shape (m, d)
        Unit vectors of the development part.
    per_label : int

    Returns
    -------
    ndarray of int
        Row numbers, ascending.

    Notes
    -----
    Nemhauser, Wolsey & Fisher (1978): greedy reaches at least 1 - 1/e of the best sum.
    """
    labels = np.asarray(made.labels).astype(str)
    cosine = np.asarray(made.X, np.float32) @ np.asarray(target, np.float32).T
    reached = np.full(len(target), -1.0, np.float32)
    left = {name: list(np.flatnonzero(labels == name)) for name in np.unique(labels)}
    kept = []
    for _ in range(per_label):
        for rows in left.values():
            gain = np.maximum(cosine[rows] - reached, 0).sum(axis=1)
            best = rows.pop(int(gain.argmax()))
            reached = np.maximum(reached, cosine[best])
            kept.append(best)
    return np.sort(np.array(kept))


def mixed(first: Vectors, second: Vectors, share: float, per_label: int) -> Vectors:
    """Mix two corpora of the same persona-scenes, each scene speaking in one of them.

    Parameters
    ----------
    first, second : Vectors
        With the same items.
    share : float
        Share of the first, 0 to 1.
    per_label : int
        Texts of each label in the mixture.
    """
    k = round(share * per_label)
    parts = [first.first(k), second.first(per_label - k, skip=k)]
    return Vectors(
        np.concatenate([part.X for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.items for part in parts]),
    )
