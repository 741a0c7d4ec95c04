"""What is on a dataset card? The tables of it, each computed from the run.

A table is a list of rows, the first of them the head.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.population import shares
from personagen_utils.replay import RECORDINGS, read_recording
from personagen_utils.runs import Run
from personagen_utils.tables import PERSONA, Tables
from personagen_utils.verdicts import LABELS, NOT_JUDGED, STAGES, count_verdicts

SHOWN = ("age", "gender", "income", "religion", "belief")  # groups listed on the card
NO_SPACES = ("Japanese", "Chinese", "Thai")
Table = list[list[Any]]


def verdict_counts(verdicts: pd.DataFrame) -> Table:
    """Count the verdicts of each stage."""
    rows: Table = [["stage", "draws", *LABELS, NOT_JUDGED, "kept"]]
    for stage, part in count_verdicts(verdicts).groupby("stage", sort=False):
        rows.append([stage.replace("_", " "), part["n"].iloc[0], *part["value"]])
    return rows


def model_counts(corpus: pd.DataFrame, verdicts: pd.DataFrame, asked: str) -> Table:
    """Count texts and verdicts by who wrote them and how they were matched."""
    rows: Table = [["what", "model asked for", "written by", "match", "replies"]]
    for what, frame in (("texts", corpus), ("verdicts", verdicts)):
        model = frame["model"].astype(object).where(frame["model"].notna(), "nobody")
        for (who, match), n in frame.groupby([model, "match"], sort=True).size().items():
            rows.append([what, asked, who, match, n])
    return rows


def recording_counts(corpus: pd.DataFrame, verdicts: pd.DataFrame) -> Table:
    """Count the exact replies by the recording that holds them."""
    exact = [frame.loc[frame["match"] == "exact", "key"] for frame in (corpus, verdicts)]
    rows: Table = [["recording", "texts", "verdicts"]]
    for path in sorted(RECORDINGS.glob("*.jsonl.gz")):
        keys = {row.key for row, _ in read_recording(path)}
        counts = [int(asked.isin(keys).sum()) for asked in exact]
        if any(counts):
            rows.append([f"`{path.name}`", *counts])
    return rows if len(rows) > 1 else []


def hashes(run: Run) -> Table:
    """Name prompts and tables of each stage by their hashes."""
    rows: Table = [["stage", "hash of its prompts", "hash of its tables", "fingerprint"]]
    for stage in (*STAGES, "expression"):
        record = run.records.read(stage)
        found = [
            f"`{record['hashes'][k]}`" if k in record["hashes"] else "–"
            for k in ("prompts", "tables")
        ]
        rows.append([stage.replace("_", " "), *found, f"`{record['fingerprint']}`"])
    return rows


def lengths(run: Run, corpus: pd.DataFrame, language: str) -> dict[str, Any]:
    """Describe lengths per emotion and, where notebook 05 has run, near-duplicates."""
    unit = "characters" if language in NO_SPACES else "words"
    length = (
        corpus["text"].str.len() if language in NO_SPACES else corpus["text"].str.split().str.len()
    )
    found = _near_duplicates(run)
    rows: Table = [["emotion", "texts", f"mean {unit}", "shortest", "longest", "near-duplicates"]]
    for emotion, n in length.groupby(corpus["emotion"], sort=False):
        rows.append([emotion, len(n), f"{n.mean():.1f}", n.min(), n.max(), found.get(emotion, "–")])
    note = (
        "Near-duplicates: share of the texts of an emotion that have another one at a cosine of "
        "0.95 or above (all-MiniLM-L6-v2), with a 95 % jackknife interval over persona-scenes."
        if found
        else "Near-duplicates were not measured in this run (notebook 05 measures them)."
    )
    return {"lengths": rows, "repetition_note": note}


def _near_duplicates(run: Run) -> dict[str, str]:
    try:
        results = run.read_results("rq1_diversity")
        if run.records.read("results/rq1_diversity")["parameters"].get("TEXTS"):
            return {}  # measured on a corpus of the reader's own
    except KitError:  # not computed, or not of these texts
        return {}
    rows = results[(results["metric"] == "near-duplicates") & results["emotion"].notna()]
    rows = rows.drop_duplicates("emotion").astype({c: float for c in ("value", "low", "high")})
    return {
        r.emotion: f"{100 * r.value:.1f} % [{100 * r.low:.1f}, {100 * r.high:.1f}]"
        for r in rows.itertuples()
    }


def bias(scenes: pd.DataFrame, verdicts: pd.DataFrame, tables: Tables) -> dict[str, Any]:
    """Hold the shares of groups against the tables, and verdicts against groups."""
    judged = verdicts[verdicts["label"].isin(LABELS)]
    rows: Table = [["group", "tables, %", "corpus, %", "judged", "rejected"]]
    compared = outside = 0
    for attribute in PERSONA:
        table = shares(scenes, tables, attribute)
        compared += len(table)
        outside += int(((table["target"] < table["low"]) | (table["target"] > table["high"])).sum())
        if attribute not in SHOWN:
            continue
        for item, r in table.iterrows():
            draws = judged[judged[attribute] == item]
            rejected = int((draws["label"] == "implausible").sum())
            corpus = f"{r.realised:.1f} [{r.low:.1f}, {r.high:.1f}]"
            rows.append([f"{attribute}: {item}", f"{r.target:.1f}", corpus, len(draws), rejected])
    n_rejected = int((judged["label"] == "implausible").sum())
    note = (
        f"Of {compared} groups ({', '.join(PERSONA).replace('_', ' ')}), the share of {outside} in "
        "the corpus differs from the tables by more than its 95 % interval; about "
        f"{compared / 20:.0f} would by chance alone. "
    )
    note += (
        f"{n_rejected} of {len(judged)} judged draws were rejected as implausible."
        if len(judged)
        else "No draw was judged."
    )
    return {"shares": rows, "bias_note": note}
