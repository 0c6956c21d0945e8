"""Pieces of chance, and both tokenizers, for the tests of MIDI."""

from __future__ import annotations

from pathlib import Path

import numpy as np
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


def melody(seed: int, count: int = 120, program: int = 0, drum: bool = False) -> Notes:
    """One voice of chance on a grid of 50 ms, so that every writer of MIDI files keeps its times."""
    rng = np.random.default_rng(seed)
    onset = np.arange(count) * 0.1
    end = onset + rng.integers(1, 3, count) * 0.05
    return Notes.of(onset, end, rng.integers(48, 84, count), rng.integers(40, 110, count), program, drum)


def together(*parts: Notes) -> Notes:
    """Several voices at once."""
    names = ("onset", "end", "pitch", "velocity", "program", "drum")
    return Notes.of(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def write_midi(path: Path, *parts: Notes) -> Path:
    """A MIDI file of voices at once, in folders that are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    MidiTokenizer().write(together(*parts), path)
    return path


def files_below(folder: Path) -> set[str]:
    """Paths of all files below a folder, relative to it."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
