"""Transcripts: windows of notes and back, where each id lies in time, and how they are scored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.evaluation.transcription import note_scores
from seqmodal.tokenizers.conformance import check
from tokenizers_ext.midi import Notes
from tokenizers_ext.transcript import STEPS, TranscriptTokenizer

TOKENIZER = TranscriptTokenizer()
WINDOW, MARGIN = 120, 20
STRIDE = WINDOW - 2 * MARGIN


def rows(notes: Notes) -> list[tuple[int, int, int]]:
    """Notes as steps and pitches, in order."""
    onset, end = ((times * STEPS).round().astype(int).tolist() for times in (notes.onset, notes.end))
    return sorted(zip(onset, end, notes.pitch.tolist(), strict=True))


@st.composite
def pieces(draw: st.DrawFn) -> Notes:
    """Notes each of which is longer than the slack of windows, so that no two events of a pitch are near."""
    found: list[tuple[int, int, int]] = []
    for pitch in draw(st.lists(st.integers(0, 127), unique=True, max_size=5)):
        at = 0
        for gap, length in draw(st.lists(st.tuples(st.integers(7, 200), st.integers(7, 90)), max_size=6)):
            found.append((at + gap, at + gap + length, pitch))
            at += gap + length
    table = np.array(found, float).reshape(-1, 3)
    return Notes.of(table[:, 0] / STEPS, table[:, 1] / STEPS, table[:, 2].astype(int), 100)


@settings(max_examples=80, deadline=None)
@given(pieces())
def test_windows_joined_are_the_piece(notes: Notes) -> None:
    ids = TOKENIZER.encode(notes)
    last = int(notes.duration * STEPS)
    windows = [TOKENIZER.window(ids, at, at + WINDOW) for at in range(0, last + 1, STRIDE)]
    assert rows(TOKENIZER.join(windows, STRIDE, MARGIN, 10_000)) == rows(notes)


@settings(max_examples=50, deadline=None)
@given(pieces())
def test_ids_lie_where_their_events_are(notes: Notes) -> None:
    ids = TOKENIZER.encode(notes)
    (times,) = TOKENIZER.coordinates(ids).T
    ons = [(time, id) for time, id in zip(times.tolist(), ids.tolist(), strict=True) if id < 128]
    assert sorted(ons) == sorted((onset, pitch) for onset, _, pitch in rows(notes))
    for cut in (0, len(ids) // 2):  # what comes later changes nothing
        assert np.array_equal(TOKENIZER.coordinates(ids[:cut])[:, 0], times[:cut])


def test_a_border_belongs_to_the_next_window_or_ends_the_one_before() -> None:
    ids = TOKENIZER.encode(Notes.of([0.0, 1.0], [1.0, 2.0], [60, 62], 100))
    off = 128 + 60
    assert off not in TOKENIZER.window(ids, 0, 100) and off in TOKENIZER.window(ids, 100, 200)
    assert off in TOKENIZER.window(ids, 0, 100, ends=True) and off not in TOKENIZER.window(ids, 100, 200, ends=True)


def test_what_two_windows_tell_with_a_little_difference_is_one_note() -> None:
    one = TOKENIZER.encode(Notes.of([0.99], [1.10], [60], 100))
    other = TOKENIZER.encode(Notes.of([1.01 - STRIDE / STEPS], [1.10 - STRIDE / STEPS], [60], 100))
    assert rows(TOKENIZER.join([one, other], STRIDE, MARGIN, 1000)) == [(99, 110, 60)]


def test_a_note_that_nothing_ends_is_no_longer_than_a_window() -> None:
    on = TOKENIZER.encode(Notes.of([0.0], [1.0], [60], 100))[:1]
    later = TOKENIZER.encode(Notes.of([9.0], [9.5], [70], 100))
    assert rows(TOKENIZER.join([np.concatenate([on, later])], 1, 0, WINDOW)) == [(0, WINDOW, 60), (900, 950, 70)]


def test_it_keeps_the_laws() -> None:
    assert check(TOKENIZER, runs=100) == []


def test_scores_by_hand() -> None:
    truth = Notes.of([0.0, 1.0, 2.0, 3.0], [0.5, 1.5, 2.5, 3.5], [60, 62, 64, 65], 100)
    found = Notes.of([0.04, 1.06, 2.0], [0.5, 1.5, 3.4], [60, 62, 64], 100)  # right; late; right, but too long
    scores = note_scores([truth], [found])
    assert scores["onset_precision"] == pytest.approx(2 / 3)
    assert scores["onset_recall"] == pytest.approx(2 / 4)
    assert scores["onset_f1"] == pytest.approx(4 / 7)
    assert scores["note_f1"] == pytest.approx(2 / 7)
    silence = truth.select(np.zeros(4, bool))
    assert note_scores([silence, truth], [silence, silence])["onset_f1"] == pytest.approx(0.5)
