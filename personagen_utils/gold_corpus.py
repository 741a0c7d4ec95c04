"""Where do the people's texts come from, and are they the right ones?

Reads the English tweet-emotion corpus of Saravia et al. (2018, "CARER") in each form in which
it is public, a copy of the GoEmotions rows, or a reader's own labelled file. Nothing is
downloaded unless the hub is named, and a missing corpus is an error, never another corpus.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.paths import resolve, shown

GOLD_VARIABLE = "PERSONAGEN_GOLD"
HUB_NAME = "dair-ai/emotion"
GOLD_LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")  # code 0..5 on Kaggle
SPLITS = ("train", "val", "test")
OFFICIAL_SHA256 = {  # of the three `text;label` files as their authors published them
    "train": "3ab03d945a6cb783d818ccd06dafd52d2ed8b4f62f0f85a09d7d11870865b190",
    "val": "34faaa31962fe63cdf5dbf6c132ef8ab166c640254ab991af78f3aea375e79ef",
    "test": "60f531690d20127339e7f054edc299a82c627b5ec0dd5d552d53d544e0cfcc17",
}
WAYS = (
    f"name a file or folder, or '{HUB_NAME}', by parameter or in the environment variable "
    f"{GOLD_VARIABLE}"
)


@dataclass(frozen=True)
class GoldCorpus:
    """A cleaned corpus of people's texts.

    Attributes
    ----------
    rows : DataFrame
        ``row_id`` (16 hex digits of the text's SHA-256, so the same text has the same id in
        every form of the corpus), ``text``, ``label``; one row per distinct text.
    dropped : dict
        ``read`` (rows in the source), ``duplicates`` (repeats of a text under one label),
        ``conflicts`` (rows whose text carries two labels), ``unmapped`` (rows whose label the
        mapping leaves out) and ``empty``.
    source : str
        What was read, as a reader may print it.
    verified : bool or None
        True when the rebuilt splits have the official SHA-256, None where the form has none.
    """

    rows: pd.DataFrame
    dropped: dict[str, int] = field(default_factory=dict)
    source: str = ""
    verified: bool | None = None

    def texts(self, row_ids: list[str]) -> list[str]:
        """Return the texts of `row_ids`, in that order.

        Raises
        ------
        KitError
            When the corpus does not hold one of them.
        """
        by_id = self.rows.set_index("row_id")["text"]
        missing = [i for i in row_ids if i not in by_id.index]
        if missing:
            raise KitError(
                f"{self.source}: {len(missing)} of {len(row_ids)} gold texts are not in it (first "
                f"row id {missing[0]}). Point {GOLD_VARIABLE} at the complete corpus."
            )
        return by_id.loc[list(row_ids)].tolist()


def row_id(text: str) -> str:
    """Return the stable id of a text: 16 hex digits of the SHA-256 of its words."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:16]


def read_gold(
    source: str | Path | None = None,
    *,
    mapping: Mapping[str, str] | None = None,
    text_column: str = "text",
    label_column: str = "label",
    targets: tuple[str, ...] | None = None,
) -> GoldCorpus:
    """Read a gold corpus from wherever it is.

    Parameters
    ----------
    source : str or Path, optional
        ``"dair-ai/emotion"`` (the hub), the Kaggle ``emotions.csv``, a folder with
        ``train.txt``, ``val.txt``, ``test.txt`` of ``text;label`` lines, or CSV files with a
        text and a label column. Default: the environment variable PERSONAGEN_GOLD.
    mapping : mapping of str to str, optional
        For an own corpus: its label -> the label of the synthetic texts. Rows with other labels
        are left out and counted. Without it the source must be the tweet-emotion corpus.
    text_column, label_column : str
        Names of the two columns of a CSV.
    targets : tuple of str, optional
        The synthetic labels; a mapping to anything else is refused.

    Returns
    -------
    GoldCorpus

    Raises
    ------
    KitError
        When there is no source, it cannot be read, its labels are unknown, or a split does not
        have its official checksum.
    """
    source = source or os.environ.get(GOLD_VARIABLE)
    if not source:
        raise KitError(f"The gold texts are not here: {WAYS}.")
    path = resolve(source)
    if path.exists():
        frames, name = _read_path(path, text_column, label_column), shown(path)
    elif str(source) == HUB_NAME:
        frames, name = _read_hub(), f"hub:{HUB_NAME}"
    else:
        raise KitError(f"{source}: no such gold corpus; {WAYS}.")
    rows = pd.concat(frames.values(), ignore_index=True)
    rows["text"] = [" ".join(str(t).split()) for t in rows["text"]]
    rows["label"] = [str(v).strip() for v in rows["label"]]
    if mapping is None:
        verified = _verify(frames, name)
        if targets is not None and rows["label"].str.fullmatch(r"\d+").all():
            raise KitError(
                f"{name}: its labels are numbers; say in GOLD_MAPPING which emotion each stands "
                "for, for example {'0': joy, '1': anger}."
            )
        rows["label"] = _named(rows["label"], name)
    else:
        verified = None
        _check_mapping(mapping, set(rows["label"]), targets, name)
        rows["label"] = rows["label"].map(dict(mapping))
    return _clean(rows, name, verified)


def own_gold(source: str, mapping: Mapping[str, str], targets: Sequence[str]) -> GoldCorpus | None:
    """Read the corpus that the parameters GOLD_CSV and GOLD_MAPPING name, None without any.

    Parameters
    ----------
    source : str
        A CSV with the columns text and label; empty for the shipped corpus.
    mapping : mapping of str to str
        Its labels and the emotion each stands for; empty if they agree.
    targets : sequence of str
        The emotions of the synthetic texts.

    Raises
    ------
    KitError
        As `read_gold`, and for a mapping without a corpus.
    """
    if source:
        return read_gold(source, mapping=mapping or None, targets=tuple(targets))
    if mapping:
        raise KitError("GOLD_MAPPING maps the labels of GOLD_CSV, which names no file.")
    return None


def _read_path(path: Path, text: str, label: str) -> dict[str, pd.DataFrame]:
    if path.is_file():
        return {path.stem: _read_file(path, text, label)}
    for suffix in (".txt", ".csv"):
        files = sorted(p for p in path.iterdir() if p.suffix == suffix)
        named = {s: [p for p in files if p.stem == s or p.stem.endswith(f"_{s}")] for s in SPLITS}
        if all(len(found) == 1 for found in named.values()):
            return {s: _read_file(found[0], text, label) for s, found in named.items()}
    files = sorted(p for p in path.iterdir() if p.suffix == ".csv")
    if len(files) != 1:
        raise KitError(
            f"{shown(path)}: holds neither train, val and test (.txt or .csv) nor one single CSV "
            f"but {len(files)} CSV files. Name the file itself."
        )
    return {files[0].stem: _read_file(files[0], text, label)}


def _read_file(path: Path, text: str, label: str) -> pd.DataFrame:
    if path.suffix == ".txt":
        lines = path.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, 1):
            if line and ";" not in line:
                raise KitError(
                    f"{shown(path)}, line {number}: expected `text;label`, found no ';'."
                )
        pairs = [line.rsplit(";", 1) for line in lines if line]
        return pd.DataFrame(pairs, columns=["text", "label"])
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise KitError(f"{shown(path)}: not a readable CSV ({error}). {WAYS}.") from error
    for column in (text, label):
        if column not in frame.columns:
            raise KitError(
                f"{shown(path)}: no column {column!r} among {list(frame.columns)}. "
                f"Rename its columns to {text} and {label}."
            )
    return frame[[text, label]].set_axis(["text", "label"], axis=1)


def _read_hub() -> dict[str, pd.DataFrame]:
    hub_splits = {"train": "train", "val": "validation", "test": "test"}
    try:
        try:
            from datasets import load_dataset

            sets = load_dataset(HUB_NAME, "split")
            frames = {ours: sets[theirs].to_pandas() for ours, theirs in hub_splits.items()}
        except ImportError:
            from huggingface_hub import hf_hub_download

            frames = {
                ours: pd.read_parquet(
                    hf_hub_download(
                        HUB_NAME, f"split/{theirs}-00000-of-00001.parquet", repo_type="dataset"
                    )
                )
                for ours, theirs in hub_splits.items()
            }
    except ImportError as error:
        raise KitError(
            f"hub:{HUB_NAME} needs the package `datasets` or `huggingface_hub` "
            "(pip install datasets), or name a local copy of the corpus."
        ) from error
    except Exception as error:  # the hub's clients raise a dozen kinds when offline
        reason = (str(error).splitlines() or [""])[0]
        raise KitError(
            f"hub:{HUB_NAME} could not be reached ({type(error).__name__}: {reason}). "
            "Download the corpus elsewhere and name its folder."
        ) from error
    return {
        ours: pd.DataFrame({"text": f["text"], "label": [GOLD_LABELS[int(v)] for v in f["label"]]})
        for ours, f in frames.items()
    }


def _verify(frames: Mapping[str, pd.DataFrame], name: str) -> bool | None:
    if set(frames) != set(SPLITS):
        return None
    for split, frame in frames.items():
        lines = "".join(f"{t};{v}\n" for t, v in zip(frame["text"], frame["label"], strict=True))
        if hashlib.sha256(lines.encode()).hexdigest() != OFFICIAL_SHA256[split]:
            raise KitError(
                f"{name}: {split} is not the published split (SHA-256 differs). Fetch it again, or "
                "say in GOLD_MAPPING what its labels stand for: then it is a corpus of your own."
            )
    return True


def _named(labels: pd.Series, name: str) -> pd.Series:
    codes = {str(i): label for i, label in enumerate(GOLD_LABELS)}
    unknown = sorted(set(labels) - set(GOLD_LABELS) - set(codes))
    if unknown:
        raise KitError(
            f"{name}: label {unknown[0]!r} is none of {', '.join(GOLD_LABELS)} (or 0 to 5). "
            "For a corpus of your own say in GOLD_MAPPING which emotion each label stands for."
        )
    return labels.replace(codes)


def _check_mapping(
    mapping: Mapping[str, str], found: set[str], targets: tuple[str, ...] | None, name: str
) -> None:
    absent = [key for key in mapping if key not in found]
    if absent or not mapping:
        raise KitError(
            f"{name}: GOLD_MAPPING names the label {absent[0] if absent else ''!r}, the file has "
            f"{', '.join(sorted(found)[:12])}. Map the labels of the file to the synthetic ones."
        )
    strange = [v for v in mapping.values() if targets and v not in targets]
    if strange:
        raise KitError(
            f"{name}: GOLD_MAPPING leads to {strange[0]!r}, which is no label of the synthetic "
            f"texts ({', '.join(targets or ())})."
        )


def _clean(rows: pd.DataFrame, name: str, verified: bool | None) -> GoldCorpus:
    dropped = {"read": len(rows)}
    unmapped = rows["label"].isna()
    empty = ~unmapped & (rows["text"] == "")
    rows = rows[~unmapped & ~empty]
    conflict = rows.groupby("text")["label"].transform("nunique") > 1
    repeat = ~conflict & rows.duplicated("text")
    dropped |= {
        "duplicates": int(repeat.sum()),
        "conflicts": int(conflict.sum()),
        "unmapped": int(unmapped.sum()),
        "empty": int(empty.sum()),
    }
    rows = rows[~conflict & ~repeat].reset_index(drop=True)
    if rows.empty:
        raise KitError(f"{name}: no usable row is left of {dropped['read']}.")
    rows.insert(0, "row_id", [row_id(t) for t in rows["text"]])
    return GoldCorpus(rows=rows, dropped=dropped, source=name, verified=verified)
