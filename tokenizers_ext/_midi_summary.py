"""What a piece holds, in a few numbers; and which tokenizer a corpus of such pieces asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tokenizers_ext import _midi_codec as codec
from tokenizers_ext._midi_notes import Notes


@dataclass(frozen=True, eq=False)
class Summary:
    """One piece. `low`, `high`, `programs` are those of the notes without drums; 0, 0 and none where there are none."""

    notes: int
    seconds: float
    programs: frozenset[int]
    drums: bool
    low: int
    high: int
    longest: float  # seconds, of a note, up to where its pitch is struck again; 0 where there are drums only
    content_hash: str  # sha256 of its quantised events: the same for two files with the same music
    pitches: np.ndarray  # int16 (n,) in canonical order, a drum's + 128; what near-duplicates are found by


def summary(notes: Notes) -> Summary:
    """The summary of a piece. Raises BadInput for notes that are no music (see `Notes.check`)."""
    ids, _ = codec.encode(notes, band=True)
    tonal = notes.select(~notes.drum)
    return Summary(
        notes=len(notes),
        seconds=notes.duration,
        programs=frozenset(np.unique(tonal.program).tolist()),
        drums=bool(notes.drum.any()),
        low=int(tonal.pitch.min(initial=127)) if len(tonal) else 0,
        high=int(tonal.pitch.max(initial=0)),
        longest=codec.longest(tonal),
        content_hash=hashlib.sha256(ids.astype("<i4").tobytes()).hexdigest(),
        pitches=(notes.pitch + 128 * notes.drum).astype(np.int16),
    )
