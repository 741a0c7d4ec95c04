"""How a notebook shows code, prompts and people to its reader."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from IPython.display import Markdown
from pandas.io.formats.style import Styler

from personagen_utils.intervals import value_with_interval
from personagen_utils.tables import BACKGROUND, BASE, SCENARIO, STYLE


def show_source(function: Callable) -> Markdown:
    """Show a function's own source: reader, notebook and test look at the same lines."""
    return Markdown(f"```python\n{textwrap.dedent(inspect.getsource(function)).rstrip()}\n```")


def show_messages(messages: Sequence[Mapping[str, str]]) -> Markdown:
    """Show a prompt exactly as it is sent, one block per message."""
    return Markdown("\n\n".join(f"**{m['role']}**\n```text\n{m['content']}\n```" for m in messages))


def show_texts(frame: pd.DataFrame, name: str) -> Styler:
    """Show a table whose cells are to be read: left-aligned, in full, without an index.

    Parameters
    ----------
    frame : DataFrame
    name : str
        Of the table; it keeps the ids of the HTML the same in every run.
    """
    left = {"text-align": "left", "vertical-align": "top"}
    headers = [{"selector": "th", "props": list(left.items())}]
    return frame.style.hide().set_uuid(name).set_properties(**left).set_table_styles(headers)


def show_person(person: Mapping[str, object]) -> Markdown:
    """Show one person in a few lines, as far as drawn."""
    parts = (
        ("Base persona", BASE),
        ("Background", BACKGROUND),
        ("Scene", SCENARIO),
        ("Style", STYLE),
    )
    lines = [
        f"**{title}**: " + " · ".join(str(person[name]) for name in names)
        for title, names in parts
        if names[0] in person
    ]
    return Markdown("  \n".join(lines))


def interval_table(
    rows: pd.DataFrame, *, index: str, columns: str, digits: int = 2
) -> pd.DataFrame:
    """Return tidy rows as a table to read: value and interval in each cell, order as given.

    Parameters
    ----------
    rows : DataFrame
        Columns value, low, high and those named; one row per cell.
    index, columns : str
        Which column gives the lines, which the columns of the table.
    digits : int
        Decimals.

    Returns
    -------
    DataFrame of str
        Empty where there is no row.
    """
    cells = [
        value_with_interval(*row, digits=digits)
        for row in rows[["value", "low", "high"]].itertuples(index=False)
    ]
    table = rows.assign(cells=cells).pivot(index=index, columns=columns, values="cells")
    table = table.loc[rows[index].unique(), rows[columns].unique()].fillna("")
    return table.rename_axis(index=None, columns=None)


def describe(person: Mapping[str, object], names: Sequence[str]) -> str:
    """Return some attributes in one line, for tables of examples."""
    return ", ".join(str(person[name]) for name in names)


def verdict_table(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the counts of `verdicts.count_verdicts` as a table to read: draws and their share.

    Parameters
    ----------
    counts : DataFrame

    Returns
    -------
    DataFrame
        One line per verdict, one column per stage.
    """
    given = counts[counts["metric"] == "verdicts"]
    cells = [f"{row.value} ({row.value / row.n:.0%})" for row in given.itertuples()]
    table = given.assign(cells=cells).pivot(index="label", columns="stage", values="cells")
    table = table.loc[given["label"].unique(), given["stage"].unique()]
    return table.rename(columns=lambda name: name.replace("_", " ")).rename_axis(
        index="draws called", columns=None
    )


def verdict_examples(verdicts: pd.DataFrame, names: Sequence[str], *, n: int = 2) -> pd.DataFrame:
    """Return the first n draws of each verdict with the reason that was given.

    Parameters
    ----------
    verdicts : DataFrame
        Of one stage.
    names : sequence of str
        The attributes to show.
    n : int

    Returns
    -------
    DataFrame
        verdict, draw, reason.
    """
    first = verdicts.drop_duplicates(["label", *names]).groupby("label", sort=False).head(n)
    order = ["natural", "rare but plausible", "implausible", "not judged"]
    first = first.sort_values("label", key=lambda s: s.map(order.index), kind="stable")
    return pd.DataFrame(
        {
            "verdict": first["label"],
            "draw": [describe(row, names) for row in first.to_dict("records")],
            "reason": first["reason"],
        }
    ).reset_index(drop=True)
