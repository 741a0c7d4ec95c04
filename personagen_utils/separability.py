"""RQ1: can a classifier tell the emotions apart (Table V, Fig. 3), and which labels does it doubt?

LightGBM at library defaults on the sentence embeddings, 80 % to train and 20 % to test, as in
Section IV.B. Beside it folds that never split a persona-scene, a logistic regression as second
view, and confident learning for single texts.
"""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import sklearn
from joblib import Parallel, delayed
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, StratifiedShuffleSplit
from threadpoolctl import threadpool_limits

from personagen_utils.diversity import checked
from personagen_utils.errors import KitError
from personagen_utils.memo import cached

MODELS = ("LightGBM", "logistic regression")
_VERSIONS = f"lightgbm {lightgbm.__version__}, scikit-learn {sklearn.__version__}"


def classifier(model: str = "LightGBM", *, num_threads: int = 1) -> Any:
    """Return a new classifier by name: LightGBM at its defaults or a logistic regression.

    LightGBM's defaults ignore the random state: vary splits and samples, not seeds of the model.
    """
    if model == "LightGBM":
        return lightgbm.LGBMClassifier(n_jobs=num_threads, verbose=-1)
    if model == "logistic regression":
        return LogisticRegression(max_iter=1000)
    raise KitError(f"The classifier {model!r} is unknown; choose one of {', '.join(MODELS)}.")


def held_out_predictions(
    vectors: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    model: str = "LightGBM",
    items: Sequence[Any] | np.ndarray | None = None,
    splits: int = 5,
    seed: int = 0,
    jobs: int = 2,
) -> pd.DataFrame:
    """Return what a classifier says about texts that it was not trained on.

    Parameters
    ----------
    vectors : ndarray, shape (n, d)
        Unit vectors of the texts.
    labels : sequence of str, length n
        Emotion of each text.
    model : {"LightGBM", "logistic regression"}
        Classifier.
    items : sequence, length n, optional
        Persona-scene of each text. Without: stratified random 80/20 splits, as in the paper.
        With: the folds of a cross-validation that keep all texts of a scene on one side.
    splits : int
        Random splits (each tests 20 %), or folds (each text is tested once).
    seed : int
        Seed of the first split; the others follow.
    jobs : int
        Splits that are trained at the same time, each on one thread.

    Returns
    -------
    DataFrame
        Columns split, row (row number in `vectors`), truth, predicted: the input of
        :func:`personagen_utils.scores.score_rows`. Fits are kept on disk.

    Raises
    ------
    KitError
        For a single class, or a class with too few texts (or scenes) for the splits.
    """
    u = checked(vectors, least=4, what="Separability").astype(np.float32)
    y = _labels(labels, len(u))
    parts = list(_splits(u, y, items, splits, seed))
    classifier(model)  # an unknown name is refused before anything is trained
    guesses = Parallel(n_jobs=max(1, min(jobs, len(parts))))(
        delayed(_fit)(model, u[train], y[train], u[test], _VERSIONS) for train, test in parts
    )
    tables = [
        pd.DataFrame({"split": s, "row": test, "truth": y[test], "predicted": guess[0]})
        for s, ((_, test), guess) in enumerate(zip(parts, guesses, strict=True))
    ]
    return pd.concat(tables, ignore_index=True)


def confusion(
    predictions: pd.DataFrame, *, labels: Sequence[str] | None = None, shares: bool = True
) -> pd.DataFrame:
    """Return the confusion matrix (Fig. 3): truth in rows, prediction in columns.

    Parameters
    ----------
    predictions : DataFrame
        Columns truth and predicted; several splits are added up.
    labels : sequence of str, optional
        Order of rows and columns; default alphabetical.
    shares : bool
        Shares of each true class (rows sum to 1) in place of counts.
    """
    labels = sorted(predictions["truth"].unique()) if labels is None else list(labels)
    table = pd.crosstab(predictions["truth"], predictions["predicted"])
    table = table.reindex(index=labels, columns=labels, fill_value=0)
    return table.div(table.sum(axis=1).clip(lower=1), axis=0) if shares else table


def doubtful_labels(
    vectors: np.ndarray,
    labels: Sequence[str] | np.ndarray,
    *,
    items: Sequence[Any] | np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the texts whose label a classifier trained on the others doubts.

    Confident learning: out-of-fold probabilities of a logistic regression; the threshold of a
    class is the mean probability of its label among its own texts; a text is doubtful when, of
    the classes whose threshold it reaches, the most probable is not its label.

    Parameters
    ----------
    vectors, labels
        As in :func:`held_out_predictions`.
    items : sequence, length n, optional
        Persona-scene of each text; keeps texts of one scene in one fold.
    folds, seed : int
        Folds of the cross-validation and their seed.

    Returns
    -------
    DataFrame
        Columns row, label, suggested, confidence (probability of the own label), margin (that
        minus the probability of the suggestion), the most doubtful first. May be empty.

    Notes
    -----
    Northcutt, C., Jiang, L. & Chuang, I. (2021). Confident Learning: Estimating Uncertainty in
    Dataset Labels. JAIR 70, section 3.1 (the off-diagonal of the confident joint).
    """
    u = checked(vectors, least=4, what="Doubtful labels").astype(np.float32)
    y = _labels(labels, len(u))
    classes = np.unique(y)
    probability = np.zeros((len(u), len(classes)))
    _enough(y, items, folds)
    kind = StratifiedKFold if items is None else StratifiedGroupKFold
    parts = kind(folds, shuffle=True, random_state=seed).split(u, y, _codes(items))
    for train, test in parts:
        _, probability[test] = _fit("logistic regression", u[train], y[train], u[test], _VERSIONS)
    own = np.searchsorted(classes, y)
    suggested = confident_labels(probability, own)
    at = np.flatnonzero(suggested != own)
    table = pd.DataFrame(
        {
            "row": at,
            "label": y[at],
            "suggested": classes[suggested[at]],
            "confidence": probability[at, own[at]],
            "margin": probability[at, own[at]] - probability[at, suggested[at]],
        }
    )
    return table.sort_values(["margin", "row"], ignore_index=True)


def confident_labels(probability: np.ndarray, own: np.ndarray) -> np.ndarray:
    """Return the label that confident learning gives each text; its own where none is confident.

    Parameters
    ----------
    probability : ndarray, shape (n, k)
        Out-of-sample class probabilities.
    own : ndarray of int, shape (n,)
        Given labels 0..k-1, each of which occurs.

    Returns
    -------
    ndarray of int, shape (n,)
    """
    k = probability.shape[1]
    threshold = np.array([probability[own == j, j].mean() for j in range(k)])
    reached = probability >= threshold - 1e-12
    best = np.where(reached, probability, -1).argmax(axis=1)
    return np.where(reached.any(axis=1), best, own)


# --- parts -----------------------------------------------------------------------------------


@cached
def _fit(
    model: str, x: np.ndarray, y: np.ndarray, x_test: np.ndarray, versions: str
) -> tuple[np.ndarray, np.ndarray]:
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = classifier(model).fit(x, y)
        probability = fitted.predict_proba(x_test)
    return fitted.classes_[probability.argmax(axis=1)], probability


def _labels(labels: Sequence[str] | np.ndarray, n: int) -> np.ndarray:
    y = np.asarray(labels, dtype=object).astype(str)
    if len(y) != n:
        raise KitError(f"Separability: {n} vectors came with {len(y)} labels.")
    if len(set(y)) < 2:
        raise KitError(f"Separability needs two emotions or more; all texts are {str(y[0])!r}.")
    return y


def _codes(items: Sequence[Any] | np.ndarray | None) -> np.ndarray | None:
    return None if items is None else pd.factorize(np.asarray(items), use_na_sentinel=False)[0]


def _enough(y: np.ndarray, items: Sequence[Any] | np.ndarray | None, folds: int) -> None:
    unit = "texts" if items is None else "persona-scenes"
    rows = pd.DataFrame({"y": y, "item": np.arange(len(y)) if items is None else _codes(items)})
    count = rows.drop_duplicates()["y"].value_counts()
    if count.min() < folds:
        raise KitError(
            f"Separability: emotion {count.idxmin()!r} has {count.min()} {unit}; it needs {folds}."
        )


def _splits(
    u: np.ndarray, y: np.ndarray, items: Sequence[Any] | np.ndarray | None, splits: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    _enough(y, items, 5 if items is None else splits)
    if items is not None:
        folds = StratifiedGroupKFold(splits, shuffle=True, random_state=seed)
        yield from folds.split(u, y, _codes(items))
        return
    for s in range(splits):
        yield next(StratifiedShuffleSplit(1, test_size=0.2, random_state=seed + s).split(u, y))
