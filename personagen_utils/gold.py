"""What do the synthetic texts have to be close to? The gold pool as vectors and labels (RQ3).

The texts of the gold corpora may not be passed on, their embeddings may: data/gold holds the
half-precision vectors, labels and row ids of a balanced pool, split once by row id into a
development part (prompts, calibration and selection may look at it) and an evaluation part
(only final tables do). ``python -m personagen_utils.gold [FOLDER]`` makes the files from the
texts; `confirm_vectors` checks them wherever the texts are present.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from personagen_utils.embedding import SHA256, embed
from personagen_utils.errors import KitError
from personagen_utils.gold_corpus import (
    GOLD_VARIABLE,
    GoldCorpus,
    read_gold,
)
from personagen_utils.paths import DATA, resolve, shown

GOLD = DATA / "gold"
CORPORA = ("emotion", "goemotions")
PARTS = ("development", "evaluation")
DEVELOPMENT, EVALUATION = 200, 500  # rows per emotion
HALF_PRECISION = 5e-4  # largest difference that storing components below 1 as float16 explains


def pool_rows(
    gold: GoldCorpus, *, development: int = DEVELOPMENT, evaluation: int = EVALUATION
) -> pd.DataFrame:
    """Draw the balanced pool of a corpus and split it into its two parts.

    Rows are ranked inside their label by a hash of the row id, so the draw needs no seed, does
    not depend on the order of the corpus, and the first k rows of a part are nested in the first
    k + 1.

    Parameters
    ----------
    gold : GoldCorpus
        Cleaned texts with labels.
    development, evaluation : int
        Rows per label in the two parts. When the smallest label has fewer rows than both
        together, both shrink in proportion.

    Returns
    -------
    DataFrame
        The corpus' columns and ``part``, ``rank`` (from 0 within label and part).

    Raises
    ------
    KitError
        When a label is too rare to be split.
    """
    counts = gold.rows["label"].value_counts()
    smallest = int(counts.min())
    if smallest < development + evaluation:
        evaluation = smallest * evaluation // (development + evaluation)
        development = smallest - evaluation
    if min(development, evaluation) < 2:
        raise KitError(
            f"{gold.source}: label {counts.index[-1]!r} has {smallest} usable rows, too few for "
            "two parts. Map it to a richer label or leave it out of the mapping."
        )
    order = gold.rows["row_id"].map(lambda i: hashlib.sha256(f"pool:{i}".encode()).hexdigest())
    rows = gold.rows.assign(order=order).sort_values(["label", "order"], ignore_index=True)
    rank = rows.groupby("label").cumcount()
    rows["part"] = np.where(rank < development, "development", "evaluation")
    rows["rank"] = np.where(rank < development, rank, rank - development)
    return rows[rank < development + evaluation].drop(columns="order").reset_index(drop=True)


def gold_vectors(
    corpus: str | GoldCorpus = "emotion",
    part: str = "evaluation",
    *,
    per_label: int | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the gold pool as unit vectors.

    Parameters
    ----------
    corpus : str or GoldCorpus
        ``"emotion"`` or ``"goemotions"``, shipped with the kit and read without any text, or a
        corpus of the reader's own from `read_gold`, which is embedded here.
    part : str
        ``"development"``, ``"evaluation"`` or ``"all"``.
    per_label : int, optional
        Only the first so many rows of each label; a smaller number is nested in a larger one.

    Returns
    -------
    X : ndarray of float32, shape (n, 384)
        Unit vectors (renormalised after half precision).
    labels : ndarray of str, shape (n,)
    row_ids : ndarray of str, shape (n,)

    Raises
    ------
    KitError
        For an unknown corpus or part, a missing file, or more rows per label than there are.
    """
    if part not in (*PARTS, "all"):
        raise KitError(f"gold part {part!r} is unknown; take development, evaluation or all.")
    if isinstance(corpus, GoldCorpus):
        table = pool_rows(corpus)
        X = None
    else:
        X, table = _shipped(corpus)
    keep = np.array([part in ("all", p) for p in table["part"]])
    if per_label is not None:
        ranks = table[keep].groupby("label").cumcount()
        available = int(table[keep]["label"].value_counts().min())
        if per_label > available:
            raise KitError(
                f"gold {_name(corpus)}: {per_label} rows per label asked, its {part} part has "
                f"{available}. Ask for at most that many."
            )
        keep[np.flatnonzero(keep)[ranks.to_numpy() >= per_label]] = False
    chosen = table[keep]
    X = embed(chosen["text"].tolist()) if X is None else X[keep]
    return X, chosen["label"].to_numpy(str), chosen["row_id"].to_numpy(str)


def gold_texts(
    gold: GoldCorpus,
    part: str = "evaluation",
    *,
    corpus: str = "emotion",
    per_label: int | None = None,
) -> pd.DataFrame:
    """Return the texts behind `gold_vectors`, in the same order, for what needs to read them.

    They are for computing with: nothing that is kept or shown may hold them.

    Parameters
    ----------
    gold : GoldCorpus
        The corpus, from `read_gold` or `read_goemotions`.
    part, per_label
        As in `gold_vectors`.
    corpus : str
        The shipped pool whose rows are meant.

    Returns
    -------
    DataFrame
        ``row_id, text, label``.

    Raises
    ------
    KitError
        When the corpus lacks one of the texts.
    """
    _, labels, row_ids = gold_vectors(corpus, part, per_label=per_label)
    texts = gold.texts(row_ids.tolist())
    return pd.DataFrame({"row_id": row_ids, "text": texts, "label": labels})


def texts_to_test_on(gold: str = "", goemotions: str = "") -> dict[str, pd.DataFrame]:
    """Return the texts that a fine-tuned model is tested on, as far as they are here.

    Parameters
    ----------
    gold : str
        The gold texts as `read_gold` takes them; empty asks the environment.
    goemotions : str
        A CSV with the GoEmotions texts; empty leaves them out.

    Returns
    -------
    dict of str to DataFrame
        ``evaluation`` and, where named, ``elsewhere``: row_id, text, label.

    Raises
    ------
    KitError
        When a corpus is not here.
    """
    found = {"evaluation": gold_texts(read_gold(gold or None), "evaluation")}
    if goemotions:
        outside = read_goemotions(goemotions)
        found["elsewhere"] = gold_texts(outside, "evaluation", corpus="goemotions")
    return found


def gold_counts(corpus: str = "emotion") -> pd.DataFrame:
    """Return how many rows of each label stand in each part of a shipped pool.

    Returns
    -------
    DataFrame
        Labels as rows, parts as columns, counts as values.
    """
    _, table = _shipped(corpus)
    return table.groupby(["label", "part"]).size().unstack(fill_value=0)


def confirm_vectors(
    gold: GoldCorpus, *, corpus: str = "emotion", n: int | None = None
) -> dict[str, float | int | bool]:
    """Embed the texts again and compare them with the shipped vectors.

    Parameters
    ----------
    gold : GoldCorpus
        The texts, from `read_gold`; rows are matched by row id.
    corpus : str
        The shipped pool to confirm.
    n : int, optional
        Compare only so many rows, evenly spread over the pool. Default: all.

    Returns
    -------
    dict
        ``rows`` compared, ``absent`` (rows of the pool whose text the corpus lacks),
        ``labels_differ``, ``max_difference`` (largest absolute difference of a component) and
        ``confirmed`` (no label differs and the difference is within half precision).
    """
    X, table = _shipped(corpus)
    at = np.arange(len(table))
    if n is not None and n < len(at):
        at = np.linspace(0, len(table) - 1, n).astype(int)
    known = gold.rows.drop_duplicates("row_id").set_index("row_id")
    here = at[table["row_id"].iloc[at].isin(known.index).to_numpy()]
    if not len(here):
        raise KitError(f"{gold.source}: none of the {len(at)} shipped {corpus} rows is in it.")
    found = known.loc[table["row_id"].iloc[here]]
    wrong = int((found["label"].to_numpy() != table["label"].iloc[here].to_numpy()).sum())
    difference = float(np.abs(embed(found["text"].tolist()) - X[here]).max())
    return {
        "rows": len(here),
        "absent": len(at) - len(here),
        "labels_differ": wrong,
        "max_difference": difference,
        "confirmed": wrong == 0 and difference <= HALF_PRECISION,
    }


def read_goemotions(source: str | Path | None = None) -> GoldCorpus:
    """Read the GoEmotions rows of the six shared labels (Demszky et al. 2020).

    Parameters
    ----------
    source : str or Path, optional
        A CSV with ``text,label``, or a folder that holds ``goemotions6.csv``. Default: the
        folder in PERSONAGEN_GOLD.

    Raises
    ------
    KitError
        When the file is not there.
    """
    path = resolve(source or os.environ.get(GOLD_VARIABLE) or "data/gold/goemotions6.csv")
    path = path / "goemotions6.csv" if path.is_dir() else path
    if not path.is_file():
        raise KitError(
            f"{shown(path)}: the GoEmotions texts are not here. Name a CSV with text and label of "
            "their single-label rows; the shipped vectors work without it."
        )
    labels = ("joy", "anger", "sadness", "love", "surprise", "fear")
    return read_gold(path, mapping={label: label for label in labels})


def build_gold(source: str | Path | None = None, *, folder: str | Path = GOLD) -> pd.DataFrame:
    """Make the shipped files of data/gold from the texts (a maintainer's command).

    Parameters
    ----------
    source : str or Path, optional
        Folder with the tweet-emotion splits and ``goemotions6.csv``.
    folder : str or Path
        Where the two ``.npz`` files and ``counts.json`` are written.

    Returns
    -------
    DataFrame
        One row per corpus: rows read, dropped by reason, kept per label and part.
    """
    folder = resolve(folder)
    folder.mkdir(parents=True, exist_ok=True)
    counts = {}
    for corpus in CORPORA:
        gold = read_gold(source) if corpus == "emotion" else read_goemotions(source)
        smallest = int(gold.rows["label"].value_counts().min())
        rows = pool_rows(gold, development=min(DEVELOPMENT, smallest - EVALUATION))
        np.savez_compressed(
            folder / f"{corpus}.npz",
            vectors=embed(rows["text"].tolist()).astype(np.float16),
            label=rows["label"].to_numpy("U8"),
            row_id=rows["row_id"].to_numpy("U16"),
            part=rows["part"].to_numpy("U11"),
        )
        counts[corpus] = gold.dropped | {
            "usable": gold.rows["label"].value_counts().to_dict(),
            "kept_per_label": rows[rows["label"] == "joy"]["part"].value_counts().to_dict(),
            "verified": gold.verified,
            "model_sha256": SHA256,
        }
    text = json.dumps(counts, indent=2, sort_keys=True) + "\n"
    (folder / "counts.json").write_text(text, encoding="utf-8")
    return pd.DataFrame(counts).T


def _shipped(corpus: str) -> tuple[np.ndarray, pd.DataFrame]:
    if corpus not in CORPORA:
        raise KitError(
            f"gold corpus {corpus!r} is not shipped; take {' or '.join(CORPORA)}, or read your own "
            "with read_gold(file, mapping=...)."
        )
    path = GOLD / f"{corpus}.npz"
    if not path.is_file():
        raise KitError(f"{shown(path)} is missing; make it with python -m personagen_utils.gold.")
    with np.load(path, allow_pickle=False) as stored:
        X = stored["vectors"].astype(np.float32)
        table = pd.DataFrame({name: stored[name] for name in ("row_id", "label", "part")})
    return X / np.linalg.norm(X, axis=1, keepdims=True), table


def _name(corpus: str | GoldCorpus) -> str:
    return corpus if isinstance(corpus, str) else corpus.source


if __name__ == "__main__":
    print(build_gold(sys.argv[1] if len(sys.argv) > 1 else None).to_string())
