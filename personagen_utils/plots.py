"""How the kit draws: one style, one palette for emotions, one for methods, every figure."""

EMOTION_COLOURS = {
    "joy": "#EDAE01",
    "anger": "#C92C1F",
    "sadness": "#054CAC",
    "pleasure": "#B9D56C",
    "surprise": "#2A859B",
    "fear": "#481F56",
    "neutral": "#8E948E",
    "love": "#F778DC",
}


def use_style() -> None:
    """Set the kit's figure style: 6 x 3.2 inches at 110 dpi, 9 pt, no top or right spine."""
    import matplotlib as mpl

    mpl.rcParams.update(
        {
            "figure.figsize": (6, 3.2),
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.labelsize": 9,
            "axes.titlesize": 9,
            "xtick.labelsize": 8,
            "ytick.labelsize": 8,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
        }
    )
