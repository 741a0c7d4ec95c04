"""Surface figures of a corpus against counts by hand, and what a text costs."""

import pandas as pd
import pytest

from personagen_utils.chat import Request
from personagen_utils.corpora import cost_per_text, describe_corpus, words_of
from personagen_utils.corpus import load_corpus, origin
from personagen_utils.costs import estimate_prompt, estimate_tokens, price_of
from personagen_utils.population import draw_population, shares, whitelist_violations
from personagen_utils.runs import open_run
from personagen_utils.tables import load_tables

TEXTS = pd.DataFrame(
    {
        "item": [0, 1, 2, 3],
        "emotion": ["joy", "joy", "fear", "fear"],
        "text": [
            "What a joy this is!",
            "what a joy this was, really",
            "i am full of fear",
            "It's dark.",
        ],
    }
)


def test_the_surface_by_hand() -> None:
    rows = describe_corpus(TEXTS, "x").set_index("metric")["value"]
    assert rows["words per text"] == pytest.approx((5 + 6 + 5 + 2) / 4)
    assert rows["names its emotion, share"] == pytest.approx(3 / 4)
    assert rows["lower case only, share"] == pytest.approx(2 / 4)
    assert rows["most common four-word opening, share"] == pytest.approx(2 / 4)
    distinct = {"what", "a", "joy", "this", "is", "was", "really"}
    distinct |= {"i", "am", "full", "of", "fear", "it's", "dark"}
    assert rows["vocabulary of 5,000 words"] == len(distinct)


def test_words_keep_their_apostrophes_and_lose_emoji() -> None:
    assert words_of("It's 5 o'clock 😀 somewhere_else") == [
        "it's",
        "5",
        "o'clock",
        "somewhere",
        "else",
    ]


def test_what_a_text_costs_by_hand() -> None:
    request = Request(kind="text", messages=({"role": "user", "content": "x" * 400},))
    rows = cost_per_text([request] * 8, TEXTS, "x", model="gpt-4.1-mini").set_index("metric")
    assert rows.loc["requests per text", "value"] == 2
    prompt = 2 * estimate_prompt(request)
    assert rows.loc["prompt tokens per text (estimate)", "value"] == prompt
    reply = sum(estimate_tokens(text) for text in TEXTS["text"]) / 4
    cents = price_of("gpt-4.1-mini").usd(prompt, 2 * reply) * 100 * 100
    assert rows.loc["US cents per 100 texts (estimate)", "value"] == pytest.approx(cents)
    assert len(cost_per_text([request], TEXTS, "x", model="a model without a price")) == 2


def test_a_readers_own_csv_stands_in_for_the_run(tmp_path) -> None:
    path = tmp_path / "mine.csv"
    TEXTS[["text", "emotion"]].to_csv(path, index=False)
    texts, inputs = load_corpus(open_run(tmp_path / "run"), str(path))
    assert inputs == []
    assert texts["text"].tolist() == TEXTS["text"].tolist()
    assert origin(texts, "mine.csv") == "4 texts, 2 emotions, from mine.csv."


def test_shares_are_percent_of_their_target() -> None:
    tables = load_tables("jp")
    people = draw_population(tables, 1_000, seed=0)
    table = shares(people, tables, "gender")
    assert table["realised"].sum() == pytest.approx(100)
    assert table["target"].sum() == pytest.approx(100)
    assert (table["low"] <= table["realised"]).all()
    assert (table["realised"] <= table["high"]).all()
    assert table.loc["Males", "realised"] == 100 * (people["gender"] == "Males").mean()


def test_a_pupil_who_is_a_lawyer_breaks_the_whitelist() -> None:
    tables = load_tables("jp")
    people = pd.DataFrame({"age": ["Children", "Adults"], "occupation": ["Lawyers", "Lawyers"]})
    assert whitelist_violations(people, tables).tolist() == [True, False]
