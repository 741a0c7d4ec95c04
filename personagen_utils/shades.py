"""Which shade of an emotion does the person feel? Stage 4, refined (notebook 12).

Told an emotion alone, a writer falls back on its few commonest words: happy, sad, scared. People
name many shades of each. Shaver et al. sorted 135 English names of emotions under six basic ones;
for each text one of them is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from personagen_utils.baselines import number
from personagen_utils.errors import KitError
from personagen_utils.paths import shown
from personagen_utils.prompts import PROMPTS
from personagen_utils.sampling import uniforms
from personagen_utils.tables import Tables, age_ranges

COLUMNS = ["emotion", "shade", "from_age"]
_STREAM = 43


@cache
def load_shades(*, folder: Path = PROMPTS) -> pd.DataFrame:
    """Return the shades of each emotion that has any.

    Parameters
    ----------
    folder : Path
        Where shades.csv lies.

    Returns
    -------
    DataFrame
        Columns emotion, shade and from_age (years): people who may be under 18 are given no shade
        that is marked 18 or above; lower ages make no difference.

    Raises
    ------
    KitError
        When the file is missing, has other columns, an empty field or no number as age, or names
        a shade twice for one emotion.

    Notes
    -----
    Shaver, P., Schwartz, J., Kirson, D. & O'Connor, C. (1987). Emotion Knowledge: Further
    Exploration of a Prototype Approach. Journal of Personality and Social Psychology 52(6). The
    ages are this kit's: sexual shades are for adults.
    """
    path = folder / "shades.csv"
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise KitError(f"{shown(path)} cannot be read ({error}).") from None
    if list(table.columns) != COLUMNS or (table == "").any(axis=None):
        raise KitError(f"{shown(path)} must have the columns {', '.join(COLUMNS)}, none empty.")
    if len(wrong := table[~table["from_age"].str.fullmatch(r"\d+")]):
        raise KitError(f"{shown(path)}, {wrong['shade'].iloc[0]}: from_age is no number of years.")
    if len(twice := table[table.duplicated(["emotion", "shade"])]):
        emotion, shade = twice.iloc[0][["emotion", "shade"]]
        raise KitError(f"{shown(path)} names {shade!r} twice for {emotion}: leave one line.")
    return table.astype({"from_age": int})


def draw_shades(
    items: np.ndarray, emotion: str, *, seed: int, minors: Collection[int] = ()
) -> list[str]:
    """Draw the shade in which each persona-scene feels an emotion, each shade equally likely.

    Parameters
    ----------
    items : ndarray of int, shape (n,)
        Numbers of the persona-scenes; an item's shade does not depend on the others.
    emotion : str
    seed : int
    minors : collection of int
        Items of people who may be under 18.

    Returns
    -------
    list of str, length n
        Empty strings for an emotion without shades.

    Examples
    --------
    >>> draw_shades(np.arange(9), "joy", seed=1)[:3] == draw_shades(np.arange(3), "joy", seed=1)
    True
    >>> draw_shades(np.arange(1), "neutral", seed=1)
    ['']
    """
    table = load_shades()
    table = table[table["emotion"] == emotion]
    every = table["shade"].tolist() or [""]
    young = table.loc[table["from_age"] < 18, "shade"].tolist() or [""]
    u = uniforms(seed, (_STREAM, number(emotion), 0), np.asarray(items), 1)[:, 0]
    return [
        names[int(chance * len(names))]
        for chance, names in zip(u, (young if i in minors else every for i in items), strict=True)
    ]


def shade_of(
    tables: Tables, scenes: pd.DataFrame, emotions: Collection[str], *, seed: int
) -> Callable[[int, str], str]:
    """Draw the shades of all texts of a study and return them as a function of item and emotion.

    Parameters
    ----------
    tables : Tables
        Says how old the people of an age category may be.
    scenes : DataFrame
        Persona-scenes with item and age.
    emotions : collection of str
    seed : int

    Returns
    -------
    callable
        From item and emotion to a shade.
    """
    youngest = dict(zip(tables.items("age"), age_ranges(tables)[0], strict=True))
    items = scenes["item"].to_numpy(int)
    minors = frozenset(items[scenes["age"].map(youngest).to_numpy(int) < 18].tolist())
    drawn = {
        emotion: dict(
            zip(items, draw_shades(items, emotion, seed=seed, minors=minors), strict=True)
        )
        for emotion in emotions
    }
    return lambda item, emotion: drawn[emotion][item]
