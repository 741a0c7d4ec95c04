"""Stage 2: where does the person come from? Seven attributes (paper, Section III.C, Table II)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from personagen_utils.sampling import decode, draw_attributes, encode, uniforms
from personagen_utils.tables import BACKGROUND, BASE, Tables

STAGE = 2


def draw_backgrounds(
    tables: Tables,
    people: pd.DataFrame,
    items: np.ndarray,
    *,
    seed: int,
    restart: int = 0,
    redraw: int = 0,
) -> pd.DataFrame:
    """Draw b = (e*, p*, l*, f*, r*, v*, y*) given the base persona.

    Education depends on age and occupation, place on the prefecture or state, family and religion
    on age, values on age, education and place, income on student status, occupation or age.

    Parameters
    ----------
    tables : Tables
    people : DataFrame
        The base personas, one row per item.
    items : ndarray of int, shape (n,)
    seed, restart, redraw : int
        As in stage 1.

    Returns
    -------
    DataFrame
        The seven columns of Table II, one row per item.
    """
    u = uniforms(seed, (STAGE, restart, redraw), items, len(BACKGROUND))
    known = encode(tables, people, BASE)
    return decode(tables, draw_attributes(tables, BACKGROUND, known, u))
