"""How sure is a number? The jackknife behind every interval of a measure of text sets.

Measures such as MCD, CD, FID or PRD depend on pairs of texts: a bootstrap repeats rows, sees
copies as perfect neighbours and misleads. They get a delete-a-group jackknife, which only ever
leaves rows out. Classification scores are means over test texts and get the paired bootstrap of
:mod:`personagen_utils.scores`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from personagen_utils.errors import KitError

GROUPS = 20


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval; every field but `n` may be an array of one shape.

    Attributes
    ----------
    value : float or ndarray
        The measure at full n, never a mean of replicates.
    error : float or ndarray
        Standard error, in the unit of the value.
    low, high : float or ndarray
        Limits of the 95 % interval.
    n : int
        How many rows (texts) stand behind the value.
    """

    value: Any
    error: Any
    low: Any
    high: Any
    n: int


def jackknife(
    statistic: Callable[[np.ndarray], Any],
    items: Sequence[Any] | np.ndarray,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> Interval:
    """Return a measure with its delete-a-group jackknife interval.

    Parameters
    ----------
    statistic : callable
        Maps an array of row numbers to a number or an array of fixed shape.
    items : sequence, length n
        What each row belongs to, usually its persona-scene. All rows of an item leave together,
        so texts that share a scene do not count as independent.
    groups : int
        Number G of groups; as many as there are items when these are fewer.
    seed : int
        Seed of the assignment of items to groups.

    Returns
    -------
    Interval
        Value at full n; standard error ``sqrt((G-1)/G * sum((t_g - mean(t_g))**2))``; limits
        from Student's t with G-1 degrees of freedom.

    Raises
    ------
    KitError
        For fewer than two items.

    Notes
    -----
    Kott, P. S. (2001). The delete-a-group jackknife. Journal of Official Statistics 17(4).
    Replicates are centred on their own mean, not on the full value (both forms in Wolter 2007,
    Introduction to Variance Estimation, ch. 4): FID has a bias in 1/n that moves all replicates
    alike and would otherwise pass for variance.

    Examples
    --------
    >>> x = np.array([1.0, 2.0, 3.0, 4.0])
    >>> jackknife(lambda rows: x[rows].mean(), range(4)).error  # sd / sqrt(n)
    0.6454972243679028
    """
    group = assign_groups(items, groups=groups, seed=seed)
    rows = np.arange(len(group))
    value = _number(statistic(rows))
    variance, count = _spread(statistic, group)
    return _interval(value, np.sqrt(variance), count - 1, len(rows))


def joint_jackknife(
    statistic: Callable[[np.ndarray, np.ndarray], Any],
    items: Sequence[Any] | np.ndarray,
    other: Sequence[Any] | np.ndarray,
    *,
    groups: int = GROUPS,
    seed: int = 0,
) -> Interval:
    """Return a comparison of two independent samples with its jackknife interval.

    Groups leave one sample while the other stays whole, then the other way round; the two
    variances add up. `other` is usually the gold sample, one item per text.

    Parameters
    ----------
    statistic : callable
        Maps row numbers of the first and of the second sample to a number or an array.
    items, other : sequence
        The item of each row of the first (length n) and of the second sample.
    groups, seed : int
        As in :func:`jackknife`.

    Returns
    -------
    Interval
        `n` is the number of rows of the first sample.

    Notes
    -----
    Kott (2001), as in :func:`jackknife`; limits from t with G-1 degrees of freedom, which is on
    the safe side of the Satterthwaite value.
    """
    first = assign_groups(items, groups=groups, seed=seed)
    second = assign_groups(other, groups=groups, seed=seed + 1)
    all_first, all_second = np.arange(len(first)), np.arange(len(second))
    value = _number(statistic(all_first, all_second))
    var_first, count = _spread(lambda kept: statistic(kept, all_second), first)
    var_second, count_second = _spread(lambda kept: statistic(all_first, kept), second)
    error = np.sqrt(var_first + var_second)
    return _interval(value, error, min(count, count_second) - 1, len(first))


def assign_groups(
    items: Sequence[Any] | np.ndarray, *, groups: int = GROUPS, seed: int = 0
) -> np.ndarray:
    """Return the group 0..G-1 of each row: whole items, at random, sizes as equal as can be."""
    codes, distinct = pd.factorize(np.asarray(items), use_na_sentinel=False)
    if len(distinct) < 2:
        raise KitError(
            f"An interval needs at least two persona-scenes (or texts); here is {len(distinct)}."
        )
    groups = min(groups, len(distinct))
    shuffled = np.random.default_rng(seed).permutation(len(distinct))
    return (shuffled % groups)[codes]


def _spread(statistic: Callable[[np.ndarray], Any], group: np.ndarray) -> tuple[Any, int]:
    count = int(group.max()) + 1
    left = np.stack([_number(statistic(np.flatnonzero(group != g))) for g in range(count)])
    return (count - 1) / count * ((left - left.mean(axis=0)) ** 2).sum(axis=0), count


def _number(value: Any) -> Any:
    return np.asarray(value, dtype=float)


def _interval(value: Any, error: Any, df: int, n: int) -> Interval:
    reach = stats.t.ppf(0.975, df) * error
    low, high = value - reach, value + reach
    if value.ndim == 0:
        return Interval(*(float(x) for x in (value, error, low, high)), n)
    return Interval(value, error, low, high, n)


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values adjusted for having looked at all of them (Holm's step-down).

    Parameters
    ----------
    p : sequence of float, length m
        Two-sided p values of the planned comparisons.

    Returns
    -------
    ndarray, shape (m,)
        Adjusted values in the given order; reject where they fall below the level.

    Notes
    -----
    Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian
    Journal of Statistics 6(2), 65-70.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=float)
    if p.size == 0 or not ((p >= 0) & (p <= 1)).all():
        raise KitError("Holm's correction needs p values between 0 and 1.")
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    result = np.empty_like(p)
    result[order] = np.minimum(adjusted, 1)
    return result


def value_with_interval(
    value: float | None, low: float | None = None, high: float | None = None, *, digits: int = 2
) -> str:
    """Return a number as a table shows it, for example ``0.71 [0.69, 0.73]``.

    An absent value is an em dash; absent limits leave the value alone.

    Examples
    --------
    >>> value_with_interval(0.7104, 0.688, 0.7321)
    '0.71\xa0[0.69,\xa00.73]'
    """

    def absent(x: float | None) -> bool:
        return x is None or bool(np.isnan(x))

    if absent(value):
        return "—"
    if absent(low) or absent(high):
        return f"{value:.{digits}f}"
    # No-break spaces: a bracket is not torn apart in a narrow column.
    return f"{value:.{digits}f}\u00a0[{low:.{digits}f},\u00a0{high:.{digits}f}]"
