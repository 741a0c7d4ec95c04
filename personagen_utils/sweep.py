"""How much do the results move with the seed, the model, the population, the restriction?

A sweep file names a study and the parameters to vary; every combination is a study of its own, with
its own run folder and reply store. Studies run as processes on this machine or on a Dask cluster
with a shared folder; each is the command ``python -m personagen_utils run``, nothing else.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
import yaml
from scipy import stats

from personagen_utils.errors import KitError
from personagen_utils.paths import ROOT, resolve, shown
from personagen_utils.store import Store
from personagen_utils.study import StudyError, find_notebooks, load_study
from personagen_utils.terminal import duration

FIELDS = {"study": str, "out": str, "only": list, "set": dict, "vary": dict}
NUMBERS = ("value", "low", "high", "error", "n", "target")  # of a result; the rest says of what


@dataclass(frozen=True)
class Job:
    """One study of a sweep: its name, what distinguishes it, its folder and its command."""

    name: str
    varied: dict[str, Any]
    folder: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a study ended; `reason` is empty when it went well."""

    name: str
    reason: str
    seconds: float


def load_sweep(file: str | Path, *, notebooks: Path | None = None) -> tuple[Path, list[Job]]:
    """Read a sweep file and check every study in it before the first one runs.

    Parameters
    ----------
    file : str or Path
        YAML with ``vary`` (parameter -> list of values) and, optionally, ``study`` (default
        demo), ``out``, ``only`` (beginnings of notebook names) and ``set`` (parameters of all).
    notebooks : Path, optional
        Another folder of notebooks.

    Returns
    -------
    tuple of Path and list of Job
        The folder of the sweep, and its studies.

    Raises
    ------
    StudyError
        When the file cannot be meant.
    """
    path = Path(file).expanduser().resolve()
    try:
        read = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise StudyError(f"{shown(path)} cannot be read: {' '.join(str(error).split())}") from error
    read = read if isinstance(read, dict) else {}
    for name, value in read.items():
        if name not in FIELDS or not isinstance(value, FIELDS[name]):
            kinds = ", ".join(f"{key} ({kind.__name__})" for key, kind in FIELDS.items())
            raise StudyError(f"{shown(path)}: {name!r} is not one of {kinds}.")
    vary = read.get("vary") or {}
    if not vary or not all(isinstance(values, list) and values for values in vary.values()):
        raise StudyError(f"{shown(path)}: vary needs a list of values for each parameter.")
    study, only, fixed = read.get("study", "demo"), read.get("only", []), read.get("set", {})
    beside = path.parent / study
    study = str(beside) if beside.is_file() else study
    out = resolve(read.get("out", f"data/runs/{path.stem}"))
    found, jobs = find_notebooks(notebooks), []
    for values in itertools.product(*vary.values()):
        varied = dict(zip(vary, values, strict=True))
        name = "_".join(f"{key.lower()}-{_slug(value)}" for key, value in varied.items())
        overrides = [f"{key}={json.dumps(value)}" for key, value in (fixed | varied).items()]
        load_study(study, found, overrides=overrides, out=str(out / name))
        command = ["run", "--study", study, "--out", str(out / name)]
        command += [word for override in overrides for word in ("-p", override)]
        command += ["--only", *map(str, only)] if only else []
        command += ["--notebooks", str(notebooks)] if notebooks else []
        jobs.append(Job(name, varied, str(out / name), tuple(command)))
    if len({job.name for job in jobs}) < len(jobs):
        raise StudyError(f"{shown(path)}: vary names the same study twice.")
    return out, jobs


def run_sweep(
    file: str | Path,
    *,
    workers: int | None = None,
    scheduler: str | None = None,
    notebooks: Path | None = None,
    stream: TextIO | None = None,
) -> list[Outcome]:
    """Run every study of a sweep and write the tables of all results.

    Run it again to go on: what has finished and has not changed is kept.

    Parameters
    ----------
    file : str or Path
        The sweep file.
    workers : int, optional
        Studies at once on this machine; default half the processors.
    scheduler : str, optional
        Address of a Dask scheduler, for example ``tcp://10.0.0.1:8786``; its workers need this
        folder at the same path and the keys in their own environment.
    notebooks : Path, optional
        Another folder of notebooks.
    stream : text file, optional
        Where progress goes; standard output by default.

    Returns
    -------
    list of Outcome
        In the order of the studies. The tables are ``results.csv`` (every number of every study)
        and ``across_seeds.csv`` in the folder of the sweep.
    """
    stream = stream or sys.stdout
    out, jobs = load_sweep(file, notebooks=notebooks)
    for job in jobs:
        Store(Path(job.folder) / "responses.sqlite").close()  # the client finds and uses it
    outcomes: dict[str, Outcome] = {}
    print(f"{len(jobs)} studies in {shown(out)}", file=stream, flush=True)
    for outcome in _distribute(jobs, workers, scheduler, stream):
        outcomes[outcome.name] = outcome
        ended = f"failed: {outcome.reason}" if outcome.reason else "done"
        line = f"[{len(outcomes)}/{len(jobs)}] {outcome.name}  {ended}"
        print(f"{line} ({duration(outcome.seconds)})", file=stream, flush=True)
    table = gather([job for job in jobs if not outcomes[job.name].reason])
    if len(table):
        table.to_csv(out / "results.csv", index=False)
        across_seeds(table).to_csv(out / "across_seeds.csv", index=False)
    return [outcomes[job.name] for job in jobs]


def run_job(job: Job) -> Outcome:
    """Run one study in a process of its own; what it says goes to ``log.txt`` in its folder."""
    started, log = time.monotonic(), Path(job.folder) / "log.txt"
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with log.open("w", encoding="utf-8") as file:
        ended = subprocess.run(
            [sys.executable, "-m", "personagen_utils", *job.command],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    reason = ""
    if ended.returncode:
        lines = [line for line in log.read_text("utf-8").splitlines() if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else "nothing was said"
        reason = last if ended.returncode > 0 else f"killed by signal {-ended.returncode}"
    return Outcome(job.name, reason, time.monotonic() - started)


def gather(jobs: Sequence[Job]) -> pd.DataFrame:
    """Return every number of the studies' results: what was varied, result, metric, value, ..."""
    parts = []
    for job in jobs:
        varied = {name: _said(value) for name, value in job.varied.items()}
        for file in sorted((Path(job.folder) / "results").glob("*.json")):
            rows = pd.DataFrame(json.loads(file.read_text("utf-8"))["rows"])
            parts.append(rows.assign(study=job.name, result=file.stem, **varied))
    if not parts:
        return pd.DataFrame()
    table = pd.concat(parts, ignore_index=True)
    first = ["study", *jobs[0].varied, "result"]
    return table[[*first, *(name for name in table if name not in first)]]


def across_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the mean of each number over the seeds with a 95 % t interval.

    Parameters
    ----------
    table : DataFrame
        As returned by `gather`.

    Returns
    -------
    DataFrame
        What was varied (SEED left out), result, what the number is of, value (the mean over
        seeds), low, high (absent for one seed) and seeds (how many).
    """
    beside = {"study", "SEED", *NUMBERS}
    keys = [name for name in table if name not in beside and table[name].dtype.kind not in "fiu"]
    kept = table.assign(value=pd.to_numeric(table["value"], errors="coerce"))
    groups = kept.dropna(subset="value").groupby(keys, dropna=False, sort=False)["value"]
    mean = groups.agg(["mean", "std", "count"]).reset_index()
    reach = stats.t.ppf(0.975, (mean["count"] - 1).clip(lower=1)) * mean["std"]
    reach /= mean["count"] ** 0.5
    return mean[keys].assign(
        value=mean["mean"],
        low=mean["mean"] - reach,
        high=mean["mean"] + reach,
        seeds=mean["count"],
    )


def _distribute(
    jobs: Sequence[Job], workers: int | None, scheduler: str | None, stream: TextIO
) -> Iterator[Outcome]:
    """Yield the outcomes of the jobs as they end."""
    if scheduler is None:
        with futures.ThreadPoolExecutor(workers or max(1, (os.cpu_count() or 2) // 2)) as pool:
            try:
                for future in futures.as_completed([pool.submit(run_job, job) for job in jobs]):
                    yield future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)
        return
    try:
        from dask import distributed
    except ImportError as error:
        raise KitError('--scheduler needs the extra: pip install -e ".[dask]"') from error
    try:
        cluster = distributed.Client(scheduler, timeout=30)
    except OSError as error:
        raise KitError(f"No Dask scheduler answers at {scheduler} ({error}).") from error
    with cluster:
        print(f"Dashboard: {cluster.dashboard_link}", file=stream, flush=True)
        asked = {cluster.submit(run_job, job, pure=False): job for job in jobs}
        for future in distributed.as_completed(asked):
            error = future.exception()  # a worker that died or lacks the folder
            yield Outcome(asked[future].name, repr(error), 0.0) if error else future.result()


def _slug(value: Any) -> str:
    """Return a value as a part of a folder's name; what has no short name gets a number."""
    text = _said(value)
    plain = re.sub(r"[^\w.]+", "-", text).strip("-")
    if isinstance(value, (dict, list)) or len(plain) > 40 or not plain:
        return hashlib.sha256(text.encode()).hexdigest()[:6]
    return plain


def _said(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
