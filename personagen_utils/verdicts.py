"""Is this combination a person? Verdicts of a language model after each of the stages 1 to 3.

Each draw is called natural, rare but plausible, or implausible (paper, Section III.B). The first
two are kept; an implausible draw is redrawn at its own stage from the same person's own stream, and
after five rejections there the person starts again at stage 1, until everybody has passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel

from personagen_utils import prompts
from personagen_utils.background import draw_backgrounds
from personagen_utils.base_persona import age_years, draw_base_personas
from personagen_utils.errors import KitError
from personagen_utils.llm import Client, Request
from personagen_utils.sampling import uniforms
from personagen_utils.scenario import SceneRules, draw_scenes
from personagen_utils.tables import BACKGROUND, BASE, PERSONA, SCENE, Tables

STAGES = ("base_persona", "background", "scene")
COLUMNS = {1: BASE, 2: BACKGROUND, 3: SCENE}
LABELS = ("natural", "rare but plausible", "implausible")
NOT_JUDGED = "not judged"
MAX_REDRAWS = 5
_MAX_RESTARTS = 40
_QUOTA_STREAM, _CANDIDATES = 1000, 2000  # redraws that keep a quota, and how many of them
_RARE_STREAM = 10  # streams of their own for the decision to keep a rare draw


class Verdict(BaseModel, extra="forbid"):
    # No docstring: it would go out with the schema and into the key of every request.

    reason: str
    label: Literal["natural", "rare but plausible", "implausible"]


@dataclass(frozen=True)
class Judge:
    """Who gives the verdicts, and how strictly.

    Attributes
    ----------
    client : Client or None
        None switches the verdicts off: every draw that keeps the rules is kept.
    model : str
    rare_keep : float
        Probability with which a rare but plausible draw is kept (the paper keeps all: 1.0).
    quota : sequence of str
        Attributes of stages 1 and 2 that a redraw keeps from the person's first draw, the most
        important first, so that what the judge rejects does not shift their shares. Redraws then
        differ from those of a study without quotas, and so from its recordings.
    """

    client: Client | None
    model: str = "gpt-4.1-mini"
    rare_keep: float = 1.0
    quota: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.rare_keep <= 1:
            raise KitError(f"RARE_KEEP = {self.rare_keep} must lie between 0 and 1.")
        for name in self.quota:
            if name not in PERSONA:
                raise KitError(f"QUOTA names {name!r}; it may name {', '.join(PERSONA)}.")


@dataclass(frozen=True)
class Accepted:
    """Who has passed, and how it came about.

    Attributes
    ----------
    people : DataFrame
        One row per person who passed, ordered by item: item, restart, redraws_1..3 and the
        attributes drawn.
    verdicts : DataFrame
        One row per draw judged: item, stage, restart, redraw, label, kept, reason, match, model,
        key and the attributes.
    shut_out : list of int
        People whom the restriction of the scene shuts out.
    waiting : list of int
        People whose verdict is still to be given elsewhere (only when exporting requests).
    """

    people: pd.DataFrame
    verdicts: pd.DataFrame
    shut_out: list[int]
    waiting: list[int]


@dataclass
class _Person:
    item: int
    restart: int = 0
    passed: int = 0  # how many stages have been accepted since the last restart
    redraws: dict[int, int] = field(default_factory=lambda: {1: 0, 2: 0, 3: 0})
    attributes: dict[str, str] = field(default_factory=dict)
    state: str = "open"  # or "waiting" for a verdict, or "cannot meet" the restriction

    def reject(self, stage: int) -> None:
        self.redraws[stage] += 1
        if self.redraws[stage] >= MAX_REDRAWS:
            self.restart += 1
            self.passed, self.attributes = 0, {}
            self.redraws = {1: 0, 2: 0, 3: 0}
            if self.restart > _MAX_RESTARTS:
                raise KitError(
                    f"Person {self.item} was rejected {_MAX_RESTARTS * MAX_REDRAWS} times at stage "
                    f"{stage}; look at the verdicts, the tables or RARE_KEEP."
                )


def verdict_request(tables: Tables, attributes: dict[str, str], *, model: str) -> Request:
    """Return the request that asks for a verdict on one draw.

    Parameters
    ----------
    tables : Tables
    attributes : dict
        The person as far as drawn: 4, 11 or 19 attributes.
    model : str

    Returns
    -------
    Request
        Temperature 0, structured as `Verdict`.
    """
    stage = 3 if "activity" in attributes else 2 if "education" in attributes else 1
    values = attributes | {
        "country": tables.country,
        "age_years": age_years(tables, attributes["age"], attributes["occupation"]),
    }
    return Request(
        kind="verdict",
        messages=prompts.render("verdict", values),
        model=model,
        temperature=0.0,
        schema=Verdict,
        max_tokens=120,
        meta={"method": "verdict", "stage": STAGES[stage - 1], "attributes": dict(attributes)},
    )


async def accept(
    tables: Tables,
    items: Sequence[int],
    *,
    upto: int,
    seed: int,
    judge: Judge,
    start: pd.DataFrame | None = None,
    rules: SceneRules | None = None,
) -> Accepted:
    """Draw and judge until every person has passed the stages up to `upto`.

    Parameters
    ----------
    tables : Tables
    items : sequence of int
        Numbers of the people wanted.
    upto : {1, 2, 3}
        The last stage to pass.
    seed : int
    judge : Judge
    start : DataFrame, optional
        People who passed earlier stages (a frame this function returned); others start afresh.
    rules : SceneRules, optional
        Needed for stage 3.

    Returns
    -------
    Accepted

    Notes
    -----
    A verdict that was never recorded leaves the label "not judged": the draw is kept on its rules
    alone. When requests are only being collected for export, the person waits instead.
    """
    people = _start(items, start)
    log: list[dict] = []
    while True:
        open_ = [p for p in people if p.state == "open" and p.passed < upto]
        if not open_:
            break
        _draw(tables, open_, seed, rules, judge.quota)
        drawn = [p for p in open_ if p.state == "open"]
        await _judge(tables, drawn, seed, judge, log)
    numbers = ["item", "restart", *(f"redraws_{stage}" for stage in range(1, upto + 1))]
    columns = [name for stage in range(1, upto + 1) for name in COLUMNS[stage]]
    frame = pd.DataFrame(
        [
            [p.item, p.restart, *(p.redraws[stage] for stage in range(1, upto + 1))]
            + [p.attributes[name] for name in columns]
            for p in people
            if p.passed >= upto
        ],
        columns=[*numbers, *columns],
    ).astype(dict.fromkeys(numbers, int) | dict.fromkeys(columns, str))
    return Accepted(
        people=frame,
        verdicts=pd.DataFrame(log, columns=[*_LOG, *PERSONA, *SCENE]),
        shut_out=[p.item for p in people if p.state == "cannot meet"],
        waiting=[p.item for p in people if p.state == "waiting"],
    )


async def accept_scenes(
    tables: Tables,
    n: int,
    *,
    seed: int,
    judge: Judge,
    rules: SceneRules,
    start: pd.DataFrame | None = None,
) -> Accepted:
    """Accept n persona-scenes, drawing further people where a restriction shuts some out.

    The people of `start` who can meet the restriction are kept; the others are replaced by the next
    ones of the stream, whatever their number, until n have passed.

    Parameters
    ----------
    tables : Tables
    n : int
        How many persona-scenes are wanted.
    seed : int
    judge : Judge
    rules : SceneRules
        Compiled with or without a restriction.
    start : DataFrame, optional
        People who passed stage 2.

    Returns
    -------
    Accepted
        With exactly n rows in `people` unless some are waiting.
    """
    parts: list[Accepted] = []
    first, missing = 0, n
    while missing > 0:
        items = range(first, first + missing)
        parts.append(
            await accept(tables, items, upto=3, seed=seed, judge=judge, start=start, rules=rules)
        )
        first += missing
        missing = n - sum(len(part.people) + len(part.waiting) for part in parts)
        if first > 100 * n + 10_000:
            raise KitError(
                f"Only {n - missing} of {first} people drawn can meet RESTRICT; allow more items."
            )
    return Accepted(
        people=pd.concat([part.people for part in parts], ignore_index=True),
        verdicts=pd.concat([part.verdicts for part in parts], ignore_index=True),
        shut_out=[item for part in parts for item in part.shut_out],
        waiting=[item for part in parts for item in part.waiting],
    )


_LOG = ("item", "stage", "restart", "redraw", "label", "kept", "reason", "match", "model", "key")


def _start(items: Sequence[int], start: pd.DataFrame | None) -> list[_Person]:
    earlier = {} if start is None else {row["item"]: row for row in start.to_dict("records")}
    people = []
    for item in items:
        person = _Person(int(item))
        row = earlier.get(item)
        if row is not None:
            person.restart = int(row["restart"])
            person.attributes = {
                name: row[name] for stage in COLUMNS.values() for name in stage if name in row
            }
            person.passed = 3 if "activity" in row else 2 if "education" in row else 1
            for stage in range(1, person.passed + 1):
                person.redraws[stage] = int(row[f"redraws_{stage}"])
        people.append(person)
    return people


def _draw(
    tables: Tables,
    people: list[_Person],
    seed: int,
    rules: SceneRules | None,
    quota: Sequence[str] = (),
) -> None:
    """Draw the next stage of each person; those in the same stream in one go."""
    streams: dict[tuple[int, int, int], list[_Person]] = {}
    for person in people:
        stage = person.passed + 1
        key = (stage, person.restart, person.redraws[stage])
        streams.setdefault(key, []).append(person)
    for (stage, restart, redraw), group in streams.items():
        items = np.array([person.item for person in group])
        known = pd.DataFrame([person.attributes for person in group])
        at = {"seed": seed, "restart": restart, "redraw": redraw}
        if stage == 1:
            frame = draw_base_personas(tables, items, **at)
        elif stage == 2:
            frame = draw_backgrounds(tables, known, items, **at)
        else:
            frame = draw_scenes(rules, known, items, **at)
        rows = frame.astype(object).to_dict("records")
        if held := [name for name in quota if name in COLUMNS[stage]]:
            again = [k for k, p in enumerate(group) if p.restart or any(p.redraws.values())]
            for k in again:
                rows[k] = _within_quota(tables, stage, group[k], held, **at)
        for person, row in zip(group, rows, strict=True):
            if stage == 3 and pd.isna(row["activity"]):
                person.state = "cannot meet"
            else:
                person.attributes = person.attributes | row


def _within_quota(
    tables: Tables,
    stage: int,
    person: _Person,
    held: list[str],
    *,
    seed: int,
    restart: int,
    redraw: int,
) -> dict[str, str]:
    """Draw a person again until the attributes held are those of the very first draw.

    Each person has so many candidates of its own; when none has all the attributes, the first that
    has most of them in the order of their importance is taken.
    """
    at = {"seed": seed, "restart": restart, "redraw": _QUOTA_STREAM + redraw}
    own = np.array([person.item])
    candidates = np.arange(person.item * _CANDIDATES, (person.item + 1) * _CANDIDATES)
    first = draw_base_personas(tables, own, seed=seed)
    if stage == 1:
        drawn = draw_base_personas(tables, candidates, **at)
    else:
        first = draw_backgrounds(tables, first, own, seed=seed)
        same = pd.DataFrame([person.attributes] * _CANDIDATES)
        drawn = draw_backgrounds(tables, same, candidates, **at)
    kept = np.logical_and.accumulate(
        [(drawn[name] == first[name].iloc[0]).to_numpy() for name in held]
    ).sum(axis=0)
    return drawn.astype(object).iloc[int(kept.argmax())].to_dict()


async def _judge(
    tables: Tables, people: list[_Person], seed: int, judge: Judge, log: list[dict]
) -> None:
    """Ask for the verdicts on the draws just made and let each person pass or be redrawn."""
    if judge.client is None:
        answers = [(NOT_JUDGED, "", "off", None, None)] * len(people)
    else:
        requests = [verdict_request(tables, p.attributes, model=judge.model) for p in people]
        replies = await judge.client.ask(requests, desc="verdicts")
        answers = [
            (reply.parsed.label, reply.parsed.reason, reply.match, reply.model, reply.request.key)
            if reply.parsed is not None
            else (NOT_JUDGED, reply.error or "", reply.match, reply.model, reply.request.key)
            for reply in replies
        ]
    for person, (label, reason, match, model, key) in zip(people, answers, strict=True):
        stage = person.passed + 1
        if match == "missing" and judge.client.backend == "export":
            person.state = "waiting"
            continue
        redraw = person.redraws[stage]
        kept = label != "implausible"
        if label == "rare but plausible" and judge.rare_keep < 1:
            stream = (_RARE_STREAM + stage, person.restart, redraw)
            kept = uniforms(seed, stream, np.array([person.item]), 1)[0, 0] < judge.rare_keep
        log.append(
            {
                "item": person.item,
                "stage": STAGES[stage - 1],
                "restart": person.restart,
                "redraw": redraw,
                "label": label,
                "kept": bool(kept),
                "reason": reason,
                "match": match,
                "model": model,
                "key": key,
                **person.attributes,
            }
        )
        if kept:
            person.passed = stage
        else:
            for name in COLUMNS[stage]:
                person.attributes.pop(name, None)
            person.reject(stage)


def count_verdicts(verdicts: pd.DataFrame) -> pd.DataFrame:
    """Return how many draws of each stage got each verdict, and how many were kept.

    Parameters
    ----------
    verdicts : DataFrame
        As returned by `accept`.

    Returns
    -------
    DataFrame
        Tidy rows: metric ("verdicts" or "kept"), stage, label, value, n (draws of the stage).
    """
    rows = []
    for stage in STAGES:
        part = verdicts[verdicts["stage"] == stage]
        if part.empty:
            continue
        for label in (*LABELS, NOT_JUDGED):
            rows.append(("verdicts", stage, label, int((part["label"] == label).sum()), len(part)))
        rows.append(("kept", stage, None, int(part["kept"].sum()), len(part)))
    return pd.DataFrame(rows, columns=["metric", "stage", "label", "value", "n"])
