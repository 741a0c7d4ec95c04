"""Which texts are measured: those of the run, or a corpus of the reader's own."""

from __future__ import annotations

import pandas as pd

from personagen_utils.own_texts import own_texts
from personagen_utils.runs import Run


def load_corpus(run: Run, file: str = "") -> tuple[pd.DataFrame, list[str]]:
    """Return the texts to measure with all that is known of them.

    Parameters
    ----------
    run : Run
    file : str
        A CSV with the columns text and emotion (any label set); empty reads the run's own texts
        together with the persona-scene behind each.

    Returns
    -------
    texts : DataFrame
        Columns text, emotion, item and, for the run's own texts, provenance, persona and scene.
    inputs : list of str
        The stages they come from, for `Run.save_results`.
    """
    if file:
        return own_texts(file), []
    texts = run.read_stage("expression")
    people = run.read_stage("scene").drop(columns="restart").filter(regex="^(?!redraws_)")
    return texts.merge(people, on="item", validate="many_to_one"), ["expression", "scene"]


MATCHES = {
    "exact": "recorded for these very prompts",
    "nearest": "borrowed from the nearest recorded persona",
    "live": "written live",
}


def provenance(texts: pd.DataFrame) -> str:
    """Say how many texts came about in which way, and which model is reported for them."""
    ways = ", ".join(
        f"{n:,} {MATCHES.get(match, match)}" for match, n in texts["match"].value_counts().items()
    )
    models = ", ".join(f"“{name}”" for name in sorted(texts["model"].dropna().unique()))
    return f"{ways}, by {models}"


def origin(texts: pd.DataFrame, file: str = "") -> str:
    """Say in one sentence where the texts come from and how many there are."""
    what = f"{len(texts):,} texts, {texts['emotion'].nunique()} emotions"
    if file:
        return f"{what}, from {file}."
    scenes = f"{texts['item'].nunique():,} persona-scenes"
    sentence = f"{what}, {scenes}; {provenance(texts)}."
    if (texts["match"] == "nearest").any():
        sentence += (
            " **Nearest texts were recorded for other personas: measured here, they say little"
            " about the personas of this study.**"
        )
    return sentence


RECORDED_NOTE = (
    "Recorded texts, verdicts and scores all come from one large language model, in answer to the "
    "kit's prompts, in batches, not from GPT-4.1-mini and without a sampling temperature; in RQ3 "
    "the same model wrote the texts of all methods. Writing in batches lets a writer see its own "
    "earlier texts, which may widen diversity against independent calls."
)
"""What must be said wherever recorded texts are measured."""
