"""Separability: splits that keep what they promise, known answers, confident learning by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest

from personagen_utils import memo, separability
from personagen_utils.errors import KitError
from personagen_utils.gold import gold_vectors
from personagen_utils.scores import score_rows
from personagen_utils.separability import (
    classifier,
    confident_labels,
    confusion,
    doubtful_labels,
    held_out_predictions,
)

LR = "logistic regression"


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(memo, "FOLDER", tmp_path)


def cloud(n=150, *, labels=("joy", "fear", "anger"), apart=3.0, d=12, seed=0):
    """Crossed: each item says one text per label; labels are `apart` standard deviations apart."""
    rng = np.random.default_rng(seed)
    code = np.arange(n) % len(labels)
    x = rng.normal(size=(n, d)) + apart * np.eye(d)[code]
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x, np.array(labels)[code], np.arange(n) // len(labels)


def test_random_splits_are_stratified_and_differ():
    x, y, _ = cloud()
    table = held_out_predictions(x, y, model=LR, splits=3, jobs=1)
    assert table.groupby("split").size().tolist() == [30, 30, 30]
    assert (table.groupby(["split", "truth"]).size() == 10).all()
    assert table.groupby("split")["row"].apply(frozenset).nunique() == 3
    assert (table["truth"] == y[table["row"]]).all()


def test_folds_keep_a_scene_on_one_side_and_test_each_text_once():
    x, y, item = cloud()
    table = held_out_predictions(x, y, model=LR, items=item, splits=5, jobs=1)
    assert sorted(table["row"]) == list(range(150))
    assert (table.assign(item=item[table["row"]]).groupby("item")["split"].nunique() == 1).all()


def test_clear_classes_are_told_apart_and_noise_is_not():
    x, y, _ = cloud(300, apart=9)
    for model in separability.MODELS:
        table = held_out_predictions(x, y, model=model, splits=1, jobs=1)
        assert (table.truth == table.predicted).mean() > 0.95
    x, y, _ = cloud(300, apart=0)
    table = held_out_predictions(x, y, model=LR, splits=5, jobs=1)
    assert 0.2 < (table.truth == table.predicted).mean() < 0.47


def test_any_label_set_serves():
    x, y, _ = cloud(200, labels=("schadenfreude", "très triste"))
    table = held_out_predictions(x, y, splits=1, jobs=1)
    assert set(table.predicted) <= {"schadenfreude", "très triste"}


def test_fits_are_kept_and_say_nothing(monkeypatch, capfd):
    x, y, _ = cloud()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = held_out_predictions(x, y, splits=1, jobs=1)
        monkeypatch.setattr("lightgbm.LGBMClassifier.fit", None)  # a second fit would fail
        pd.testing.assert_frame_equal(held_out_predictions(x, y, splits=1, jobs=1), first)
    assert capfd.readouterr() == ("", "")


def test_workers_give_what_one_process_gives():
    x, y, _ = cloud()
    one, two = (held_out_predictions(x, y, model=LR, splits=2, jobs=j) for j in (1, 2))
    pd.testing.assert_frame_equal(one, two)


def test_library_defaults_are_kept():
    changed = {k: v for k, v in classifier().get_params().items() if k in ("n_jobs", "verbose")}
    assert changed == {"n_jobs": 1, "verbose": -1}
    fresh = type(classifier())().get_params()
    assert {k: v for k, v in classifier().get_params().items() if v != fresh.get(k)} == changed


def test_confusion_by_hand():
    table = pd.DataFrame({"truth": list("aaab"), "predicted": list("aabb")})
    assert confusion(table, shares=False).to_numpy().tolist() == [[2, 1], [0, 1]]
    assert confusion(table).loc["a"].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert confusion(table, labels=list("bca")).loc["c"].tolist() == [0, 0, 0]


def test_confident_learning_by_hand():
    p = np.array([[0.9, 0.1], [0.7, 0.3], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [0.55, 0.45]])
    own = np.array([0, 0, 0, 1, 1, 1])
    # Thresholds: (.9 + .7 + .1) / 3 = .567 and (.8 + .7 + .45) / 3 = .65.
    assert confident_labels(p, own).tolist() == [0, 0, 1, 1, 1, 1]


def test_planted_wrong_labels_are_doubted():
    x, y, item = cloud(600, apart=7)
    wrong = np.random.default_rng(1).choice(600, 24, replace=False)
    given = y.copy()
    given[wrong] = np.roll(np.array(["joy", "fear", "anger"]), 1)[
        [["joy", "fear", "anger"].index(label) for label in y[wrong]]
    ]
    for items in (None, item):
        table = doubtful_labels(x, given, items=items)
        assert len(set(table["row"]) & set(wrong)) >= 16  # its thresholds are cautious
        assert len(table) <= 30
        assert set(table["row"].head(12)) <= set(wrong)
        right = table[table["row"].isin(wrong)]
        assert (right["suggested"] == y[right["row"]]).mean() > 0.9
        assert table["margin"].is_monotonic_increasing


def test_clean_labels_are_hardly_doubted():
    x, y, _ = cloud(300, apart=12)
    assert len(doubtful_labels(x, y)) < 6


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (["joy"] * 20, {}, "needs two emotions or more; all texts are 'joy'"),
        (["joy"] * 17 + ["fear"] * 3, {}, "'fear' has 3 texts; it needs 5"),
        (["joy", "fear"] * 10, {"items": [1] * 20}, "1 persona-scenes; it needs 5"),
        (["joy", "fear"] * 9, {}, "20 vectors came with 18 labels"),
        (["joy", "fear"] * 10, {"model": "SVM"}, "choose one of LightGBM, logistic"),
    ],
)
def test_what_cannot_be_split_is_named(labels, options, message):
    with pytest.raises(KitError, match=message):
        held_out_predictions(cloud(20)[0], labels, **options)


def test_gold_reference_of_the_logistic_regression():
    u, label, _ = gold_vectors("emotion", "evaluation", per_label=300)
    table = held_out_predictions(u, label, model=LR, splits=2, jobs=1)
    rows = score_rows(table, labels=sorted(set(label)), draws=200)
    assert rows[0]["value"] == pytest.approx(0.61, abs=0.05)
    assert rows[0]["high"] - rows[0]["low"] == pytest.approx(0.08, abs=0.03)
