"""How near translations are to their references, as the field measures it: by sacrebleu, on detokenised text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Scores:
    """Of a set of translations.

    Attributes:
        bleu: 0 to 100 (Papineni et al. 2002; Post 2018).
        chrf: 0 to 100, chrF2 (Popović 2015).
        exact: share that equals its reference.
        signatures: with what settings sacrebleu computed BLEU and chrF, for others to compare with.
    """

    bleu: float
    chrf: float
    exact: float
    signatures: tuple[str, str]


def translation_scores(translations: Sequence[str], references: Sequence[str]) -> Scores:
    """Compare each translation with its one reference, in sacrebleu's default settings."""
    from sacrebleu.metrics import BLEU, CHRF

    bleu, chrf = BLEU(), CHRF()
    found = [metric.corpus_score(list(translations), [list(references)]).score for metric in (bleu, chrf)]
    signatures = str(bleu.get_signature()), str(chrf.get_signature())
    return Scores(found[0], found[1], exact_share(translations, references), signatures)


def exact_share(answers: Sequence[str], references: Sequence[str]) -> float:
    """Share of the answers that equal their references, spaces at the ends aside."""
    same = sum(one.strip() == other.strip() for one, other in zip(answers, references, strict=True))
    return same / max(1, len(references))
