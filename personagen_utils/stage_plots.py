"""Figures of the stages: a conditional table as a heat map, the length of texts by style."""

from __future__ import annotations

import numpy as np
import pandas as pd

from personagen_utils.style import Picture, styled


@styled
def conditional_heatmap(table: pd.DataFrame, *, xlabel: str = "", ylabel: str = "") -> Picture:
    """Draw a conditional distribution, one column per condition.

    Parameters
    ----------
    table : DataFrame
        Percent; each column adds up to 100, empty cells cannot occur.
    xlabel, ylabel : str
        What columns and rows are.

    Returns
    -------
    Picture
    """
    import seaborn as sns

    figure = Picture(figsize=(6.6, 0.9 + 0.27 * len(table)))
    ax = figure.subplots()
    labels = table.map(lambda share: "" if pd.isna(share) or share == 0 else f"{share:.0f}")
    sns.heatmap(
        table,
        annot=labels,
        fmt="",
        cmap="Blues",
        vmin=0,
        vmax=100,
        linewidths=0.5,
        annot_kws={"size": 8},
        cbar_kws={"label": "percent of the column"},
        ax=ax,
    )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(length=0)
    ax.set_xticklabels(table.columns, rotation=30, ha="right", rotation_mode="anchor")
    top = table.max()
    figure.alt = "Percent of each column: " + "; ".join(
        f"{column}: mostly {table[column].idxmax()} ({top[column]:.0f})" for column in table
    )
    return figure


@styled
def length_plot(texts: pd.DataFrame, *, by: str) -> Picture:
    """Draw how long texts are, by group: every text a dot, the middle half a bar.

    Parameters
    ----------
    texts : DataFrame
        Columns words (count per text) and `by`.
    by : str

    Returns
    -------
    Picture
    """
    import seaborn as sns

    names = texts[by].astype(str)
    order = list(names.value_counts().index)
    figure = Picture(figsize=(6, 0.8 + 0.36 * len(order)))
    ax = figure.subplots()
    sns.boxplot(
        x=texts["words"].to_numpy(),
        y=names.to_numpy(),
        order=order,
        color="#A9CBEA",
        fliersize=0,
        width=0.6,
        linewidth=0.9,
        ax=ax,
    )
    rng = np.random.default_rng(0)
    for y, name in enumerate(order):
        words = texts.loc[(names == name).to_numpy(), "words"].to_numpy(float)
        ax.scatter(
            words + rng.uniform(-0.3, 0.3, len(words)),
            y + rng.uniform(-0.25, 0.25, len(words)),
            s=4,
            color="#1B5FAA",
            alpha=0.35,
            linewidths=0,
        )
    ax.set(xlabel="words per text", ylabel="", xlim=(0, None))
    counts = names.value_counts()
    ax.set_yticks(range(len(order)), [f"{name} ({counts[name]})" for name in order])
    median = texts.groupby(names.to_numpy())["words"].median()
    figure.alt = "Median words per text: " + ", ".join(f"{n} {median[n]:.0f}" for n in order)
    return figure
