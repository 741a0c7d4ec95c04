"""What are the verdicts worth? Contradictory personas planted among the real ones.

A share of the accepted people is copied, one attribute of the copy is exchanged for one that
contradicts the rest, and the copy is judged like any other. The judge does not know which they are;
the share it calls implausible is reported beside the verdicts.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from personagen_utils.sampling import uniforms
from personagen_utils.tables import BASE, PERSONA, SCENE, Tables, age_ranges
from personagen_utils.verdicts import NOT_JUDGED, STAGES, Judge, verdict_request

_STREAM = 20


def plant_contradictions(
    tables: Tables, people: pd.DataFrame, stage: str, *, seed: int, share: float = 0.05
) -> pd.DataFrame:
    """Copy some people and give each copy an attribute that contradicts the others.

    At stage 1 an adult becomes an elementary school pupil and a minor gets an occupation with a
    minimum age. At stage 2 an adult is still in elementary school and a minor is widowed with
    children. At stage 3 activity and place exclude each other (no place of the pair is allowed).

    Parameters
    ----------
    tables : Tables
    people : DataFrame
        Accepted people with the attributes up to `stage`.
    stage : {"base_persona", "background", "scene"}
    seed : int
    share : float
        Expected share of the people who are copied; person i is chosen by the seed and i alone.

    Returns
    -------
    DataFrame
        item, stage, planted (what was exchanged) and the attributes.
    """
    k = STAGES.index(stage) + 1
    u = uniforms(seed, (_STREAM + k, 0, 0), people["item"].to_numpy(), 2)
    chosen = people[u[:, 0] < share].reset_index(drop=True)
    pick = u[u[:, 0] < share, 1]
    minors = {
        name for name, to in zip(tables.items("age"), age_ranges(tables)[1], strict=True) if to < 18
    }
    columns = [*BASE, *(PERSONA[len(BASE) :] if k > 1 else ()), *(SCENE if k > 2 else ())]
    rows = []
    for row, chance in zip(chosen.to_dict("records"), pick, strict=True):
        values = {name: str(row[name]) for name in columns}
        minor = values["age"] in minors
        if k == 1 and minor:
            changed = "occupation", _pick(sorted(tables.persona_rules["min_age"]), chance)
        elif k == 1:
            changed = "occupation", tables.items("occupation")[0]
        elif k == 2 and minor:
            widowed = [x for x in tables.items("family_structure") if "Widowed" in x]
            changed = "family_structure", _pick(widowed, chance)
        elif k == 2:
            changed = "education", tables.items("education")[0]
        else:
            allowed = tables.scenario_rules["activity_locations"]
            limited = [
                activity for activity in allowed if values["location"] not in allowed[activity]
            ]
            changed = "activity", _pick(limited, chance)
        values[changed[0]] = changed[1]
        rows.append({"item": row["item"], "stage": stage, "planted": changed[0], **values})
    return pd.DataFrame(rows, columns=["item", "stage", "planted", *columns])


def _pick(choices: list[str], chance: float) -> str:
    return choices[int(np.floor(chance * len(choices)))]


async def judge_planted(tables: Tables, planted: pd.DataFrame, judge: Judge) -> pd.DataFrame:
    """Ask for the verdicts on planted contradictions.

    Returns
    -------
    DataFrame
        `planted` with label, reason, match, model and key; unrecorded ones are "not judged".
    """
    columns = [name for name in (*PERSONA, *SCENE) if name in planted]
    requests = [
        verdict_request(tables, row, model=judge.model)
        for row in planted[columns].to_dict("records")
    ]
    replies = await judge.client.ask(requests, desc="planted contradictions")
    return planted.assign(
        label=[r.parsed.label if r.parsed else NOT_JUDGED for r in replies],
        reason=[r.parsed.reason if r.parsed else "" for r in replies],
        match=[r.match for r in replies],
        model=[r.model for r in replies],
        key=[r.request.key for r in replies],
    )


def planted_found(planted: pd.DataFrame) -> pd.DataFrame:
    """Return the share of planted contradictions called implausible, per stage.

    Returns
    -------
    DataFrame
        Tidy rows: metric "planted found", stage, value, low, high (95 % Wilson interval), n judged.
    """
    rows = []
    judged = planted[planted["label"] != NOT_JUDGED]
    for stage, part in judged.groupby("stage", sort=False):
        found = int((part["label"] == "implausible").sum())
        ci = binomtest(found, len(part)).proportion_ci(method="wilson")
        rows.append(("planted found", stage, found / len(part), ci.low, ci.high, len(part)))
    return pd.DataFrame(rows, columns=["metric", "stage", "value", "low", "high", "n"])
