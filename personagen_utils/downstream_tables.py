"""Which training texts teach best, and is a difference one? The tables of RQ3, Table VII.

Reads the predictions of `downstream` and `finetune`: scores with intervals, the two primary
comparisons with Holm's correction, and confusions.
"""

from collections.abc import Sequence

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.intervals import holm
from personagen_utils.scores import paired_difference, score_rows

KEYS = ["method", "model", "train_n", "test"]


def score_table(predictions: pd.DataFrame, *, draws: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return accuracy, precision, recall and F1 with bootstrap intervals over test texts.

    Parameters
    ----------
    predictions : DataFrame
        From `predict_gold`, `learning_curve` or fine-tuning.
    draws, seed : int
        Bootstrap samples and their seed. A text that several splits test is drawn once for all.

    Returns
    -------
    DataFrame
        Tidy rows of `scores.score_rows` (emotion "total" is the macro mean, n counts distinct
        test texts, sd_splits is the spread over splits) with ``model, train_n, test``.
    """
    labels = sorted(predictions["truth"].unique())
    rows = []
    for key, part in predictions.groupby(KEYS, sort=False):
        part = part.sort_values(["split", "row"], ignore_index=True)
        found = score_rows(part, labels=labels, method=key[0], draws=draws, seed=seed)
        rows += [row | dict(zip(KEYS, key, strict=True)) for row in found]
    return pd.DataFrame(rows)


def compare_methods(
    predictions: pd.DataFrame,
    *,
    method: str = "PersonaGen",
    against: Sequence[str] = ("AttrPrompt", "PriorWork"),
    model: str = "lightgbm",
    test: str = "evaluation",
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test the primary comparisons: one method against each baseline in accuracy.

    Both are trained on all their texts and tested on the same gold texts; differences are
    paired, and the p values carry Holm's correction for their number. Everything else in the
    tables is descriptive.

    Returns
    -------
    DataFrame
        Tidy rows with ``metric`` "accuracy difference", ``method`` "A - B", value, low, high, n,
        model, test, p and p_holm.

    Raises
    ------
    KitError
        When a method has no such predictions.
    """
    chosen = predictions[(predictions["model"] == model) & (predictions["test"] == test)]
    labels = sorted(predictions["truth"].unique())

    def of(name: str) -> pd.DataFrame:
        part = chosen[chosen["method"] == name]
        if part.empty:
            raise KitError(f"No predictions of {name} with {model} on {test}: nothing to compare.")
        return part[part["train_n"] == part["train_n"].max()]

    rows = []
    for other in against:
        found = paired_difference(of(method), of(other), labels=labels, draws=draws, seed=seed)
        rows.append(
            {
                "metric": "accuracy difference",
                "method": f"{method} - {other}",
                "emotion": "total",
                **{k: found[k] for k in ("value", "low", "high", "n")},
                "model": model,
                "test": test,
                "p": found["p"],
            }
        )
    return pd.DataFrame(rows).assign(p_holm=holm([row["p"] for row in rows]))


def against_free(
    predictions: pd.DataFrame,
    *,
    method: str = "PersonaGen",
    tests: Sequence[str] = ("evaluation", "elsewhere"),
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare a method with the two free baselines, paired over the same test texts.

    Each classifier trained on the method's texts meets the same classifier trained on template
    phrases, and the nearest emotion word, which needs no training.

    Returns
    -------
    DataFrame
        Tidy rows: metric "accuracy difference", method, against, model, test, value, low, high, n.
    """
    labels = sorted(predictions["truth"].unique())
    full = predictions.groupby(["method", "model", "test"])["train_n"].transform("max")
    largest = predictions[predictions["train_n"] == full]
    rows = []
    for test in tests:
        parts = dict(list(largest[largest["test"] == test].groupby(["method", "model"])))
        for (name, model), ours in parts.items():
            if name != method:
                continue
            for free in (("nearest word", "prototype"), ("phrases", model)):
                if free not in parts:
                    continue
                found = paired_difference(ours, parts[free], labels=labels, draws=draws, seed=seed)
                rows.append(
                    {
                        "metric": "accuracy difference",
                        "method": method,
                        "against": free[0],
                        "model": model,
                        "test": test,
                        **{k: found[k] for k in ("value", "low", "high", "n")},
                    }
                )
    return pd.DataFrame(rows)


def confusion(
    predictions: pd.DataFrame, method: str, *, model: str = "lightgbm", test: str = "70/30"
) -> pd.DataFrame:
    """Return the confusion of one method: true emotions as rows, shares of the predicted ones.

    All splits are counted together; each row sums to 1.
    """
    part = predictions.query("method == @method and model == @model and test == @test")
    if part.empty:
        raise KitError(f"No predictions of {method} with {model} on {test}: no confusion to show.")
    part = part[part["train_n"] == part["train_n"].max()]
    labels = sorted(part["truth"].unique())
    table = pd.crosstab(part["truth"], part["predicted"], normalize="index")
    return table.reindex(index=labels, columns=labels, fill_value=0.0)
