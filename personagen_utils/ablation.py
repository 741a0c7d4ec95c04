"""Which stage buys what? The same persona-scenes, told to the writer rung by rung (notebook 11).

The lowest rung is the plain prompt, the highest PersonaGen itself; those between leave out the
later stages and keep every other line of the prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from personagen_utils.baselines import TWEETS, plain_requests
from personagen_utils.chat import Request
from personagen_utils.errors import KitError
from personagen_utils.expression import expression_requests
from personagen_utils.tables import BASE, PERSONA, Tables

RUNGS = ("emotion only", "+ base persona", "+ background", "+ scene and style")
_KNOWN = {"+ base persona": BASE, "+ background": PERSONA}


def rung_requests(
    tables: Tables,
    scenes: pd.DataFrame,
    emotions: Sequence[str],
    rung: str,
    *,
    language: str,
    model: str,
    temperature: float,
) -> list[Request]:
    """Ask for one text per persona-scene and emotion, with what one rung knows.

    Parameters
    ----------
    tables : Tables
    scenes : DataFrame
        Accepted persona-scenes of the tweet study.
    emotions : sequence of str
    rung : str
        One of `RUNGS`.
    language, model, temperature
        As for the other methods.

    Returns
    -------
    list of Request, length len(scenes) * len(emotions)
        The k-th text of an emotion on one rung answers to the k-th on every other, also on the
        lowest, which knows no person.
    """
    how = {"language": language, "model": model, "temperature": temperature}
    if rung == RUNGS[0]:
        return plain_requests(len(scenes), emotions, **how)
    if rung == RUNGS[-1]:
        return expression_requests(tables, scenes, emotions, method=TWEETS, **how)
    if rung not in _KNOWN:
        raise KitError(f"The ablation has no rung {rung!r}; its rungs are {', '.join(RUNGS)}.")
    return expression_requests(
        tables, scenes, emotions, prompt="ablation", method=rung, known=_KNOWN[rung], **how
    )
