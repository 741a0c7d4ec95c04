"""The one exception a user of the kit is meant to read."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class KitError(Exception):
    """A mistake in the input or the surroundings, said in one line with the way out."""

    def _render_traceback_(self) -> list[str]:
        # IPython calls this instead of printing the stack: one line is what helps here.
        return [f"{type(self).__name__}: {self}"]


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """Return ``" (did you mean X?)"``, or nothing when no known word is close.

    >>> did_you_mean("seeds", ["SEED", "TABLES"])
    ' (did you mean SEED?)'
    """
    upper = {name.upper(): name for name in known}
    close = difflib.get_close_matches(str(word).upper(), upper, n=1, cutoff=0.5)
    return f" (did you mean {upper[close[0]]}?)" if close else ""
