"""Figures: nothing clipped or overlapping, one colour per name, alt text, readable in grey."""

import io
import itertools

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from personagen_utils import plots, style
from personagen_utils.errors import KitError
from personagen_utils.published import published

RNG = np.random.default_rng(0)
SEVEN = ["joy", "anger", "sadness", "pleasure", "surprise", "fear", "neutral"]
CRITERIA = [
    "Emotion Match",
    "Grammaticality",
    "Lexical Diversity and Appropriateness",
    "Structure & Logic",
]


def rows(table):
    paper = published(table)
    return paper.assign(low=paper.value - 0.03, high=paper.value + 0.03)


def points(n=700, names=SEVEN):
    return pd.DataFrame(RNG.normal(size=(n, 2)), columns=["x", "y"]).assign(
        emotion=np.resize(names, n)
    )


def hued():
    both = [rows("V").assign(split=name) for name in ("random 80/20", "folds by persona-scene")]
    return pd.concat(both)


def scores():
    grid = [(c, e, s) for c in CRITERIA for e in SEVEN for s in (3, 4, 5, 5)]
    return pd.DataFrame(grid, columns=["criterion", "emotion", "score"])


def shares(n):
    table = pd.DataFrame(
        {"target": RNG.dirichlet(np.ones(n)) * 100}, index=[f"Item {i}" for i in range(n)]
    )
    realised = table.target + 1
    return table.assign(realised=realised, low=realised - 2, high=realised + 2)


VERDICTS = pd.DataFrame(
    {"natural": [420, 380], "rare": [60, 100], "implausible": [20, 0], "not judged": [0, 3]},
    index=["1 base persona", "2 background"],
)
MATRIX = pd.DataFrame(np.eye(7) * 0.7 + 0.3 / 7, index=SEVEN, columns=SEVEN)
FIGURES = {
    "tsne": lambda w: plots.tsne_scatter(points(), width=w),
    "own labels": lambda w: plots.tsne_scatter(points(names=["awe", "grief", "joy"]), width=w),
    "table IV": lambda w: plots.intervals_plot(rows("IV"), paper=published("IV"), width=w),
    "table V": lambda w: plots.intervals_plot(hued(), paper=published("V"), hue="split", width=w),
    "table VI": lambda w: plots.intervals_plot(
        rows("VI"), by="method", width=w, labels={"FID": "FID, lower = closer"}, lines={"FID": 0.1}
    ),
    "one value": lambda w: plots.intervals_plot(rows("VI").head(1), by="method", width=w),
    "confusion": lambda w: plots.confusion_heatmap(MATRIX, width=w),
    "counts": lambda w: plots.confusion_heatmap((MATRIX.iloc[:2, :2] * 70).round(), width=w),
    "scores": lambda w: plots.score_distributions(scores(), width=w),
    "shares": lambda w: plots.share_bars(shares(9), width=w),
    "many shares": lambda w: plots.share_bars(shares(32), width=w),
    "verdicts": lambda w: plots.verdict_bars(VERDICTS, width=w),
    "framework": lambda w: plots.framework_diagram(),
}


@pytest.fixture(params=FIGURES)
def name(request):
    return request.param


@pytest.mark.parametrize("width", [3.5, 7])
def test_figures_are_whole_and_described(name, width, recwarn):
    figure = FIGURES[name](width)
    picture = Image.open(io.BytesIO(style.png(figure)))
    assert not recwarn.list
    assert len(figure.alt.split()) > 6
    if name != "framework":
        assert picture.width == round(width * 110)
    grey = np.asarray(picture.convert("L"))
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    assert (edge == 255).all(), "something runs out of the figure"
    assert len(style.png(figure)) < 150_000
    assert not any(ax.get_title(loc="center") for ax in figure.axes)


@pytest.mark.parametrize("width", [3.5, 7])
def test_letters_do_not_overlap(name, width):
    figure = FIGURES[name](width)
    style.png(figure)
    for ax in figure.axes:
        if not ax.get_visible():
            continue
        for axis in (ax.xaxis, ax.yaxis):
            labels = [t for t in axis.get_ticklabels() if t.get_text() and t.get_visible()]
            if any(t.get_rotation() for t in labels):
                continue  # the boxes of slanted words overlap, their letters do not
            boxes = [t.get_window_extent() for t in labels]
            for a, b in itertools.pairwise(boxes):
                assert not a.shrunk(0.9, 0.9).overlaps(b.shrunk(0.9, 0.9)), (name, width)
        boxes = [t.get_window_extent().shrunk(0.9, 0.9) for t in ax.texts]
        if name != "framework":
            assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_framework_letters_do_not_overlap():
    figure = plots.framework_diagram()
    style.png(figure)
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_a_figure_is_the_same_on_every_run(name):
    if name in ("tsne", "own labels", "shares", "many shares"):
        table = points() if name in ("tsne", "own labels") else shares(9)
        draw = plots.tsne_scatter if name in ("tsne", "own labels") else plots.share_bars
        assert style.png(draw(table)) == style.png(draw(table))
    else:
        assert style.png(FIGURES[name](6)) == style.png(FIGURES[name](6))


def test_every_text_is_drawn_once():
    figure = plots.tsne_scatter(points(311))
    assert sum(len(c.get_offsets()) for c in figure.axes[0].collections) == 311


def test_a_notebook_gets_one_png_with_alt_text():
    figure = plots.verdict_bars(VERDICTS)
    data, meta = figure._repr_mimebundle_()
    assert data["image/png"][:4] == b"\x89PNG"
    assert meta["image/png"]["alt"].startswith("Verdicts by stage. 1 base persona: natural 420")
    image = plots.show(figure)
    assert image.alt == figure.alt
    own = Figure()
    assert plots.show(own, alt="An empty figure.").alt == "An empty figure."
    with pytest.raises(KitError, match="no alt text"):
        plots.show(own)


def test_the_style_is_set_and_figures_do_not_depend_on_it():
    with mpl.rc_context():
        before = style.png(plots.confusion_heatmap(MATRIX))
        mpl.rcParams.update({"font.size": 20, "axes.spines.top": True})
        assert style.png(plots.confusion_heatmap(MATRIX)) == before
        assert mpl.rcParams["font.size"] == 20
        plots.use_style()
        assert mpl.rcParams["figure.figsize"] == [6, 3.2]
        assert mpl.rcParams["figure.dpi"] == 110


def test_a_name_keeps_its_colour():
    for emotion in SEVEN:
        assert style.colours([emotion])[emotion] == style.EMOTIONS[emotion][0]
        assert style.emotion_styles(["zeal", emotion])[emotion] == style.EMOTIONS[emotion]
    for method in style.METHODS:
        assert style.colours([method, "joy"])[method] == style.METHODS[method]
    many = style.emotion_styles([f"label {i}" for i in range(30)])
    assert len(many) == 30
    assert style.in_order(["zeal", "neutral", "awe", "joy"]) == ["joy", "neutral", "awe", "zeal"]


# Machado, Oliveira & Fernandes (2009), severity 1.0, on linear RGB
SIGHT = {
    "full": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def cielab(colour, sight):
    rgb = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.asarray(SIGHT[sight]) @ linear, 0, 1)
    xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    f = np.array(xyz) @ seen / [0.95047, 1, 1.08883]
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
@pytest.mark.parametrize("palette", ["emotions", "methods"])
def test_colours_differ_for_every_kind_of_sight(palette, sight):
    chosen = (
        style.METHODS.values() if palette == "methods" else [c for c, _ in style.EMOTIONS.values()]
    )
    seen = [cielab(colour, sight) for colour in chosen]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 18


@pytest.mark.parametrize("palette", ["emotions", "methods"])
def test_colours_differ_as_greys(palette):
    chosen = (
        style.METHODS.values() if palette == "methods" else [c for c, _ in style.EMOTIONS.values()]
    )
    lightness = sorted(cielab(colour, "full")[0] for colour in chosen)
    assert min(np.diff(lightness)) > 5
    assert len({marker for _, marker in style.EMOTIONS.values()}) == len(style.EMOTIONS)


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: plots.tsne_scatter(points().drop(columns="x")), "no column 'x'"),
        (lambda: plots.tsne_scatter(points().head(0)), "no rows to draw"),
        (lambda: plots.intervals_plot(published("IV")), "no column 'low'"),
        (lambda: plots.intervals_plot(rows("IV"), hue="split"), "no column 'split'"),
        (lambda: plots.verdict_bars(VERDICTS * 0), "a stage has no verdicts"),
        (lambda: plots.score_distributions(scores().drop(columns="score")), "no column 'score'"),
    ],
)
def test_what_cannot_be_drawn_is_named(draw, message):
    with pytest.raises(KitError, match=message):
        draw()
