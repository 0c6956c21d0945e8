"""How well notes were transcribed, as the field measures it: by mir_eval (Raffel et al. 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

TOLERANCE = 0.05
"""Seconds that an onset may be off."""


def note_scores(truth: Sequence[Any], found: Sequence[Any]) -> dict[str, float]:
    """Precision, recall and F1 of the notes of some pieces, the mean over pieces.

    onset_*: a note counts where its pitch is right and its onset within 50 ms. note_f1: where its end is right too,
    within 50 ms or a fifth of the note's length.

    Args:
        truth, found: of each piece arrays `onset`, `end` in seconds and `pitch` in MIDI numbers, such as `Notes`.
    """
    from mir_eval.transcription import precision_recall_f1_overlap

    rows = []
    for real, ours in zip(truth, found, strict=True):
        if not len(real.onset) or not len(ours.onset):
            rows.append([float(len(real.onset) == len(ours.onset))] * 4)
            continue
        given = (*_intervals(real), *_intervals(ours))
        *onsets, _ = precision_recall_f1_overlap(*given, onset_tolerance=TOLERANCE, offset_ratio=None)
        *_, whole, _ = precision_recall_f1_overlap(*given, onset_tolerance=TOLERANCE, offset_ratio=0.2)
        rows.append([*onsets, whole])
    means = np.mean(rows, axis=0) if rows else np.zeros(4)
    names = ("onset_precision", "onset_recall", "onset_f1", "note_f1")
    return {name: float(mean) for name, mean in zip(names, means, strict=True)}


def _intervals(notes: Any) -> tuple[np.ndarray, np.ndarray]:
    """Seconds (n, 2), and Hertz (n,)."""
    onset = np.asarray(notes.onset, np.float64)
    end = np.maximum(np.asarray(notes.end, np.float64), onset + 1e-3)
    return np.stack([onset, end], axis=1), 440.0 * 2.0 ** ((np.asarray(notes.pitch, np.float64) - 69) / 12)
