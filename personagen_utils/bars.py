"""The figures made of bars: shares of scores, of sampled attributes, of verdicts."""

import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.patches import Patch

from personagen_utils.errors import KitError
from personagen_utils.style import Picture, in_order, styled

SCORES = ("#7A1E3A", "#D98880", "#D9D9D9", "#85B7DE", "#154A86")  # 1 to 5, darkest at the ends
VERDICTS = {
    "natural": "#1B5FAA",
    "rare": "#8FC1E8",
    "implausible": "#C77C11",
    "not judged": "#DDDDDD",
}


@styled
def score_distributions(
    scores: pd.DataFrame, *, criteria: Sequence[str] | None = None, width: float = 7
) -> Picture:
    """Draw how often each score was given, by criterion and emotion (Fig. 4), with the means.

    Parameters
    ----------
    scores : DataFrame
        One row per text and criterion: columns criterion, emotion, score (integer 1 to 5).
    criteria : sequence of str, optional
        Panels from left to right; default in order of appearance.
    width : float
        Inches; below 4.5 two panels stand side by side.

    Returns
    -------
    Picture
    """
    need(scores, "score_distributions", "criterion", "emotion", "score")
    scores = scores[scores["score"].notna()]
    criteria = list(criteria or dict.fromkeys(scores["criterion"]))
    names = in_order(scores["emotion"])
    across = len(criteria) if width >= 4.5 else min(2, len(criteria))
    down = -(-len(criteria) // across)
    figure = Picture(figsize=(width, 0.8 + down * (0.5 + 0.22 * len(names))))
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax in axes.flat[len(criteria) :]:
        ax.set_visible(False)
    for ax, criterion in zip(axes.flat, criteria, strict=False):
        part = scores[scores["criterion"] == criterion]
        table = pd.crosstab(part["emotion"], part["score"]).reindex(
            index=names, columns=range(1, 6), fill_value=0
        )
        share = table.div(table.sum(axis=1).clip(lower=1), axis=0) * 100
        left = np.zeros(len(names))
        for score, colour in zip(range(1, 6), SCORES, strict=True):
            ax.barh(range(len(names)), share[score], left=left, color=colour, height=0.78)
            left += share[score].to_numpy()
        mean = part.groupby("emotion")["score"].mean()
        for y, name in enumerate(names):
            if name in mean.index:
                ax.text(103, y, f"{mean[name]:.2f}", va="center", fontsize=7.5)
        ax.set_title("\n".join(textwrap.wrap(criterion, 19)), loc="left", fontsize=8.5)
        ax.set_xticks([0, 50, 100])
        ax.set_xlim(0, 100)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("texts, % (right of the bars: mean score)", fontsize=9)
    handles = [Patch(color=c, label=str(s)) for s, c in zip(range(1, 6), SCORES, strict=True)]
    figure.legend(
        handles=handles,
        loc="outside upper center",
        ncols=5,
        title="score (5 = best)",
        title_fontsize=8,
    )
    means = scores.groupby("criterion")["score"].mean()
    said = "; ".join(f"{c} {means[c]:.2f}" for c in criteria)
    figure.alt = f"Shares of scores 1 to 5 by criterion and emotion. Means: {said}."
    return figure


@styled
def share_bars(
    table: pd.DataFrame,
    *,
    xlabel: str = "share, %",
    order: str | None = "target",
    width: float = 6,
) -> Picture:
    """Draw realised shares as bars and target shares as ticks.

    Parameters
    ----------
    table : DataFrame
        Index: items; columns target and realised, in percent, and optionally low and high (95 %
        limits of the realised share).
    xlabel : str
        Axis label.
    order : {"target", "realised"} or None
        Column by which items are sorted, largest on top; None keeps the order.
    width : float
        Inches.

    Returns
    -------
    Picture
    """
    need(table, "share_bars", "target", "realised")
    table = table.sort_values(order, ascending=False) if order else table
    y = np.arange(len(table))
    figure = Picture(figsize=(width, max(1.3, 0.75 + 0.21 * len(table))))
    ax = figure.subplots()
    ax.barh(y, table["realised"], color="#A9CBEA", height=0.72, label="realised")
    if {"low", "high"} <= set(table):
        ax.hlines(y, table["low"], table["high"], color="#1B5FAA", lw=1.6, label="95 % interval")
    ax.vlines(table["target"], y - 0.4, y + 0.4, color="black", lw=1.8, label="target")
    ax.set_yticks(y, [str(item) for item in table.index])
    ax.set_ylim(len(table) - 0.4, -0.6)
    ax.set_xlim(left=0)
    ax.set_xlabel(xlabel)
    ax.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper right", ncols=3 if width >= 4.5 else 2)
    gap = (table["realised"] - table["target"]).abs()
    figure.alt = (
        f"Realised against target shares of {len(table)} items; the largest gap is "
        f"{gap.max():.1f} points, {gap.idxmax()}."
    )
    return figure


@styled
def verdict_bars(counts: pd.DataFrame, *, width: float = 6) -> Picture:
    """Draw the verdicts of each stage as shares, with their counts.

    Parameters
    ----------
    counts : DataFrame
        Index: stages; columns: verdicts (natural, rare, implausible, not judged), as counts.
    width : float
        Inches.

    Returns
    -------
    Picture
    """
    total = counts.sum(axis=1)
    if counts.empty or (total == 0).any():
        raise KitError("verdict_bars: a stage has no verdicts; drop it or run it first.")
    share = counts.div(total, axis=0) * 100
    figure = Picture(figsize=(width, 0.95 + 0.34 * len(counts)))
    ax = figure.subplots()
    left = np.zeros(len(counts))
    for k, verdict in enumerate(counts.columns):
        colour = VERDICTS.get(str(verdict)) or list(VERDICTS.values())[k % len(VERDICTS)]
        ax.barh(
            range(len(counts)), share[verdict], left=left, color=colour, height=0.7, label=verdict
        )
        for y, (percent, number) in enumerate(zip(share[verdict], counts[verdict], strict=True)):
            if percent * width >= 25:
                light = colour in ("#1B5FAA", "#C77C11")
                ax.text(
                    left[y] + percent / 2,
                    y,
                    f"{number:,}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if light else "black",
                )
        left += share[verdict].to_numpy()
    ax.set_yticks(range(len(counts)), [str(stage) for stage in counts.index])
    ax.set_ylim(len(counts) - 0.5, -0.5)
    ax.set_xlim(0, 100)
    ax.set_xlabel("judged items, %")
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    figure.legend(loc="outside upper center", ncols=len(counts.columns) if width >= 4.5 else 2)
    said = "; ".join(
        f"{stage}: " + ", ".join(f"{v} {counts.loc[stage, v]:,}" for v in counts.columns)
        for stage in counts.index
    )
    figure.alt = f"Verdicts by stage. {said}."
    return figure


def need(table: pd.DataFrame, figure: str, *columns: str) -> None:
    """Raise a KitError for a table without one of the columns or without rows."""
    missing = [column for column in columns if column not in table]
    if missing:
        raise KitError(f"{figure}: the table has no column {missing[0]!r}.")
    if table.empty:
        raise KitError(f"{figure}: the table has no rows to draw.")
