"""Expensive fits are computed once: results kept on disk by function, code and arguments."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from personagen_utils.paths import resolve

FOLDER = "data/runs/cache"
F = TypeVar("F", bound=Callable[..., Any])


def cached(function: F) -> F:
    """Keep what `function` returns under data/runs/cache (joblib.Memory).

    A call with the same arguments, arrays compared by content, is answered from disk; a change in
    the function's own code or in an argument computes it anew. Deleting the folder is safe.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        import joblib  # the folder is made at the first call, not at import

        return joblib.Memory(resolve(FOLDER), verbose=0).cache(function)(*args, **kwargs)

    return call  # type: ignore[return-value]
