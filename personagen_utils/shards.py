"""How is a corpus made that is larger than memory? In shards, each written when it is complete.

Requests are rendered, asked and embedded a few thousand at a time, so memory stays where it is
whatever the size of the corpus. ``texts-00000.parquet``, ... and ``vectors-00000.npy``, ... lie in
one folder; a shard that is there and holds the same requests is never made again.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from personagen_utils.embedding import embed
from personagen_utils.errors import KitError
from personagen_utils.expression import express, expression_requests
from personagen_utils.files import write_atomic
from personagen_utils.llm import Client, Request
from personagen_utils.paths import resolve, shown
from personagen_utils.tables import Tables

SIZE = 5_000  # requests to a shard: about 30 MB of prompts at a time
SCENES = 500  # persona-scenes whose requests are rendered at a time
_KEY = b"requests"


def corpus_requests(
    tables: Tables, scenes: pd.DataFrame, emotions: Sequence[str], **options: Any
) -> Iterator[Request]:
    """Render the requests of a corpus one after the other, as they are asked for.

    Parameters
    ----------
    tables, scenes, emotions, options
        As in `expression_requests`; the design is crossed.

    Yields
    ------
    Request
        The same ones, in the same order, that `expression_requests` returns all at once.
    """
    seen: dict[bytes, int] = {}  # how often each prompt came before
    for start in range(0, len(scenes), SCENES):
        part = scenes.iloc[start : start + SCENES]
        for request in expression_requests(tables, part, emotions, **options):
            prompt = hashlib.sha256(request.messages[-1]["content"].encode()).digest()[:16]
            sample = seen[prompt] = seen.get(prompt, -1) + 1
            yield request if sample == request.sample else replace(request, sample=sample)


async def write_corpus(
    client: Client, requests: Iterable[Request], folder: str | Path, *, size: int = SIZE
) -> int:
    """Have the texts of a corpus written, shard by shard.

    Parameters
    ----------
    client : Client
    requests : iterable of Request
        Best lazy, as `corpus_requests` makes them.
    folder : str or Path
        Where the shards go; call it again to go on after an interruption.
    size : int
        Requests to a shard.

    Returns
    -------
    int
        How many texts the corpus has.

    Raises
    ------
    KitError
        What `Client.ask` raises; finished shards stay.
    """
    folder, waiting, total, number = resolve(folder), iter(requests), 0, 0
    while part := list(islice(waiting, size)):
        path = folder / f"texts-{number:05}.parquet"
        made_of = hashlib.sha256("".join(request.key for request in part).encode()).hexdigest()
        if not path.exists() or (pq.read_schema(path).metadata or {}).get(_KEY) != made_of.encode():
            table = pa.Table.from_pandas(await express(client, part), preserve_index=False)
            metadata = {**(table.schema.metadata or {}), _KEY: made_of.encode()}
            sink = pa.BufferOutputStream()
            pq.write_table(table.replace_schema_metadata(metadata), sink, compression="zstd")
            write_atomic(path, sink.getvalue().to_pybytes())
            (folder / f"vectors-{number:05}.npy").unlink(missing_ok=True)
        total += pq.read_metadata(path).num_rows
        number += 1
    for stale in (path for path in _shards(folder) if int(path.stem[-5:]) >= number):
        stale.unlink()  # of an earlier, larger corpus
        _vectors(stale).unlink(missing_ok=True)
    return total


def embed_corpus(folder: str | Path, **options: Any) -> None:
    """Embed the texts of every shard that has no vectors yet.

    Parameters
    ----------
    folder : str or Path
        As in `write_corpus`.
    options
        For `embed`; nothing goes into its cache, the vectors lie beside the texts.
    """
    for path in _shards(resolve(folder)):
        if not _vectors(path).exists():
            texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
            buffer = io.BytesIO()
            np.save(buffer, embed(texts, **({"cache": None} | options)))
            write_atomic(_vectors(path), buffer.getvalue())


def read_corpus(
    folder: str | Path, *, columns: Sequence[str] = ("text", "emotion", "item")
) -> pd.DataFrame:
    """Read some columns of the texts of all shards, in order.

    Returns
    -------
    DataFrame
    """
    shards = _shards(resolve(folder))
    if not shards:
        raise KitError(f"{shown(folder)} holds no corpus (texts-00000.parquet): write_corpus it.")
    return pd.concat([pd.read_parquet(p, columns=list(columns)) for p in shards], ignore_index=True)


def read_vectors(folder: str | Path) -> np.ndarray:
    """Read the vectors of all shards as one array.

    Returns
    -------
    ndarray of float32, shape (n, d)
        Row i belongs to text i of `read_corpus`; 100,000 texts take 154 MB.
    """
    files = [_vectors(path) for path in _shards(resolve(folder))]
    if missing := [file.name for file in files if not file.exists()]:
        raise KitError(f"{shown(folder)}: {missing[0]} is missing; call embed_corpus.")
    parts = [np.load(file, mmap_mode="r") for file in files]
    out = np.empty((sum(map(len, parts)), parts[0].shape[1]), dtype=np.float32)
    start = 0
    for part in parts:
        out[start : start + len(part)] = part
        start += len(part)
    return out


def _shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("texts-[0-9]*.parquet"))


def _vectors(path: Path) -> Path:
    return path.with_name(f"vectors-{path.stem[-5:]}.npy")
