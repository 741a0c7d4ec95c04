"""How the kit's figures look: one style, one colour per emotion and per method, alt text.

Colours keep a distance under the three forms of colour blindness and, as greys, differ in
lightness; scatter plots add a marker per emotion.
"""

import functools
import io
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from personagen_utils.errors import KitError

EMOTIONS = {  # in the order of legends: colour, marker
    "joy": ("#EDAE01", "o"),
    "pleasure": ("#B9D56C", "D"),
    "love": ("#F778DC", "*"),
    "surprise": ("#2A859B", "^"),
    "anger": ("#C92C1F", "X"),
    "fear": ("#481F56", "v"),
    "sadness": ("#054CAC", "s"),
    "neutral": ("#8E948E", "P"),
}
OTHERS = [  # labels of a reader's own corpus, in alphabetical order
    ("#7A5230", "o"),
    ("#4BB08A", "s"),
    ("#B79AD6", "^"),
    ("#D2691E", "D"),
    ("#22577A", "v"),
    ("#C2B280", "X"),
    ("#8F2D56", "P"),
    ("#6C8E23", "*"),
]
METHODS = {
    "Gold": "#262626",
    "PersonaGen": "#1B5FAA",
    "PriorWork": "#C77C11",
    "AttrPrompt": "#7DB7E8",
    "Plain": "#907860",
}
GREY = "#6B6B6B"
STYLE = {
    "figure.figsize": (6, 3.2),
    "figure.dpi": 110,
    "savefig.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.labelsize": 9,
    "axes.titlesize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handletextpad": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.linewidth": 0.8,
    "axes.unicode_minus": True,
}


def use_style() -> None:
    """Set the kit's style for own figures and tables: 6 x 3.2 inches, 110 dpi, texts in full."""
    mpl.rcParams.update(STYLE)
    pd.set_option("display.max_colwidth", None)


class Picture(Figure):
    """A matplotlib figure that a notebook shows once, as PNG with its alt text.

    Attributes
    ----------
    alt : str
        What the figure shows, in a sentence, for readers who cannot see it.
    """

    alt: str = ""

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, bytes], dict[str, dict[str, str]]]:
        return {"image/png": png(self)}, {"image/png": {"alt": self.alt}}


def styled(function: Callable[..., Picture]) -> Callable[..., Picture]:
    """Draw in the kit's style whether or not :func:`use_style` was called."""

    @functools.wraps(function)
    def draw(*args: Any, **kwargs: Any) -> Picture:
        with mpl.rc_context(STYLE):
            return function(*args, **kwargs)

    return draw


def png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes, the same for the same figure on every run."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def show(figure: Figure, alt: str | None = None) -> Any:
    """Return any matplotlib figure as a notebook image with alt text.

    Parameters
    ----------
    figure : Figure
        One of the kit's, which bring their alt text along, or your own.
    alt : str, optional
        Alt text; required for a figure that has none.

    Returns
    -------
    IPython.display.Image
        Make it the last value of a cell.
    """
    from IPython.display import Image

    alt = alt or getattr(figure, "alt", "")
    if not alt:
        raise KitError("show: the figure has no alt text; say in alt= what it shows.")
    return Image(data=png(figure), format="png", alt=alt)


def in_order(labels: Iterable[str]) -> list[str]:
    """Return the distinct labels: the kit's emotions in their fixed order, then the others."""
    distinct = {str(label) for label in labels}
    known = [emotion for emotion in EMOTIONS if emotion in distinct]
    return known + sorted(distinct - set(known))


def emotion_styles(labels: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return colour and marker of each label; a label keeps them in all figures of one corpus."""
    names = in_order(labels)
    unknown = [name for name in names if name not in EMOTIONS]
    return {n: EMOTIONS.get(n) or OTHERS[unknown.index(n) % len(OTHERS)] for n in names}


def colours(names: Iterable[str]) -> dict[str, str]:
    """Return a colour for each method or emotion of one figure."""
    names = list(dict.fromkeys(map(str, names)))
    emotions = emotion_styles(name for name in names if name not in METHODS)
    return {name: METHODS.get(name) or emotions[name][0] for name in names}
