"""Gold data: every public form of the corpus, wrong files refused, a pool that never moves."""

import hashlib
import os
import sys
import types
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from personagen_utils import gold, gold_corpus
from personagen_utils.embedding import embed
from personagen_utils.errors import KitError
from personagen_utils.gold import (
    build_gold,
    confirm_vectors,
    gold_counts,
    gold_texts,
    gold_vectors,
    pool_rows,
    read_goemotions,
)
from personagen_utils.gold_corpus import GOLD_LABELS, GoldCorpus, own_gold, read_gold, row_id
from personagen_utils.paths import ROOT

FOLDER = Path(os.environ.get("PERSONAGEN_GOLD") or ROOT.parent / "shared" / "gold")
needs_texts = pytest.mark.skipif(
    not (FOLDER / "emotion20k_train.csv").is_file(),
    reason="the gold texts are not here (set PERSONAGEN_GOLD to their folder)",
)
MADE_UP = {
    "train": [("the cat sat down; then left", "sadness"), ("we won the cup", "joy"), ("hm", "joy")],
    "val": [("we won the cup", "joy"), ("you are dear to me", "love"), ("hm", "anger")],
    "test": [("who is there", "fear"), ("out of my way", "anger"), ("oh a parcel", "surprise")],
}


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("PERSONAGEN_GOLD", raising=False)
    monkeypatch.setattr(gold, "embed", partial(embed, cache=None))


@pytest.fixture
def official(monkeypatch):
    """Let the made-up splits pass for the published ones."""
    lines = {s: "".join(f"{t};{v}\n" for t, v in rows) for s, rows in MADE_UP.items()}
    sums = {s: hashlib.sha256(text.encode()).hexdigest() for s, text in lines.items()}
    monkeypatch.setattr(gold_corpus, "OFFICIAL_SHA256", sums)
    return lines


def write_csv(path, rows, columns=("text", "label")):
    pd.DataFrame(rows, columns=list(columns)).to_csv(path, index=False)
    return path


def made_up_hub():
    codes = {
        split: pd.DataFrame([(t, GOLD_LABELS.index(v)) for t, v in rows], columns=["text", "label"])
        for split, rows in MADE_UP.items()
    }
    codes["validation"] = codes.pop("val")
    return {s: types.SimpleNamespace(to_pandas=lambda f=f: f) for s, f in codes.items()}


# --- the forms -------------------------------------------------------------------------------


def write_form(form, folder, lines, monkeypatch):
    if form == "text;label":
        for split, text in lines.items():
            (folder / f"{split}.txt").write_text(text)
        return folder
    if form == "csv splits":
        for split, rows in MADE_UP.items():
            write_csv(folder / f"emotion20k_{split}.csv", rows)
        write_csv(folder / "other.csv", [("not read", "joy")])
        return folder
    if form == "hub":
        fake = types.SimpleNamespace(load_dataset=lambda name, config: made_up_hub())
        monkeypatch.setitem(sys.modules, "datasets", fake)
        return "dair-ai/emotion"
    rows = [(t, v) for split in MADE_UP.values() for t, v in split]
    if form == "kaggle":
        rows = [(i, t, GOLD_LABELS.index(v)) for i, (t, v) in enumerate(rows)]
        return write_csv(folder / "emotions.csv", rows, ("Unnamed: 0", "text", "label"))
    write_csv(folder / "all.csv", rows)
    return folder if form == "folder of one csv" else folder / "all.csv"


@pytest.mark.parametrize(
    ("form", "verified"),
    [
        ("text;label", True),
        ("csv splits", True),
        ("hub", True),
        ("kaggle", None),
        ("one csv", None),
        ("folder of one csv", None),
    ],
)
def test_every_form_gives_the_same_corpus(form, verified, tmp_path, official, monkeypatch):
    corpus = read_gold(write_form(form, tmp_path, official, monkeypatch))
    assert corpus.verified is verified
    assert corpus.dropped == {
        "read": 9,
        "duplicates": 1,
        "conflicts": 2,
        "unmapped": 0,
        "empty": 0,
    }
    assert sorted(corpus.rows["label"]) == sorted(GOLD_LABELS)
    text = "the cat sat down; then left"
    assert corpus.texts([row_id(text)]) == [text]


def test_location_by_variable_and_never_a_substitute(tmp_path, official, monkeypatch):
    with pytest.raises(KitError, match="PERSONAGEN_GOLD"):
        read_gold()
    monkeypatch.setenv("PERSONAGEN_GOLD", str(tmp_path / "away"))
    with pytest.raises(KitError, match=r"away: no such gold corpus"):
        read_gold()
    monkeypatch.setenv("PERSONAGEN_GOLD", str(write_form("kaggle", tmp_path, {}, monkeypatch)))
    assert len(read_gold().rows) == 6


def test_a_changed_split_is_refused(tmp_path, official, monkeypatch):
    folder = write_form("text;label", tmp_path, official, monkeypatch)
    (folder / "val.txt").write_text(official["val"] + "one more;joy\n")
    with pytest.raises(KitError, match="val is not the published split"):
        read_gold(folder)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", "fine;joy\nno label here\n", "line 2"),
        ("a.csv", "text,mood\nx,joy\n", "no column 'label'"),
        ("a.csv", "text,label\nx,bliss\n", "'bliss' is none of"),
        ("a.csv", "text,label\nx,6\n", "'6' is none of"),
        ("a.csv", "text,label\n", "no usable row"),
        ("a.csv", "", "not a readable CSV"),
    ],
)
def test_wrong_files_are_refused_in_one_line(name, content, match, tmp_path):
    (tmp_path / name).write_text(content)
    with pytest.raises(KitError, match=match) as error:
        read_gold(tmp_path / name)
    assert "\n" not in str(error.value)


def test_ambiguous_folder_is_refused(tmp_path):
    write_csv(tmp_path / "a.csv", [("x", "joy")])
    write_csv(tmp_path / "b.csv", [("x", "joy")])
    with pytest.raises(KitError, match="2 CSV files"):
        read_gold(tmp_path)


def test_hub_without_package_or_network(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(KitError, match="needs the package"):
        read_gold("dair-ai/emotion")

    def offline(*_):
        raise ConnectionError("no route\nto host")

    fake = types.SimpleNamespace(load_dataset=offline)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    with pytest.raises(KitError, match=r"could not be reached \(ConnectionError: no route\)"):
        read_gold("dair-ai/emotion")


# --- a reader's own corpus -------------------------------------------------------------------


def own(tmp_path, n=30):
    rows = [(f"text {k} of {label}", label) for label in ("glad", "cross", "odd") for k in range(n)]
    return write_csv(tmp_path / "mine.csv", rows, ("post", "mood"))


def test_own_corpus_by_file_and_mapping(tmp_path):
    corpus = read_gold(
        own(tmp_path),
        mapping={"glad": "joy", "cross": "anger"},
        text_column="post",
        label_column="mood",
        targets=("joy", "anger", "fear"),
    )
    assert corpus.dropped["unmapped"] == 30
    rows = pool_rows(corpus)
    assert rows.groupby(["label", "part"]).size().to_dict() == {
        ("anger", "development"): 9,
        ("anger", "evaluation"): 21,
        ("joy", "development"): 9,
        ("joy", "evaluation"): 21,
    }
    X, labels, ids = gold_vectors(corpus, per_label=5)
    assert X.shape == (10, 384)
    assert sorted(labels) == ["anger"] * 5 + ["joy"] * 5
    text = corpus.texts([ids[0]])
    np.testing.assert_allclose(X[:1], embed(text, cache=None), atol=1e-5)


def test_own_gold_is_what_two_parameters_name(tmp_path):
    pd.DataFrame({"text": ["a b", "c d"], "label": ["glad", "cross"]}).to_csv(
        tmp_path / "own.csv", index=False
    )
    mapping = {"glad": "joy", "cross": "anger"}
    corpus = own_gold(str(tmp_path / "own.csv"), mapping, ["joy", "anger"])
    assert corpus.rows["label"].tolist() == ["joy", "anger"]
    assert own_gold("", {}, ["joy"]) is None
    with pytest.raises(KitError, match="GOLD_MAPPING maps the labels of GOLD_CSV, which names no"):
        own_gold("", mapping, ["joy"])


@pytest.mark.parametrize(
    ("mapping", "match"),
    [
        ({"gald": "joy"}, "names the label 'gald', the file has cross, glad, odd"),
        ({}, "Map the labels"),
        ({"glad": "bliss"}, "leads to 'bliss'"),
    ],
)
def test_wrong_mapping_is_refused(mapping, match, tmp_path):
    with pytest.raises(KitError, match=match):
        read_gold(
            own(tmp_path),
            mapping=mapping,
            text_column="post",
            label_column="mood",
            targets=("joy", "anger"),
        )


def test_too_rare_label_is_refused(tmp_path):
    corpus = read_gold(
        own(tmp_path, n=3), mapping={"glad": "joy"}, text_column="post", label_column="mood"
    )
    with pytest.raises(KitError, match="3 usable rows"):
        pool_rows(corpus)


# --- the pool --------------------------------------------------------------------------------


def corpus_of(n, seed=0):
    texts = [f"row {k} {label}" for label in ("a", "b") for k in range(n)]
    rows = pd.DataFrame({"row_id": [row_id(t) for t in texts], "text": texts})
    rows["label"] = [t[-1] for t in texts]
    return GoldCorpus(rows.sample(frac=1, random_state=seed).reset_index(drop=True))


def test_pool_does_not_depend_on_order_and_is_disjoint():
    first, second = (pool_rows(corpus_of(100, s), development=20, evaluation=50) for s in (1, 2))
    pd.testing.assert_frame_equal(first, second)
    assert first["row_id"].is_unique
    assert first.groupby(["label", "part"]).size().tolist() == [20, 50, 20, 50]
    larger = pool_rows(corpus_of(130), development=20, evaluation=50)
    assert set(larger["row_id"]) != set(first["row_id"])  # a richer corpus is another pool


# --- what is shipped -------------------------------------------------------------------------


@pytest.mark.parametrize(("corpus", "development"), [("emotion", 200), ("goemotions", 51)])
def test_shipped_pool(corpus, development):
    counts = gold_counts(corpus)
    assert sorted(counts.index) == sorted(GOLD_LABELS)
    assert (counts["evaluation"] == 500).all()
    assert (counts["development"] == development).all()
    X, labels, ids = gold_vectors(corpus, "all")
    assert X.dtype == np.float32
    assert X.shape == (6 * (500 + development), 384)
    np.testing.assert_allclose(np.linalg.norm(X, axis=1), 1, atol=1e-6)
    assert len(set(ids)) == len(ids) == len(labels)
    _, _, few = gold_vectors(corpus, per_label=60)
    _, _, more = gold_vectors(corpus, per_label=100)
    _, _, part = gold_vectors(corpus)
    assert set(few) < set(more) < set(part) < set(ids)
    assert not set(part) & set(gold_vectors(corpus, "development")[2])


def test_shipped_files_hold_no_texts_and_stay_small():
    for file in (ROOT / "data" / "gold").glob("*.npz"):
        assert file.stat().st_size < 3.5e6
        with np.load(file, allow_pickle=False) as stored:
            assert set(stored) == {"vectors", "label", "row_id", "part"}
            assert stored["vectors"].dtype == np.float16


def test_unknown_pool_part_or_size():
    with pytest.raises(KitError, match="not shipped"):
        gold_vectors("tweets")
    with pytest.raises(KitError, match="part 'test'"):
        gold_vectors(part="test")
    with pytest.raises(KitError, match="its evaluation part has 500"):
        gold_vectors(per_label=501)
    with pytest.raises(KitError, match="GoEmotions texts are not here"):
        read_goemotions()


# --- where the texts are ---------------------------------------------------------------------


@needs_texts
def test_texts_confirm_the_shipped_vectors():
    corpus = read_gold(FOLDER)
    assert corpus.verified
    assert corpus.dropped["read"] == 20000
    assert corpus.dropped["conflicts"] == 102
    found = confirm_vectors(corpus, n=90)
    assert found["confirmed"], found
    assert (found["rows"], found["absent"], found["labels_differ"]) == (90, 0, 0)
    other = confirm_vectors(read_goemotions(FOLDER), corpus="goemotions", n=60)
    assert other["confirmed"], other
    texts = gold_texts(corpus, per_label=3)
    assert [row_id(t) for t in texts["text"]] == texts["row_id"].tolist()


@needs_texts
def test_wrong_texts_do_not_confirm(monkeypatch):
    corpus = read_gold(FOLDER)
    rows = corpus.rows.assign(text=corpus.rows["text"] + " not")
    found = confirm_vectors(GoldCorpus(rows, source="changed"), n=20)
    assert not found["confirmed"]
    with pytest.raises(KitError, match="none of the"):
        confirm_vectors(GoldCorpus(rows.assign(row_id="x").head(5), source="changed"))


@needs_texts
def test_the_command_makes_the_same_rows(tmp_path, monkeypatch):
    # Vectors are confirmed above; here the rows, without embedding 7,500 texts again.
    monkeypatch.setattr(gold, "embed", lambda texts: np.ones((len(texts), 384), np.float32))
    table = build_gold(FOLDER, folder=tmp_path)
    assert table.loc["emotion", "read"] == 20000
    assert (tmp_path / "counts.json").read_text() == (gold.GOLD / "counts.json").read_text()
    for corpus in gold.CORPORA:
        with np.load(tmp_path / f"{corpus}.npz") as a, np.load(gold.GOLD / f"{corpus}.npz") as b:
            for name in ("row_id", "label", "part"):
                assert (a[name] == b[name]).all()
