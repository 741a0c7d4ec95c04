"""The baselines ask what their papers describe, filter as they say, and keep their draws stable."""

import asyncio
import json

import pytest

from personagen_utils.ablation import RUNGS, rung_requests
from personagen_utils.baselines import (
    MAX_DRAWS,
    SNS_POSTING,
    Attribute,
    AttributeSet,
    ScoredText,
    attrprompt_requests,
    elicit_attributes,
    plain_requests,
    priorwork_request,
    tweet_requests,
    write_priorwork,
)
from personagen_utils.chat import Reply, Request
from personagen_utils.errors import KitError
from personagen_utils.population import draw_population
from personagen_utils.scenario import compile_rules
from personagen_utils.tables import BASE, load_tables

TABLES = load_tables("jp")
HOW = {"language": "English", "model": "m", "temperature": 1.2}
SET = AttributeSet(
    attributes=[
        Attribute(name="topic", values=["work", "food", "family"]),
        Attribute(name="tone", values=["dry", "warm"]),
    ]
)


class Writer:
    """A client that writes a text for each request and scores it by a rule."""

    backend = "recorded"

    def __init__(self, score) -> None:
        self.score, self.asked = score, []

    async def ask(self, requests: list[Request], *, desc="", check=None) -> list[Reply]:
        self.asked += requests
        replies = []
        for request in requests:
            score = self.score(request)
            if score is None:
                replies.append(Reply(request, match="missing"))
                continue
            text = f"text {len(replies)} of {request.key}"
            content = json.dumps({"text": text, "score": score})
            parsed = ScoredText(text=text, score=score)
            replies.append(
                Reply(request, content=content, parsed=parsed, match="exact", attempts=1)
            )
        return replies


def priorwork(writer: Writer, n: int = 5, threshold: int = 4):
    emotions = ["joy", "fear"]
    return asyncio.run(
        write_priorwork(writer, TABLES, n, emotions, threshold=threshold, seed=1, **HOW)
    )


def test_plain_tells_nothing_but_the_emotion_in_its_shade() -> None:
    requests = plain_requests(9, ["surprise", "neutral"], seed=1, **HOW)
    assert len(requests) == len({r.key for r in requests}) == 18
    shades = {r.meta["attributes"]["shade"] for r in requests if r.meta["emotion"] == "surprise"}
    assert len(shades) == 3  # as many as the emotion has
    assert len({r.messages[-1]["content"] for r in requests}) == 4  # neutral has none
    assert "Emotion: neutral" in requests[1].messages[-1]["content"]
    assert "shade" not in requests[1].messages[-1]["content"]


def test_the_words_for_feeling_are_asked_for_in_the_language_of_the_texts() -> None:
    (request,) = plain_requests(1, ["joy"], seed=1, **HOW | {"language": "Japanese"})
    assert "it left me feeling, in Japanese)" in request.messages[-1]["content"]


def test_every_method_is_told_the_form_of_a_tweet_in_the_same_words() -> None:
    people = draw_population(TABLES, 20, seed=3, rules=compile_rules(TABLES, SNS_POSTING))
    scenes = people.assign(item=range(20)).dropna().head(1)
    options = {"seed": 1} | HOW
    asked = [
        *tweet_requests(TABLES, scenes, ["joy"], **options),
        *(
            request
            for rung in RUNGS
            for request in rung_requests(TABLES, scenes, ["joy"], rung, **options)
        ),
        *attrprompt_requests(SET, 1, ["joy"], **options),
        priorwork_request(TABLES, 0, "joy", 0, **options),
    ]
    told = [
        [
            line
            for line in r.messages[-1]["content"].splitlines()
            if " sentences" in line or ("post" in line and "words" in line)
        ]
        for r in asked
    ]
    assert len(told[0]) == 2
    assert all(lines == told[0] for lines in told)
    for request in asked:
        shade = request.meta["attributes"]["shade"]
        assert f"\nShade of it at this moment: {shade}\n" in request.messages[-1]["content"]


def test_attrprompt_gives_each_text_a_combination_of_values() -> None:
    requests = attrprompt_requests(SET, 40, ["joy", "love"], seed=1, **HOW)
    assert len(requests) == 80
    for request in requests:
        chosen = request.meta["attributes"]
        assert chosen["topic"] in SET.attributes[0].values
        assert f"- tone: {chosen['tone']}" in request.messages[-1]["content"]
    chosen = [r.meta["attributes"] for r in requests]
    assert len({(one["topic"], one["tone"]) for one in chosen}) == 6
    few = attrprompt_requests(SET, 10, ["love", "joy", "fear"], seed=1, **HOW)
    again = {r.key for r in requests} & {r.key for r in few}
    assert len(again) == len({r.key for r in few if r.meta["emotion"] != "fear"})


def test_priorwork_keeps_what_reaches_its_own_threshold() -> None:
    def score(request: Request) -> int:
        return 5 if int(request.key[:2], 16) % 2 else 3

    writer = Writer(score)
    texts, draws = priorwork(writer, n=8)
    assert len(texts) == 16
    assert texts.groupby("emotion").size().tolist() == [8, 8]
    assert (texts["score"] == 5).all()
    assert len(draws) == len(writer.asked)
    assert draws["kept"].sum() == 16
    assert set(draws.loc[~draws["kept"], "score"]) == {3}
    first = draws[draws["draw"] == 0]
    assert len(first) == 16
    assert len(draws) - len(first) == len(draws[draws["draw"] > 0])


def test_priorwork_stops_asking_after_its_last_draw() -> None:
    texts, draws = priorwork(Writer(lambda request: 1), n=2)
    assert texts.empty
    assert len(draws) == 2 * 2 * MAX_DRAWS


def test_a_score_that_was_not_recorded_is_missing_not_made_up() -> None:
    texts, draws = priorwork(Writer(lambda r: None if r.meta["item"] == 0 else 5), n=3)
    assert set(texts["item"]) == {1, 2}
    assert len(draws) == 4


def test_priorworks_personas_know_no_statistics_and_no_rules() -> None:
    options = HOW | {"seed": 1}
    requests = [priorwork_request(TABLES, i, "joy", 0, **options) for i in range(300)]
    ages = [r.meta["attributes"]["age"] for r in requests]
    share = ages.count("Children") / len(ages)
    assert abs(share - 1 / 8) < 0.07, "ages are uniform"
    assert set(requests[0].meta["attributes"]) == {*BASE, "shade"}
    assert requests[7].key == priorwork_request(TABLES, 7, "joy", 0, **options).key
    assert requests[7].key != priorwork_request(TABLES, 7, "joy", 1, **options).key
    assert requests[0].kind == "score"


def test_attributes_that_nobody_recorded_name_the_way_out() -> None:
    with pytest.raises(KitError, match="Set BACKEND = 'openai'"):
        asyncio.run(elicit_attributes(Writer(lambda r: None), model="m"))
