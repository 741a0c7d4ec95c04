"""How does a corpus leave the kit? A folder of Parquet, CSV and JSONL with a dataset card.

The folder is what `datasets.load_dataset` and the hub read. It holds the texts of the run and
nothing else: no text of any other corpus. Nothing is uploaded unless that is asked for.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from personagen_utils.corpus import load_corpus
from personagen_utils.dataset_card import COLUMNS, TAG, render_card
from personagen_utils.errors import KitError
from personagen_utils.files import redact, write_atomic
from personagen_utils.paths import resolve, shown
from personagen_utils.runs import Run, open_run
from personagen_utils.sampling import uniforms
from personagen_utils.tables import load_tables

FORMATS = ("parquet", "csv", "jsonl")
SPLITS = ("train", "test")
_STREAM = (90, 0, 0)  # of its own: a split moves no draw


def export_dataset(
    run_dir: str | Path,
    out: str | Path | None = None,
    *,
    test: float = 0.0,
    licence: str | None = None,
    push: str | None = None,
) -> str:
    """Write a run's corpus and its card, and upload them if asked to.

    Parameters
    ----------
    run_dir : str or Path
        The run folder.
    out : str or Path, optional
        The folder to write; by default ``dataset`` in the run folder.
    test : float
        Share of persona-scenes held out as a test split (0 to below 1); 0 makes no split.
    licence : str, optional
        Of the texts, as the hub abbreviates it. By default "mit" for the texts recorded with the
        kit and "other" for all others.
    push : str, optional
        ``"organisation/name"`` of the dataset on the hub to upload to.

    Returns
    -------
    str
        What was written and where.

    Raises
    ------
    KitError
        If the run has no texts or is stale, its tables have changed, `out` holds something else,
        or the upload fails.
    """
    if push is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", push):
        raise KitError(f"--push {push}: write ORGANISATION/NAME.")
    if not resolve(run_dir).is_dir():
        raise KitError(
            f"There is no run folder {shown(run_dir)}. Run `python -m personagen_utils run` first."
        )
    run = open_run(run_dir)
    folder = Path(out).expanduser().resolve() if out is not None else run.folder / "dataset"
    corpus = corpus_frame(run)
    parts = split_corpus(corpus, test, seed=int(run.parameters("expression")["SEED"]))
    card = render_card(run, corpus, parts, licence=licence, repo=push)
    _prepare(folder)
    for split, part in parts.items():
        for kind, data in _files(part).items():
            write_atomic(folder / "data" / f"{split}.{kind}", data)
    write_atomic(folder / "README.md", card.encode())
    sizes = ", ".join(f"{split} {len(part):,}" for split, part in parts.items())
    said = f"{len(corpus):,} texts ({sizes}) as {', '.join(FORMATS)} with a card: {shown(folder)}"
    return said if push is None else f"{said}\n{upload(folder, push)}"


def corpus_frame(run: Run) -> pd.DataFrame:
    """Return the texts of a run with the persona-scene behind each and where they come from.

    Parameters
    ----------
    run : Run

    Returns
    -------
    DataFrame, shape (texts, columns of `COLUMNS`)
        All but `item` as text; missing values are None.
    """
    texts, _ = load_corpus(run)
    texts["id"] = [
        f"{item:06d}-{emotion}" for item, emotion in zip(texts.item, texts.emotion, strict=True)
    ]
    texts["country"] = load_tables(run.parameters("expression")["TABLES"]).country
    frame = texts[list(COLUMNS)]
    return frame.astype({name: "str" for name in COLUMNS if name != "item"})


def split_corpus(corpus: pd.DataFrame, test: float, *, seed: int) -> dict[str, pd.DataFrame]:
    """Divide a corpus by persona-scene, so that no scene speaks on both sides.

    Parameters
    ----------
    corpus : DataFrame
    test : float
        Share of persona-scenes of the test split, met in expectation: on which side a persona-scene
        falls depends on the seed and its number alone, in a study of any size.
    seed : int

    Returns
    -------
    dict of str to DataFrame
        "train" alone if `test` is 0, else "train" and "test".
    """
    if not 0 <= test < 1:
        raise KitError(f"--test {test}: write a share from 0 to below 1, such as 0.2.")
    if not test:
        return {"train": corpus}
    items = corpus["item"].unique()
    held_out = items[uniforms(seed, _STREAM, items, 1)[:, 0] < test]
    aside = corpus["item"].isin(held_out)
    if aside.all() or not aside.any():
        raise KitError(
            f"--test {test}: of {len(items)} persona-scenes {len(held_out)} would be held out; "
            "choose a share nearer to 0.5 or export a larger run."
        )
    parts = {"train": corpus[~aside], "test": corpus[aside]}
    return {split: part.reset_index(drop=True) for split, part in parts.items()}


def upload(folder: Path, repo: str) -> str:
    """Upload an exported folder to the hub, as a private dataset if it is new.

    Parameters
    ----------
    folder : Path
    repo : str
        ``"organisation/name"``.

    Returns
    -------
    str
        Where it is now.

    Raises
    ------
    KitError
        If huggingface_hub is missing, nobody is logged in, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise KitError(
            f"--push needs huggingface_hub (pip install huggingface_hub); the dataset itself is "
            f"in {shown(folder)}."
        ) from None
    try:
        api = HfApi()
        api.create_repo(repo, repo_type="dataset", private=True, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            repo_type="dataset",
            folder_path=folder,
            allow_patterns=["README.md", *(f"data/*.{kind}" for kind in FORMATS)],
            delete_patterns=["data/*"],
            commit_message="Corpus exported by the PersonaGen research kit",
        )
    except Exception as error:  # whatever the hub, the login or the network says is one line
        reason = redact(" ".join(str(error).split()))[:200] or type(error).__name__
        raise KitError(
            f"Not uploaded to {repo}: {reason} Check `hf auth login`; the dataset itself is in "
            f"{shown(folder)}."
        ) from error
    return f"Uploaded to {repo}, private if it is new: make it public there when you are ready."


def _prepare(folder: Path) -> None:
    """Refuse a folder whose README is not ours; remove what an earlier export left."""
    readme = folder / "README.md"
    if readme.exists() and f"- {TAG}\n" not in readme.read_text("utf-8", errors="replace"):
        raise KitError(
            f"{shown(readme)} is not a dataset card of this kit and would be overwritten: choose "
            "another folder with --out."
        )
    for split in SPLITS:
        for kind in FORMATS:
            (folder / "data" / f"{split}.{kind}").unlink(missing_ok=True)


def _files(part: pd.DataFrame) -> dict[str, bytes]:
    """Return the rows in each format."""
    fields = [(name, pa.int64() if name == "item" else pa.string()) for name in COLUMNS]
    table = pa.Table.from_pandas(part, pa.schema(fields), preserve_index=False)
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(None), sink, compression="zstd")
    return {
        "parquet": sink.getvalue(),
        "csv": part.to_csv(index=False, lineterminator="\n").encode(),
        "jsonl": part.to_json(orient="records", lines=True, force_ascii=False).encode(),
    }
