"""Pieces of chance, and both tokenizers, for the tests of MIDI."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from tokenizers_ext.midi import BandTokenizer, MidiTokenizer, Notes

BOTH = pytest.mark.parametrize("tokenizer", [MidiTokenizer(), BandTokenizer()], ids=["midi", "band"])


def a_note() -> st.SearchStrategy[tuple]:
    time = st.one_of(st.integers(0, 400).map(lambda s: s / 100), st.floats(0, 5, allow_nan=False))
    length = st.one_of(st.just(0.0), st.floats(0, 3, allow_nan=False))
    return st.tuples(
        time, length, st.integers(0, 127), st.integers(1, 127), st.sampled_from([0, 0, 7, 127]), st.booleans()
    )


def some_notes(max_size: int = 40) -> st.SearchStrategy[Notes]:
    def build(rows: list[tuple]) -> Notes:
        onset = [row[0] for row in rows]
        end = [row[0] + row[1] for row in rows]
        return Notes.of(onset, end, *([row[i] for row in rows] for i in (2, 3, 4, 5)))

    steps = st.integers(0, 20).map(lambda s: s / 100)  # few times and pitches, so that notes meet
    close = st.tuples(steps, steps, st.integers(60, 62), st.integers(1, 127), st.sampled_from([0, 7]), st.booleans())
    return st.one_of(st.lists(a_note(), max_size=max_size), st.lists(close, max_size=max_size)).map(build)
