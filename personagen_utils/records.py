"""How was a file of a run made, and is that still true? The records inside the files themselves.

Each Parquet file and each result carries its parameters, hashes, the fingerprints of its inputs and
its own fingerprint: a hash over all of these and its content. A file is stale when the fingerprint
of an input, or of an input's input, is no longer the recorded one.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from personagen_utils.errors import KitError
from personagen_utils.files import plain
from personagen_utils.paths import ROOT, shown

WRITTEN_BY = {
    "base_persona": "01_base_persona",
    "verdicts_base_persona": "01_base_persona",
    "background": "02_sociocultural_background",
    "verdicts_background": "02_sociocultural_background",
    "scene": "03_scenario_and_style",
    "verdicts_scene": "03_scenario_and_style",
    "expression": "04_emotion_expression",
    "judge_scores": "07_rq2_human_likeness",
    "tweet_scene": "08_rq3_corpora",
    "verdicts_tweet_scene": "08_rq3_corpora",
    "tweets": "08_rq3_corpora",
}
"""Which notebook writes a stage; any other name is looked for among the notebooks' own names."""

KEY = b"personagen"
"""Where a Parquet file keeps its record."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


class Records:
    """The records of one run folder. A name is a stage's, or ``"results/<name>"``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return the file of a stage, or of ``results/<name>`` or ``figures/<name>``."""
        folder, _, stem = name.rpartition("/")
        kinds = {"": ".parquet", "results": ".json", "figures": ".png"}
        if folder not in kinds or not _NAME.fullmatch(stem):
            raise KitError(f"{name!r} cannot name a file: use letters, digits and _.")
        return self.folder / folder / f"{stem}{kinds[folder]}"

    def read(self, name: str) -> dict[str, Any]:
        """Return how a stage (or ``"results/<name>"``) was made.

        Raises
        ------
        KitError
            If it is missing, or was written by something else.
        """
        path = self.path(name)
        if not path.exists():
            raise KitError(self._missing(name))
        try:
            if path.suffix == ".json":
                return {k: v for k, v in json.loads(path.read_text("utf-8")).items() if k != "rows"}
            return json.loads(pq.read_schema(path).metadata[KEY])
        except (ValueError, KeyError, TypeError, pa.ArrowException) as error:
            way_out = f"Delete it and run {_notebook(name)} again"
            raise KitError(f"{shown(path)} was not written by this kit. {way_out}.") from error

    def made(
        self,
        name: str,
        parameters: Mapping[str, Any],
        inputs: Sequence[str],
        hashes: Mapping[str, str],
        content: str,
    ) -> dict[str, Any]:
        """Return the record of a file about to be written, with its fingerprint."""
        for item in inputs:
            self.check(item)
        touch(name)
        record = {
            "name": name,
            "parameters": plain(parameters),
            "inputs": {item: self.read(item)["fingerprint"] for item in inputs},
            "hashes": plain(hashes),
            "content": content[:16],
        }
        canonical = json.dumps(record, sort_keys=True).encode()
        return record | {"fingerprint": hashlib.sha256(canonical).hexdigest()[:16]}

    def check(self, name: str) -> None:
        """Refuse a stage that is missing or stale."""
        self.read(name)
        touch(name)
        if (stale := self.stale(name)) is not None:
            chain, changed = stale
            again = ", then ".join(dict.fromkeys(_notebook(stage) for stage in chain))
            raise KitError(
                f"{name} in {shown(self.folder)} is stale: {changed} has changed since {chain[0]} "
                f"was made from it. Run {again} again."
            )

    def stale(self, name: str) -> tuple[list[str], str] | None:
        """Return (stages to make again, upstream first; the input that changed), or None."""
        for item, fingerprint in self.read(name)["inputs"].items():
            if not self.path(item).exists():
                return [item, name], item
            if (found := self.stale(item)) is not None:
                return [*found[0], name], found[1]
            if self.read(item)["fingerprint"] != fingerprint:
                return [name], item
        return None

    def _missing(self, name: str) -> str:
        here, demo = shown(self.folder), "data/runs/demo"
        other = "run `python -m personagen_utils run --study demo`"
        other += "" if here == demo else f' and set RUN_DIR = "{demo}"'
        missing = f"{self.path(name).name} is missing in {here}"
        return f"{missing}. Run {_notebook(name)} first, or {other}."

    def of_kind(self, kind: str, paths: Iterable[Path]) -> dict[str, dict[str, Any]]:
        """Return name -> record for files of one kind, passing over files of the user's own."""
        found = {}
        for path in sorted(paths):
            with contextlib.suppress(KitError):
                found[path.stem] = self.read(f"{kind}{path.stem}")
        return found


def touch(name: str) -> None:
    """Tell the runner, when there is one, which stages and results a notebook rests on."""
    if journal := os.environ.get("PERSONAGEN_TOUCHED"):
        with open(journal, "a", encoding="utf-8") as file:
            file.write(f"{name}\n")


def _notebook(name: str) -> str:
    """Return the file name of the notebook that writes a stage or result."""
    stem = name.removeprefix("results/")
    if stem in WRITTEN_BY:
        return f"{WRITTEN_BY[stem]}.ipynb"
    found = sorted((ROOT / "notebooks").glob(f"[0-9][0-9]_{stem}.ipynb"))
    return found[0].name if found else f"the notebook that writes {stem}"
