"""Costs: estimates that say so, bounds that hold, prices that are dated."""

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

from personagen_utils import costs
from personagen_utils.chat import Request
from personagen_utils.errors import KitError


class Verdict(BaseModel):
    model_config = ConfigDict(extra="forbid")
    label: str


def request(content: str, **changes) -> Request:
    return Request("text", ({"role": "user", "content": content},), **changes)


def test_the_models_of_the_paper_have_a_dated_price():
    for model in ("gpt-4.1-mini", "gpt-4o"):
        price = costs.price_of(model)
        assert price.date.startswith("20")
        assert price.source
        assert 0 < price.input < price.output
        assert price.batch_discount == 0.5


def test_dated_names_count_as_their_base():
    assert costs.price_of("gpt-4o-2024-11-20").model == "gpt-4o"
    assert costs.price_of("gpt-4o-mini-2024-07-18").model == "gpt-4o-mini"
    assert costs.price_of("gpt-4o-audio") is None
    assert costs.price_of("llama3") is None


def test_a_batch_costs_half():
    price = costs.price_of("gpt-4.1-mini")
    assert price.usd(1e6, 1e6) == pytest.approx(2.0)
    assert price.usd(1e6, 1e6, batch=True) == pytest.approx(1.0)


def test_a_bad_price_row_is_named(tmp_path: Path):
    file = tmp_path / "prices.csv"
    file.write_text("model,input,output,batch_discount,date,source\nm,cheap,1,0.5,2026-01,x\n")
    with pytest.raises(KitError, match=r"prices\.csv.*'m'"):
        costs.load_prices(file)


@pytest.mark.parametrize(
    "content", ["Say something glad.", "嬉しいことを一言。", "Ça alors 😀", "x" * 5000, ""]
)
@pytest.mark.parametrize("schema", [None, Verdict])
def test_no_estimate_exceeds_the_bound(content, schema):
    one = request(content, schema=schema)
    price = costs.price_of(one.model)
    estimate = price.usd(costs.estimate_prompt(one), one.max_tokens)
    assert 0 < estimate <= costs.most_usd(one)


def test_japanese_counts_about_a_token_a_character():
    assert costs.estimate_tokens("嬉しいことを一言。") == 9
    assert costs.estimate_tokens("Say something glad, now") == 6


def test_models_without_a_price_have_no_dollars():
    table = costs.estimate_table([request("a", model="llama3"), request("a")])
    assert table.set_index("model")["usd_at_most"].isna().to_dict() == {
        "gpt-4.1-mini": False,
        "llama3": True,
    }
