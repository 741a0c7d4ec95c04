"""What was this run? Sums up a run folder's records for the manifest, the header and the report."""

import os
import platform
from collections import Counter
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from personagen_utils import __version__

PACKAGES = [
    "openai",
    "pandas",
    "numpy",
    "scipy",
    "scikit-learn",
    "lightgbm",
    "torch",
    "sentence-transformers",
    "matplotlib",
    "seaborn",
    "papermill",
    "pyarrow",
]
"""Packages whose version can change a number or a figure."""

STAGES = ["base_persona", "background", "scene", "expression"]


def summarise(
    folder: str,
    stages: dict[str, dict[str, Any]],
    results: dict[str, dict[str, Any]],
    noted: dict[str, Any],
) -> dict[str, Any]:
    """Return the manifest of a run folder.

    Parameters
    ----------
    folder : str
        The run folder as it is shown.
    stages, results : dict
        Name -> record, as `personagen_utils.records.Records.read` gives them.
    noted : dict
        What the runner noted: study, command, notebooks.

    Returns
    -------
    dict
        Plain values only.
    """
    ordered = sorted(stages, key=lambda s: (STAGES.index(s) if s in STAGES else 9, s))
    stages = {name: stages[name] for name in ordered}
    usage: Counter[str] = Counter()
    provenance: dict[str, Counter[str]] = {k: Counter() for k in ("backend", "model", "match")}
    for record in stages.values():
        usage.update({k: v for k, v in record["usage"].items() if type(v) in (int, float)})
        for column, counts in record["provenance"].items():
            provenance[column].update(counts)
    parameters = {name: record["parameters"] for name, record in stages.items()}
    return {
        "kit": "PersonaGen research kit",
        "version": __version__,
        "run": folder,
        "study": noted.get("study", {}).get("name") or Path(folder).name,
        "seeds": {s: v for s, p in parameters.items() for k, v in p.items() if k.upper() == "SEED"},
        "replies": {column: dict(counts) for column, counts in provenance.items()},
        "usage": dict(usage),
        "hashes": {k: v for record in stages.values() for k, v in record["hashes"].items()},
        "python": platform.python_version(),
        "packages": packages(),
        "stages": {
            name: {k: v for k, v in record.items() if k not in ("name", "content")}
            for name, record in stages.items()
        },
        "results": {
            name: {k: v for k, v in record.items() if k in ("parameters", "inputs", "fingerprint")}
            for name, record in results.items()
        },
        "noted": noted,
    }


def identity(manifest: dict[str, Any]) -> list[str]:
    """Return two to four lines of Markdown that say what a run is and where its texts come from."""
    found = {k: parameter(manifest, *names) for k, names in _SHOWN.items()}
    facts = ", ".join(f"{k} {v}" for k, v in found.items() if v is not None)
    lines = [f"**Run** `{manifest['run']}` · study **{manifest['study']}**"]
    lines[0] += f" · {facts}" if facts else " · nothing written yet"
    if replies := origin(manifest, "expression"):
        lines.append(f"**Texts** {replies}")
    short = ["pandas", "numpy", "scikit-learn", "torch", "openai"]
    versions = [f"{name} {manifest['packages'][name]}" for name in short]
    lines.append(f"**Made with** kit {manifest['version']}, Python {manifest['python']}, ")
    lines[-1] += ", ".join(versions)
    return lines


_SHOWN = {
    "population": ("TABLES", "LOCALE"),
    "language": ("LANGUAGE", "TEXT_LANGUAGE"),
    "seed": ("SEED",),
    "personas": ("N_PERSONAS", "N"),
}


def parameter(manifest: dict[str, Any], *names: str) -> Any:
    """Return the first of `names` (in any case) that a stage was made with, or None."""
    for record in manifest["stages"].values():
        upper = {key.upper(): value for key, value in record["parameters"].items()}
        for name in names:
            if name in upper:
                return upper[name]
    return None


def origin(manifest: dict[str, Any], stage: str) -> str:
    """Say in one phrase where the replies of a stage came from, or nothing if it asked no model."""
    record = manifest["stages"].get(stage)
    if record is None or not (seen := record["provenance"]).get("match"):
        return ""
    counts = ", ".join(f"{n:,} {_MATCH.get(match, match)}" for match, n in seen["match"].items())
    phrase = f"{record['rows']:,} rows: {counts}"
    if backends := seen.get("backend"):
        phrase += f" · backend {', '.join(backends)}"
    if models := seen.get("model"):
        phrase += f" · model as reported: {', '.join(models)}"
    return phrase


_MATCH = {
    "exact": "recorded for this very request",
    "nearest": "taken from the nearest recorded request",
    "live": "written live",
    "missing": "without a reply",
    "failed": "malformed",
}


def portable(value: Any) -> Any:
    """Return `value` with every absolute path outside the kit cut down to its last part."""
    if isinstance(value, dict):
        return {key: portable(part) for key, part in value.items()}
    if isinstance(value, list):
        return [portable(part) for part in value]
    if isinstance(value, str) and os.path.isabs(value):
        return f"…/{Path(value).name}"
    return value


@cache
def packages() -> dict[str, str]:
    """Return the installed version of each of `PACKAGES`."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
