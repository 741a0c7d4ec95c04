"""The loop of draws and verdicts: exactly N pass, everybody from their own stream."""

import asyncio
from collections import Counter
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from personagen_utils.chat import Reply, Request
from personagen_utils.errors import KitError
from personagen_utils.planted import judge_planted, plant_contradictions, planted_found
from personagen_utils.population import draw_population
from personagen_utils.scenario import broken_constraints, compile_rules
from personagen_utils.tables import BASE, PERSONA, SCENE, load_tables
from personagen_utils.verdicts import (
    MAX_REDRAWS,
    Accepted,
    Judge,
    Verdict,
    accept,
    accept_scenes,
    count_verdicts,
)

TABLES = load_tables("jp")
RULES = compile_rules(TABLES)


class Opinion:
    """A client whose verdict is a function of the attributes; counts what it was asked."""

    backend = "recorded"

    def __init__(self, label: Callable[[dict], str | None], backend: str = "recorded") -> None:
        self.label, self.backend, self.asked = label, backend, Counter()

    async def ask(self, requests: list[Request], *, desc: str = "", check=None) -> list[Reply]:
        replies = []
        for request in requests:
            self.asked[request.key] += 1
            label = self.label(request.meta["attributes"])
            parsed = Verdict(reason="because", label=label) if label else None
            match = "exact" if label else "missing"
            replies.append(Reply(request, parsed=parsed, match=match, model="opinion"))
        return replies


def run(n: int, client: Opinion | None, *, upto: int = 3, **options) -> Accepted:
    judge = Judge(client, rare_keep=options.pop("rare_keep", 1.0))
    return asyncio.run(
        accept(TABLES, range(n), upto=upto, seed=2025, judge=judge, rules=RULES, **options)
    )


def no_chat(attributes: dict) -> str:
    """Reject a fifth of the backgrounds and every scene of casual chat."""
    if attributes.get("activity") == "Casual chat":
        return "implausible"
    if "activity" not in attributes and attributes.get("geographic_location") == "Urban centre":
        return "implausible"
    return "natural"


def test_without_verdicts_the_first_draw_is_kept() -> None:
    accepted = run(50, None)
    drawn = draw_population(TABLES, 50, seed=2025, rules=RULES).astype(object)
    pd.testing.assert_frame_equal(
        accepted.people[[*PERSONA, *SCENE]].astype(object), drawn, check_column_type=False
    )
    assert set(accepted.verdicts["label"]) == {"not judged"}
    assert len(accepted.verdicts) == 150


def test_exactly_n_pass_and_nobody_who_was_rejected() -> None:
    accepted = run(40, Opinion(no_chat))
    people = accepted.people
    assert people["item"].tolist() == list(range(40))
    assert (people["activity"] != "Casual chat").all()
    assert (people["geographic_location"] != "Urban centre").all()
    assert not broken_constraints(RULES, people).any()
    assert accepted.verdicts["kept"].sum() >= 120
    rejected = accepted.verdicts[~accepted.verdicts["kept"]]
    assert set(rejected["label"]) == {"implausible"}
    assert set(rejected["stage"]) == {"background", "scene"}


def test_the_study_of_sixty_is_the_beginning_of_a_larger_one() -> None:
    small, large = run(20, Opinion(no_chat)), run(60, Opinion(no_chat))
    pd.testing.assert_frame_equal(small.people, large.people.head(20))
    again = run(20, Opinion(no_chat))
    pd.testing.assert_frame_equal(small.people, again.people)


def test_stages_taken_one_by_one_give_the_same_people() -> None:
    whole = run(30, Opinion(no_chat)).people
    people = None
    for upto in (1, 2, 3):
        people = run(30, Opinion(no_chat), upto=upto, start=people).people
    pd.testing.assert_frame_equal(whole, people)


def test_after_five_rejections_the_person_starts_again() -> None:
    """Whoever first has a certain occupation fails stage 2 for ever and becomes somebody else."""
    first = draw_population(TABLES, 30, seed=2025)
    job = first["occupation"].astype(str).mode()[0]

    def opinion(attributes: dict) -> str:
        doomed = attributes["occupation"] == job and "education" in attributes
        return "implausible" if doomed else "natural"

    accepted = run(30, Opinion(opinion), upto=2)
    people = accepted.people
    assert (people["occupation"] != job).all()
    doomed = (first["occupation"].astype(str) == job).to_numpy()
    assert (people["restart"].to_numpy() > 0).tolist() == doomed.tolist()
    one = people["item"][doomed].iloc[0]
    mine = accepted.verdicts[accepted.verdicts["item"] == one]
    before = mine[(mine["restart"] == 0) & (mine["stage"] == "background")]
    assert before["redraw"].tolist() == list(range(MAX_REDRAWS))
    assert not before["kept"].any()


def test_a_person_whom_nothing_pleases_ends_in_a_clear_error() -> None:
    with pytest.raises(KitError, match="was rejected 200 times at stage 1"):
        run(1, Opinion(lambda attributes: "implausible"), upto=1)


def test_a_verdict_that_was_not_recorded_keeps_the_draw_and_is_counted() -> None:
    accepted = run(10, Opinion(lambda attributes: None), upto=2)
    assert len(accepted.people) == 10
    counts = count_verdicts(accepted.verdicts).set_index(["stage", "label"])["value"]
    assert counts["base_persona", "not judged"] == 10
    assert counts["background", "not judged"] == 10


def test_a_missing_verdict_waits_when_requests_are_only_collected() -> None:
    known = {"Young Adults": "natural"}
    accepted = run(30, Opinion(lambda a: known.get(a["age"]), backend="export"), upto=1)
    assert set(accepted.people["age"]) == {"Young Adults"}
    assert len(accepted.people) + len(accepted.waiting) == 30


def test_the_rare_are_kept_at_the_rate_asked_for() -> None:
    rare = Opinion(lambda attributes: "rare but plausible")
    everybody = run(200, rare, upto=1, rare_keep=1.0).verdicts
    assert everybody["kept"].all()
    half = run(200, rare, upto=1, rare_keep=0.5).verdicts
    assert 0.4 < half["kept"].mean() < 0.6
    with pytest.raises(KitError, match=r"RARE_KEEP = 1.5 must lie between 0 and 1"):
        Judge(None, rare_keep=1.5)


def restricted(n: int, start_n: int) -> Accepted:
    start = run(start_n, None, upto=2).people
    rules = compile_rules(TABLES, {"activity": ["SNS posting"]})
    judge = Judge(None)
    return asyncio.run(accept_scenes(TABLES, n, seed=2025, judge=judge, rules=rules, start=start))


def test_a_restriction_replaces_people_from_the_stream_until_n() -> None:
    accepted = restricted(40, 40)
    assert len(accepted.people) == 40
    assert (accepted.people["activity"] == "SNS posting").all()
    assert accepted.shut_out
    assert accepted.people["item"].is_monotonic_increasing
    assert accepted.people["item"].max() == 39 + len(accepted.shut_out)
    assert not set(accepted.shut_out) & set(accepted.people["item"])


def test_a_restricted_study_is_prefix_stable_too() -> None:
    small, large = restricted(20, 20).people, restricted(50, 50).people
    pd.testing.assert_frame_equal(small, large.head(20))


def test_planted_contradictions_contradict_and_are_prefix_stable() -> None:
    people = run(400, None).people
    for stage in ("base_persona", "background", "scene"):
        planted = plant_contradictions(TABLES, people, stage, seed=1)
        assert 5 <= len(planted) <= 40
        few = plant_contradictions(TABLES, people.head(100), stage, seed=1)
        pd.testing.assert_frame_equal(few, planted.head(len(few)))
        copied = people.set_index("item").loc[planted["item"]]
        for row, (_, original) in zip(planted.to_dict("records"), copied.iterrows(), strict=True):
            changed = [c for c in planted if c in original and row[c] != original[c]]
            assert changed == [row["planted"]]
        if stage == "base_persona":
            joint = TABLES.tables["occupation"].probabilities
            for row in planted.to_dict("records"):
                at = TABLES.items("age").index(row["age"])
                assert joint[at, TABLES.items("occupation").index(row["occupation"])] == 0
        if stage == "scene":
            assert broken_constraints(RULES, planted).all()


def test_the_share_of_planted_contradictions_found_by_hand() -> None:
    people = run(400, None, upto=1).people
    planted = plant_contradictions(TABLES, people, "base_persona", seed=1)
    pupils = TABLES.items("occupation")[0]
    client = Opinion(lambda a: "implausible" if a["occupation"] == pupils else "natural")
    judged = asyncio.run(judge_planted(TABLES, planted, Judge(client)))
    found = planted_found(judged).iloc[0]
    expected = (planted["occupation"] == pupils).mean()
    assert found["value"] == pytest.approx(expected)
    assert found["low"] < expected < found["high"] or expected in (0, 1)
    assert found["n"] == len(planted)


def test_people_are_asked_about_in_the_words_of_the_prompt() -> None:
    client = Opinion(lambda attributes: "natural")
    accepted = run(5, client, upto=1)
    assert sum(client.asked.values()) == 5
    assert list(accepted.verdicts[list(BASE)].iloc[0]) == list(accepted.people[list(BASE)].iloc[0])
    assert np.all(accepted.verdicts["key"].str.len() == 32)
