"""What would a user train today? MiniLM itself, fine-tuned on the generated texts (RQ3).

The packaged all-MiniLM-L6-v2 weights get a linear head and are trained as a whole; some minutes
per 700 texts on two cores. It reads texts, not vectors: testing on gold needs the gold texts.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from personagen_utils.embedding import packaged_folder
from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.paths import DATA

MAX_TOKENS = 64
MEASURED = DATA / "gold" / "fine_tuned.json"


def fine_tune(
    texts: Sequence[str],
    labels: Sequence[str],
    test_texts: Sequence[str],
    *,
    epochs: int = 4,
    least_steps: int = 250,
    batch_size: int = 16,
    rate: float = 1e-4,
    seed: int = 0,
    progress: bool = False,
) -> np.ndarray:
    """Fine-tune MiniLM on labelled texts and return the predicted labels of others.

    Parameters
    ----------
    texts, labels : sequence of str, length n
        Training texts.
    test_texts : sequence of str, length m
    epochs : int
        Passes over the training texts.
    least_steps : int
        More passes are made on small sets until so many batches are done.
    batch_size : int
        Texts per step.
    rate : float
        Peak learning rate of AdamW, warmed up over the first tenth and then falling to zero.
    seed : int
        Seed of the head, the dropout and the order of the texts.
    progress : bool
        Show a bar over the steps.

    Returns
    -------
    ndarray of str, shape (m,)

    Raises
    ------
    KitError
        For fewer than two labels or lists of different length.
    """
    if len(texts) != len(labels) or len(set(labels)) < 2:
        raise KitError(
            f"fine_tune: {len(texts)} texts, {len(labels)} labels, {len(set(labels))} different; "
            "give as many labels as texts, of at least two kinds."
        )
    tuned = MiniLM(sorted(set(labels)), seed=seed)
    tuned.fit(
        texts,
        labels,
        epochs=epochs,
        least_steps=least_steps,
        batch_size=batch_size,
        rate=rate,
        progress=progress,
    )
    return tuned.predict(test_texts)


class MiniLM:
    """MiniLM with mean pooling and a linear head, to be trained once or step by step.

    Parameters
    ----------
    classes : sequence of str
        The labels.
    seed : int
        Seed of the head, the dropout and the order of the texts.
    """

    def __init__(self, classes: Sequence[str], *, seed: int = 0) -> None:
        import torch

        self.classes = list(classes)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._encode, self._network = _network(len(self.classes))
            self._chance = torch.get_rng_state()

    def fit(
        self,
        texts: Sequence[str],
        labels: Sequence[str],
        *,
        epochs: int = 4,
        least_steps: int = 250,
        batch_size: int = 16,
        rate: float = 1e-4,
        progress: bool = False,
    ) -> MiniLM:
        """Train on labelled texts, from where it stands; the options are those of `fine_tune`."""
        import torch
        from tqdm.auto import tqdm

        network, encode = self._network, self._encode
        target = torch.tensor([self.classes.index(label) for label in labels])
        steps = max(epochs * -(-len(texts) // batch_size), least_steps)
        with torch.random.fork_rng(devices=[]):
            torch.set_rng_state(self._chance)
            optimiser = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01)
            schedule = torch.optim.lr_scheduler.LambdaLR(
                optimiser, lambda s: min(10 * (s + 1) / steps, 10 / 9 * (1 - s / steps))
            )
            network.train()
            queue: list[int] = []
            for _ in tqdm(range(steps), desc="fine-tuning", unit="step", disable=not progress):
                if len(queue) < min(batch_size, len(texts)):
                    queue += torch.randperm(len(texts)).tolist()
                rows, queue = queue[:batch_size], queue[batch_size:]
                loss = torch.nn.functional.cross_entropy(
                    network(encode([texts[i] for i in rows])), target[rows]
                )
                optimiser.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                optimiser.step()
                schedule.step()
            self._chance = torch.get_rng_state()
        return self

    def predict(self, texts: Sequence[str]) -> np.ndarray:
        """Return the predicted label of each text, an ndarray of str."""
        self._network.eval()
        return np.array(self.classes)[_predict(self._network, self._encode, list(texts))]

    def copy(self) -> MiniLM:
        """Return an independent copy, to go on from here more than once."""
        twin = copy.copy(self)
        twin._network = copy.deepcopy(self._network)
        return twin


def fine_tuned_predictions(
    methods: dict[str, pd.DataFrame],
    tests: dict[str, pd.DataFrame],
    *,
    seeds: Sequence[int] = (0,),
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Fine-tune on each method and predict each test corpus, as rows for `downstream_tables`.

    Parameters
    ----------
    methods : dict of str to DataFrame
        Training texts: columns text and label.
    tests : dict of str to DataFrame
        Test texts by name ("evaluation", "elsewhere"): columns row_id, text and label. From
        `gold_texts`; they stay in memory, only row ids and labels are returned.
    seeds : sequence of int
        One training each, kept as ``split``.
    **options
        Passed to `fine_tune`.

    Returns
    -------
    DataFrame
        ``method, model ("fine-tuned MiniLM"), train_n, test, split, row, truth, predicted``.
    """
    everything = pd.concat(tests, names=["test"]).reset_index("test")
    frames = []
    for name, train in methods.items():
        for seed in seeds:
            guess = fine_tune(
                train["text"].tolist(),
                train["label"].tolist(),
                everything["text"].tolist(),
                seed=seed,
                progress=progress,
                **options,
            )
            frames.append(
                pd.DataFrame(
                    {
                        "method": name,
                        "model": "fine-tuned MiniLM",
                        "train_n": len(train),
                        "test": everything["test"].to_numpy(),
                        "split": seed,
                        "row": everything["row_id"].to_numpy(),
                        "truth": everything["label"].to_numpy(),
                        "predicted": guess,
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def texts_key(train: pd.DataFrame) -> str:
    """Return a name for a set of training texts: a hash over texts and labels, in any order."""
    lines = sorted(f"{label}\t{text}" for text, label in train[["text", "label"]].to_numpy())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def measured_scores(methods: dict[str, pd.DataFrame], file: Path = MEASURED) -> pd.DataFrame:
    """Return what fine-tuning gave on these very training texts, measured where gold texts were.

    Parameters
    ----------
    methods : dict of str to DataFrame
        Training texts: columns text and label.
    file : Path
        Where `keep_scores` put them.

    Returns
    -------
    DataFrame
        Rows of `downstream_tables.score_table`; empty when nobody measured these texts.
    """
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    rows = [row for train in methods.values() for row in known.get(texts_key(train), [])]
    return pd.DataFrame(rows)


def keep_scores(
    methods: dict[str, pd.DataFrame], scores: pd.DataFrame, file: Path = MEASURED
) -> None:
    """Keep fine-tuned scores (numbers only) for readers without the gold texts."""
    known = json.loads(file.read_text("utf-8")) if file.exists() else {}
    for name, train in methods.items():
        part = scores[scores["method"] == name].astype(object)
        known[texts_key(train)] = part.where(part.notna(), None).to_dict("records")
    write_atomic(file, (json.dumps(known, indent=0, sort_keys=True) + "\n").encode())


def _network(classes: int) -> tuple[Any, Any]:
    """Return a function from texts to tokens, and MiniLM with mean pooling and a linear head."""
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(packaged_folder())
    body = AutoModel.from_pretrained(packaged_folder())
    if shown:
        logging.enable_progress_bar()

    def encode(texts: list[str]) -> dict[str, Any]:
        return tokenizer(
            texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
        )

    class Network(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body
            self.head = torch.nn.Linear(body.config.hidden_size, classes)

        def forward(self, tokens: dict[str, Any]) -> Any:
            states = self.body(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None]
            return self.head((states * mask).sum(1) / mask.sum(1))

    return encode, Network()


def _predict(network: Any, encode: Any, texts: list[str], *, batch_size: int = 128) -> np.ndarray:
    import torch

    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    guess = np.empty(len(texts), dtype=int)
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            guess[rows] = network(encode([texts[i] for i in rows])).argmax(1).numpy()
    return guess
