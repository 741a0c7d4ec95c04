"""The framework in one picture (Fig. 1), drawn for this kit: stages, verdicts, questions."""

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from personagen_utils.style import GREY, Picture, styled

_STAGES = (
    ("1  Base persona", "age, gender,\noccupation,\npersonality type"),
    ("2  Background", "education, region,\nfamily, religion,\nbeliefs, income"),
    ("3  Scene and style", "place, activity,\ninterlocutor,\nmedium, style"),
    ("4  Expression", "persona + scene\n+ emotion:\nat most two sentences"),
)
_QUESTIONS = (
    ("RQ1", "diverse and separable?", "MCD, CE, CD · classifier", "notebooks 05, 06"),
    ("RQ2", "natural, human-like?", "judge scores + controls", "notebook 07"),
    ("RQ3", "like real data, useful?", "FID, PRD, KL, HC · training", "notebooks 08 to 10"),
)
_BLUE, _PALE, _SAND = "#1B5FAA", "#E4EFF9", "#FBF1DF"


@styled
def framework_diagram() -> Picture:
    """Draw the four stages, the verdicts between them, and the questions asked of the texts.

    Returns
    -------
    Picture
        7 x 3.5 inches. After Fig. 1 of the paper and its Section III.
    """
    figure = Picture(figsize=(7, 3.5))
    ax = figure.subplots()
    ax.set(xlim=(0, 100), ylim=(0, 50))
    ax.axis("off")
    left = [0.5, 26, 51.5, 77]
    for x, (name, what) in zip(left, _STAGES, strict=True):
        _box(ax, x, 31, 22.5, 15, _PALE, _BLUE)
        ax.text(x + 11.25, 43.2, name, ha="center", va="center", weight="bold", fontsize=8.5)
        ax.text(x + 11.25, 36.6, what, ha="center", va="center", fontsize=8, linespacing=1.25)
    for x in left[:3]:
        _arrow(ax, (x + 22.5, 38.5), (x + 25.5, 38.5))
        ax.add_patch(  # what a verdict rejects is drawn again at its own stage
            FancyArrowPatch(
                (x + 17, 31),
                (x + 5.5, 31),
                connectionstyle="arc3,rad=-0.55",
                arrowstyle="-|>",
                mutation_scale=8,
                color="#C77C11",
                lw=1.1,
                shrinkA=0,
                shrinkB=0,
            )
        )
        ax.text(
            x + 11.25,
            25.2,
            "implausible: draw again",
            ha="center",
            va="center",
            fontsize=7,
            color="#8A5200",
        )
    ax.text(
        0.5,
        48.6,
        "drawn from tables (measured where figures exist), judged by a language model",
        fontsize=8,
        color=GREY,
        va="center",
    )
    ax.text(99.5, 48.6, "written by it", fontsize=8, color=GREY, ha="right", va="center")
    _box(ax, 77, 21.6, 22.5, 5.4, "white", _BLUE)
    ax.text(88.25, 24.3, "texts with labels", ha="center", va="center", fontsize=8.5, weight="bold")
    _arrow(ax, (88.25, 31), (88.25, 27.3))
    rail = 19.2
    ax.plot([16.2, 88.25, 88.25], [rail, rail, 21.6], color=GREY, lw=1)
    for x, (name, question, how, where) in zip((0.5, 34.3, 68.1), _QUESTIONS, strict=True):
        _arrow(ax, (x + 15.7, rail), (x + 15.7, 15.6))
        _box(ax, x, 1, 31.4, 14.3, _SAND, "#C77C11")
        ax.text(
            x + 15.7,
            12.5,
            f"{name}  {question}",
            ha="center",
            va="center",
            weight="bold",
            fontsize=8,
        )
        ax.text(x + 15.7, 8.2, how, ha="center", va="center", fontsize=8)
        ax.text(x + 15.7, 4.1, where, ha="center", va="center", fontsize=8, color=GREY)
    figure.alt = (
        "PersonaGen in four stages: base persona, background, scene and style, expression. After "
        "each of the first three a language model judges the combination, and an implausible one "
        "is drawn again. The texts are then asked three questions: RQ1 diversity and "
        "separability, RQ2 human-likeness, RQ3 likeness to real data and use in training."
    )
    return figure


def _box(ax: Axes, x: float, y: float, width: float, height: float, fill: str, edge: str) -> None:
    style = "round,pad=0,rounding_size=1.2"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=style, fc=fill, ec=edge, lw=1))


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    ax.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=9, color=GREY, lw=1, shrinkA=0, shrinkB=0
        )
    )
