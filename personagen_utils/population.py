"""Does the population that was drawn look like the one the tables describe?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from personagen_utils.background import draw_backgrounds
from personagen_utils.base_persona import draw_base_personas
from personagen_utils.scenario import SceneRules, draw_scenes
from personagen_utils.tables import PERSONA, Tables


def draw_population(
    tables: Tables, n: int, *, seed: int, rules: SceneRules | None = None
) -> pd.DataFrame:
    """Draw n people in one go, verdicts off: what the sampler does before anybody judges.

    Parameters
    ----------
    tables : Tables
    n : int
        A million people with scenes take seconds; time and memory grow linearly.
    seed : int
    rules : SceneRules, optional
        With them each person also gets a scene and a style.

    Returns
    -------
    DataFrame, shape (n, 11) or (n, 19)
        Categorical columns. Row i is the first draw of person i of any study with this seed.
    """
    items = np.arange(n)
    people = draw_base_personas(tables, items, seed=seed)
    people = people.join(draw_backgrounds(tables, people, items, seed=seed))
    if rules is not None:
        people = people.join(draw_scenes(rules, people, items, seed=seed))
    return people


def shares(people: pd.DataFrame, tables: Tables, attribute: str) -> pd.DataFrame:
    """Compare the realised share of each item with its target.

    Parameters
    ----------
    people : DataFrame
    tables : Tables
    attribute : str
        For stages 1 and 2 the target is the margin of the tables; for scene elements it is their
        weight before persons and rules narrow the choice.

    Returns
    -------
    DataFrame
        Index: items; target, realised, low, high (95 % Wilson interval) in percent, n.
    """
    target = tables.margin(attribute) if attribute in PERSONA else tables.weights[attribute]
    counts = people[attribute].value_counts().reindex(target.index, fill_value=0)
    n = int(counts.sum())
    bounds = [binomtest(int(k), n).proportion_ci(method="wilson") for k in counts]
    return pd.DataFrame(
        {
            "target": 100 * target.to_numpy(),
            "realised": 100 * counts.to_numpy() / n,
            "low": [100 * b.low for b in bounds],
            "high": [100 * b.high for b in bounds],
            "n": n,
        },
        index=pd.Index(target.index, name="item"),
    )


def share_results(
    people: pd.DataFrame, tables: Tables, attributes: Sequence[str], *, what: str
) -> pd.DataFrame:
    """Return `shares` of several attributes as tidy result rows.

    Returns
    -------
    DataFrame
        metric, attribute, item, value (realised), low, high, target (percent), n.
    """
    parts = [
        shares(people, tables, name).reset_index().assign(attribute=name) for name in attributes
    ]
    rows = pd.concat(parts, ignore_index=True).rename(columns={"realised": "value"})
    return rows.assign(metric=what)[
        ["metric", "attribute", "item", "value", "low", "high", "target", "n"]
    ]


def anchors(people: pd.DataFrame, tables: Tables) -> pd.DataFrame:
    """Compare the published probabilities of Table I with the tables and with a draw.

    Parameters
    ----------
    people : DataFrame
    tables : Tables

    Returns
    -------
    DataFrame
        attribute, item, published, table, realised (percent), n.
    """
    rows = []
    for attribute, item, published in PUBLISHED_ANCHORS:
        if item not in tables.items(attribute):
            continue
        rows.append(
            {
                "attribute": attribute,
                "item": item,
                "published": published,
                "table": 100 * tables.margin(attribute)[item],
                "realised": 100 * (people[attribute] == item).mean(),
                "n": len(people),
            }
        )
    return pd.DataFrame(rows)


PUBLISHED_ANCHORS = (
    ("age", "Young Adults", 20.0),
    ("age", "Middle-aged Adults", 25.0),
    ("gender", "Males", 49.0),
    ("gender", "Females", 49.0),
    ("occupation", "Freelancers", 4.8),
    ("occupation", "Civil Servants", 4.0),
    ("mbti", "ISFJ-A", 6.5),
    ("mbti", "ENFP-T", 2.5),
)
"""Table I of the paper: the eight probabilities it prints, in percent."""


def whitelist_violations(people: pd.DataFrame, tables: Tables) -> pd.Series:
    """Return, per person, whether the occupation is not open to the age category."""
    allowed = tables.persona_rules["whitelist"]["occupation_by_age"]
    pairs = {(age, job) for age, jobs in allowed.items() for job in jobs}
    seen = pd.MultiIndex.from_arrays([people["age"].astype(str), people["occupation"].astype(str)])
    return pd.Series(~seen.isin(pairs), index=people.index)
