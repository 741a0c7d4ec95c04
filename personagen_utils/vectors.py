"""Where are the vectors kept? One SQLite file, rows by key, safe with several processes."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from personagen_utils.errors import KitError
from personagen_utils.files import open_sqlite
from personagen_utils.paths import resolve, shown

KEYS_PER_SELECT = 500


@contextlib.contextmanager
def open_vectors(path: str | Path | None) -> Iterator[sqlite3.Connection]:
    """Open the cache at `path`, or one in memory for None; a KitError names a damaged file."""
    file = ":memory:" if path is None else resolve(path)
    store = None
    try:
        if path is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
        store = open_sqlite(file, isolation_level=None)
        store.execute("CREATE TABLE IF NOT EXISTS vector (key BLOB PRIMARY KEY, value BLOB)")
        yield store
    except (sqlite3.DatabaseError, OSError) as error:
        where = "memory" if path is None else shown(path)
        raise KitError(
            f"{where}: the embedding cache cannot be used ({error}); delete it, it fills again."
        ) from None
    finally:
        if store is not None:
            store.close()


def lookup(store: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, np.ndarray]:
    """Return the vectors that are known, float32 of shape (d,), by key."""
    found = {}
    for start in range(0, len(keys), KEYS_PER_SELECT):
        part = keys[start : start + KEYS_PER_SELECT]
        query = f"SELECT key, value FROM vector WHERE key IN ({','.join('?' * len(part))})"
        for key, value in store.execute(query, part):
            found[key] = np.frombuffer(value, dtype="<f4")
    return found


def keep(store: sqlite3.Connection, keys: list[bytes], vectors: np.ndarray) -> None:
    """Write the vectors of new keys in one transaction; keys that are there already stay."""
    rows = [(k, v.astype("<f4").tobytes()) for k, v in zip(keys, vectors, strict=True)]
    store.execute("BEGIN IMMEDIATE")
    store.executemany("INSERT OR IGNORE INTO vector VALUES (?, ?)", rows)
    store.execute("COMMIT")
