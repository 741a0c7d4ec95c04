"""What the language model is told: every prompt is a text file in data/prompts.

A prompt file is a Jinja2 template with a ``[system]`` and a ``[user]`` part. A name that the
template uses and nobody supplies is an error, never an empty space.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import jinja2
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.paths import DATA, shown

PROMPTS = DATA / "prompts"


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder, encoding="utf-8"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["singular"] = lambda word: word.removesuffix("s")
    environment.globals["percent"] = "{:.0%}".format
    return environment


def render(name: str, values: Mapping[str, object], *, folder: Path = PROMPTS) -> tuple[dict, ...]:
    """Fill in a prompt.

    Parameters
    ----------
    name : str
        File name without ``.j2``, for example ``"expression"``.
    values : mapping
        What the template may use.

    Returns
    -------
    tuple of dict
        Chat messages ``{"role": ..., "content": ...}``.

    Raises
    ------
    KitError
        If the template uses a name that `values` lacks, or is no valid template.
    """
    path = shown(folder / f"{name}.j2")
    try:
        text = _environment(folder).get_template(f"{name}.j2").render(values)
    except jinja2.UndefinedError as error:
        raise KitError(f"{path}: {error.message}; use only names the kit supplies.") from None
    except jinja2.TemplateNotFound as error:
        raise KitError(f"{shown(folder / str(error.name))} is missing.") from None
    except jinja2.TemplateSyntaxError as error:
        raise KitError(f"{path}, line {error.lineno}: {error.message}.") from None
    parts = re.split(r"^\[(system|user)\]\s*$", text, flags=re.MULTILINE)
    roles, contents = parts[1::2], parts[2::2]
    if not roles or parts[0].strip():
        raise KitError(f"{path} must begin with a line [system] or [user].")
    messages = zip(roles, contents, strict=True)
    return tuple({"role": role, "content": content.strip()} for role, content in messages)


def fingerprint(*names: str, folder: Path = PROMPTS) -> str:
    """Return a hash of some prompt files (all of them by default), for the manifest."""
    digest = hashlib.sha256()
    paths = [folder / name for name in names] or sorted(p for p in folder.iterdir() if p.is_file())
    for path in paths:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def load_emotions(names: list[str], *, folder: Path = PROMPTS) -> dict[str, str]:
    """Return the one-line gloss of each emotion asked for.

    Raises
    ------
    KitError
        If the list is empty, names an emotion twice, or names one that emotions.csv lacks.
    """
    path = folder / "emotions.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False).set_index("emotion")["gloss"]
    if not names or len(set(names)) != len(names):
        raise KitError("EMOTIONS must name at least one emotion, each once.")
    for name in names:
        if name not in table:
            raise KitError(
                f"EMOTIONS names {name!r}; known are {', '.join(table.index)}. "
                f"Add a row with its gloss to {shown(path)} to use another."
            )
    return {name: table[name] for name in names}
