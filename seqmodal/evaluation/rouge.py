"""ROUGE of summaries by `rouge-score`, against the best of several references and against their mean; leads."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

KINDS = {"rouge1": "rouge1", "rouge2": "rouge2", "rougeLsum": "rouge_lsum"}
"""Measures by their names in `rouge-score` and here: words, pairs of words, the union of common subsequences."""
LEADS = (1, 3)
"""Sentences that the baselines take from the start of an article."""
_END = re.compile(r"(?<=[.!?])[\"')\]]?\s+(?=[\"'(\[]?[A-Z0-9])|\s*\n\s*")


def sentences(text: str) -> list[str]:
    """The sentences of a text: a line end ends one, and so does a full stop, question mark or exclamation mark with a
    space and a capital letter or digit behind it."""
    parts, at = [], 0
    for end in _END.finditer(text):
        parts.append(text[at : end.end()].strip())
        at = end.end()
    parts.append(text[at:].strip())
    return [part for part in parts if part]


def signature() -> str:
    """The settings, to print beside the figures."""
    from importlib.metadata import version

    return f"rouge-score {version('rouge-score')}, F1 in percent, Porter stemmer, Lsum by sentences"


def rouge(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """F1 in percent, as a mean over all predictions: `rouge1`, `rouge2`, `rouge_lsum` against the reference with the
    highest score for each (Lin 2004), and, where any has several, `rouge1_mean` and so on, the mean over references.

    Raises:
        ValueError: for numbers of predictions and of sets of references that differ, or a set that is empty.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(KINDS), use_stemmer=True)
    best, mean = [], []
    for prediction, some in zip(predictions, references, strict=True):
        if not some:
            raise ValueError("a summary without any reference")
        laid = _lines(prediction)
        found = [scorer.score(_lines(reference), laid) for reference in some]
        table = np.array([[scores[kind].fmeasure for kind in KINDS] for scores in found])
        best.append(table.max(axis=0))
        mean.append(table.mean(axis=0))
    if not best:
        return {}
    named: dict[str, float] = dict(zip(KINDS.values(), (100 * np.mean(best, axis=0)).tolist(), strict=True))
    if any(len(some) > 1 for some in references):
        means = (100 * np.mean(mean, axis=0)).tolist()
        named |= {f"{name}_mean": value for name, value in zip(KINDS.values(), means, strict=True)}
    return named


def leads(articles: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """The same of the first sentence, and of the first three, of each article: `lead1_rouge1` and so on."""
    split = [sentences(article) for article in articles]
    found: dict[str, float] = {}
    for count in LEADS:
        scores = rouge(["\n".join(parts[:count]) for parts in split], references)
        found |= {f"lead{count}_{name}": value for name, value in scores.items()}
    return found


def _lines(text: str) -> str:
    """A sentence a line, as Lsum wants it."""
    return "\n".join(sentences(text))
