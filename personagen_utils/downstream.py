"""Does a classifier trained on generated texts understand people's texts? RQ3, Table VII.

Every classifier is trained on one set and tested on gold; its predictions are kept row by row,
so that all scores, intervals and comparisons (`downstream_tables`) come from one table. Beside
LightGBM, the paper's classifier, stand a logistic regression on the same embeddings and the two
`free_baselines`.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit

from personagen_utils.embedding import embed
from personagen_utils.errors import KitError
from personagen_utils.free_baselines import nearest_word, template_phrases
from personagen_utils.memo import cached
from personagen_utils.similarity import row_order
from personagen_utils.similarity_table import Vectors

MODELS = ("lightgbm", "logistic")


def classify(train: Vectors, X: np.ndarray, *, model: str = "lightgbm") -> np.ndarray:
    """Train on one set and return the predicted labels of the rows of X.

    Parameters
    ----------
    train : Vectors
        Training texts as vectors; the order of the rows is free.
    X : ndarray, shape (m, d)
    model : {"lightgbm", "logistic"}
        LightGBM with its library defaults (they ignore a random state, and min_child_samples=20
        cripples it on tiny sets), or a logistic regression (C = 3).

    Returns
    -------
    ndarray of str, shape (m,)
    """
    if model not in MODELS:
        raise KitError(f"Classifier {model!r} is unknown; take {' or '.join(MODELS)}.")
    labels = np.asarray(train.labels).astype(str)
    order = row_order(train.X, labels)
    train_X, train_y = np.asarray(train.X, np.float32)[order], labels[order]
    if model == "lightgbm":
        return _lightgbm(train_X, train_y, X)
    return LogisticRegression(C=3, max_iter=2000).fit(train_X, train_y).predict(X).astype(str)


@cached
def _lightgbm(train_X: np.ndarray, train_y: np.ndarray, X: np.ndarray) -> np.ndarray:
    # Some seconds each on two cores: kept on disk. One thread, as several run side by side.
    learner = LGBMClassifier(n_jobs=1, verbose=-1)
    return learner.fit(train_X, train_y).predict(X).astype(str)


def gold_splits(
    gold: Vectors, *, test: float = 0.3, splits: int = 5, seed: int = 0
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return stratified random splits of gold: row numbers to train on and to test on.

    The same texts are tested whatever order the rows come in.
    """
    order = row_order(gold.X, gold.labels)
    cutter = StratifiedShuffleSplit(splits, test_size=test, random_state=seed)
    return [
        (np.sort(order[a]), np.sort(order[b]))
        for a, b in cutter.split(gold.X[order], np.asarray(gold.labels)[order])
    ]


def predict_gold(
    methods: Mapping[str, Vectors],
    gold: Vectors,
    *,
    elsewhere: Vectors | None = None,
    models: Sequence[str] = MODELS,
    sizes: Sequence[int] = (),
    splits: int = 5,
    seed: int = 0,
    workers: int | None = None,
) -> pd.DataFrame:
    """Train on gold and on each method, test on gold: the predictions behind Table VII.

    Rows with ``test`` "70/30" and "80/20" are tested on that share of gold over several splits;
    "evaluation" on the whole evaluation part (methods and baselines only: gold would be tested
    on its own training texts); "elsewhere" on the corpus from outside.

    Parameters
    ----------
    methods : mapping of str to Vectors
        Generated texts per method.
    gold : Vectors
        Evaluation part of the gold pool.
    elsewhere : Vectors, optional
        Another corpus with the same labels (GoEmotions).
    models : sequence of str
        See `classify`.
    sizes : sequence of int
        Further numbers of training texts per emotion, for methods that have more.
    splits, seed : int
        Number of gold splits and their seed.
    workers : int, optional
        How many classifiers are trained at a time; default the cores, at most 4.

    Returns
    -------
    DataFrame
        ``method, model, train_n, test, split, row, truth, predicted``. Each method is trained on
        all its texts, and on as many as gold's 70 % has where it has more.

    Raises
    ------
    KitError
        When labels do not agree.
    """
    labels = sorted(set(map(str, gold.labels)))
    for name, vectors in {**methods, **({"elsewhere": elsewhere} if elsewhere else {})}.items():
        if sorted(set(map(str, vectors.labels))) != labels:
            raise KitError(
                f"{name}: has the emotions {sorted(set(map(str, vectors.labels)))}, gold has "
                f"{labels}. Train and test on the same emotions."
            )
    cuts = {
        "70/30": gold_splits(gold, test=0.3, splits=splits, seed=seed),
        "80/20": gold_splits(gold, test=0.2, splits=splits, seed=seed),
    }
    everything = [gold.X] + ([elsewhere.X] if elsewhere else [])
    phrases, phrase_labels = template_phrases(labels)
    trained = {"phrases": Vectors(embed(phrases), np.asarray(phrase_labels))} | dict(methods)
    matched = len(cuts["70/30"][0][0]) // len(labels)
    jobs: list[tuple[str, str, str, int, Vectors]] = []
    for model in models:
        for test, cut in cuts.items():
            for split, (rows, _) in enumerate(cut):
                part = Vectors(gold.X[rows], np.asarray(gold.labels)[rows])
                jobs.append(("Gold", model, test, split, part))
        for name, vectors in trained.items():
            jobs.append((name, model, "evaluation", 0, vectors))
            jobs += [
                (name, model, "evaluation", 0, vectors.first(size))
                for size in sorted({matched, *sizes})
                if name != "phrases" and vectors.smallest() > size
            ]
    X = np.concatenate(everything)
    workers = workers or min(cpu_count(), 4)
    guesses = Parallel(n_jobs=workers, prefer="threads")(
        delayed(classify)(part, X, model=model) for _, model, _, _, part in jobs
    )
    done = [(*job[:4], len(job[4].X), guess) for job, guess in zip(jobs, guesses, strict=True)]
    done.append(("nearest word", "prototype", "evaluation", 0, 0, nearest_word(X, labels)))

    frames = []
    for name, model, test, split, n, guess in done:
        if name == "Gold":
            tests = [(test, split, cuts[test][split][1])]
        else:
            tests = [("evaluation", 0, np.arange(len(gold.X)))]
            tests += [("70/30", s, rows) for s, (_, rows) in enumerate(cuts["70/30"])]
        for kind, s, rows in tests:
            frames.append(_frame(name, model, n, kind, s, gold, rows, guess[rows]))
        if elsewhere and test != "80/20":
            outside, rows = guess[len(gold.X) :], np.arange(len(elsewhere.X))
            frames.append(_frame(name, model, n, "elsewhere", split, elsewhere, rows, outside))
    return pd.concat(frames, ignore_index=True)


def _frame(
    method: str,
    model: str,
    train_n: int,
    test: str,
    split: int,
    tested: Vectors,
    rows: np.ndarray,
    guess: np.ndarray,
) -> pd.DataFrame:
    items = np.arange(len(tested.X)) if tested.items is None else np.asarray(tested.items)
    return pd.DataFrame(
        {
            "method": method,
            "model": model,
            "train_n": train_n,
            "test": test,
            "split": split,
            "row": items[rows],
            "truth": np.asarray(tested.labels)[rows].astype(str),
            "predicted": guess,
        }
    )


def learning_curve(
    methods: Mapping[str, Vectors],
    gold: Vectors,
    *,
    sizes: Sequence[int] = (5, 10, 20, 50, 100, 200, 500),
    draws: int = 5,
    model: str = "logistic",
) -> pd.DataFrame:
    """Return predictions for growing numbers of training texts per emotion.

    Parameters
    ----------
    methods : mapping of str to Vectors
        Training texts; sizes a method does not reach are left out.
    gold : Vectors
        Tested on whole.
    sizes : sequence of int
        Texts per emotion.
    draws : int
        Random choices of items at each size below the full one (kept as ``split``).
    model : str
        See `classify`.

    Returns
    -------
    DataFrame
        As `predict_gold`, with ``test`` "evaluation"; score it with `score_table`.
    """
    rows, frames = np.arange(len(gold.X)), []
    for name, vectors in methods.items():
        full = vectors.smallest()
        for size in sorted({*(s for s in sizes if s < full), full}):
            for draw in range(draws if size < full else 1):
                part = vectors.first(size, seed=draw)
                guess = classify(part, gold.X, model=model)
                frames.append(
                    _frame(name, model, len(part.X), "evaluation", draw, gold, rows, guess)
                )
    return pd.concat(frames, ignore_index=True)
