"""How does the kit write files that a crash, a full disk or a second process cannot spoil?"""

import contextlib
import errno
import json
import math
import os
import re
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock

from personagen_utils.errors import KitError
from personagen_utils.paths import ROOT, shown

BUSY_SECONDS = 60.0  # how long to wait for another process that is writing to the same file
_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD", re.IGNORECASE)


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` so that `path` holds either its old content or all of the new.

    Parameters
    ----------
    path : Path
        The file; its folder is made if need be.
    data : bytes

    Raises
    ------
    KitError
        If the disk is full or the folder cannot be written; the old file is untouched.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        if not isinstance(error, OSError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason = f"the disk is full ({len(data) / 1e6:.1f} MB needed); free some space"
        else:
            reason = f"{error.strerror}; check the folder and its permissions"
        raise KitError(
            f"{shown(path)} was not written: {reason} and run again. What was there is untouched."
        ) from error


def lock(folder: Path) -> FileLock:
    """Return a lock on a run folder, for `with`: one process at a time changes its manifest."""
    return FileLock(folder / ".lock", timeout=60)


def plain(value: Any) -> Any:
    """Return `value` as JSON would give it back: no NumPy numbers, NaN, secrets or kit paths.

    Parameters
    ----------
    value : Any
        Nested mappings, sequences, numbers, strings and None.

    Returns
    -------
    Any
        Built from dict, list, str, int, float, bool and None alone.

    Raises
    ------
    TypeError
        If something in `value` has no JSON form.

    Examples
    --------
    >>> plain({"n": (1, 2), "mean": float("nan")})
    {'n': [1, 2], 'mean': None}
    """

    def fallback(item: Any) -> Any:
        if isinstance(item, Path):
            return shown(item)
        if hasattr(item, "tolist"):
            return item.tolist()
        raise TypeError(f"{type(item).__name__} {item!r} cannot be written as JSON")

    def walk(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: walk(part) for key, part in item.items()}
        if isinstance(item, list):
            return [walk(part) for part in item]
        if isinstance(item, float) and not math.isfinite(item):
            return None
        return redact(item).replace(f"{ROOT}{os.sep}", "") if isinstance(item, str) else item

    keyed = dict(value) if hasattr(value, "keys") else value
    return walk(json.loads(json.dumps(keyed, default=fallback)))


def redact(text: str) -> str:
    """Return `text` without the values of environment variables that hold keys or tokens."""
    for secret in secrets():
        text = text.replace(secret, "(secret removed)")
    return text


def secrets() -> Iterator[str]:
    """Yield the values of environment variables named like a key, token, secret or password."""
    for name, value in os.environ.items():
        if _SECRET_NAME.search(name) and len(value) >= 8:
            yield value


def open_sqlite(path: str | Path, **options: Any) -> sqlite3.Connection:
    """Open a SQLite file that several processes may use, and open at once while it is new.

    Parameters
    ----------
    path : str or Path
        The file, or ``":memory:"``.
    **options
        Of `sqlite3.connect`.

    Returns
    -------
    Connection
        With write-ahead logging, so that readers never wait for a writer.

    Raises
    ------
    sqlite3.Error
        When the file is no database, or stays locked for a minute.
    """
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, **options)
    deadline = time.monotonic() + BUSY_SECONDS
    try:
        while True:
            try:
                db.execute("PRAGMA journal_mode=WAL")
                break
            except sqlite3.OperationalError as error:  # this pragma does not wait by itself
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        db.execute("PRAGMA synchronous=NORMAL")
    except sqlite3.Error:
        db.close()
        raise
    return db
