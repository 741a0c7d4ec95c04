"""Which shade of an emotion does the person feel? Stage 4, refined for the tweets (notebook 08).

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

from personagen_utils.errors import KitError
from personagen_utils.paths import shown
from personagen_utils.prompts import PROMPTS
from personagen_utils.sampling import number, uniforms
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
        Columns emotion, shade and from_age: the age in years under which nobody is given it.

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
    items: np.ndarray, emotion: str, *, seed: int, ages: int | np.ndarray = 0
) -> list[str]:
    """Draw the shade in which each text speaks of an emotion, each shade equally likely.

    Parameters
    ----------
    items : ndarray of int, shape (n,)
        Numbers of the persona-scenes or texts; an item's shade does not depend on the others.
    emotion : str
    seed : int
    ages : int or ndarray of int, shape (n,)
        The youngest that each person may be, in years; nobody is given a shade from a higher age.
        0 where nothing is known of the person.

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
    u = uniforms(seed, (_STREAM, number(emotion), 0), np.asarray(items), 1)[:, 0]
    names = [_names(emotion, int(age)) for age in np.broadcast_to(ages, len(u))]
    return [some[int(chance * len(some))] for chance, some in zip(u, names, strict=True)]


@cache
def _names(emotion: str, age: int) -> list[str]:
    """Return the shades of an emotion that somebody of this age may be given."""
    table = load_shades()
    fits = (table["emotion"] == emotion) & (table["from_age"] <= age)
    return table.loc[fits, "shade"].tolist() or [""]


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
    items, ages = scenes["item"].to_numpy(int), scenes["age"].map(youngest).to_numpy(int)
    drawn = {
        emotion: dict(zip(items, draw_shades(items, emotion, seed=seed, ages=ages), strict=True))
        for emotion in emotions
    }
    return lambda item, emotion: drawn[emotion][item]
