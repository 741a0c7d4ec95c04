"""Figures of RQ3: PRD curves, gold and methods in one plane, learning curves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from personagen_utils.histograms import PRD
from personagen_utils.style import GREY, Picture, colours, styled


@styled
def prd_curves(curves: Mapping[str, PRD]) -> Picture:
    """Draw precision against recall of each method.

    Parameters
    ----------
    curves : mapping of str to PRD
        From :func:`personagen_utils.histograms.prd`, by method.

    Returns
    -------
    Picture
    """
    figure = Picture(figsize=(4.4, 3.6))
    ax = figure.subplots()
    palette = colours(curves)
    for name, curve in curves.items():
        ax.plot(curve.recall, curve.precision, color=palette[name], lw=1.8, label=name)
    ax.set(
        xlim=(0, 1),
        ylim=(0, 1),
        xlabel="recall: how much of gold is covered",
        ylabel="precision: how much is gold-like",
    )
    ax.set_aspect("equal")
    figure.legend(loc="outside upper center", ncols=len(curves))
    figure.alt = "Precision-recall curves against gold. F8: " + ", ".join(
        f"{name} {curve.f8:.2f}" for name, curve in curves.items()
    )
    return figure


@styled
def joint_scatter(points: pd.DataFrame) -> Picture:
    """Draw gold and each method in one plane, a panel per method.

    Parameters
    ----------
    points : DataFrame
        Columns x, y and method ("Gold" among them), laid out together.

    Returns
    -------
    Picture
    """
    names = [name for name in points["method"].unique() if name != "Gold"]
    palette = colours(names)
    figure = Picture(figsize=(7, 0.6 + 7 / max(len(names), 2)))
    axes = np.atleast_1d(figure.subplots(1, len(names), sharex=True, sharey=True))
    gold = points[points["method"] == "Gold"]
    size = float(np.clip(3000 / len(points), 1.5, 8))
    for ax, name in zip(axes, names, strict=True):
        part = points[points["method"] == name]
        ax.scatter(gold["x"], gold["y"], s=size, color="#BDBDBD", linewidths=0)
        ax.scatter(part["x"], part["y"], s=size, color=palette[name], linewidths=0)
        ax.set_xlabel(name)
        ax.set(xticks=[], yticks=[])
    figure.alt = f"Gold in grey and each of {', '.join(names)} in colour, in a common t-SNE plane."
    return figure


@styled
def learning_curves(
    curve: pd.DataFrame, *, n_labels: int, lines: Mapping[str, float] | None = None
) -> Picture:
    """Draw accuracy against the number of training texts per emotion.

    Parameters
    ----------
    curve : DataFrame
        Columns method, train_n, value, low, high.
    n_labels : int
        Labels of the task: train_n is over all of them.
    lines : mapping of str to float, optional
        References by name, drawn dashed.

    Returns
    -------
    Picture
    """
    figure = Picture()
    ax = figure.subplots()
    palette = colours(curve["method"].unique())
    for name, part in curve.groupby("method", sort=False):
        part = part.sort_values("train_n")
        x = part["train_n"] / n_labels
        ax.fill_between(x, part["low"], part["high"], color=palette[name], alpha=0.18, lw=0)
        ax.plot(x, part["value"], color=palette[name], marker="o", ms=3.5, lw=1.6, label=name)
    for name, value in (lines or {}).items():
        ax.axhline(value, color=GREY, lw=0.8, ls=(0, (4, 3)))
        ax.annotate(
            name,
            (1, value),
            (3, 0),
            xycoords=("axes fraction", "data"),
            va="center",
            textcoords="offset points",
            fontsize=8,
            color=GREY,
        )
    sizes = sorted(curve["train_n"].unique() // n_labels)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [str(size) for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="synthetic training texts per emotion", ylabel="accuracy on gold")
    figure.legend(loc="outside upper center", ncols=curve["method"].nunique())
    last = curve[curve["train_n"] == curve.groupby("method")["train_n"].transform("max")]
    figure.alt = "Accuracy on gold at the largest size: " + ", ".join(
        f"{row.method} {row.value:.2f}" for row in last.itertuples()
    )
    return figure


@styled
def shot_curves(rows: pd.DataFrame) -> Picture:
    """Draw accuracy against the number of labelled gold texts, one panel per test corpus.

    Parameters
    ----------
    rows : DataFrame
        Columns method (the arm), shots, on (the test corpus), value, low, high.

    Returns
    -------
    Picture
    """
    panels = list(rows["on"].unique())
    figure = Picture(figsize=(3.2 * len(panels), 3))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    palette = colours(rows["method"].unique())
    for ax, on in zip(axes, panels, strict=True):
        for name, part in rows[rows["on"] == on].groupby("method", sort=False):
            part = part.sort_values("shots")
            low, high = part["low"].astype(float), part["high"].astype(float)
            ax.fill_between(part["shots"], low, high, color=palette[name], alpha=0.18, lw=0)
            ax.plot(
                part["shots"], part["value"], color=palette[name], marker="o", ms=3.5, label=name
            )
        sizes = sorted(rows["shots"].unique())
        ax.set_xscale("log")
        ax.set_xticks(sizes, [str(size) for size in sizes])
        ax.minorticks_off()
        ax.set(title=on, xlabel="labelled gold texts per emotion")
    axes[0].set_ylabel("accuracy")
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=3)
    few = rows[rows["shots"] == rows["shots"].min()]
    figure.alt = f"Accuracy with {few['shots'].iloc[0]} labelled texts per emotion: " + "; ".join(
        f"{row.on}, {row.method} {row.value:.2f}" for row in few.itertuples()
    )
    return figure
