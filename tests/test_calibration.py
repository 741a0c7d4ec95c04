"""A register is measured as counted by hand, holds no text, and reaches each request."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from personagen_utils import calibration
from personagen_utils.calibration import (
    REGISTER,
    calibrated_requests,
    load_register,
    measure_register,
    stripped,
)
from personagen_utils.errors import KitError
from personagen_utils.gold import gold_texts, pool_rows
from personagen_utils.gold_corpus import read_gold
from personagen_utils.paths import ROOT
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import load_tables

TABLES = load_tables("jp")
HOW = {"language": "English", "model": "m", "temperature": 1.2}
GOLD = Path(os.environ.get("PERSONAGEN_GOLD") or ROOT.parent / "shared" / "gold")
SAMPLE = ["i feel calm and warm", "im glad", "We won 3 games!", "my cat ran"] * 10


@pytest.fixture(scope="module")
def scenes():
    rules = compile_rules(TABLES)
    people = draw_population(TABLES, 40, seed=3, rules=rules)
    return people.assign(item=range(40)).dropna()


def test_figures_counted_by_hand():
    register = measure_register(SAMPLE, source="mine")
    assert register.n == 40
    found = register.figures
    assert found["lower case throughout"] == 0.75
    assert found["punctuation"] == found["digits"] == 0.25
    assert found["contractions without apostrophe"] == 0.25
    assert found["first person opening"] == 1.0  # i, im, we, my
    assert found["words, mean"] == pytest.approx((5 + 2 + 4 + 3) / 4)
    assert found["joining words"] == 0.2  # one "and" in every fourth text, rounded
    assert register.rows["words"].tolist()[:4] == [5, 2, 4, 3]
    assert register.rows["opening"].tolist()[:4] == ["i", "im", "we", "my"]
    assert "feel" in register.rows["recurring"][0]
    assert "and" not in register.words


def test_a_register_comes_back_from_its_file_and_holds_no_text(tmp_path):
    register = measure_register(SAMPLE, source="mine")
    register.save(tmp_path / "register.json")
    again = load_register(tmp_path / "register.json")
    pd.testing.assert_frame_equal(again.rows, register.rows, check_dtype=False)
    assert (again.figures, again.words, again.n) == (register.figures, register.words, register.n)
    said = (tmp_path / "register.json").read_text()
    assert not any(text in said for text in SAMPLE if len(text.split()) > 2)


@pytest.mark.parametrize(
    ("texts", "reason"),
    [(["one text"] * 29, "29 texts, a register needs 30"), (["a"] * 30 + ["!"], "text 31 has no")],
)
def test_a_sample_that_cannot_be_measured_is_refused(texts, reason):
    with pytest.raises(KitError, match=reason):
        measure_register(texts, source="mine")


def test_a_file_that_is_no_register_is_refused(tmp_path):
    with pytest.raises(KitError, match="cannot be read"):
        load_register(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text(json.dumps({"n": 3}))
    with pytest.raises(KitError, match=r"bad\.json is no register"):
        load_register(tmp_path / "bad.json")


def test_each_request_names_its_own_draw_and_only_the_examples_allowed(scenes):
    register = load_register()
    requests = calibrated_requests(TABLES, scenes, ["joy", "fear"], register, seed=1, **HOW)
    again = calibrated_requests(TABLES, scenes.head(5), ["fear"], register, seed=1, **HOW)
    by = {(r.meta["item"], r.meta["emotion"]): r.key for r in requests}
    assert len(by) == len(set(by.values())) == 2 * len(scenes)
    assert all(by[r.meta["item"], "fear"] == r.key for r in again)  # a larger study, the same draw
    prompt = requests[0].messages[-1]["content"]
    shade = requests[0].meta["attributes"]["shade"]
    assert f"\nShade of it at this moment: {shade}\n" in prompt
    alone = calibrated_requests(
        TABLES, scenes, ["joy", "fear"], register, seed=1, shades=False, **HOW
    )
    assert "hade" not in alone[0].messages[-1]["content"]
    assert alone[0].meta["method"] != requests[0].meta["method"]
    assert "Medium" not in prompt
    assert "An example" not in prompt
    assert scenes.iloc[0]["style_register"] not in prompt
    shown = calibrated_requests(
        TABLES, scenes.head(1), ["joy"], register, seed=1, examples=["my own words"], **HOW
    )
    assert "- An example: my own words" in shown[0].messages[-1]["content"]


def test_lengths_asked_for_have_the_spread_of_the_sample(scenes):
    register = load_register()
    many = pd.concat([scenes.assign(item=scenes["item"] + 100 * k) for k in range(25)])
    requests = calibrated_requests(TABLES, many, ["joy"], register, seed=1, **HOW)
    asked = pd.Series(
        [int(r.messages[-1]["content"].split("It has about ")[1].split()[0]) for r in requests]
    )
    wanted = register.rows["words"].clip(upper=55)
    assert asked.mean() == pytest.approx(wanted.mean(), abs=1.5)
    assert asked.std() == pytest.approx(wanted.std(), abs=1.5)


def test_stripping():
    assert stripped(["I'm SO happy… (thanks)!", "ok"]) == ["im so happy thanks", "ok"]


def test_the_shipped_register_comes_from_the_development_part_alone():
    """Its rows can be made from development texts; no evaluation text was among them."""
    if not (GOLD / "emotion20k_train.csv").is_file():
        pytest.skip("the gold texts are not here (set PERSONAGEN_GOLD to their folder)")
    register = load_register(REGISTER)
    gold = read_gold(GOLD)
    texts = gold_texts(gold, "development")
    order = [calibration.sample_order(i) for i in texts["row_id"]]
    sample = texts.assign(order=order).sort_values("order").head(register.n)
    again = measure_register(sample["text"].tolist(), source=register.source)
    pd.testing.assert_frame_equal(again.rows, register.rows, check_dtype=False)
    assert (again.figures, again.words) == (register.figures, register.words)
    rows = pool_rows(gold)
    evaluation = set(rows.loc[rows["part"] == "evaluation", "row_id"])
    assert not evaluation & set(sample["row_id"])
