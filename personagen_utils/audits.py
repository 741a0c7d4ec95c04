"""Is the corpus fair, and is it its own? Audits of sampler, words and memory (notebook 13).

Three questions that a table of scores does not answer: did the verdicts shift the population, do
the texts give away (or caricature) who speaks, and does a text repeat one of the gold corpus.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from personagen_utils.corpora import words_of
from personagen_utils.errors import KitError
from personagen_utils.intervals import jackknife
from personagen_utils.tables import Tables

_NUMBERS = ("value", "low", "high", "n")
LEAST_EXPECTED = 5  # of a cell of a chi-square test; rarer ones are pooled


def share_audit(
    people: pd.DataFrame, target: pd.DataFrame, attributes: Sequence[str | tuple[str, str]]
) -> pd.DataFrame:
    """Compare the shares of a population with those of a large draw of the same tables.

    Parameters
    ----------
    people : DataFrame
        The population to audit, one column per attribute.
    target : DataFrame
        A large population drawn with verdicts off.
    attributes : sequence of str or of (str, str)
        Attributes, and pairs whose joint shares are compared.

    Returns
    -------
    DataFrame
        attribute, tv (total variation distance to the target, 0 to 1), tv_chance (its mean if n
        people were drawn from the target), chi2, df, p (chi-square test, cells with an expected
        count under 5 pooled), n.
    """
    rows, n = [], len(people)
    rng = np.random.default_rng(0)
    for attribute in attributes:
        names = [attribute] if isinstance(attribute, str) else list(attribute)
        share = target.groupby(names, observed=True).size() / len(target)
        count = people.groupby(names, observed=True).size().reindex(share.index, fill_value=0)
        unseen = n - int(count.sum())  # cells too rare for the target's draw
        p, k = share.to_numpy(), count.to_numpy()
        drawn = rng.multinomial(n, p / p.sum(), size=200) / n
        order = np.argsort(-p)
        large = order[p[order] * n >= LEAST_EXPECTED]
        expected = np.append(p[large] * n, n - (p[large] * n).sum())
        observed = np.append(k[large], n - k[large].sum())
        if expected[-1] < 1e-9:
            expected, observed = expected[:-1], observed[:-1]
        chi2, df = float(((observed - expected) ** 2 / expected).sum()), len(expected) - 1
        rows.append(
            {
                "attribute": " × ".join(names).replace("_", " "),
                "tv": float(np.abs(k / n - p).sum() / 2 + unseen / n / 2),
                "tv_chance": float(np.abs(drawn - p).sum(axis=1).mean() / 2),
                "chi2": chi2,
                "df": df,
                "p": float(stats.chi2.sf(chi2, df)) if df else 1.0,
                "n": n,
            }
        )
    return pd.DataFrame(rows)


def rejection_rates(verdicts: pd.DataFrame, attribute: str) -> pd.DataFrame:
    """Return which draws the judge rejects, by the items of an attribute.

    Returns
    -------
    DataFrame
        item, rejected (share of draws called implausible), low, high (95 % Wilson), n; most
        rejected first. Draws that were not judged do not count.
    """
    judged = verdicts[(verdicts["label"] != "not judged") & verdicts[attribute].notna()]
    rows = []
    for item, part in judged.groupby(attribute, observed=True):
        k, n = int((part["label"] == "implausible").sum()), len(part)
        low, high = stats.binomtest(k, n).proportion_ci(method="wilson")
        rows.append({"item": item, "rejected": k / n, "low": low, "high": high, "n": n})
    frame = pd.DataFrame(rows, columns=["item", "rejected", "low", "high", "n"])
    return frame.sort_values(["rejected", "n"], ascending=False, ignore_index=True)


def group_words(texts: pd.DataFrame, attribute: str, *, n: int = 8, least: int = 5) -> pd.DataFrame:
    """Return the words by which each group's texts differ from all others'.

    Log-odds ratio with an informative Dirichlet prior (the words of all texts), as a z score.

    Parameters
    ----------
    texts : DataFrame
        Columns text and the attribute.
    attribute : str
    n : int
        Words per group.
    least : int
        Texts in which a word must occur.

    Returns
    -------
    DataFrame
        group, word, z, in_group and elsewhere (per 1,000 words), texts (with the word).

    Notes
    -----
    Monroe, B., Colaresi, M. & Quinn, K. (2008). Fightin' Words. Political Analysis 16(4).
    """
    words = [[w for w in words_of(t) if w not in ENGLISH_STOP_WORDS] for t in texts["text"]]
    occurs = Counter(word for ws in words for word in set(ws))
    known = sorted(word for word, k in occurs.items() if k >= least)  # ties go by the alphabet
    index = {word: i for i, word in enumerate(known)}
    groups = texts[attribute].astype(str).to_numpy()
    names = sorted(set(groups))
    if len(names) < 2:
        raise KitError(f"The texts know one {attribute} only; groups cannot be compared.")
    counts = np.zeros((len(names), len(known)))
    for group, ws in zip(groups, words, strict=True):
        for word in ws:
            if word in index:
                counts[names.index(group), index[word]] += 1
    prior = counts.sum(0)
    rows = []
    for g, name in enumerate(names):
        a, b = counts[g] + prior, counts.sum(0) - counts[g] + prior
        odds = np.log(a / (a.sum() - a)) - np.log(b / (b.sum() - b))
        z = odds / np.sqrt(1 / a + 1 / b)
        inside, outside = counts[g], counts.sum(0) - counts[g]
        for i in np.argsort(-z, kind="stable")[:n]:
            rows.append(
                {
                    "group": name,
                    "word": known[i],
                    "z": float(z[i]),
                    "in_group": 1000 * inside[i] / max(1, inside.sum()),
                    "elsewhere": 1000 * outside[i] / max(1, outside.sum()),
                    "texts": occurs[known[i]],
                }
            )
    return pd.DataFrame(rows)


def attribute_leakage(
    texts: pd.DataFrame, attributes: Sequence[str], *, seed: int = 0
) -> pd.DataFrame:
    """Say how often a text repeats a word of its speaker's attributes, beyond chance.

    Chance is how often it repeats a word of the same attribute of somebody else, drawn at random.

    Parameters
    ----------
    texts : DataFrame
        Columns text, item and the attributes.
    attributes : sequence of str
    seed : int

    Returns
    -------
    DataFrame
        Tidy rows: metric "repeats its attribute, share", attribute, value, low, high (jackknife
        over persona-scenes), chance, n.
    """
    spoken = [{_stem(word) for word in words_of(text)} for text in texts["text"]]
    items = texts["item"].to_numpy()
    people = texts.drop_duplicates("item").set_index("item")
    order = np.random.default_rng(seed).permutation(len(people))
    rows = []
    for name in attributes:
        value = texts[name].astype(str).to_numpy()
        other = dict(zip(people.index, people[name].astype(str).to_numpy()[order], strict=True))
        own, chance = (
            np.array([bool(said & _value_words(v)) for said, v in zip(spoken, values, strict=True)])
            for values in (value, [other[i] for i in items])
        )
        found = jackknife(lambda kept, x=own: float(x[kept].mean()), items, seed=seed)
        rows.append(
            {
                "metric": "repeats its attribute, share",
                "attribute": name,
                "value": found.value,
                "low": max(0.0, found.low),
                "high": min(1.0, found.high),
                "chance": float(chance.mean()),
                "n": len(texts),
            }
        )
    return pd.DataFrame(rows)


def _stem(word: str) -> str:
    return re.sub(r"(?:es|s|e)$", "", word)


def _value_words(value: str) -> set[str]:
    """Return the words of an attribute's value that are worth finding in a text."""
    words = {_stem(w) for w in re.findall(r"[a-z]+", value.lower()) if len(w) > 3}
    return words - {_stem(w) for w in ENGLISH_STOP_WORDS} - _GENERIC


_GENERIC = {"with", "other", "style", "language", "living", "area", "standard", "male", "female"}


def guessable(
    texts: pd.DataFrame, vectors: np.ndarray, attributes: Sequence[str], *, seed: int = 0
) -> pd.DataFrame:
    """Say how well an attribute of the speaker can be guessed from a text: stereotype included.

    A logistic regression on the vectors, folds of whole persona-scenes.

    Parameters
    ----------
    texts : DataFrame
        Columns item and the attributes.
    vectors : ndarray, shape (n, d)
    attributes : sequence of str
        Items held by fewer than ten persona-scenes are left out.

    Returns
    -------
    DataFrame
        Tidy rows: metric "AUC of a guess", attribute, value (mean one-against-rest AUC, .5 is
        chance), low, high (jackknife over persona-scenes), classes, n.
    """
    rows = []
    for name in attributes:
        label = texts[name].astype(str)
        holders = texts.groupby(label)["item"].nunique()
        kept = label.isin(holders[holders >= 10].index).to_numpy()
        y, item = label[kept].to_numpy(), texts["item"].to_numpy()[kept]
        classes = np.unique(y)
        if len(classes) < 2:
            continue
        chance = cross_val_predict(
            LogisticRegression(max_iter=1000),
            vectors[kept],
            y,
            groups=item,
            cv=StratifiedGroupKFold(5, shuffle=True, random_state=seed),
            method="predict_proba",
        )

        def auc(at: np.ndarray, y=y, chance=chance, classes=classes) -> float:
            each = [roc_auc_score(y[at] == c, chance[at, k]) for k, c in enumerate(classes)]
            return float(np.mean(each))

        found = jackknife(auc, item, seed=seed)
        rows.append(
            {
                "metric": "AUC of a guess",
                "attribute": name,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "classes": len(classes),
                "n": len(y),
            }
        )
    return pd.DataFrame(rows, columns=["metric", "attribute", *_NUMBERS[:3], "classes", "n"])


def match_by_group(scores: pd.DataFrame, attributes: Sequence[str]) -> pd.DataFrame:
    """Return the judge's mean emotion match by group, with the largest gap between groups.

    Parameters
    ----------
    scores : DataFrame
        Scores of real texts: columns emotion_match, item and the attributes.
    attributes : sequence of str

    Returns
    -------
    DataFrame
        Tidy rows: metric "emotion match", attribute, group, value, low, high, n; groups of at
        least ten persona-scenes.
    """
    rows = []
    for name in attributes:
        for group, part in scores.groupby(name, observed=True):
            if part["item"].nunique() < 10:
                continue
            value = part["emotion_match"].to_numpy(float)
            found = jackknife(lambda kept, v=value: float(v[kept].mean()), part["item"].to_numpy())
            rows.append(
                {
                    "metric": "emotion match",
                    "attribute": name,
                    "group": group,
                    "value": found.value,
                    "low": max(1.0, found.low),
                    "high": min(5.0, found.high),
                    "n": len(part),
                }
            )
    return pd.DataFrame(rows, columns=["metric", "attribute", "group", *_NUMBERS])


def nearest_gold(vectors: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return each text's cosine with the nearest gold text, shape (n,), in bounded memory."""
    gold = np.asarray(gold, np.float32).T
    return np.concatenate(
        [
            (np.asarray(vectors[start : start + 2048], np.float32) @ gold).max(axis=1)
            for start in range(0, len(vectors), 2048)
        ]
    )


def telling_words(made: Sequence[str], gold: Sequence[str], *, n: int = 12) -> pd.DataFrame:
    """Return the words by which synthetic texts and gold differ most; no text is shown.

    Returns
    -------
    DataFrame
        As `group_words`, group "synthetic" or "gold".
    """
    both = pd.DataFrame(
        {
            "text": [*made, *gold],
            "origin": ["synthetic"] * len(made) + ["gold"] * len(gold),
        }
    )
    return group_words(both, "origin", n=n)


def first_draws(tables: Tables, items: Sequence[int], *, seed: int) -> pd.DataFrame:
    """Return the first draw of some people, before anybody judged them (stages 1 and 2)."""
    from personagen_utils.background import draw_backgrounds
    from personagen_utils.base_persona import draw_base_personas

    numbers = np.asarray(items)
    people = draw_base_personas(tables, numbers, seed=seed)
    return people.join(draw_backgrounds(tables, people, numbers, seed=seed))
