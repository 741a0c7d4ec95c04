"""What did the paper report? Tables IV to VII and the means of Fig. 4, next to our own numbers."""

from functools import cache

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.intervals import value_with_interval
from personagen_utils.paths import DATA

FILES = {
    "IV": "table_iv.csv",
    "V": "table_v.csv",
    "VI": "table_vi.csv",
    "VII": "table_vii.csv",
    "Fig. 4": "figure_4.csv",
}


@cache
def _read(table: str) -> pd.DataFrame:
    return pd.read_csv(DATA / "paper" / FILES[table])


def published(table: str) -> pd.DataFrame:
    """Return the published values of one table or figure of the paper.

    Parameters
    ----------
    table : {"IV", "V", "VI", "VII", "Fig. 4"}
        Its name in the paper.

    Returns
    -------
    DataFrame
        Columns table, method, emotion (missing where the value is over all emotions), metric,
        value. The metric names are those of the kit's own tidy rows.

    Raises
    ------
    KitError
        For another name.
    """
    if table not in FILES:
        raise KitError(f"The paper's table {table!r} is not kept; choose from {', '.join(FILES)}.")
    return _read(table).copy()


def beside_published(
    rows: pd.DataFrame,
    paper: pd.DataFrame,
    *,
    by: str = "emotion",
    metrics: list[str] | None = None,
    digits: int = 2,
) -> pd.DataFrame:
    """Return our values with intervals and the published ones, side by side, ready to show.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows: metric, value, low, high, n and the column `by`.
    paper : DataFrame
        From :func:`published`.
    by : {"emotion", "method"}
        What a line of the table is. A missing value, as for CD, becomes the line "all".
    metrics : list of str, optional
        Metrics to show, in order; default those of `rows`.
    digits : int
        Decimals of our values; the published ones keep the paper's.

    Returns
    -------
    DataFrame of str
        One line per `by` in the order of `rows`; for each metric a column ``MCD`` and, where the
        paper has the metric, ``MCD, paper``; last n.
    """
    missing = [c for c in ("metric", "value", "low", "high", by) if c not in rows]
    if missing:
        raise KitError(f"beside_published: the rows have no column {missing[0]!r}.")
    ours, theirs = (
        frame.assign(**{by: frame[by].astype(object).where(frame[by].notna(), "all")})
        for frame in (rows, paper)
    )
    lines = list(dict.fromkeys(ours[by]))
    table = pd.DataFrame(index=pd.Index(lines, name=by))
    for metric in metrics or list(dict.fromkeys(ours["metric"])):
        mine = ours[ours["metric"] == metric]
        if mine[by].duplicated().any():
            raise KitError(f"beside_published: {metric} has two rows for one {by}; select first.")
        shown = {
            line: value_with_interval(value, low, high, digits=digits)
            for line, value, low, high in mine[[by, "value", "low", "high"]].itertuples(index=False)
        }
        table[metric] = [shown.get(line, "") for line in lines]
        known = theirs[theirs["metric"] == metric].set_index(by)["value"]
        if len(known):
            places = next(p for p in (2, 3, 4) if (known.round(p) == known).all())
            table[f"{metric}, paper"] = [
                f"{known[line]:.{places}f}" if line in known.index else "" for line in lines
            ]
    if "n" in ours:
        table["n"] = ours.drop_duplicates(by).set_index(by)["n"].reindex(lines)
    return table
