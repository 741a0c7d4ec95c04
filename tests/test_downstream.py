"""Training on generated texts: the published gold row, fair splits, honest comparisons."""

import os
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from personagen_utils import downstream, free_baselines
from personagen_utils.downstream import (
    classify,
    gold_splits,
    learning_curve,
    predict_gold,
)
from personagen_utils.downstream_tables import compare_methods, confusion, score_table
from personagen_utils.embedding import embed
from personagen_utils.errors import KitError
from personagen_utils.finetune import (
    fine_tune,
    fine_tuned_predictions,
    keep_scores,
    measured_scores,
)
from personagen_utils.free_baselines import nearest_word, template_phrases
from personagen_utils.gold import gold_texts, gold_vectors, pool_rows
from personagen_utils.gold_corpus import read_gold
from personagen_utils.paths import ROOT
from personagen_utils.similarity_table import Vectors

SIX = ("joy", "anger", "sadness", "love", "surprise", "fear")
FOLDER = Path(os.environ.get("PERSONAGEN_GOLD") or ROOT.parent / "shared" / "gold")


@pytest.fixture
def gold():
    return Vectors(*gold_vectors())


@pytest.fixture
def development():
    return Vectors(*gold_vectors(part="development"))


@pytest.fixture
def small(monkeypatch):
    """Return two labels in five dimensions; words are embedded at random."""
    rng = np.random.default_rng(0)
    for module in (downstream, free_baselines):
        monkeypatch.setattr(module, "embed", lambda texts: rng.normal(size=(len(texts), 5)))

    def make(n, seed, gap=1.0):
        rng = np.random.default_rng(seed)
        labels = np.repeat(["fear", "joy"], n)
        X = rng.normal(size=(2 * n, 5)) + gap * (labels == "joy")[:, None]
        return Vectors(
            X.astype(np.float32), labels, np.array([f"{seed}-{i}" for i in range(2 * n)])
        )

    return make


# --- baselines -------------------------------------------------------------------------------


def test_templates_are_some_fifty_phrases():
    texts, labels = template_phrases(SIX)
    assert len(set(texts)) == 54
    assert "i feel angry" in texts
    assert pd.Series(labels).value_counts().eq(9).all()
    assert template_phrases(["bliss"])[0][0] == "i feel bliss"


def test_nearest_word_needs_no_training(monkeypatch):
    monkeypatch.setattr(free_baselines, "embed", partial(embed, cache=None))
    X = embed(["I am so angry with you!", "Oh, what a lovely joy!"], cache=None)
    assert nearest_word(X, SIX).tolist() == ["anger", "joy"]


# --- splits and predictions ------------------------------------------------------------------


def test_splits_are_stratified_and_blind_to_row_order(gold):
    rows = np.random.default_rng(0).permutation(len(gold.X))
    shuffled = Vectors(gold.X[rows], gold.labels[rows], gold.items[rows])
    for (a, b), (_, d) in zip(gold_splits(gold), gold_splits(shuffled), strict=True):
        assert (len(a), len(b)) == (2100, 900)
        assert pd.Series(gold.labels[b]).value_counts().eq(150).all()
        assert set(gold.items[b]) == set(shuffled.items[d])


def test_predictions_of_every_kind_of_test(small):
    gold, made, other = small(100, 1), small(90, 2), small(30, 3, gap=0.5)
    table = predict_gold({"made": made}, gold, elsewhere=other, models=["logistic"], splits=2)
    sizes = table.groupby(["method", "train_n", "test", "split"]).size().to_dict()
    assert sizes[("Gold", 140, "70/30", 1)] == 60
    assert sizes[("Gold", 160, "80/20", 0)] == 40
    assert sizes[("Gold", 140, "elsewhere", 0)] == 60
    assert sizes[("made", 180, "evaluation", 0)] == 200
    assert sizes[("made", 140, "evaluation", 0)] == 200  # as many as gold trains on
    assert sizes[("made", 180, "70/30", 0)] == 60
    assert sizes[("phrases", 18, "evaluation", 0)] == 200
    assert sizes[("nearest word", 0, "elsewhere", 0)] == 60
    assert ("Gold", 140, "evaluation", 0) not in sizes
    tested = table.query("method in ['gold', 'made'] and test == '70/30' and split == 0")
    rows = tested.groupby(["method", "train_n"])["row"].agg(set)
    assert all(r == rows.iloc[0] for r in rows)
    joined = table.merge(pd.DataFrame({"row": gold.items, "label": gold.labels}), on="row")
    assert (joined["truth"] == joined["label"]).all()


def test_other_labels_are_refused(small):
    gold = small(20, 1)
    other = Vectors(gold.X, np.where(gold.labels == "joy", "love", "fear"))
    with pytest.raises(KitError, match="made: has the emotions"):
        predict_gold({"made": other}, gold)
    with pytest.raises(KitError, match="Classifier 'svm'"):
        classify(gold, gold.X, model="svm")


@pytest.mark.parametrize("model", downstream.MODELS)
def test_classifiers_are_blind_to_row_order(small, model):
    train, test = small(60, 1), small(60, 2)
    rows = np.random.default_rng(0).permutation(120)
    shuffled = Vectors(train.X[rows], train.labels[rows])
    first = classify(train, test.X, model=model)
    assert (first == classify(shuffled, test.X, model=model)).all()
    assert (first == test.labels).mean() > 0.7


def test_learning_curve_grows(small):
    gold = small(200, 1)
    made = {"made": small(100, 2), "little": small(8, 3)}
    table = score_table(learning_curve(made, gold, sizes=(4, 20, 50), draws=3), draws=50)
    table = table[table["metric"] == "accuracy"]
    got = {name: part["train_n"].tolist() for name, part in table.groupby("method")}
    assert got == {"made": [8, 40, 100, 200], "little": [8, 16]}
    value = table[table["method"] == "made"].set_index("train_n")["value"]
    assert value[200] > value[8]


# --- scores ----------------------------------------------------------------------------------


def predictions(correct, method, n=900, seed=0):
    """Return predictions whose chance of being right is known."""
    rng = np.random.default_rng(seed)
    truth = np.array(SIX)[np.arange(n) % 6]
    wrong = np.array(SIX)[(np.arange(n) + rng.integers(1, 6, n)) % 6]
    guess = np.where(rng.random(n) < correct, truth, wrong)
    table = pd.DataFrame({"row": np.arange(n), "truth": truth, "predicted": guess})
    return table.assign(method=method, model="lightgbm", train_n=n, test="evaluation", split=0)


def test_scores_cover_a_known_accuracy():
    hits = 0
    for seed in range(60):
        table = score_table(predictions(0.4, "m", seed=seed), draws=300)
        row = table[table["metric"] == "accuracy"].iloc[0]
        hits += row["low"] <= 0.4 <= row["high"]
    assert hits >= 51  # 95 % of 60 is 57
    macro = table.query("metric == 'F1' and emotion == 'total'")["value"].item()
    each = table.query("metric == 'F1' and emotion != 'total'")["value"]
    assert macro == pytest.approx(each.mean())


def test_published_difference_is_none():
    """At 900 texts .359 against .348 is no difference; .45 against .30 is one."""
    table = pd.concat(
        [
            predictions(0.359, "PersonaGen", seed=1),
            predictions(0.348, "AttrPrompt", seed=2),
            predictions(0.25, "PriorWork", seed=3),
        ]
    )
    found = compare_methods(table).set_index("method")
    near, far = found.loc["PersonaGen - AttrPrompt"], found.loc["PersonaGen - PriorWork"]
    assert near["low"] < 0 < near["high"]
    assert near["p_holm"] > 0.05
    assert far["low"] > 0
    assert far["p_holm"] < 0.01
    assert (found["p_holm"] >= found["p"]).all()
    with pytest.raises(KitError, match="No predictions of Plain"):
        compare_methods(table, against=["Plain"])


def test_confusion_rows_are_shares():
    table = confusion(predictions(0.5, "m"), "m", test="evaluation")
    np.testing.assert_allclose(table.sum(axis=1), 1)
    assert list(table.index) == list(table.columns) == sorted(SIX)
    with pytest.raises(KitError, match="No predictions"):
        confusion(predictions(0.5, "m"), "m", test="70/30")


# --- the gold row of Table VII ---------------------------------------------------------------


def gold_row(gold, model, splits):
    return np.mean(
        [
            (classify(Vectors(gold.X[a], gold.labels[a]), gold.X[b], model=model) == gold.labels[b])
            .mean()
            .item()
            for a, b in gold_splits(gold, splits=splits)
        ]
    )


def test_logistic_gold_row(gold):
    assert gold_row(gold, "logistic", 5) == pytest.approx(0.62, abs=0.02)


@pytest.mark.notebook  # four fits of some ten seconds: with the slow tests
def test_lightgbm_gold_row_is_the_published_one(gold):
    assert 0.55 <= gold_row(gold, "lightgbm", 4) <= 0.585


@pytest.mark.notebook
@pytest.mark.skipif(
    not (FOLDER / "emotion20k_train.csv").is_file(), reason="the gold texts are not here"
)
def test_lightgbm_gold_row_from_the_texts():
    rows = pool_rows(read_gold(FOLDER))
    rows = rows[rows["part"] == "evaluation"]
    gold = Vectors(
        embed(rows["text"].tolist()), rows["label"].to_numpy(), rows["row_id"].to_numpy()
    )
    assert 0.55 <= gold_row(gold, "lightgbm", 4) <= 0.585


# --- fine-tuning -----------------------------------------------------------------------------


def test_fine_tuning_learns_and_repeats():
    texts, labels = template_phrases(["joy", "anger"])
    tests = ["i feel so very happy", "you made me furious", "what a delight", "i am mad at him"]
    options = {"least_steps": 12, "epochs": 1, "batch_size": 6, "rate": 5e-4}
    guess = fine_tune(texts, labels, tests, **options)
    assert guess.tolist() == ["joy", "anger", "joy", "anger"]
    frames = {"phrases": pd.DataFrame({"text": texts, "label": labels})}
    frame = pd.DataFrame({"row_id": list("abcd"), "text": tests, "label": guess})
    table = fine_tuned_predictions(frames, {"evaluation": frame}, progress=False, **options)
    assert (table["predicted"] == table["truth"]).all()
    assert "text" not in table
    assert score_table(table, draws=20)["n"].max() == 4
    with pytest.raises(KitError, match="3 labels"):
        fine_tune(["a", "b"], ["joy", "anger", "joy"], ["c"])


def test_scores_kept_for_some_texts_are_shown_for_these_texts_only(tmp_path):
    train = {"A": pd.DataFrame({"text": ["x", "y"], "label": ["joy", "fear"]})}
    other = {"A": pd.DataFrame({"text": ["x", "z"], "label": ["joy", "fear"]})}
    scores = pd.DataFrame({"method": ["A", "A"], "value": [0.5, None], "n": [3, 3]})
    file = tmp_path / "kept.json"
    keep_scores(train, scores, file)
    shuffled = {"A": train["A"].iloc[::-1]}
    assert measured_scores(shuffled, file)["value"].tolist()[0] == 0.5
    assert measured_scores(other, file).empty
    keep_scores(other, scores.assign(value=0.1), file)
    assert len(measured_scores(train, file)) == 2, "what was kept before stays"


def test_gold_texts_need_the_corpus(tmp_path):
    (tmp_path / "tiny.csv").write_text("text,label\nnothing of it here,joy\n")
    with pytest.raises(KitError, match="gold texts are not in it"):
        gold_texts(read_gold(tmp_path / "tiny.csv"))
