"""How do the people of a corpus write, and can a persona write like them? Register calibration.

A small sample of the target corpus, without its labels, is measured: case, punctuation, lengths,
openings, recurring words. What goes into a prompt is numbers and single words, never a text of the
sample (unless the reader allows a few). Stage 3's style and medium give way to that register; for
each text a length, an opening and the recurring words are drawn together from the sample.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from personagen_utils.chat import Request
from personagen_utils.corpora import words_of
from personagen_utils.errors import KitError
from personagen_utils.expression import MAX_WORDS, expression_requests
from personagen_utils.files import write_atomic
from personagen_utils.paths import DATA, resolve, shown
from personagen_utils.sampling import number, uniforms
from personagen_utils.shades import shade_of
from personagen_utils.tables import Tables

METHOD = "PersonaGen calibrated"
SHADED = "PersonaGen calibrated, shades"
REGISTER = DATA / "gold" / "register.json"
SIGNATURE = 0.1  # share of the texts in which a word must occur to be one that recurs
OPENING = 0.01  # likewise for a first word
N_WORDS = 40  # commonest content words that a prompt names
LEAST = 30  # texts of a sample
_STREAM = 42
_BARE = re.compile(
    r"\b(?:im|ive|ill|id|dont|didnt|doesnt|cant|couldnt|wouldnt|isnt|wasnt|youre|thats|theyre)\b"
)
_JOINS = frozenset({"and", "but", "because", "that", "so", "when", "or", "as", "while", "which"})
_EMOJI = re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]")


@dataclass(frozen=True)
class Register:
    """How a sample of texts is written.

    Attributes
    ----------
    source : str
        Where the sample came from.
    n : int
        Texts in the sample: the label budget counts them, though no label was read.
    figures : dict of str to float
        Shares and means over the sample.
    words : list of str
        Its commonest content words.
    rows : DataFrame
        One row per text of the sample: ``words`` (their number), ``opening`` (first word if it
        recurs, else empty), ``recurring`` (words that recur in the sample and stand in this text).
    """

    source: str
    n: int
    figures: dict[str, float]
    words: list[str]
    rows: pd.DataFrame

    def save(self, path: str | Path = REGISTER) -> None:
        """Write the figures as JSON; it holds no text of the sample."""
        rows = self.rows.to_dict("list")
        body = {"source": self.source, "n": self.n, "figures": self.figures, "words": self.words}
        text = json.dumps(body | {"rows": rows}, ensure_ascii=False) + "\n"
        write_atomic(resolve(path), text.encode())


def measure_register(texts: Sequence[str], *, source: str) -> Register:
    """Measure how texts are written.

    Parameters
    ----------
    texts : sequence of str
        An unlabelled sample of the target corpus, 30 texts or more.
    source : str
        What to call it.

    Returns
    -------
    Register

    Raises
    ------
    KitError
        When there are fewer than 30 texts or one of them is empty.
    """
    if len(texts) < LEAST:
        raise KitError(f"{source}: {len(texts)} texts, a register needs {LEAST} or more.")
    split = [words_of(text) for text in texts]
    for place, words in enumerate(split, 1):
        if not words:
            raise KitError(f"{source}: text {place} has no word.")
    lengths = np.array([len(words) for words in split])
    first = Counter(words[0] for words in split)
    openings = {word for word, k in first.items() if k >= max(2, OPENING * len(texts))}
    occurs = Counter(word for words in split for word in sorted(set(words) - ENGLISH_STOP_WORDS))
    signature = [w for w, k in occurs.most_common() if k >= SIGNATURE * len(texts)]
    running = Counter(
        w for words in split for w in words if len(w) > 1 and w not in ENGLISH_STOP_WORDS
    )

    def share(test) -> float:
        return round(float(np.mean([bool(test(text)) for text in texts])), 3)

    figures = {
        "lower case throughout": share(lambda text: text == text.lower()),
        "punctuation": share(re.compile(r"[^\w\s]").search),
        "contractions without apostrophe": share(lambda text: _BARE.search(text.lower())),
        "digits": share(re.compile(r"\d").search),
        "emoji": share(_EMOJI.search),
        "hashtags or mentions": share(re.compile(r"(?<!\w)[#@]\w").search),
        "words, mean": round(float(lengths.mean()), 1),
        "words, sd": round(float(lengths.std(ddof=1)), 1),
        "letters per word": round(float(np.mean([len(w) for ws in split for w in ws])), 1),
        "first person opening": round(
            sum(k for w, k in first.items() if re.fullmatch(r"(?:i|my|we)(?:['’]?[a-z]{1,2})?", w))
            / len(texts),
            3,
        ),
        "joining words": round(
            float(np.mean([sum(word in _JOINS for word in words) for words in split])), 1
        ),
    }
    rows = pd.DataFrame(
        {
            "words": lengths.tolist(),
            "opening": [words[0] if words[0] in openings else "" for words in split],
            "recurring": [[word for word in signature if word in words] for words in split],
        }
    )
    words = [word for word, _ in running.most_common(N_WORDS)]
    return Register(source, len(texts), figures, words, rows)


def sample_order(row_id: str) -> str:
    """Return what development texts are sorted by; the first of them make the shipped register."""
    return hashlib.sha256(f"register:{row_id}".encode()).hexdigest()


def load_register(path: str | Path = REGISTER) -> Register:
    """Read a register that `Register.save` wrote.

    Raises
    ------
    KitError
        When the file is missing or no register.
    """
    path = resolve(path)
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
        rows = pd.DataFrame(body["rows"])[["words", "opening", "recurring"]]
        return Register(body["source"], int(body["n"]), body["figures"], body["words"], rows)
    except OSError as error:
        raise KitError(f"The register {shown(path)} cannot be read ({error.strerror}).") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KitError(
            f"{shown(path)} is no register ({type(error).__name__}): measure one with "
            "measure_register and save it."
        ) from None


def calibrated_requests(
    tables: Tables,
    scenes: pd.DataFrame,
    emotions: Sequence[str],
    register: Register,
    *,
    seed: int,
    shades: bool = True,
    language: str,
    model: str,
    temperature: float,
    examples: Sequence[str] = (),
) -> list[Request]:
    """Ask each person for one text per emotion in the register of the sample.

    Parameters
    ----------
    tables : Tables
    scenes : DataFrame
        Accepted persona-scenes; their style and medium are left out.
    emotions : sequence of str
    register : Register
    seed : int
        Which row of the register gives a text its length, opening and recurring words depends on
        the seed, the item and the emotion alone.
    shades : bool
        Whether each text names a drawn shade of its emotion (`personagen_utils.shades`).
    language, model, temperature
        As for the other methods.
    examples : sequence of str
        Texts of the sample that the reader allows to stand in every prompt. Default: none.

    Returns
    -------
    list of Request, length len(scenes) * len(emotions)
    """
    items = scenes["item"].to_numpy(int)
    drawn = {
        emotion: dict(
            zip(items, uniforms(seed, (_STREAM, number(emotion), 0), items, 1)[:, 0], strict=True)
        )
        for emotion in emotions
    }
    shade = shade_of(tables, scenes, emotions, seed=seed)

    def extra(item: int, emotion: str) -> dict[str, Any]:
        own = register.rows.iloc[int(drawn[emotion][item] * len(register.rows))]
        more = {"register": register, "own": _own(own), "examples": list(examples)}
        return more | ({"shade": shade(item, emotion)} if shades else {})

    return expression_requests(
        tables,
        scenes,
        emotions,
        language=language,
        model=model,
        temperature=temperature,
        prompt="calibrated",
        method=SHADED if shades else METHOD,
        extra=extra,
    )


def _own(row: Mapping[str, Any]) -> dict[str, Any]:
    """Say what one row of the register asks of one text."""
    return {
        "words": min(int(row["words"]), MAX_WORDS - 5),
        "opening": row["opening"],
        "recurring": list(row["recurring"]),
    }


def stripped(texts: Sequence[str]) -> list[str]:
    """Return texts in lower case and without punctuation: the calibration that costs nothing.

    >>> stripped(["I'm SO happy, thanks!"])
    ['im so happy thanks']
    """
    return [" ".join(re.sub(r"[^\w\s]", "", text.lower()).split()) for text in texts]
