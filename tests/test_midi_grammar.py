"""The grammar takes everything that encoding produces and nothing that decoding would mend; augmentation too."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_pieces import BOTH, some_notes

from seqmodal.errors import ConfigError
from tokenizers_ext._midi_augment import transform
from tokenizers_ext.midi import BandTokenizer, MidiGrammar, MidiTokenizer, Notes, choose, summary

ON, OFF, SHIFT, VELOCITY, PROGRAM, DRUM = 0, 128, 256, 356, 388, 516
KINDS = np.array([128, 256, 356, 388, 516])


def walk(grammar: MidiGrammar, rng: np.random.Generator, length: int, wild: bool) -> list[int]:
    """Random allowed ids, `length` of them, or up to the only way on, the end. `wild` draws the kind of id first."""
    ids: list[int] = []
    while len(ids) < length:
        mask = grammar.mask()
        assert mask.any(), "no way on"
        options = np.flatnonzero(mask[:-1])
        if not len(options):
            break
        if wild:
            kinds = np.digitize(options, KINDS)
            options = options[kinds == rng.choice(np.unique(kinds))]
        ids.append(grammar.clip(int(rng.choice(options))))
        grammar.advance(ids[-1])
    return ids


def finish(grammar: MidiGrammar) -> list[int]:
    """The ids that close what sounds and end: what a sampler with a time limit would be led to."""
    limited = grammar.copy()
    limited._limit = limited._step
    ids: list[int] = []
    while not (mask := limited.mask())[-1]:
        ids.append(int(np.flatnonzero(mask)[0]))
        limited.advance(ids[-1])
        assert len(ids) < 20_000
    return ids


@BOTH
@settings(max_examples=60, deadline=None)
@given(notes=some_notes())
def test_every_encoding_is_accepted_to_its_end(tokenizer: MidiTokenizer, notes: Notes) -> None:
    grammar = tokenizer.grammar()
    ids = tokenizer.encode(notes)
    for i in ids.tolist():
        mask = grammar.mask()
        assert mask.shape == (tokenizer.vocab_size + 1,) and mask.dtype == bool
        assert mask[i]
        grammar.advance(i)
    assert grammar.mask()[-1]
    assert grammar.seconds == tokenizer.duration(ids)


@BOTH
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 1500), wild=st.booleans())
def test_every_finished_sample_is_canonical(tokenizer: MidiTokenizer, seed: int, length: int, wild: bool) -> None:
    grammar = tokenizer.grammar()
    ids = walk(grammar, np.random.default_rng(seed), length, wild)
    closing = finish(grammar)
    for i in closing:  # what closes it is allowed without a limit too
        assert grammar.mask()[i]
        grammar.advance(i)
    ids = np.array(ids + closing, np.int32)
    notes, repairs = tokenizer.decode_report(ids)
    assert repairs.total == 0
    again = tokenizer.encode(notes)
    if len(ids) and SHIFT <= ids[-1] < VELOCITY:  # closed in silence: the last shift leads to no event
        assert not grammar.mask()[-1]
        assert np.array_equal(again, tokenizer.trim(ids, tokenizer.duration(again) + 0.001)) or len(again) == 0
    else:
        assert grammar.mask()[-1]
        assert np.array_equal(again, ids)


@BOTH
@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    seconds=st.floats(0, 8),
    silence=st.one_of(st.none(), st.floats(0, 1.5)),
    longest=st.one_of(st.none(), st.floats(0, 2)),
    wild=st.booleans(),
)
def test_a_limited_walk_ends_closed_at_its_limit(
    tokenizer: MidiTokenizer, seed: int, seconds: float, silence: float | None, longest: float | None, wild: bool
) -> None:
    grammar = tokenizer.grammar(seconds=seconds, max_silence=silence, max_note=longest)
    ids = np.array(walk(grammar, np.random.default_rng(seed), 100_000, wild), np.int32)
    mask = grammar.mask()
    assert mask[-1] and mask.sum() == 1
    limit = int(seconds * 100 + 0.5) / 100
    assert grammar.seconds == tokenizer.duration(ids) == limit
    notes, repairs = tokenizer.decode_report(ids)
    assert repairs.total == 0
    assert (notes.onset < limit).all() and (notes.end[~notes.drum] <= limit).all()
    again = tokenizer.encode(notes)
    assert np.array_equal(again, ids[: len(again)])
    assert ((ids[len(again) :] >= SHIFT) & (ids[len(again) :] < VELOCITY)).all()
    if silence is not None:
        sounded = 0.0
        for onset, end in zip(notes.onset.tolist() + [limit], notes.end.tolist() + [limit], strict=True):
            assert onset - sounded <= int(silence * 100 + 0.5) / 100 + 1e-9
            sounded = max(sounded, end)
    if longest is not None:  # one step more for each key closed after it in the same step, at most two in all
        lengths = (notes.end - notes.onset)[~notes.drum]
        assert lengths.max(initial=0) <= max(1, int(longest * 100 + 0.5)) / 100 + 0.02 + 1e-9


def test_a_note_ends_at_its_limit() -> None:
    grammar = MidiTokenizer().grammar(max_note=0.5)
    for i in (VELOCITY, 60, 64):
        grammar.advance(i)
    assert grammar.mask()[SHIFT : SHIFT + 100].all(), "time may pass"
    assert grammar.clip(SHIFT + 99) == SHIFT + 49, "up to the limit"
    grammar.advance(SHIFT + 49)
    for i in (OFF + 60, OFF + 64):
        assert np.flatnonzero(grammar.mask()).tolist() == [i]
        grammar.advance(i)
    assert grammar.clip(SHIFT + 99) == SHIFT + 99 and grammar.mask()[-1]


def test_the_chosen_tokenizer_knows_how_long_notes_are() -> None:
    pieces = [summary(Notes.of([0, 1], [length, 2], [60, 70], 64)) for length in (0.5,) * 10 + (300.0,)]
    chosen = choose(pieces)
    assert chosen.longest == 1.0 and chosen.limits["max_note"] == 1.0, "one stuck key sets no standard"
    again = summary(Notes.of([0, 1], [5, 2], [60, 60], 64))
    assert again.longest == 1.0, "a note ends where its pitch is struck again"


@BOTH
@settings(max_examples=60, deadline=None)
@given(notes=some_notes(), cut=st.floats(0, 1), more=st.floats(0, 2), seed=st.integers(0, 99), raw=st.booleans())
def test_a_primer_is_continued(
    tokenizer: MidiTokenizer, notes: Notes, cut: float, more: float, seed: int, raw: bool
) -> None:
    whole = tokenizer.encode(notes)
    seconds = cut * tokenizer.duration(whole)
    # `raw` stops anywhere, after a velocity or a program too.
    primer = whole[: int(cut * len(whole))] if raw else tokenizer.trim(whole, seconds)
    grammar = tokenizer.grammar(seconds=seconds + more, max_silence=0.5)
    for i in primer.tolist():
        grammar.advance(i)
    ids = walk(grammar, np.random.default_rng(seed), 100_000, True)
    assert grammar.mask()[-1]
    _, repairs = tokenizer.decode_report(np.array(primer.tolist() + ids, np.int32))
    assert repairs.total == 0


@BOTH
def test_copies_go_their_own_way(tokenizer: MidiTokenizer) -> None:
    rng = np.random.default_rng(5)
    grammar = tokenizer.grammar(max_silence=1)
    walk(grammar, rng, 300, True)
    before, other = grammar.mask(), grammar.copy()
    walk(other, rng, 50, True)
    assert np.array_equal(grammar.mask(), before) and other.seconds >= grammar.seconds


def test_what_is_not_allowed() -> None:
    grammar = MidiTokenizer().grammar()
    assert grammar.mask()[-1]  # nothing at all is a piece
    assert not grammar.mask()[:OFF].any(), "no note before a velocity is said"
    assert not grammar.mask()[OFF:SHIFT].any(), "no off of what does not sound"
    grammar.advance(VELOCITY + 9)
    assert set(np.flatnonzero(grammar.mask())) == set(range(OFF)), "after a velocity comes a note"
    grammar.advance(60)
    mask = grammar.mask()
    assert not mask[:61].any() and mask[61:128].all(), "upwards within a step"
    assert not mask[OFF + 60], "no off at its own onset's step"
    assert not mask[VELOCITY + 9] and mask[VELOCITY + 8], "a velocity changes something"
    assert not mask[-1], "a note sounds"
    grammar.advance(SHIFT + 49)
    mask = grammar.mask()
    assert not mask[SHIFT:VELOCITY].any(), "after a shift below 100 comes no shift"
    assert mask[OFF + 60] and mask[OFF:SHIFT].sum() == 1
    grammar.advance(OFF + 60)
    assert grammar.mask()[-1] and not grammar.mask()[OFF:SHIFT].any()
    for wrong in (-1, float("nan"), float("inf")):
        with pytest.raises(ConfigError):
            MidiTokenizer().grammar(seconds=wrong)


def test_what_a_band_is_not_allowed() -> None:
    grammar = BandTokenizer().grammar()
    grammar.advance(VELOCITY + 9)
    assert set(np.flatnonzero(grammar.mask())) == set(range(DRUM, DRUM + 128)), "a drum needs no program, a note does"
    grammar.advance(DRUM + 40)
    mask = grammar.mask()
    assert not mask[PROGRAM:DRUM].any() and not mask[: DRUM + 41][DRUM:].any(), "drums come last, and upwards"
    grammar.advance(SHIFT)
    grammar.advance(PROGRAM + 33)
    mask = grammar.mask()
    assert mask[:OFF].all() and not mask[DRUM:].any() and not mask[PROGRAM:DRUM].any(), "a program is used"
    grammar.advance(50)
    assert not grammar.mask()[PROGRAM : PROGRAM + 34].any() and grammar.mask()[PROGRAM + 34 : DRUM].all()


@BOTH
def test_masks_are_quick(tokenizer: MidiTokenizer) -> None:
    grammar = tokenizer.grammar(seconds=1e6, max_silence=2)
    ids = walk(grammar, np.random.default_rng(0), 3000, False)
    grammar = tokenizer.grammar(seconds=1e6, max_silence=2)
    start = time.process_time()
    for i in ids:
        grammar.mask()
        grammar.advance(i)
    assert (time.process_time() - start) / len(ids) < 200e-6  # some 5 microseconds; the bound allows for a busy machine


# --- augmentation ---------------------------------------------------------------------------------------------------


def a_piece(tokenizer: MidiTokenizer, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    n = 400
    onset = np.cumsum(rng.choice([0, 0.01, 0.02, 0.05, 0.3, 2.4], n))
    end = onset + rng.choice([0.01, 0.02, 0.1, 1.0, 4.0], n)
    program, drum = rng.choice([0, 33, 48], n), rng.random(n) < 0.2
    return tokenizer.encode(Notes.of(onset, end, rng.integers(40, 90, n), rng.integers(1, 128, n), program, drum))


@BOTH
@settings(max_examples=80, deadline=None)
@given(start=st.integers(0, 1500), length=st.integers(0, 500), seed=st.integers(0, 3))
def test_a_window_that_nothing_changes_stays_as_it_is(
    tokenizer: MidiTokenizer, start: int, length: int, seed: int
) -> None:
    window = a_piece(tokenizer, seed)[start : start + length]
    assert np.array_equal(transform(window, tokenizer.band, 0, 1.0, 0, 127), window)
    assert np.array_equal(transform(window, tokenizer.band, 0, 1.0 + 1e-12, 0, 127), window)  # through all the steps
    up = transform(window, tokenizer.band, 3, 1.0, 0, 127)
    assert np.array_equal(transform(up, tokenizer.band, -3, 1.0, 0, 127), window)
    moved = window < SHIFT
    assert np.array_equal(up, np.where(moved, window + 3, window))  # drums and all else as they were


@BOTH
@settings(max_examples=60, deadline=None)
@given(transpose=st.integers(-3, 3), stretch=st.floats(0.95, 1.05), seed=st.integers(0, 5))
def test_an_augmented_piece_is_a_piece(tokenizer: MidiTokenizer, transpose: int, stretch: float, seed: int) -> None:
    ids = a_piece(tokenizer, seed)
    changed = transform(ids, tokenizer.band, transpose, stretch, 0, 127)
    old, (new, repairs) = tokenizer.decode_notes(ids), tokenizer.decode_report(changed)
    assert repairs.total == 0
    assert np.array_equal(tokenizer.encode(new), changed)
    assert sorted(set(new.pitch[~new.drum])) == sorted(set(old.pitch[~old.drum] + transpose))
    assert abs(new.duration - old.duration * stretch) <= 0.11
    assert len(old) * 0.9 <= len(new) <= len(old)  # notes that meet in one step become one


@BOTH
@settings(max_examples=60, deadline=None)
@given(start=st.integers(0, 1200), length=st.integers(1, 300), draw=st.integers(0, 1000))
def test_open_borders_stay_open(tokenizer: MidiTokenizer, start: int, length: int, draw: int) -> None:
    window = a_piece(tokenizer)[start : start + length]
    changed = tokenizer.augment(window, np.random.default_rng(draw))
    assert changed.dtype == np.int32
    _, before = tokenizer.decode_report(window)
    _, after = tokenizer.decode_report(changed)
    for name in ("ignored_offs", "hanging", "without_velocity", "without_program"):
        assert abs(getattr(after, name) - getattr(before, name)) <= 0.1 * getattr(before, name) + 1, name


@BOTH
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_ids_can_be_augmented(tokenizer: MidiTokenizer, data: st.DataObject) -> None:
    ids = np.array(data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=60)), np.int32)
    changed = tokenizer.augment(ids, np.random.default_rng(data.draw(st.integers(0, 99))))
    assert len(changed) == 0 or (changed.min() >= 0 and changed.max() < tokenizer.vocab_size)


def test_a_window_that_would_leave_the_range_keeps_its_key() -> None:
    ids = MidiTokenizer().encode(Notes.of([0, 1], [0.5, 2], [107, 60], 64))
    assert np.array_equal(transform(ids, False, 2, 1.0, 21, 108), ids)
    assert (transform(ids, False, 1, 1.0, 21, 108) == ids + (ids < SHIFT)).all()
    slower = MidiTokenizer().decode_notes(transform(ids, False, 2, 1.05, 21, 108))
    assert slower.pitch.tolist() == [107, 60] and slower.end.tolist() == [0.53, 2.1]


def test_the_chosen_range_is_what_augmentation_keeps_to() -> None:
    notes = Notes.of([0, 1], [0.5, 2], [108, 60], 64)
    tokenizer = choose([summary(notes)])
    for draw in range(30):
        new = tokenizer.decode_notes(tokenizer.augment(tokenizer.encode(notes), np.random.default_rng(draw)))
        assert new.pitch.max() <= 108


def test_a_shift_that_would_pass_the_limit_ends_at_it() -> None:
    grammar = MidiTokenizer().grammar(seconds=0.5)
    for i in (VELOCITY, 60):
        grammar.advance(i)
    assert grammar.mask()[SHIFT : SHIFT + 100].all()
    assert grammar.clip(SHIFT + 99) == SHIFT + 49 and grammar.clip(SHIFT + 10) == SHIFT + 10 and grammar.clip(61) == 61
    grammar.advance(grammar.clip(SHIFT + 99))
    assert grammar.seconds == 0.5 and np.flatnonzero(grammar.mask()).tolist() == [128 + 60]


ONCE = pytest.mark.parametrize("tokenizer", [MidiTokenizer(restrikes=False), BandTokenizer(restrikes=False)])


@ONCE
@settings(max_examples=60, deadline=None)
@given(notes=some_notes())
def test_without_restrikes_a_note_ends_where_its_pitch_is_struck_again(tokenizer: MidiTokenizer, notes: Notes) -> None:
    ids = tokenizer.encode(notes)
    free = type(tokenizer)().decode_notes(type(tokenizer)().encode(notes))
    found, repairs = tokenizer.decode_report(ids)
    assert repairs.total == 0 and np.array_equal(tokenizer.encode(found), ids)
    assert np.array_equal(found.onset, free.onset) and np.array_equal(found.pitch, free.pitch)
    last: dict[tuple[int, int], float] = {}
    for onset, end, pitch, program, drum in zip(
        found.onset, found.end, found.pitch, found.program, found.drum, strict=True
    ):
        if not drum:
            assert onset >= last.get((program, pitch), 0) - 1e-9
            last[program, pitch] = end
    grammar = tokenizer.grammar()
    for i in ids.tolist():
        assert grammar.mask()[i]
        grammar.advance(i)
    assert grammar.mask()[-1]


@ONCE
@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), seconds=st.floats(0, 8), wild=st.booleans())
def test_without_restrikes_no_walk_strikes_a_sounding_pitch(
    tokenizer: MidiTokenizer, seed: int, seconds: float, wild: bool
) -> None:
    grammar = tokenizer.grammar(seconds=seconds)
    ids = np.array(walk(grammar, np.random.default_rng(seed), 100_000, wild), np.int32)
    notes, repairs = tokenizer.decode_report(ids)
    assert grammar.mask()[-1] and repairs.total == 0
    tonal = notes.select(~notes.drum)
    order = np.lexsort((tonal.onset, tonal.pitch, tonal.program))
    same = (np.diff(tonal.pitch[order]) == 0) & (np.diff(tonal.program[order]) == 0)
    assert (tonal.onset[order][1:] >= tonal.end[order][:-1] - 1e-9)[same].all()
