"""How categories are drawn: eq. (1) of the paper, seeded, prefix-stable and vectorised.

Person i of a study depends on the seed and on i alone: each stage, restart and redraw has its own
counter-based stream (Philox, Salmon et al. 2011), and person i reads row i of it. A study of 500
therefore begins with the 60 people of a study of 60.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from personagen_utils.tables import Table, Tables

_LANES = 4  # Philox4x64 gives four numbers per counter step


def uniforms(seed: int, stream: tuple[int, ...], items: np.ndarray, width: int) -> np.ndarray:
    """Return the uniform numbers of some people in one stream.

    Parameters
    ----------
    seed : int
        Seed of the study.
    stream : tuple of int
        What the numbers are for, for example (stage, restart, redraw).
    items : ndarray of int, shape (n,)
        The people, by their number in the study.
    width : int
        How many numbers each person gets.

    Returns
    -------
    ndarray, shape (n, width)
        Row k belongs to ``items[k]`` and does not depend on the other items.
    """
    items = np.asarray(items, dtype=np.int64)
    if not len(items):
        return np.empty((0, width))
    steps = -(-width // _LANES)
    sequence = np.random.SeedSequence([seed, *stream])
    first, last = int(items.min()), int(items.max())
    if last - first < 4 * len(items) + 64:
        block = _block(sequence, first, last - first + 1, steps)
        return block[items - first, :width]
    return np.stack([_block(sequence, int(item), 1, steps)[0, :width] for item in items])


def number(emotion: str) -> int:
    """Return a number that stands for an emotion in the streams of random draws."""
    return int.from_bytes(emotion.encode()[:6])


def _block(sequence: np.random.SeedSequence, first: int, rows: int, steps: int) -> np.ndarray:
    bits = np.random.Philox(sequence)
    if first:
        bits.advance(first * steps)
    return np.random.Generator(bits).random((rows, steps * _LANES))


def draw_codes(table: Table, parents: Mapping[str, np.ndarray], u: np.ndarray) -> np.ndarray:
    """Draw one attribute for many people at once: a* ~ Categorical(P(A | parents)), eq. (1).

    Parameters
    ----------
    table : Table
    parents : mapping of str to ndarray of int, shape (n,)
        Codes of the attributes already drawn.
    u : ndarray, shape (n,)
        Uniform numbers.

    Returns
    -------
    ndarray of int16, shape (n,)
        Position of the drawn item in ``table.items``.
    """
    if table.parents:
        shape = table.probabilities.shape[:-1]
        row = np.ravel_multi_index([parents[name] for name in table.parents], shape)
    else:
        row = np.zeros(len(u), dtype=np.int64)
    found = np.searchsorted(table.cumulative, row + u, side="right") - row * len(table.items)
    return np.minimum(found, table.last_possible[row]).astype(np.int16)


def draw_attributes(
    tables: Tables, attributes: tuple[str, ...], known: Mapping[str, np.ndarray], u: np.ndarray
) -> dict[str, np.ndarray]:
    """Draw several attributes one after the other, each given those before it.

    Parameters
    ----------
    tables : Tables
    attributes : tuple of str
        In drawing order.
    known : mapping of str to ndarray
        Codes of attributes drawn earlier.
    u : ndarray, shape (n, >= n_attributes)

    Returns
    -------
    dict of str to ndarray of int16, shape (n,)
    """
    codes = dict(known)
    for k, attribute in enumerate(attributes):
        codes[attribute] = draw_codes(tables.tables[attribute], codes, u[:, k])
    return {attribute: codes[attribute] for attribute in attributes}


def encode(tables: Tables, people: pd.DataFrame, attributes: tuple[str, ...]) -> dict:
    """Return the codes of attributes that stand in a frame as text or categories."""
    return {
        name: pd.Categorical(people[name], categories=tables.items(name)).codes.astype(np.int64)
        for name in attributes
    }


def decode(tables: Tables, codes: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return codes as a frame of categorical columns."""
    return pd.DataFrame(
        {
            name: pd.Categorical.from_codes(values, categories=list(tables.items(name)))
            for name, values in codes.items()
        }
    )
