"""Stage 1: who is speaking? Age, gender, occupation and MBTI (paper, Section III.B, Table I)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from personagen_utils.sampling import decode, draw_attributes, uniforms
from personagen_utils.tables import BASE, Tables, age_ranges

STAGE = 1


def draw_base_personas(
    tables: Tables, items: np.ndarray, *, seed: int, restart: int = 0, redraw: int = 0
) -> pd.DataFrame:
    """Draw x = (a*, g*, j*, m*), each from its categorical distribution (eq. 1).

    The whitelist (no elementary school pupil who is a lawyer) is part of the conditional table of
    occupations, so no draw breaks it.

    Parameters
    ----------
    tables : Tables
    items : ndarray of int, shape (n,)
        The people's numbers in the study; person i gets the same draw in a study of any size.
    seed : int
    restart, redraw : int
        How often these people started again, and how often this stage was drawn since.

    Returns
    -------
    DataFrame
        Columns age, gender, occupation, mbti; one row per item, in their order.

    Examples
    --------
    >>> from personagen_utils.tables import load_tables
    >>> draw_base_personas(load_tables("jp"), np.arange(3), seed=1).shape
    (3, 4)
    """
    u = uniforms(seed, (STAGE, restart, redraw), items, len(BASE))
    return decode(tables, draw_attributes(tables, BASE, {}, u))


def age_years(tables: Tables, age: str, occupation: str) -> str:
    """Return the years an age category spans, from the youngest age the occupation allows."""
    first, last = age_ranges(tables)
    k = tables.items("age").index(age)
    youngest = tables.persona_rules.get("min_age", {}).get(occupation, 0)
    start = max(int(first[k]), youngest)
    return f"{start if start <= last[k] else first[k]}-{last[k]}"
