"""No text of a gold corpus in anything that is tracked: code, outputs, reports, recordings."""

import gzip
import io
import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from personagen_utils.gold import read_goemotions
from personagen_utils.gold_corpus import read_gold
from personagen_utils.paths import ROOT

FOLDER = Path(os.environ.get("PERSONAGEN_GOLD") or ROOT.parent / "shared" / "gold")
SHORTEST = 6  # words: anybody may write a shorter text
GRAM = 5
BINARY = {".png", ".jpg", ".jpeg", ".ico", ".woff2", ".pdf"}


def words(text):
    """Return the words of a text as they stand in plain text, JSON and HTML alike."""
    text = re.sub(r"\\+u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), text)
    text = re.sub(r"\\+[nrt]|&[a-z]+;|&#\d+;", " ", text).replace("’", "").replace("'", "")
    return re.findall(r"[^\W_]+", text.lower())


def index(texts):
    """Return first five words -> the full word lists that begin so."""
    starts = {}
    for text in texts:
        found = tuple(words(text))
        if len(found) >= SHORTEST:
            starts.setdefault(found[:GRAM], set()).add(found)
    return starts


def hits(content, starts):
    """Yield every indexed text that stands in the content."""
    found = words(content)
    for at, gram in enumerate(zip(*(found[k:] for k in range(GRAM)), strict=False)):
        for text in starts.get(gram, ()):
            if tuple(found[at : at + len(text)]) == text:
                yield " ".join(text)


def content(name, raw):
    """Return what a file says as text, unpacked."""
    if name.endswith(".gz"):
        return content(name[:-3], gzip.decompress(raw))
    suffix = Path(name).suffix
    if suffix in BINARY:
        return ""
    if suffix == ".npz":
        with np.load(io.BytesIO(raw), allow_pickle=False) as stored:
            return "\n".join(
                " . ".join(stored[k].ravel()) for k in stored if stored[k].dtype.kind == "U"
            )
    if suffix == ".parquet":
        table = pd.read_parquet(io.BytesIO(raw))
        return "\n".join(str(v) for column in table for v in table[column] if isinstance(v, str))
    return raw.decode("utf-8", errors="ignore")


@pytest.fixture(scope="module")
def gold_index():
    if not (FOLDER / "emotion20k_train.csv").is_file():
        pytest.skip("the gold texts are not here (set PERSONAGEN_GOLD to their folder)")
    return index([*read_gold(FOLDER).rows["text"], *read_goemotions(FOLDER).rows["text"]])


def test_no_gold_text_is_tracked(gold_index):
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode:
        pytest.skip("this is no git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file():
            texts = set(hits(content(name, path.read_bytes()), gold_index))
            found += [f"{name}: {len(text.split())} words" for text in texts]
    assert not found, found[:20]  # places, not texts: this message is public too


@pytest.mark.parametrize("form", ["plain.md", "out.ipynb", "r.jsonl.gz", "s.parquet", "v.npz"])
def test_the_scan_finds_a_planted_text(form, tmp_path):
    text = "This isn't, in truth, a text\nof anybody’s corpus at all"
    starts = index([text])
    path = tmp_path / form
    if form == "plain.md":
        path.write_text(f"# Head\nbefore {text.upper()} after")
    elif form == "out.ipynb":
        path.write_text(json.dumps({"cells": [{"outputs": [{"text": [f"0  {text} joy"]}]}]}))
    elif form == "r.jsonl.gz":
        path.write_bytes(gzip.compress(json.dumps({"content": json.dumps([text])}).encode()))
    elif form == "s.parquet":
        pd.DataFrame({"n": [1], "text": [text]}).to_parquet(path)
    else:
        np.savez_compressed(path, a=np.array([text]), b=np.arange(3))
    assert list(hits(content(form, path.read_bytes()), starts))
    assert not list(hits("This isn't in truth a text of mine", starts))
