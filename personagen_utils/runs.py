"""What does a run folder hold, and is it still true? A Parquet file per stage, a JSON per result.

Every file carries the record of how it was made (`personagen_utils.records`), so the files alone
are the truth and ``manifest.json`` is a summary of them. A stage made from an input that has
changed since is *stale* and refused by name until its notebook is run again.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from personagen_utils import manifest as summary
from personagen_utils.errors import KitError
from personagen_utils.files import lock, plain, write_atomic
from personagen_utils.paths import resolve, shown
from personagen_utils.records import KEY, Records, touch

TIDY = ["metric", "method", "emotion", "value", "low", "high", "n"]
"""The columns that every result has, null where a row has no such field."""


class Run:
    """One run folder. Open it with `open_run`.

    Attributes
    ----------
    folder : Path
        The absolute folder; print `str(run)` instead, which holds no machine path.
    records : Records
        How each file in it was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = Records(folder)

    def __str__(self) -> str:
        return shown(self.folder)

    def __repr__(self) -> str:
        stages = ", ".join(sorted(path.stem for path in self.folder.glob("*.parquet")))
        return f"Run({str(self)!r}: {stages or 'empty'})"

    def save_stage(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        parameters: Mapping[str, Any],
        inputs: Sequence[str] = (),
        hashes: Mapping[str, str] | None = None,
        counts: Mapping[str, Any] | None = None,
        usage: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one stage as ``<name>.parquet`` with the record of how it was made.

        Parameters
        ----------
        name : str
            The stage, for example ``"base_persona"``.
        frame : DataFrame, shape (items, columns)
            The rows. The index is not kept.
        parameters : mapping
            What the stage was made with: plain values only.
        inputs : sequence of str
            Stages read to make this one (``"results/<name>"`` for a result file).
        hashes : mapping of str to str
            Hashes of the tables and prompts used.
        counts : mapping
            Counts in and out, for example ``{"drawn": 71, "kept": 60}``.
        usage : mapping, optional
            Requests, tokens and US dollars, as the model client sums them up.

        Raises
        ------
        KitError
            If an input is missing or stale, or the file cannot be written.
        """
        table = pa.Table.from_pandas(frame, preserve_index=False)
        content = hashlib.sha256(_parquet(table.replace_schema_metadata(None))).hexdigest()
        record = self.records.made(name, parameters, inputs, hashes or {}, content)
        record |= {"rows": len(frame), "counts": plain(counts or {}), "usage": plain(usage or {})}
        record["provenance"] = {
            column: {str(k): int(v) for k, v in frame[column].value_counts(dropna=True).items()}
            for column in ("backend", "model", "match")
            if column in frame
        }
        metadata = {**(table.schema.metadata or {}), KEY: json.dumps(record).encode()}
        write_atomic(self.records.path(name), _parquet(table.replace_schema_metadata(metadata)))
        self.note()

    def read_stage(self, name: str) -> pd.DataFrame:
        """Read one stage, after checking that it is there and still true.

        Parameters
        ----------
        name : str
            The stage, for example ``"base_persona"``.

        Returns
        -------
        DataFrame, shape (items, columns)

        Raises
        ------
        KitError
            If the stage is missing (names the notebook that writes it, and the demo's folder) or
            stale (names the input that changed and the notebooks to run again).
        """
        self.records.check(name)
        return pd.read_parquet(self.records.path(name))

    def parameters(self, name: str) -> dict[str, Any]:
        """Return the parameters that a stage was made with, for later notebooks to go by.

        Raises
        ------
        KitError
            If the stage is missing.
        """
        parameters = self.records.read(name)["parameters"]
        touch(name)
        return parameters

    def current(
        self,
        name: str,
        *,
        parameters: Mapping[str, Any],
        inputs: Sequence[str] = (),
        hashes: Mapping[str, str] | None = None,
    ) -> bool:
        """Say whether exactly this was made already, so that it can be loaded instead.

        True when the stage exists, its parameters and hashes are the same, and each of its inputs
        is the one it was made from.
        """
        touch(name)
        if not self.records.path(name).exists():
            return False
        record = self.records.read(name)
        return (
            record["parameters"] == plain(parameters)
            and record["hashes"] == plain(hashes or {})
            and set(record["inputs"]) == set(inputs)
            and self.records.stale(name) is None
        )

    def save_results(
        self,
        name: str,
        rows: Sequence[Mapping[str, Any]] | pd.DataFrame,
        *,
        inputs: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        """Write ``results/<name>.json``: tidy rows and the fingerprint of what they rest on.

        Parameters
        ----------
        name : str
            The evaluation, for example ``"rq1_diversity"``.
        rows : sequence of mappings, or DataFrame
            One number each: metric, method, emotion, value, low, high, n. Absent fields become
            null; further columns are kept.
        inputs : sequence of str
            Stages the numbers were computed from.
        parameters : mapping, optional
            What they were computed with.

        Raises
        ------
        KitError
            If there is no row, or an input is missing or stale.
        """
        frame = pd.DataFrame(list(rows) if not isinstance(rows, pd.DataFrame) else rows)
        if frame.empty or "metric" not in frame:
            raise KitError(f"results/{name}.json: no row with a 'metric' to write.")
        frame = frame.reindex(columns=TIDY + [c for c in frame if c not in TIDY])
        tidy = plain(frame.astype(object).where(frame.notna(), None).to_dict("records"))
        content = hashlib.sha256(json.dumps(tidy, sort_keys=True).encode()).hexdigest()
        record = self.records.made(f"results/{name}", parameters or {}, inputs, {}, content)
        text = json.dumps({**record, "rows": tidy}, indent=1, ensure_ascii=False)
        write_atomic(self.records.path(f"results/{name}"), text.encode())
        self.note()

    def read_results(self, name: str) -> pd.DataFrame:
        """Read ``results/<name>.json`` as one row per number, after the checks of `read_stage`."""
        self.records.check(f"results/{name}")
        rows = json.loads(self.records.path(f"results/{name}").read_text("utf-8"))["rows"]
        return pd.DataFrame(rows, columns=list(rows[0]))

    def save_figure(self, fig: Any, name: str) -> None:
        """Write ``figures/<name>.png`` at 110 dots per inch, the same bytes for the same figure.

        Parameters
        ----------
        fig : matplotlib Figure or Axes, or seaborn grid
        name : str
        """
        buffer = io.BytesIO()
        figure = getattr(fig, "figure", fig)
        figure.savefig(buffer, dpi=110, bbox_inches="tight", metadata={"Software": None})
        write_atomic(self.records.path(f"figures/{name}"), buffer.getvalue())

    @property
    def manifest(self) -> dict[str, Any]:
        """What the run is: parameters, seeds, versions, hashes, model, tokens, cost, counts."""
        path = self.folder / "manifest.json"
        noted = json.loads(path.read_text("utf-8")).get("noted", {}) if path.exists() else {}
        return summary.summarise(str(self), self._stages(), self._results(), noted)

    def note(self, **sections: Any) -> None:
        """Bring ``manifest.json`` up to date, and keep `sections` in it under ``"noted"``.

        Notebooks never need this: saving a stage calls it, and the runner notes the study, the
        command and each notebook's duration. A section that is a mapping is merged.
        """
        with lock(self.folder):
            manifest = self.manifest
            for key, value in sections.items():
                old = manifest["noted"].get(key)
                both = isinstance(old, dict) and isinstance(value, dict)
                manifest["noted"][key] = plain({**old, **value} if both else value)
            text = json.dumps(summary.portable(manifest), indent=1, ensure_ascii=False)
            write_atomic(self.folder / "manifest.json", text.encode())

    def header(self) -> Any:
        """Return the run's identity in a few lines of Markdown, to show under the imports."""
        from IPython.display import Markdown

        lines = "  \n".join(summary.identity(self.manifest))
        return Markdown(lines, metadata={"personagen_header": True})

    def _stages(self) -> dict[str, dict[str, Any]]:
        return self.records.of_kind("", self.folder.glob("*.parquet"))

    def _results(self) -> dict[str, dict[str, Any]]:
        return self.records.of_kind("results/", (self.folder / "results").glob("*.json"))


def open_run(run_dir: str | Path) -> Run:
    """Open a run folder, making it if need be.

    Parameters
    ----------
    run_dir : str or Path
        Relative to the root of the kit, or absolute.

    Returns
    -------
    Run

    Raises
    ------
    KitError
        If the folder cannot be made or written in.

    Examples
    --------
    >>> run = open_run("data/runs/demo")  # doctest: +SKIP
    >>> run.read_stage("base_persona").head()  # doctest: +SKIP
    """
    folder = resolve(run_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise KitError(
            f"Cannot write in the run folder {shown(folder)} ({error.strerror}). "
            "Set RUN_DIR to a folder that you may write in."
        ) from error
    return Run(folder)


def _parquet(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()
