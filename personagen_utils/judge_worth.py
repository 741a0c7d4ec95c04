"""RQ2: what are the scores worth? Checks of a judge, model or human, that the paper leaves out.

Do the scores find the planted controls, do two judges agree, are long texts favoured, and does the
judge score its own family? Rows and intervals as in :mod:`personagen_utils.judge_statistics`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from personagen_utils.errors import KitError
from personagen_utils.human_likeness import CONTROLS, CRITERIA
from personagen_utils.judge_statistics import estimate, real_texts, tidy

_SAME_TEXT = ["method", "item", "emotion", "text"]
_FAMILIES = {
    "OpenAI (GPT and o-series)": r"\b(?:chat)?gpt(?!-j|-neo)|\bo[134]\b|davinci",
    "Claude": r"claude",
    "Gemini and Gemma": r"gemini|gemma",
    "Llama": r"llama(?!-?cpp|\.cpp)",
    "Qwen": r"qwen|\bqwq",
    "Mistral": r"mistral|mixtral|ministral|codestral|magistral|pixtral",
    "DeepSeek": r"deepseek",
    "Grok": r"grok",
    "Command": r"\bcommand\b|c4ai",
    "Phi": r"\bphi\b",
}


def control_auc(scored: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return how well each criterion tells real texts from each kind of planted control.

    Parameters
    ----------
    scored : DataFrame
    seed : int

    Returns
    -------
    DataFrame
        Tidy rows, `n` scored controls of the kind:

        - metric "AUC": the chance that a real text outscores a control, ties counting half;
          0.5 is a criterion that does not see the damage, 1 one that always does.
        - metric "found": the share of controls that score below the text they are a copy of.
    """
    from sklearn.metrics import roc_auc_score

    def auc(k: np.ndarray, is_real: np.ndarray, x: np.ndarray) -> float:
        return roc_auc_score(is_real[k], x[k]) if 0 < is_real[k].sum() < len(k) else np.nan

    real, rows = real_texts(scored), []
    for name in CRITERIA:
        for kind in CONTROLS:
            row = {"criterion": name, "control": kind}
            spoilt = scored[(scored["control"] == kind) & scored[name].notna()]
            known = real[real[name].notna()]
            if spoilt.empty or known.empty:
                lack = {"n": 0, "reason": f"no scored {'control' if spoilt.empty else 'text'}"}
                rows += [{"metric": metric} | row | lack for metric in ("AUC", "found")]
                continue
            both = pd.concat([known, spoilt])
            is_real, x = both["control"].isna().to_numpy(), both[name].to_numpy(float)
            found = estimate(
                lambda k, is_real=is_real, x=x: auc(k, is_real, x), both, seed, limits=(0, 1)
            )
            rows.append({"metric": "AUC"} | row | found | {"n": len(spoilt)})
            pairs = spoilt.merge(
                known, left_on=["item", "written_for"], right_on=["item", "emotion"]
            ).drop_duplicates(["item", "written_for_x"])
            below = (pairs[f"{name}_x"] < pairs[f"{name}_y"]).to_numpy(float)
            found = estimate(lambda k, x=below: x[k].mean(), pairs, seed, limits=(0, 1))
            rows.append({"metric": "found"} | row | found)
    return tidy(rows, scored)


def agreement(first: pd.DataFrame, second: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Compare two judges, two looks of one judge, or a judge and a human rater.

    Parameters
    ----------
    first, second : DataFrame
        Scores of the same texts; only texts that both scored count, controls are left out.
    seed : int

    Returns
    -------
    DataFrame
        Tidy rows per criterion, `n` texts scored by both: metric "kappa" (Cohen's kappa with
        quadratic weights; absent where a judge gives one score only, when it is undefined or 0
        whatever the judges do) and metric "equal" (share of equal scores).

    Raises
    ------
    KitError
        If the two have no text in common.

    Notes
    -----
    Cohen, J. (1968). Weighted kappa. Psychological Bulletin 70(4), 213-220. Near the top of the
    scale kappa may be low while nearly all scores are equal: read the two together.
    """
    from sklearn.metrics import cohen_kappa_score

    def kappa(a: np.ndarray, b: np.ndarray) -> float:
        if min(len(set(a)), len(set(b))) < 2:
            return np.nan
        return cohen_kappa_score(a, b, weights="quadratic", labels=range(1, 6))

    keys = [name for name in _SAME_TEXT if name in first and name in second]
    left, right = (real_texts(frame).drop_duplicates(keys) for frame in (first, second))
    both = left.merge(right[[*keys, *CRITERIA]], on=keys, suffixes=("", "_second"))
    if both.empty:
        raise KitError("The two judges have no text in common; both must score the same texts.")
    rows = []
    for name in CRITERIA:
        part = both[both[name].notna() & both[f"{name}_second"].notna()]
        a, b = part[name].to_numpy(int), part[f"{name}_second"].to_numpy(int)
        constant = len(part) and min(len(set(a)), len(set(b))) < 2
        if constant:
            found = {"n": len(part), "reason": "one judge gives the same score to every text"}
        else:
            found = estimate(lambda k, a=a, b=b: kappa(a[k], b[k]), part, seed, limits=(-1, 1))
        rows.append({"metric": "kappa", "criterion": name} | found)
        equal = (a == b).astype(float)
        found = estimate(lambda k, x=equal: x[k].mean(), part, seed, limits=(0, 1))
        rows.append({"metric": "equal", "criterion": name} | found)
    return tidy(rows, first)


def length_correlation(scored: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Return Spearman's rank correlation of each score with the length of the text.

    Parameters
    ----------
    scored : DataFrame
    seed : int

    Returns
    -------
    DataFrame
        Tidy rows of metric "length correlation" per criterion, -1 to 1; length in characters,
        controls left out; absent where all scores or all lengths are equal.
    """
    from scipy.stats import rankdata

    def spearman(x: np.ndarray, y: np.ndarray) -> float:
        if min(len(set(x)), len(set(y))) < 2:
            return np.nan
        return np.corrcoef(rankdata(x), rankdata(y))[0, 1]

    real, rows = real_texts(scored), []
    for name in CRITERIA:
        part = real[real[name].notna()]
        x, length = part[name].to_numpy(float), part["text"].str.len().to_numpy(float)
        row = {"metric": "length correlation", "criterion": name}
        if len(part) and min(len(set(x)), len(set(length))) < 2:
            what = "scores" if len(set(x)) < 2 else "lengths"
            rows.append(row | {"n": len(part), "reason": f"all {what} are equal"})
            continue
        found = estimate(lambda k, x=x, y=length: spearman(x[k], y[k]), part, seed, limits=(-1, 1))
        rows.append(row | found)
    return tidy(rows, scored)


def same_family(judge_model: str, writer_models: Iterable[str]) -> str | None:
    """Warn when the judge scores texts of its own model or family.

    Parameters
    ----------
    judge_model : str
        As the replies report it, for example "gpt-4o-2024-08-06".
    writer_models : iterable of str
        The models that wrote the texts.

    Returns
    -------
    str or None
        One sentence, or None when no writer is known to be related.

    Examples
    --------
    >>> same_family("gpt-4o", ["claude-sonnet-4"]) is None
    True
    """
    own = _families(judge_model)
    for writer in dict.fromkeys(name for name in writer_models if isinstance(name, str)):
        if writer.lower() == judge_model.lower():
            return (
                f"Judge and writer are one model ({writer}): it scores its own texts, and models "
                f"are known to favour those."
            )
        shared = sorted(own & _families(writer))
        if shared:
            return (
                f"Judge {judge_model} and writer {writer} are of one family, {shared[0]}: models "
                f"are known to favour texts of their own kind."
            )
    return None


def _families(model: str) -> set[str]:
    return {name for name, form in _FAMILIES.items() if re.search(form, model.lower())}
