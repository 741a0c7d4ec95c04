"""The figures of the notebooks: each takes a tidy table and returns a picture with alt text.

All figures of the kit can be imported from here. `width` is in inches: 6 on a screen, 3.5 for a
column and 7 for a page in print; letters keep their size, legends and panels find another place.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.lines import Line2D

from personagen_utils.bars import need, score_distributions, share_bars, verdict_bars
from personagen_utils.diagram import framework_diagram
from personagen_utils.style import (
    EMOTIONS,
    GREY,
    METHODS,
    Picture,
    colours,
    emotion_styles,
    show,
    styled,
    use_style,
)

__all__ = [
    "EMOTIONS",
    "METHODS",
    "Picture",
    "confusion_heatmap",
    "framework_diagram",
    "intervals_plot",
    "score_distributions",
    "share_bars",
    "show",
    "tsne_scatter",
    "use_style",
    "verdict_bars",
]

_PAPER = {"marker": "D", "ms": 5, "mfc": "white", "mec": "black", "mew": 1, "ls": "none"}
_POINT = {"marker": "o", "ms": 5, "mec": "black", "mew": 0.5, "lw": 2}
_LARGER = {"*": 2.2, "X": 1.4, "P": 1.4}  # markers that look small at the same area


@styled
def tsne_scatter(points: pd.DataFrame, *, width: float = 6, seed: int = 0) -> Picture:
    """Draw texts in the plane, coloured by emotion (Fig. 2).

    Parameters
    ----------
    points : DataFrame
        Columns x, y (from :func:`personagen_utils.diversity_tables.tsne`) and emotion.
    width : float
        Inches.
    seed : int
        Seed of the order in which points are drawn, so that no emotion covers the others.

    Returns
    -------
    Picture
    """
    need(points, "tsne_scatter", "x", "y", "emotion")
    narrow = width < 4.5
    figure = Picture(figsize=(width, width * (1.1 if narrow else 0.62)))
    ax = figure.subplots()
    look = emotion_styles(points["emotion"])
    label = points["emotion"].astype(str).to_numpy()
    layer = np.random.default_rng(seed).integers(12, size=len(points))
    size = float(np.clip(1500 * width / len(points), 4, 30))
    for k in range(12):
        for name, (colour, marker) in look.items():
            at = points[(layer == k) & (label == name)]
            area = size * _LARGER.get(marker, 1)
            ax.scatter(at["x"], at["y"], s=area, c=colour, marker=marker, alpha=0.85, linewidths=0)
    handles = [
        Line2D([], [], color=c, marker=m, ls="none", mec="none", ms=6 * _LARGER.get(m, 1) ** 0.5,
               label=f"{name} ({(label == name).sum():,})")
        for name, (c, m) in look.items()
    ]  # fmt: skip
    ax.set(xticks=[], yticks=[], xlabel="t-SNE 1", ylabel="t-SNE 2")
    place = "outside lower center" if narrow else "outside right center"
    figure.legend(handles=handles, loc=place, ncols=3 if narrow else 1, columnspacing=1)
    figure.alt = f"t-SNE map of {len(points):,} texts, coloured by emotion: {', '.join(look)}."
    return figure


@styled
def intervals_plot(
    rows: pd.DataFrame,
    *,
    paper: pd.DataFrame | None = None,
    by: str = "emotion",
    metrics: Sequence[str] | None = None,
    hue: str | None = None,
    labels: Mapping[str, str] | None = None,
    lines: Mapping[str, float] | None = None,
    width: float | None = None,
) -> Picture:
    """Draw values with their intervals, and the published values beside them.

    Parameters
    ----------
    rows : DataFrame
        Tidy rows: metric, value, low, high and the column `by`.
    paper : DataFrame, optional
        From :func:`personagen_utils.published.published`; drawn as open diamonds.
    by : str
        What a line of the figure is, usually emotion or method. First row on top.
    metrics : sequence of str, optional
        One panel each; default all metrics of `rows`.
    hue : str, optional
        Column whose values share a line, for example random splits and folds by scene.
    labels : mapping of str to str, optional
        Axis label of each metric, with unit and direction ("FID, lower = closer").
    lines : mapping of str to float, optional
        Reference of each metric, drawn as a dashed line, for example chance.
    width : float, optional
        Inches; default 6, for three panels and more 7. Below 4.5, two panels side by side.

    Returns
    -------
    Picture
    """
    need(rows, "intervals_plot", "metric", "value", "low", "high", by, *([hue] if hue else []))
    metrics = list(metrics or dict.fromkeys(rows["metric"]))
    rows = _lines_of(rows[rows["metric"].isin(metrics)], by)
    known = None if paper is None else _lines_of(paper, by)
    names = list(dict.fromkeys(rows[by]))
    groups = list(dict.fromkeys(rows[hue])) if hue else [None]
    palette = colours(groups if hue else names)
    slots = len(groups) + (paper is not None)  # places on a line, the paper's being the last
    width = width or (6 if len(metrics) < 3 else 7)
    across = len(metrics) if width >= 4.5 else min(2, len(metrics))
    down = -(-len(metrics) // across)
    height = down * (0.6 + (0.16 + 0.1 * slots) * len(names)) + 0.3
    figure = Picture(figsize=(width, max(1.4, height)))
    axes = figure.subplots(down, across, sharey=True, squeeze=False)
    for ax in axes.flat[len(metrics) :]:
        ax.set_visible(False)
    for ax, metric in zip(axes.flat, metrics, strict=False):
        if lines and metric in lines:
            ax.axvline(lines[metric], color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=0)
        for g, group in enumerate(groups):
            part = rows[(rows["metric"] == metric) & ((rows[hue] == group) if hue else True)]
            for name, value, low, high in part[[by, "value", "low", "high"]].to_numpy():
                y, colour = names.index(name) + _offset(g, slots), palette[group if hue else name]
                ax.plot([low, high], [y, y], color=colour, lw=2, solid_capstyle="butt")
                ax.plot(value, y, color=colour, **_POINT)
        if known is not None:
            of_metric = known[(known["metric"] == metric) & known[by].isin(names)]
            y = [names.index(name) + _offset(slots - 1, slots) for name in of_metric[by]]
            ax.plot(of_metric["value"], y, **_PAPER)
        ax.set_xlabel((labels or {}).get(metric, metric))
        ax.margins(x=0.08)
        ax.tick_params(axis="y", length=0)
        ax.locator_params(axis="x", nbins=5 if width / across > 2.5 else 3)
        ax.grid(axis="x", color="#E6E6E6", lw=0.6)
        ax.set_axisbelow(True)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.5, -0.5)
    handles = [Line2D([], [], color=palette[g], label=g, **_POINT) for g in groups if hue]
    if known is not None:
        run = Line2D([], [], color="#BBBBBB", label="this run, 95 % interval", **_POINT)
        handles += ([] if hue else [run]) + [Line2D([], [], label="paper", **_PAPER)]
    if handles:
        across = len(handles) if width >= 4.5 else 2
        figure.legend(handles=handles, loc="outside upper center", ncols=across, handlelength=2.2)
    figure.alt = _alt_intervals(rows, by, metrics)
    return figure


@styled
def confusion_heatmap(
    table: pd.DataFrame,
    *,
    xlabel: str = "predicted emotion",
    ylabel: str = "true emotion",
    width: float | None = None,
) -> Picture:
    """Draw a confusion matrix (Fig. 3): shares of each true class with two decimals, or counts.

    Parameters
    ----------
    table : DataFrame, shape (k, k)
        Truth in rows, prediction in columns, from
        :func:`personagen_utils.separability.confusion`.
    xlabel, ylabel : str
        Axis labels.
    width : float, optional
        Inches; default by the number of classes.

    Returns
    -------
    Picture
    """
    values = table.to_numpy(dtype=float)
    k = len(values)
    width = width or max(3, 1.5 + 0.5 * k)
    figure = Picture(figsize=(width, 1.0 + 0.37 * k))
    ax = figure.subplots()
    top = max(values.max(), 1e-9)
    ax.imshow(values, cmap="Blues", vmin=0, vmax=top * 1.1, aspect="auto")
    letters = min(8, 12.5 * width / k)
    counts = bool((values == values.round()).all() and top > 1)
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if value > 0.6 * top else "black" if value >= 0.005 else "#A8A8A8"
        text = f"{value:.0f}" if counts else f"{value:.2f}".removeprefix("0") if value < 1 else "1"
        ax.text(j, i, text, ha="center", va="center", color=colour, fontsize=letters)
    slant = {"rotation": 30, "ha": "right"} if k > 4 else {}
    ax.set_xticks(range(k), table.columns, **slant)
    ax.set_yticks(range(k), table.index)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    i, j = np.unravel_index(np.argmax(values - np.eye(k) * values), values.shape)
    worst = f"{table.index[i]} as {table.columns[j]}"
    figure.alt = f"Confusion matrix of {k} emotions; the most frequent confusion is {worst}."
    return figure


# --- parts -----------------------------------------------------------------------------------


def _lines_of(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Name the line of each row; a value over all emotions has none and becomes "all"."""
    name = rows[by].astype(object).where(rows[by].notna(), "all").astype(str)
    return rows.assign(**{by: name}).reset_index(drop=True)


def _offset(slot: int, slots: int) -> float:
    step = min(0.26, 0.75 / slots)
    return (slot - (slots - 1) / 2) * step


def _alt_intervals(rows: pd.DataFrame, by: str, metrics: Sequence[str]) -> str:
    said = []
    for metric in metrics:
        part = rows[(rows["metric"] == metric) & rows["value"].notna()]
        if len(part):
            low, high = part.loc[part["value"].idxmin()], part.loc[part["value"].idxmax()]
            said.append(
                f"{metric} from {low['value']:.3g} ({low[by]}) to {high['value']:.3g} ({high[by]})"
            )
    return f"Values with 95 % intervals by {by}: {'; '.join(said)}."
