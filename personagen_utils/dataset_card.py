"""What must a reader know who finds the corpus without the kit? The dataset card, from the run.

Every number on the card is computed from the run it describes; the wording is a template,
``data/templates/dataset_card.md.j2``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jinja2
import pandas as pd
import yaml

from personagen_utils import __version__
from personagen_utils.corpus import RECORDED_NOTE
from personagen_utils.dataset_facts import (
    bias,
    hashes,
    lengths,
    model_counts,
    recording_counts,
    verdict_counts,
)
from personagen_utils.errors import KitError
from personagen_utils.paths import DATA, shown
from personagen_utils.runs import Run
from personagen_utils.tables import load_tables
from personagen_utils.verdicts import STAGES

TEMPLATES = DATA / "templates"
TAG = "personagen"
RECORDED_MODEL = "recorded-llm"  # how the recordings shipped with the kit name their writer
COLUMNS = {
    "id": "Persona-scene and emotion",
    "text": "What the person says",
    "emotion": "The emotion that the writer was asked to express: the label",
    "item": "Number of the persona-scene; rows that share it share all attributes",
    "age": "Age category",
    "gender": "Gender",
    "occupation": "Occupation",
    "mbti": "Personality type (16 types, assertive or turbulent)",
    "education": "Education",
    "residence": "Prefecture or state",
    "geographic_location": "Kind of place lived in",
    "family_structure": "Family and household",
    "religion": "Religion",
    "belief": "Values",
    "income": "Income a year",
    "activity": "What the person is doing",
    "medium": "Medium of the message",
    "interlocutor": "Who is spoken to",
    "location": "Where the person is",
    "style_register": "Style: register",
    "style_variety": "Style: variety of the language",
    "style_affect": "Style: how feeling shows",
    "style_mode": "Style: spoken, written or rich in emoji",
    "country": "Country of the population tables",
    "language": "Language asked for",
    "method": "Method that wrote the prompt",
    "model": "Who wrote the text, as the reply itself reports it",
    "backend": "Way the reply came: recorded, or a live host",
    "match": "exact, nearest (written for another person) or live",
    "batch": "Batch of the recording it was written in, if any",
    "key": "Hash of the request: model, prompt, temperature, sample",
}
_CODES = {
    **{"English": "en", "Japanese": "ja", "Chinese": "zh", "Thai": "th", "Korean": "ko"},
    **{"German": "de", "French": "fr", "Spanish": "es", "Italian": "it", "Portuguese": "pt"},
}
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))


def render_card(
    run: Run,
    corpus: pd.DataFrame,
    parts: Mapping[str, pd.DataFrame],
    *,
    licence: str | None = None,
    repo: str | None = None,
) -> str:
    """Return the dataset card of a run as Markdown with YAML front matter.

    Parameters
    ----------
    run : Run
    corpus : DataFrame
        As `dataset.corpus_frame` returns it.
    parts : mapping of str to DataFrame
        The splits.
    licence : str, optional
        Of the texts; see `dataset.export_dataset`.
    repo : str, optional
        Where the dataset will be on the hub.

    Returns
    -------
    str

    Raises
    ------
    KitError
        If the tables have changed since the run.
    """
    record = run.records.read("expression")
    made = record["parameters"]
    tables = load_tables(made["TABLES"])
    if run.records.read("base_persona")["hashes"].get("tables") != tables.fingerprint:
        raise KitError(
            f"{shown(tables.folder)} has changed since {run} was made: run the study again, or "
            "bring the tables back, so that the card names the right sources."
        )
    sources = tables.sources.filter(["source", "year", "reference", "what_was_done"])
    verdicts = pd.concat([run.read_stage(f"verdicts_{stage}") for stage in STAGES])
    scenes = corpus.drop_duplicates("item")
    models = sorted(corpus["model"].dropna().unique())
    recorded = models == [RECORDED_MODEL]
    licence = licence or ("mit" if recorded else "other")
    emotions = list(dict.fromkeys(corpus["emotion"]))
    study = run.manifest["study"]
    nearest = int((corpus["match"] == "nearest").sum())
    values = {
        "front_matter": _front_matter(f"PersonaGen {study}", corpus, parts, licence),
        "name": f"PersonaGen {study}: emotional texts of virtual persons",
        "study": study,
        "repo": repo,
        "kit_version": __version__,
        "fingerprint": record["fingerprint"],
        "language": made["LANGUAGE"],
        "country": tables.country,
        "seed": made["SEED"],
        "temperature": made["TEMPERATURE"],
        "restriction": _restriction(made.get("RESTRICT") or {}),
        "design": "Each persona-scene speaks once per emotion."
        if made["DESIGN"] == "crossed"
        else "Each persona-scene speaks once, the emotions taking turns.",
        "n_texts": f"{len(corpus):,}",
        "n_scenes": f"{len(scenes):,}",
        "n_emotions": len(emotions),
        "emotions": ", ".join(emotions),
        "n_nearest": f"{nearest:,}" if nearest else "",
        "verdicts": verdict_counts(verdicts) if made["VERDICTS"] else [],
        "models": model_counts(corpus, verdicts, made["MODEL"]),
        "recorded_note": RECORDED_NOTE if RECORDED_MODEL in models else "",
        "recordings": recording_counts(corpus, verdicts),
        "hashes": hashes(run),
        "columns": [["column", "what"], *([f"`{k}`", what] for k, what in COLUMNS.items())],
        "splits": [["split", "texts", "persona-scenes"]]
        + [[name, len(part), part["item"].nunique()] for name, part in parts.items()],
        "split_note": "Divided by persona-scene: all texts of one are on the same side."
        if len(parts) > 1
        else "No test split. When you make one, divide by `item`: texts that share it share the "
        "person and the scene, so a split by row would leak.",
        **lengths(run, corpus, made["LANGUAGE"]),
        **bias(scenes, verdicts, tables),
        "licence_note": _licence(licence, models, recorded),
        "sources": [
            [name.replace("_", " ") for name in sources],
            *sources.to_numpy().tolist(),
        ],
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    try:
        return environment.get_template("dataset_card.md.j2").render(values).lstrip()
    except jinja2.TemplateError as error:
        path = shown(TEMPLATES / "dataset_card.md.j2")
        raise KitError(f"{path}: {error}; use only names the kit supplies.") from None


def _front_matter(
    name: str, corpus: pd.DataFrame, parts: Mapping[str, pd.DataFrame], licence: str
) -> str:
    codes = [_CODES[name] for name in corpus["language"].unique() if name in _CODES]
    size = next((name for least, name in _SIZES if len(corpus) < least), "n>1M")
    files = [{"split": split, "path": f"data/{split}.parquet"} for split in parts]
    matter = {
        "license": licence,
        **({"language": codes} if codes else {}),
        "pretty_name": name,
        "task_categories": ["text-classification"],
        "annotations_creators": ["machine-generated"],
        "language_creators": ["machine-generated"],
        "source_datasets": ["original"],
        "tags": ["synthetic", "emotion", "persona", TAG],
        "size_categories": [size],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)


def _restriction(restrict: Mapping[str, Sequence[str] | str]) -> str:
    parts = [f"{k}: {v if isinstance(v, str) else ', '.join(v)}" for k, v in restrict.items()]
    return f"; restricted in this study to {'; '.join(parts)}" if parts else ""


def _licence(licence: str, models: Sequence[str], recorded: bool) -> str:
    who = ", ".join(models) or "an unnamed model"
    if recorded:
        return (
            f"`{licence}`. Written by a large language model ({who}) for the kit's recordings and "
            "distributed with the kit; no person's text was used."
        )
    return (
        f"`{licence}`. Written by {who}: the terms of whoever provides that model decide what may "
        "be done with them. Check them, and name the licence with `--license`, before you publish."
    )
