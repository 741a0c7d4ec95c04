"""What does a classifier know for nothing? Two baselines that cost no request (RQ3).

Synthetic texts that teach no more than the emotion's own name, or some fifty phrases like "i feel
angry", are worth nothing: both stand in every learning curve.
"""

from collections.abc import Sequence

import numpy as np

from personagen_utils.embedding import embed

WORDS = {  # three words per emotion for the template phrases
    "joy": ("happy", "joyful", "delighted"),
    "anger": ("angry", "furious", "mad"),
    "sadness": ("sad", "miserable", "heartbroken"),
    "love": ("loving", "affectionate", "full of love"),
    "surprise": ("surprised", "amazed", "shocked"),
    "fear": ("afraid", "scared", "terrified"),
    "pleasure": ("pleased", "content", "satisfied"),
    "neutral": ("neutral", "indifferent", "nothing special"),
}
TEMPLATES = ("i feel {}", "i am so {} right now", "that makes me {}")


def template_phrases(labels: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return nine phrases per emotion ("i feel angry") and their labels: 54 for six emotions.

    An emotion without words here is called by its own name (three phrases).
    """
    pairs = [
        (template.format(word), label)
        for label in labels
        for word in WORDS.get(label, (label,))
        for template in TEMPLATES
    ]
    return [text for text, _ in pairs], [label for _, label in pairs]


def nearest_word(X: np.ndarray, labels: Sequence[str]) -> np.ndarray:
    """Label each vector with the emotion whose bare name lies nearest: no training at all.

    Parameters
    ----------
    X : ndarray, shape (n, 384)
        Unit vectors of the packaged model.
    labels : sequence of str

    Returns
    -------
    ndarray of str, shape (n,)
    """
    words = embed(list(labels))
    return np.asarray(labels)[(X @ words.T).argmax(axis=1)]
