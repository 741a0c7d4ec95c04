"""Table VI with intervals: each method against gold, and gold against gold as the floor.

Every measure of `similarity` and `histograms` at full n, with the joint delete-a-group jackknife
(whole persona-scenes leave on one side, gold texts on the other). A replicate takes away what the
departing rows had contributed instead of starting again, so the whole table is one pass.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from personagen_utils import histograms as hist
from personagen_utils import similarity as sim
from personagen_utils.errors import KitError
from personagen_utils.intervals import Interval, joint_jackknife

Statistic = Callable[[np.ndarray, np.ndarray], object]
FLOOR = "gold half"
MOST = 20_000  # texts a side: KID, KL and HC look at every pair, whose number grows with n squared
BOUNDS = {"FID": (0, None), "KL": (0, None), "KL_dimensions": (0, None)} | dict.fromkeys(
    ("PRD-F8", "PRD-F1/8", "HC", "HC_dimensions", "AUC_origin"), (0, 1)
)  # an interval is cut where its measure ends


@dataclass(frozen=True)
class Vectors:
    """A set of embedded, labelled texts.

    Attributes
    ----------
    X : ndarray of float32, shape (n, d)
        Unit vectors.
    labels : ndarray of str, shape (n,)
    items : ndarray of str, shape (n,), optional
        What each row belongs to: its persona-scene, or the row id of a gold text. Default: each
        row stands for itself.
    """

    X: np.ndarray
    labels: np.ndarray
    items: np.ndarray | None = None

    def first(self, per_label: int, *, skip: int = 0, seed: int = 0) -> "Vectors":
        """Return `per_label` rows of each label: nested, and free of the order of the rows.

        The same items are taken under every label, so crossed texts stay crossed; `seed` gives
        another choice of items, `skip` leaves the first ones out.
        """
        X, labels = np.asarray(self.X, np.float32), np.asarray(self.labels).astype(str)
        items = self.items
        if items is None:
            items = np.argsort(sim.row_order(X, labels))
        hashed = pd.util.hash_array(np.array([f"{seed}:{i}" for i in items], dtype=object))
        order = sim.row_order(X, hashed, labels)
        rank = pd.Series(labels[order]).groupby(labels[order]).cumcount().to_numpy()
        rows = order[(rank >= skip) & (rank < skip + per_label)]
        return Vectors(X[rows], labels[rows], np.asarray(items)[rows])

    def smallest(self) -> int:
        """Return the number of texts of the rarest label."""
        return int(pd.Series(self.labels).value_counts().min())


def similarity_table(
    methods: Mapping[str, Vectors],
    gold: Vectors,
    *,
    per_label: int | None = None,
    floor: bool = True,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare each method with gold at equal n, beside the floor of gold halves.

    Parameters
    ----------
    methods : mapping of str to Vectors
        The embedded texts of each method. A method with more texts per label than can be
        compared is cut to the first ones by item; the column n tells.
    gold : Vectors
        The evaluation part of the gold pool, row ids as items.
    per_label : int, optional
        Texts per label on both sides. Default: the most that gold and all methods have, so that
        all rows can be compared with one another, up to 20,000 texts a side.
    floor : bool
        Also compare two disjoint parts of gold, and every method at the n of these parts.
    seed : int
        Seed of the jackknife's groups.

    Returns
    -------
    DataFrame
        Tidy rows ``metric, method, emotion, value, low, high, n``; emotion is None, n counts
        texts on each side. Metrics: FID, FID_infinity and KID (lower is closer), PRD-F8 and
        PRD-F1/8 (higher is closer), KL (lower), HC (higher), KL_dimensions, HC_dimensions, and
        AUC_origin (.5: cannot be told from gold, 1: always told). FID_infinity has no interval.

    Raises
    ------
    KitError
        When a method's labels are not those of gold, or a set is too small.
    """
    labels = sorted(set(map(str, gold.labels)))
    for name, vectors in methods.items():
        if sorted(set(map(str, vectors.labels))) != labels:
            raise KitError(
                f"{name}: has the emotions {sorted(set(map(str, vectors.labels)))}, gold has "
                f"{labels}. Compare the same emotions on both sides."
            )
    most = min(v.smallest() for v in (gold, *methods.values()))
    per_label = min(most, MOST // len(labels)) if per_label is None else per_label
    if not 2 <= per_label <= most:
        raise KitError(
            f"per_label is {per_label}; between 2 and {most} texts per emotion are there."
        )
    half = min(per_label, gold.smallest() // 2)
    rows = []
    if floor:
        halves = gold.first(half), gold.first(half, skip=half)
        rows += _compare(FLOOR, *halves, seed=seed)
    for size in sorted({per_label, half} if floor else {per_label}):
        for name, vectors in methods.items():
            rows += _compare(name, vectors.first(size), gold.first(size), seed=seed)
    return pd.DataFrame(rows)


def in_thousandths(table: pd.DataFrame) -> pd.DataFrame:
    """Return a similarity table with KID in thousandths, as papers print it."""
    kid = table["metric"] == "KID"
    table = table.copy()
    table.loc[kid, ["value", "low", "high"]] *= 1000
    return table.assign(metric=table["metric"].mask(kid, "KID, 1/1000"))


@threadpool_limits.wrap(limits=1)  # small products: threads would wait for one another
def _compare(name: str, made: Vectors, gold: Vectors, *, seed: int) -> list[dict[str, object]]:
    rows = []
    for metrics, statistic in _statistics(made, gold).items():
        found = joint_jackknife(statistic, made.items, gold.items, seed=seed)
        rows += [_row(metric, name, found, at) for at, metric in enumerate(metrics)]
        if metrics == ("FID",):
            n, infinite = len(made.X), sim.fid_infinity(made.X, gold.X)
            rows.append(_row("FID_infinity", name, Interval(infinite, None, None, None, n), 0))
    return rows


def _statistics(made: Vectors, gold: Vectors) -> dict[tuple[str, ...], Statistic]:
    """Return, by the metrics it gives, each statistic of the rows that stay on both sides."""
    X, Y = made.X, gold.X
    scores, gold_scores = sim.origin_scores(X, Y, made.items, gold.items)
    return {
        ("FID",): _fid_statistic(X, Y),
        ("KID",): _kid_statistic(X, Y),
        ("PRD-F8", "PRD-F1/8"): _prd_statistic(X, Y),
        ("KL", "HC"): _cosine_statistic(X, Y),
        ("KL_dimensions", "HC_dimensions"): _dimension_statistic(X, Y),
        ("AUC_origin",): lambda a, b: [sim.auc(scores[a], gold_scores[b])],
    }


@threadpool_limits.wrap(limits=1)
def similarity_differences(
    methods: Mapping[str, Vectors],
    gold: Vectors,
    pairs: Sequence[tuple[str, str]],
    *,
    per_label: int | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare methods that wrote for the same persona-scenes, paired.

    A persona-scene leaves both methods together, and so does a gold text, so what they share does
    not widen the interval of their difference.

    Parameters
    ----------
    methods : mapping of str to Vectors
    gold : Vectors
    pairs : sequence of (str, str)
        Methods to compare; the difference is the first minus the second.
    per_label : int, optional
        Texts per label on both sides; default the most that all have.
    seed : int

    Returns
    -------
    DataFrame
        Tidy rows as `similarity_table` (without FID_infinity), ``method`` "A - B".

    Raises
    ------
    KitError
        When two methods do not have a text for the same items and labels.
    """
    most = min(v.smallest() for v in (gold, *methods.values()))
    size = most if per_label is None else per_label
    reference = gold.first(size)
    made = {name: methods[name].first(size) for pair in pairs for name in pair}
    known = {name: _statistics(vectors, reference) for name, vectors in made.items()}
    rows = []
    for a, b in pairs:
        x, y = made[a], made[b]
        if not (np.array_equal(x.items, y.items) and np.array_equal(x.labels, y.labels)):
            raise KitError(f"{a} and {b} did not write for the same persona-scenes: not paired.")
        for metrics, first in known[a].items():
            second = known[b][metrics]

            def difference(
                kept: np.ndarray,
                gold_kept: np.ndarray,
                first: Statistic = first,
                second: Statistic = second,
            ) -> np.ndarray:
                return np.subtract(first(kept, gold_kept), second(kept, gold_kept))

            found = joint_jackknife(difference, x.items, reference.items, seed=seed)
            name = f"{a} - {b}"
            rows += [_row(m, name, found, at, bounded=False) for at, m in enumerate(metrics)]
    return pd.DataFrame(rows)


def _row(
    metric: str, name: str, found: Interval, at: int, *, bounded: bool = True
) -> dict[str, object]:
    value, low, high = (
        None if v is None else float(np.atleast_1d(v)[at])
        for v in (found.value, found.low, found.high)
    )
    least, most = BOUNDS.get(metric, (None, None))
    if bounded and low is not None and high is not None:
        low = low if least is None else max(low, float(least))
        high = high if most is None else min(high, float(most))
    return {
        "metric": metric,
        "method": name,
        "emotion": None,
        "value": value,
        "low": low,
        "high": high,
        "n": found.n,
    }


# --- statistics of the rows that stay --------------------------------------------------------


def _left(rows: np.ndarray, n: int) -> np.ndarray:
    gone = np.ones(n, bool)
    gone[rows] = False
    return np.flatnonzero(gone)


class _Moments:
    """Mean and covariance of a set and of what stays of it when some rows leave."""

    def __init__(self, X: np.ndarray) -> None:
        self.X = np.asarray(X, float)
        self.total, self.products = self.X.sum(0), self.X.T @ self.X
        self.full = self.of(np.arange(len(X)))
        self.root = sim.symmetric_root(self.full[1])

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        gone = self.X[_left(rows, len(self.X))]
        k = len(rows)
        mean = (self.total - gone.sum(0)) / k
        cov = (self.products - gone.T @ gone - k * np.outer(mean, mean)) / (k - 1)
        return mean, cov


def _fid_statistic(X: np.ndarray, Y: np.ndarray) -> Statistic:
    first, second = _Moments(X), _Moments(Y)

    def statistic(a: np.ndarray, b: np.ndarray) -> list[float]:
        # One side is always whole: its root is known, the other needs none.
        if len(b) == len(Y):
            return [sim.frechet(*second.full, *first.of(a), root=second.root)]
        return [sim.frechet(*first.full, *second.of(b), root=first.root)]

    return statistic


def _kid_statistic(X: np.ndarray, Y: np.ndarray) -> Statistic:
    d = X.shape[1]

    def kernel(A: np.ndarray) -> np.ndarray:
        return ((A @ A.T).astype(float) / d + 1) ** 3

    across, across_y = sim.kernel_sums(X, Y)
    sums, own = [], []
    for Z in (X, Y):
        own.append((np.einsum("ij,ij->i", Z, Z).astype(float) / d + 1) ** 3)
        sums.append(sim.kernel_sums(Z, Z)[0] - own[-1])

    def within(side: int, Z: np.ndarray, rows: np.ndarray) -> float:
        gone, k = _left(rows, len(Z)), len(rows)
        inner = kernel(Z[gone]).sum() - own[side][gone].sum() if len(gone) else 0.0
        return (sums[side].sum() - 2 * sums[side][gone].sum() + inner) / (k * (k - 1))

    def statistic(a: np.ndarray, b: np.ndarray) -> list[float]:
        total = across[a].sum() if len(b) == len(Y) else across_y[b].sum()
        return [within(0, X, a) + within(1, Y, b) - 2 * total / (len(a) * len(b))]

    return statistic


def _prd_statistic(X: np.ndarray, Y: np.ndarray) -> Statistic:
    found, gold_found = hist.joint_clusters(X, Y)

    def statistic(a: np.ndarray, b: np.ndarray) -> list[float]:
        # The clusterings of the full sets are kept: what leaves changes their shares.
        result = hist.prd_of_clusters(found[:, a], gold_found[:, b])
        return [result.f8, result.f1_8]

    return statistic


def _cosine_statistic(X: np.ndarray, Y: np.ndarray) -> Statistic:
    low, high = hist.cosine_range(X, Y)
    totals = [hist.cosine_counts(Z, low, high) for Z in (X, Y)]

    def staying(side: int, Z: np.ndarray, rows: np.ndarray) -> np.ndarray:
        gone = _left(rows, len(Z))
        if not len(gone):
            return totals[side]
        inner = hist.cosine_counts(Z[gone], low, high)
        across = sum(
            hist.bin_counts(Z[gone] @ Z[rows[start : start + 4096]].T, low, high)
            for start in range(0, len(rows), 4096)
        )
        return np.clip(totals[side] - inner - across, 0, None)

    def statistic(a: np.ndarray, b: np.ndarray) -> list[float]:
        return [float(v) for v in hist.compare_histograms(staying(1, Y, b), staying(0, X, a))]

    return statistic


def _dimension_statistic(X: np.ndarray, Y: np.ndarray) -> Statistic:
    binned = hist.dimension_bins(X, Y)
    totals = [hist.dimension_counts(b) for b in binned]

    def staying(side: int, rows: np.ndarray) -> np.ndarray:
        gone = _left(rows, len(binned[side]))
        return totals[side] - hist.dimension_counts(binned[side][gone])

    def statistic(a: np.ndarray, b: np.ndarray) -> list[float]:
        kl, hc = hist.compare_histograms(staying(1, b), staying(0, a), epsilon=1e-3)
        return [float(kl.mean()), float(hc.mean())]

    return statistic
