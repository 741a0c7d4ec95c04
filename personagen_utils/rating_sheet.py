"""RQ2: would people say the same? A sheet for human raters, and the way back.

Raters get a spreadsheet with the texts in random order, planted controls among them, and four empty
columns. What a row really is (item, method, kind of control) stays in a key file next to the sheet.
Filled sheets come back as the frame that a language model's scores have, and go through the same
statistics.
"""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.files import write_atomic
from personagen_utils.human_likeness import CRITERIA, check_texts
from personagen_utils.paths import resolve, shown

SHEET_COLUMNS = ("row", "emotion", "text", *CRITERIA)
CONTROL_SHARE = 0.1  # of the rows of a sheet; too few texts are rated for 5 % to tell anything
_KEPT = ("method", "language", "item", "emotion", "written_for", "control", "text")


def write_rating_sheet(
    texts: pd.DataFrame, path: str | Path, *, n: int = 100, seed: int = 0
) -> pd.DataFrame:
    """Write a sheet for human raters and, next to it, its key.

    Parameters
    ----------
    texts : DataFrame
        As returned by `planted_controls`.
    path : str or Path
        The sheet, .csv or .xlsx (which needs openpyxl). The key gets the same name, .key.json.
    n : int
        Rows of the sheet: a tenth controls, as far as there are any, the rest texts with the
        emotions in equal numbers.
    seed : int
        Seed of the choice and of the order.

    Returns
    -------
    DataFrame
        The sheet as written: row, emotion, text and four empty columns.

    Raises
    ------
    KitError
        If there are too few texts, or the file exists and may hold somebody's ratings.
    """
    path = _sheet_path(path)
    check_texts(texts)
    if path.exists():
        raise KitError(f"{shown(path)} exists and may hold ratings; choose another name.")
    rng = np.random.default_rng(seed)
    mixed = texts.iloc[rng.permutation(len(texts))]
    control = mixed["control"].notna() if "control" in mixed else pd.Series(False, mixed.index)
    controls = mixed[control].head(round(n * CONTROL_SHARE))
    real = mixed[~control]
    turn = real.groupby("emotion").cumcount().sort_values(kind="stable").index
    real = real.loc[turn].head(n - len(controls))
    if n < 1 or len(real) + len(controls) < n:
        raise KitError(f"n = {n} rows asked for; there are {int((~control).sum())} texts.")
    both = pd.concat([real, controls])
    both = both.iloc[rng.permutation(n)].reset_index(drop=True)
    both.insert(0, "row", [f"r{k:04d}" for k in range(1, n + 1)])
    sheet = both[["row", "emotion", "text"]].assign(**dict.fromkeys(CRITERIA, ""))
    # Spreadsheets take a leading = + - @ for a formula.
    formula = sheet["text"].str.match(r"[=+\-@]")
    sheet["text"] = sheet["text"].mask(formula, "'" + sheet["text"])
    kept = ["row", *(name for name in _KEPT if name in both)]
    records = both[kept].astype(object).where(both[kept].notna(), None).to_dict("records")
    data = io.BytesIO()
    if path.suffix == ".xlsx":
        sheet.to_excel(data, index=False, sheet_name="ratings", engine="openpyxl")
    else:
        sheet.to_csv(data, index=False, encoding="utf-8-sig")  # the mark tells Excel it is UTF-8
    write_atomic(_key_path(path), json.dumps(records, ensure_ascii=False, indent=1).encode())
    write_atomic(path, data.getvalue())
    return sheet


def read_rating_sheet(path: str | Path, *, rater: str | None = None) -> pd.DataFrame:
    """Read a filled sheet.

    Parameters
    ----------
    path : str or Path
        The sheet that `write_rating_sheet` wrote, its key next to it. Cells may stay empty and
        rows may be sorted; both commas and semicolons separate.
    rater : str, optional
        Name of the rater; the file's name by default.

    Returns
    -------
    DataFrame
        As `judge` returns it: one row per row of the key, the four scores (Int64), match "rated",
        model the rater, key the row's name. Deleted rows and empty cells count as not scored.

    Raises
    ------
    KitError
        For a file, a column or a row that is missing, unknown or there twice, a text that is not
        the row's own, and a score that is no integer from 1 to 5. File, row and column are named.
    """
    path = _sheet_path(path)
    sheet, name = _read_table(path), shown(path)
    for column in SHEET_COLUMNS:
        if column not in sheet:
            raise KitError(f"{name} lacks the column {column!r}; keep the columns as written.")
    key = _read_key(path)
    texts = key.set_index("row")["text"]
    for line, row in enumerate(sheet.to_dict("records"), start=2):
        at = f"{name}, line {line}"
        if row["row"] not in texts:
            raise KitError(f"{at}: row {row['row']!r} is not in {_key_path(path).name}.")
        if row["text"].removeprefix("'").split() != texts[row["row"]].removeprefix("'").split():
            raise KitError(f"{at}, text: not the text of {row['row']}; sort whole rows only.")
    if sheet["row"].duplicated().any():
        twice = sheet.loc[sheet["row"].duplicated(), "row"].iloc[0]
        raise KitError(f"{name}: row {twice} is there twice; keep one.")
    for column in CRITERIA:
        sheet[column] = _scores(sheet, column, name)
    if sheet[list(CRITERIA)].isna().all(axis=None):
        raise KitError(f"{name} holds no score yet; fill in integers from 1 to 5.")
    scored = key.merge(sheet[["row", *CRITERIA]], on="row", how="left", validate="1:1")
    scored = scored.assign(match="rated", model=rater or path.stem, error=None)
    return scored.rename(columns={"row": "key"})


def _scores(sheet: pd.DataFrame, column: str, name: str) -> pd.Series:
    cells = sheet[column].str.strip().str.replace(r"^([1-5])[.,]0+$", r"\1", regex=True)
    wrong = ~cells.isin(["", *"12345"])
    if wrong.any():
        k = int(np.flatnonzero(wrong)[0])
        raise KitError(
            f"{name}, line {k + 2} ({sheet['row'].iloc[k]}), {column}: {cells.iloc[k]!r} is no "
            f"integer from 1 to 5; leave the cell empty if you cannot say."
        )
    return pd.to_numeric(cells.where(cells != "")).astype("Int64")


def _sheet_path(path: str | Path) -> Path:
    path = resolve(path)
    if path.suffix not in (".csv", ".xlsx"):
        raise KitError(f"{path.name}: a rating sheet is a .csv or an .xlsx file.")
    if path.suffix == ".xlsx":
        try:
            import openpyxl  # noqa: F401
        except ImportError:
            raise KitError(f"{path.name}: .xlsx needs openpyxl; install it or use .csv.") from None
    return path


def _key_path(path: Path) -> Path:
    return path.with_suffix(".key.json")


def _read_table(path: Path) -> pd.DataFrame:
    as_text = {"dtype": str, "keep_default_na": False}
    try:
        if path.suffix == ".xlsx":
            return pd.read_excel(path, engine="openpyxl", **as_text)
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", **as_text)
    except FileNotFoundError:
        raise KitError(f"{shown(path)} is missing.") from None
    except UnicodeDecodeError:
        raise KitError(f"{shown(path)} is not UTF-8; save it as 'CSV UTF-8'.") from None
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise KitError(f"{shown(path)} is no table: {error}.") from None


def _read_key(path: Path) -> pd.DataFrame:
    try:
        records = json.loads(_key_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise KitError(
            f"{shown(_key_path(path))} is missing; copy the key that was written with the sheet "
            f"next to it, under the sheet's name."
        ) from None
    key = pd.DataFrame(records)
    if "control" not in key:
        key["control"] = None
    return key.astype({"control": "str"})
