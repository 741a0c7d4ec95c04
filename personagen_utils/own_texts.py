"""A reader's own corpus: a CSV of texts and labels in place of the generated ones."""

import warnings
from pathlib import Path

import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.paths import resolve, shown


def own_texts(path: str | Path, *, text: str = "text", label: str = "emotion") -> pd.DataFrame:
    """Return the texts and labels of a CSV file, in the form the RQ1 and RQ2 notebooks read.

    Parameters
    ----------
    path : str or Path
        UTF-8 CSV file with a header.
    text, label : str
        Its columns with the text and with the label; any set of two or more labels.

    Returns
    -------
    DataFrame
        Columns text, emotion, item, and all other columns of the file as they are. `item` is the
        file's own column of that name, else each text is its own persona-scene.

    Raises
    ------
    KitError
        For a file that is missing, no UTF-8 or no CSV, a missing column, an empty text or label
        (with its row, the header being row 1), or a single label.
    """
    file = resolve(path)
    name = shown(file)
    try:
        # Texts stay as they are: "NA" or "null" is a text, not a missing value.
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # a row with a field too many
            table = pd.read_csv(
                file, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False
            ).fillna("")
    except OSError as error:
        raise KitError(f"{name}: cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError:
        raise KitError(
            f"{name}: line {_bad_line(file)} is not UTF-8; save the file as UTF-8 CSV."
        ) from None
    except pd.errors.ParserWarning:
        raise KitError(
            f"{name}: rows have more fields than the header; quote texts that hold commas."
        ) from None
    except ValueError as error:
        reason = " ".join(str(error).split()).removeprefix("Error tokenizing data. C error: ")
        raise KitError(
            f"{name}: is not a readable CSV table ({reason}); quote texts that hold commas."
        ) from None
    for column in (text, label):
        if column not in table:
            there = ", ".join(map(str, table.columns))
            way = "save it with commas" if ";" in there else f"rename yours to {column!r}"
            raise KitError(f"{name}: has no column {column!r}; it has {there}: {way}.")
    if table.empty:
        raise KitError(f"{name}: has a header and no texts.")
    for what, column in (("text", text), ("label", label)):
        empty = table[column].str.strip() == ""
        if empty.any():
            more = f" (and {empty.sum() - 1} more)" if empty.sum() > 1 else ""
            raise KitError(
                f"{name}: the {what} in row {int(empty.idxmax()) + 2}{more} is empty; "
                "fill or delete it (the header is row 1)."
            )
    labels = table[label].str.strip()
    if labels.nunique() < 2:
        raise KitError(f"{name}: all {len(table)} texts are {labels[0]!r}; two labels are needed.")
    rest = table.drop(columns=list({text, label, "text", "emotion"} & set(table.columns)))
    table = pd.DataFrame({"text": table[text], "emotion": labels}).join(rest)
    return table if "item" in table else table.assign(item=range(len(table)))


def _bad_line(file: Path) -> int:
    with open(file, encoding="utf-8", errors="replace", newline="\n") as lines:
        return next((n for n, line in enumerate(lines, start=1) if "\ufffd" in line), 1)
