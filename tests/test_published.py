"""The paper's figures: complete, consistent with each other, and shown beside ours."""

import pandas as pd
import pytest

from personagen_utils.errors import KitError
from personagen_utils.published import FILES, beside_published, published


@pytest.mark.parametrize("table", FILES)
def test_published_figures_are_tidy(table):
    paper = published(table)
    assert paper.columns.tolist() == ["table", "method", "emotion", "metric", "value"]
    assert set(paper["table"]) == {table}
    assert paper["value"].notna().all()
    assert not paper.duplicated(["method", "emotion", "metric"]).any()


def test_published_figures_agree_with_each_other():
    assert len(published("IV")) == 7 * 2 + 1
    v = published("V").pivot(index="emotion", columns="metric", values="value")
    assert v.shape == (8, 3)
    harmonic = 2 * v.precision * v.recall / (v.precision + v.recall)
    assert ((harmonic - v.F1).abs() < 0.011).all()
    assert v.drop("total").mean().round(2).tolist() == pytest.approx(
        v.loc["total"].tolist(), abs=0.011
    )
    assert published("VI").shape == (3 * 4, 5)
    vii = published("VII").pivot(index="method", columns="metric", values="value")
    assert (vii.accuracy == vii.recall).all()  # balanced test set: accuracy is macro recall
    assert published("Fig. 4").value.tolist() == [5.0, 4.83]


def test_a_copy_is_handed_out():
    paper = published("IV")
    paper["value"] = 99
    assert published("IV")["value"].max() < 2


def test_another_table_is_refused():
    with pytest.raises(KitError, match="table 'IX' is not kept"):
        published("IX")


def test_values_stand_beside_the_published_ones():
    rows = pd.DataFrame(
        [
            {"metric": "MCD", "emotion": "joy", "value": 0.61, "low": 0.6, "high": 0.62, "n": 500},
            {"metric": "MCD", "emotion": "awe", "value": 0.7, "low": None, "high": None, "n": 20},
            {"metric": "CD", "emotion": None, "value": 0.5, "low": 0.4, "high": 0.6, "n": 520},
            {"metric": "new", "emotion": "joy", "value": 1.0, "low": 0.9, "high": 1.1, "n": 500},
        ]
    )
    table = beside_published(rows, published("IV"))
    assert table.index.tolist() == ["joy", "awe", "all"]
    assert table.columns.tolist() == ["MCD", "MCD, paper", "CD", "CD, paper", "new", "n"]
    assert table.loc["joy"].tolist()[:2] == ["0.61\u00a0[0.60,\u00a00.62]", "0.5715"]
    assert table.loc["awe"].tolist()[:2] == ["0.70", ""]
    assert table.loc["all"].tolist()[2:4] == ["0.50\u00a0[0.40,\u00a00.60]", "0.4843"]
    assert table["n"].tolist() == [500, 20, 520]
    with pytest.raises(KitError, match="two rows for one emotion"):
        beside_published(pd.concat([rows, rows]), published("IV"))
    with pytest.raises(KitError, match="no column 'low'"):
        beside_published(rows.drop(columns="low"), published("IV"))


def test_methods_keep_the_decimals_of_the_paper():
    paper = published("VII")
    rows = paper.assign(low=paper.value - 0.02, high=paper.value + 0.02, n=900)
    table = beside_published(rows, paper, by="method", metrics=["accuracy", "F1"], digits=3)
    assert table.loc["Gold"].tolist() == [
        "0.568\u00a0[0.548,\u00a00.588]",
        "0.568",
        "0.567\u00a0[0.547,\u00a00.587]",
        "0.567",
        900,
    ]
