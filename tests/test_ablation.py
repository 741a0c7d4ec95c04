"""The rungs tell the writer less and less, and their steps are paired by persona-scene."""

import numpy as np
import pandas as pd
import pytest

from personagen_utils.ablation import RUNGS, STEPS, own_measures, paired, rung_requests
from personagen_utils.diversity import mean_cosine_distance
from personagen_utils.errors import KitError
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.similarity_table import Vectors, similarity_differences, similarity_table
from personagen_utils.tables import BASE, load_tables

TABLES = load_tables("jp")
HOW = {"seed": 1, "language": "English", "model": "m", "temperature": 1.2}


@pytest.fixture(scope="module")
def scenes():
    people = draw_population(TABLES, 30, seed=3, rules=compile_rules(TABLES))
    return people.assign(item=range(30)).dropna()


def test_each_rung_knows_one_stage_more(scenes):
    prompts = {
        rung: rung_requests(TABLES, scenes, ["joy"], rung, **HOW)[0].messages[-1]["content"]
        for rung in RUNGS
    }
    lines = [set(prompts[rung].splitlines()) for rung in RUNGS]
    for k, name in enumerate(("Occupation", "Religion", "Medium")):
        assert [name in prompts[rung] for rung in RUNGS] == [r > k for r in range(4)]
    assert lines[1] < lines[2]  # the background is all that is added
    sizes = {len(rung_requests(TABLES, scenes, ["joy", "fear"], rung, **HOW)) for rung in RUNGS}
    assert sizes == {2 * len(scenes)}
    with pytest.raises(KitError, match=r"has no rung 'scene'"):
        rung_requests(TABLES, scenes, ["joy"], "scene", **HOW)


def test_equal_people_are_asked_anew(scenes):
    twins = pd.concat([scenes.head(1)] * 3).assign(item=range(3))
    requests = rung_requests(TABLES, twins, ["joy"], "+ base persona", **HOW)
    assert len({r.key for r in requests}) == 3
    assert set(requests[0].meta["attributes"]) == {*BASE, "shade"}


def rows_of(rung, items, texts):
    return pd.DataFrame(
        [
            {"rung": rung, "item": i, "emotion": e, "text": t}
            for (i, e), t in zip(
                [(i, e) for i in items for e in ("joy", "fear")], texts, strict=True
            )
        ]
    )


def test_texts_of_one_scene_share_a_number_on_every_rung():
    high = rows_of(RUNGS[3], [2, 5, 9], ["a b"] * 6)
    low = rows_of(RUNGS[0], [0, 1, 2], ["c d"] * 6).drop(index=3)  # one text is missing
    table = paired(pd.concat([high, low]))
    assert table["rung"].drop_duplicates().tolist() == [RUNGS[0], RUNGS[3]]
    assert len(table) == 10
    sides = [part[["scene", "emotion"]].to_numpy().tolist() for _, part in table.groupby("rung")]
    assert sides[0] == sides[1]


def cloud(n, seed, spread):
    rng = np.random.default_rng(seed)
    X = np.repeat(np.eye(2, 5), n, axis=0) + spread * rng.normal(size=(2 * n, 5))
    return (X / np.linalg.norm(X, axis=1, keepdims=True)).astype(np.float32)


def test_levels_and_steps_against_the_measures_themselves():
    words = [f"word{k} other{k % 7} third{k % 3}" for k in range(60)]
    texts = paired(
        pd.concat([rows_of(RUNGS[0], range(30), words), rows_of(RUNGS[1], range(30), words)])
    )
    vectors = np.concatenate([cloud(30, 0, 0.2), cloud(30, 1, 0.5)])
    found = own_measures(texts, vectors).set_index(["metric", "method"])
    expected = [
        np.mean([mean_cosine_distance(vectors[at + e : at + e + 30]) for e in (0, 30)])
        for at in (0, 60)
    ]
    assert found.loc[("MCD", RUNGS[0]), "value"] == pytest.approx(expected[0])
    step = found.loc[("MCD", " - ".join(STEPS[0]))]
    assert step["value"] == pytest.approx(expected[1] - expected[0])
    assert step["low"] > 0
    same = found.loc[("distinct-2", " - ".join(STEPS[0]))]
    assert same["value"] == same["low"] == same["high"] == 0  # the same words, paired: no doubt


def test_paired_differences_are_differences_of_the_table_and_narrower():
    items = np.array([str(k) for k in range(60)] * 2)
    labels = np.repeat(["a", "b"], 60)
    base = cloud(60, 0, 0.4)
    near = base + 0.02 * np.random.default_rng(5).normal(size=base.shape).astype(np.float32)
    near /= np.linalg.norm(near, axis=1, keepdims=True)
    methods = {"x": Vectors(base, labels, items), "y": Vectors(near, labels, items)}
    gold = Vectors(cloud(60, 9, 0.4), labels, np.array([f"g{k}" for k in range(120)]))
    table = similarity_table(methods, gold, floor=False).set_index(["metric", "method"])
    pairs = similarity_differences(methods, gold, [("x", "y")]).set_index("metric")
    for metric in ("FID", "PRD-F8", "KL", "AUC_origin"):
        expected = table.loc[(metric, "x"), "value"] - table.loc[(metric, "y"), "value"]
        assert pairs.loc[metric, "value"] == pytest.approx(expected, abs=1e-9)
    width = pairs.loc["FID", "high"] - pairs.loc["FID", "low"]
    assert width < table.loc[("FID", "x"), "high"] - table.loc[("FID", "x"), "low"]
    other = Vectors(near, labels, np.array([f"o{k}" for k in range(120)]))
    with pytest.raises(KitError, match="did not write for the same persona-scenes"):
        similarity_differences({"x": methods["x"], "z": other}, gold, [("x", "z")])
