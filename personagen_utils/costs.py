"""What will it cost, and what has it cost?

Before a run tokens are estimated from characters; while it goes on the host's own counts replace
the estimates. Prices come from ``data/prices.csv``, a dated table to be edited by hand.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.files import lock, write_atomic
from personagen_utils.paths import DATA, shown

if TYPE_CHECKING:
    from personagen_utils.chat import Request

PRICES = DATA / "prices.csv"
PER_MESSAGE = 8  # tokens that a chat format adds around one message, at most
ASCII_PER_TOKEN = 4.0  # characters per token in English text
OTHER_PER_TOKEN = 1.0  # and in Japanese, where a character is about one token


@dataclass(frozen=True)
class Price:
    """Dollars per million tokens of one model; a batch costs ``1 - batch_discount`` of that."""

    model: str
    input: float
    output: float
    batch_discount: float
    date: str
    source: str

    def usd(self, prompt_tokens: float, completion_tokens: float, *, batch: bool = False) -> float:
        """Return the dollars for these tokens."""
        share = 1 - self.batch_discount if batch else 1.0
        return share * (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


@dataclass
class Usage:
    """Running totals of one client."""

    sent: int = 0  # requests that left, retries included
    retries: int = 0  # sent again after a fault of the line or the host
    malformed: int = 0  # replies that broke the form and were asked again
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0  # by the host's counts; 0 for models without a price
    earlier_usd: float = 0.0  # what replies did cost that were in the store already
    matches: Counter[str] = field(default_factory=Counter)  # replies by how they were found
    models: Counter[str] = field(default_factory=Counter)  # replies by the model they report


class Spending:
    """What a run folder has cost so far, in ``spending.json``: the budget holds over restarts.

    Parameters
    ----------
    run_dir : Path, optional
        Without one only this client's own spending counts.
    """

    def __init__(self, run_dir: Path | None = None) -> None:
        self._file = run_dir / "spending.json" if run_dir else None
        self._booked: dict[str, float] = {}  # what this client wrote

    def total(self) -> float:
        """Return the dollars spent, and at most still to be spent by what is under way."""
        return sum(self._read().values())

    def book(self, name: str, usd: float) -> None:
        """Set what `name` (a client or a batch) has cost in all."""
        if usd == self._read().get(name, 0.0):
            return
        self._booked[name] = usd
        if self._file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with lock(self._file.parent):
                booked = self._read() | {name: round(usd, 9)}
                write_atomic(self._file, json.dumps(booked, indent=1).encode())

    def _read(self) -> dict[str, float]:
        if self._file is None or not self._file.exists():
            return dict(self._booked)
        return json.loads(self._file.read_text("utf-8"))


@cache
def load_prices(path: Path = PRICES) -> dict[str, Price]:
    """Read the price table.

    Parameters
    ----------
    path : Path
        CSV with the columns model, input, output (dollars per million tokens), batch_discount
        (a share of 1), date, source.

    Returns
    -------
    dict of str to Price

    Raises
    ------
    KitError
        When a row is incomplete or a price is no number.
    """
    prices = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            try:
                numbers = [float(row[name]) for name in ("input", "output", "batch_discount")]
                prices[row["model"]] = Price(row["model"], *numbers, row["date"], row["source"])
            except (KeyError, TypeError, ValueError) as error:
                raise KitError(
                    f"{shown(path)}: the row {row.get('model')!r} needs numbers for input, output "
                    "and batch_discount."
                ) from error
    return prices


def price_of(model: str) -> Price | None:
    """Return the price of `model` (a dated name like ``gpt-4o-2024-11-20`` counts as its base)."""
    prices = load_prices()
    dated = [name for name in prices if model == name or model.startswith(f"{name}-20")]
    return prices[max(dated, key=len)] if dated else None


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of `text` from its characters.

    English runs at about four characters a token, Japanese at about one.

    >>> estimate_tokens("Good morning")
    3
    """
    plain = sum(character < "\u0250" for character in text)
    return round(plain / ASCII_PER_TOKEN + (len(text) - plain) / OTHER_PER_TOKEN)


def estimate_prompt(request: Request) -> int:
    """Estimate the tokens that `request` sends, its schema included."""
    extra = str(request.body().get("response_format", ""))
    said = sum(estimate_tokens(message["content"]) + 4 for message in request.messages)
    return said + estimate_tokens(extra)


def most_usd(request: Request, *, batch: bool = False) -> float:
    """Return what `request` can cost at most, in dollars; 0 when its model has no price.

    No tokenizer makes more tokens than there are bytes, so bytes bound the input; the output is
    bounded by ``max_tokens``.
    """
    price = price_of(request.model)
    if price is None:
        return 0.0
    # Twice the schema: it is also written into the prompt when a reply has to be asked again.
    schema = 2 * len(str(request.body().get("response_format", "")).encode()) + 200
    said = sum(len(message["content"].encode()) + PER_MESSAGE for message in request.messages)
    sent = said + (schema if request.schema else 0)
    return price.usd(sent, request.max_tokens, batch=batch)


def require_prices(requests: Sequence[Request]) -> None:
    """Raise KitError when a budget is set but a model has no price."""
    for model in {request.model for request in requests}:
        if price_of(model) is None:
            raise KitError(
                f"max_usd needs a price for the model {model!r}: add a row to {shown(PRICES)} "
                "(0 for a model that costs nothing)."
            )


def estimate_table(
    requests: Sequence[Request],
    *,
    answered: Collection[str] = (),
    mean_completion: Mapping[str, float] | None = None,
    batch: bool = False,
) -> pd.DataFrame:
    """Estimate tokens and dollars of requests without sending any.

    Parameters
    ----------
    requests : sequence of Request
    answered : collection of str
        Keys of those that need not be asked.
    mean_completion : mapping of str to float, optional
        Tokens of a reply seen so far, by kind; without it every reply counts ``max_tokens``.
    batch : bool
        The requests will go out by the Batch API: usd_estimate and usd_at_most at its price.

    Returns
    -------
    DataFrame
        One row per kind and model: requests, already_answered, to_ask, prompt_tokens_estimate and
        completion_tokens_estimate of those to be asked, usd_estimate, usd_estimate_batch, and
        usd_at_most, which no run can exceed. Dollars are missing for models without a price.
    """
    seen, rows = mean_completion or {}, []
    groups = sorted({(request.kind, request.model) for request in requests})
    for kind, model in groups:
        group = {r.key: r for r in requests if (r.kind, r.model) == (kind, model)}
        open_ = [request for key, request in group.items() if key not in answered]
        prompt = sum(map(estimate_prompt, open_))
        completion = sum(min(seen.get(kind, r.max_tokens), r.max_tokens) for r in open_)
        price = price_of(model)
        rows.append(
            {
                "kind": kind,
                "model": model,
                "requests": len(group),
                "already_answered": len(group) - len(open_),
                "to_ask": len(open_),
                "prompt_tokens_estimate": prompt,
                "completion_tokens_estimate": round(completion),
                "usd_estimate": price and price.usd(prompt, completion, batch=batch),
                "usd_estimate_batch": price and price.usd(prompt, completion, batch=True),
                "usd_at_most": price and sum(most_usd(one, batch=batch) for one in open_),
            }
        )
    return pd.DataFrame(rows)
