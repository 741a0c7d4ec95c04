"""When does synthetic text pay? A few gold texts, alone and with company (notebook 12).

Each draw takes its own test texts and its own few training texts from the gold pool; what is added
to the few (template phrases, synthetic texts) is the same in all draws. Arms are compared draw by
draw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from scipy import stats
from threadpoolctl import threadpool_limits

from personagen_utils.downstream import classify
from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.finetune import MiniLM, texts_key
from personagen_utils.paths import DATA
from personagen_utils.similarity_table import Vectors

TEST_PER_LABEL = 100  # gold texts that each draw keeps for testing
LEAST_DRAWS = 5  # for an interval: that of two draws says nothing
MEASURED = DATA / "gold" / "low_resource.json"
TESTS = {"in domain": "gold", "elsewhere": "GoEmotions"}


def gold_draws(
    gold: Vectors, shots: Sequence[int], draws: int, *, test: int = TEST_PER_LABEL
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Yield the draws: texts to train on and to test on, disjoint, nested in the shots.

    Parameters
    ----------
    gold : Vectors
        With the row ids as items.
    shots : sequence of int
        Training texts per label.
    draws : int
    test : int
        Test texts per label.

    Yields
    ------
    draw, shots, train, test : int, int, ndarray of str, ndarray of str
        Row ids.

    Raises
    ------
    KitError
        When the pool is too small.
    """
    if max(shots) + test > gold.smallest():
        raise KitError(
            f"{max(shots)} texts per label to train on and {test} to test on, but the gold pool "
            f"has {gold.smallest()}: ask for fewer SHOTS."
        )
    for draw in range(draws):
        tested = gold.first(test, seed=1000 + draw).items
        for k in shots:
            if k:
                yield draw, k, gold.first(k, skip=test, seed=1000 + draw).items, tested
            else:
                yield draw, k, np.array([], dtype=str), tested


def low_resource(
    gold: Vectors,
    added: Mapping[str, Vectors | None],
    *,
    shots: Sequence[int],
    draws: Mapping[str, int],
    elsewhere: Vectors | None = None,
    test: int = TEST_PER_LABEL,
    workers: int | None = None,
) -> pd.DataFrame:
    """Train classifiers of embeddings on a few gold texts with and without company.

    Parameters
    ----------
    gold : Vectors
        The evaluation part of the pool.
    added : mapping of str to Vectors or None
        What each arm adds to the gold texts; None for nothing.
    shots : sequence of int
        Gold texts per label; 0 is the added texts alone.
    draws : mapping of str to int
        Draws per model of `downstream.classify`, for example ``{"logistic": 20}``.
    elsewhere : Vectors, optional
        Another corpus to test on.
    test : int
        Gold texts per label that each draw tests on.
    workers : int, optional
        Fits at a time; default the cores, at most 4.

    Returns
    -------
    DataFrame
        One row per fit and test: arm, model, shots, draw, test, accuracy, n (test texts).
    """
    where = {item: i for i, item in enumerate(np.asarray(gold.items))}
    labels = np.asarray(gold.labels).astype(str)
    jobs = []
    for model, count in draws.items():
        for draw, k, train, tested in gold_draws(gold, shots, count, test=test):
            rows = np.array([where[i] for i in train], dtype=int)
            test_rows = np.array([where[i] for i in tested], dtype=int)
            for arm, extra in added.items():
                if k == 0 and (extra is None or draw):
                    continue  # nothing to train on, or trained on already
                X, y = gold.X[rows], labels[rows]
                if extra is not None:
                    X, y = np.concatenate([extra.X, X]), np.concatenate([extra.labels, y])
                jobs.append((arm, model, k, draw, Vectors(X, y), test_rows))
    everything = gold.X if elsewhere is None else np.concatenate([gold.X, elsewhere.X])
    with threadpool_limits(1):
        guesses = Parallel(n_jobs=workers or min(cpu_count(), 4), prefer="threads")(
            delayed(classify)(job[4], everything, model=job[1]) for job in jobs
        )
    found = []
    for (arm, model, k, draw, _, test_rows), guess in zip(jobs, guesses, strict=True):
        key = {"arm": arm, "model": model, "shots": k, "draw": draw}
        # Texts alone are one fit, tested on every draw's texts at once.
        rows = np.arange(len(labels)) if k == 0 else test_rows
        found.append(key | _hits("in domain", guess[rows], labels[rows]))
        if elsewhere is not None:
            found.append(key | _hits("elsewhere", guess[len(labels) :], elsewhere.labels))
    return pd.DataFrame(found)


@dataclass(frozen=True)
class Arm:
    """What a fine-tuned arm adds to the gold texts, and where it is measured.

    Attributes
    ----------
    added : DataFrame or None
        Columns text and label; None for nothing.
    shots : sequence of int
        Gold texts per label; 0 is the added texts alone.
    draws : int
    """

    added: pd.DataFrame | None
    shots: Sequence[int]
    draws: int


def low_resource_tuned(
    gold: Vectors,
    texts: Mapping[str, str],
    arms: Mapping[str, Arm],
    *,
    elsewhere: pd.DataFrame | None = None,
    seed: int = 0,
    workers: int | None = None,
    keep: Path | None = None,
) -> pd.DataFrame:
    """Fine-tune MiniLM on what an arm adds, once, and go on with each draw's few gold texts.

    Parameters
    ----------
    gold : Vectors
        The evaluation part of the pool.
    texts : mapping of str to str
        Its texts by row id.
    arms : mapping of str to Arm
    elsewhere : DataFrame, optional
        Columns text and label. Several draws are tested on its first `TEST_PER_LABEL` of each
        label, one draw or none on all of it.
    seed : int
        Of the network.
    workers : int, optional
        Arms at a time, one core each; default the cores, at most 4.
    keep : Path, optional
        A file for the accuracies of each arm as soon as it is measured; arms that stand there
        are not measured again.

    Returns
    -------
    DataFrame
        As `low_resource`, model "fine-tuned MiniLM".
    """
    found = {}
    for name, arm in arms.items():
        known = measured_tuned({_plan(name, arm, seed): arm.added}, keep) if keep else []
        if len(known):
            found[name] = known.assign(arm=name)
    todo = [name for name in arms if name not in found]
    measured = Parallel(n_jobs=workers or min(cpu_count(), 4), return_as="generator_unordered")(
        delayed(_tuned_arm)(name, arms[name], gold, texts, elsewhere, seed) for name in todo
    )
    for name, rows in measured:
        found[name] = rows
        if keep:
            plan = _plan(name, arms[name], seed)
            keep_tuned({plan: arms[name].added}, rows.assign(arm=plan), keep)
    return pd.concat([found[name] for name in arms], ignore_index=True)


def _tuned_arm(
    name: str,
    arm: Arm,
    gold: Vectors,
    texts: Mapping[str, str],
    elsewhere: pd.DataFrame | None,
    seed: int,
) -> tuple[str, pd.DataFrame]:
    import torch

    torch.set_num_threads(1)  # the arms share the cores
    label_of = dict(zip(np.asarray(gold.items), np.asarray(gold.labels).astype(str), strict=True))
    start = MiniLM(sorted(set(label_of.values())), seed=seed)
    if arm.added is not None:
        start.fit(arm.added["text"].tolist(), arm.added["label"].tolist(), **COMPANY)
    found = []
    for draw, k, train, tested in gold_draws(gold, arm.shots, arm.draws):
        if k == 0 and (arm.added is None or draw):
            continue
        model = start.copy()
        if k:
            few = [texts[i] for i in train], [label_of[i] for i in train]
            model.fit(*few, **(FIRST if arm.added is None else FURTHER))
        rows = list(label_of) if k == 0 else list(tested)
        key = {"arm": name, "model": "fine-tuned MiniLM", "shots": k, "draw": draw}
        truth = np.array([label_of[i] for i in rows])
        found.append(key | _hits("in domain", model.predict([texts[i] for i in rows]), truth))
        if elsewhere is not None:
            whole = k == 0 or arm.draws == 1
            outside = elsewhere if whole else elsewhere.groupby("label").head(TEST_PER_LABEL)
            guess = model.predict(outside["text"].tolist())
            found.append(key | _hits("elsewhere", guess, outside["label"].to_numpy(str)))
    return name, pd.DataFrame(found)


def _plan(name: str, arm: Arm, seed: int) -> str:
    return f"{name}, {arm.draws} draws of {list(arm.shots)}, seed {seed}"


FIRST = {"epochs": 4, "least_steps": 250}
"""How long a network that knows nothing yet is trained on the few."""

COMPANY = {"epochs": 2, "least_steps": 250}
"""How long one is trained on the added texts before it sees the few."""

FURTHER = {"epochs": 4, "least_steps": 40, "rate": 5e-5}
"""How long, and how gently, it then goes on with the few (settled on the development part)."""


def _hits(test: str, guess: np.ndarray, truth: np.ndarray) -> dict[str, object]:
    hit = np.asarray(guess).astype(str) == np.asarray(truth).astype(str)
    return {"test": test, "accuracy": float(hit.mean()), "n": len(hit)}


def over_draws(found: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracy of each arm, with Student's t interval over the draws.

    Returns
    -------
    DataFrame
        Tidy rows: metric "accuracy", method (the arm), model, shots, test, value, low, high, n
        (draws). Fewer than `LEAST_DRAWS` have no interval.
    """
    rows = []
    for key, part in found.groupby(["arm", "model", "shots", "test"], sort=False):
        rows.append(
            {
                "metric": "accuracy",
                **dict(zip(["method", "model", "shots", "test"], key, strict=True)),
            }
            | _t(part["accuracy"].to_numpy())
        )
    return pd.DataFrame(rows)


def paired_gains(found: pd.DataFrame, arm: str, against: Sequence[str]) -> pd.DataFrame:
    """Return how much better one arm is than others, draw by draw.

    Returns
    -------
    DataFrame
        Tidy rows: metric "accuracy difference", method "A - B", model, shots, test, value, low,
        high (t interval over the paired draws), n (draws).
    """
    rows = []
    for key, part in found.groupby(["model", "shots", "test"], sort=False):
        wide = part.pivot(index="draw", columns="arm", values="accuracy")
        for other in against:
            if arm not in wide or other not in wide:
                continue
            gain = (wide[arm] - wide[other]).dropna().to_numpy()
            if len(gain):
                rows.append(
                    {
                        "metric": "accuracy difference",
                        "method": f"{arm} - {other}",
                        **dict(zip(["model", "shots", "test"], key, strict=True)),
                    }
                    | _t(gain)
                )
    return pd.DataFrame(rows)


def _t(values: np.ndarray) -> dict[str, object]:
    n, value = len(values), float(values.mean())
    if n < LEAST_DRAWS:
        return {"value": value, "low": None, "high": None, "n": n}
    reach = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / np.sqrt(n)
    return {"value": value, "low": value - float(reach), "high": value + float(reach), "n": n}


def keep_tuned(
    added: Mapping[str, pd.DataFrame | None], found: pd.DataFrame, file: Path = MEASURED
) -> None:
    """Keep the accuracies of `low_resource_tuned` for readers without the gold texts."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for arm, extra in added.items():
        known[_key(arm, extra)] = found[found["arm"] == arm].to_dict("records")
    write_atomic(file, (json.dumps(known, indent=0, sort_keys=True) + "\n").encode())


def measured_tuned(added: Mapping[str, pd.DataFrame | None], file: Path = MEASURED) -> pd.DataFrame:
    """Return what `keep_tuned` kept for these very texts; empty if nothing."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    rows = [row for arm, extra in added.items() for row in known.get(_key(arm, extra), [])]
    return pd.DataFrame(rows)


def _key(arm: str, extra: pd.DataFrame | None) -> str:
    return arm if extra is None else f"{arm} {texts_key(extra)}"
