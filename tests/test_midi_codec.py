"""The performance vocabulary: golden vectors from the rules, a slow oracle, and properties over any notes and ids."""

from __future__ import annotations

from collections import defaultdict, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_pieces import BOTH, some_notes

from seqmodal.errors import BadInput
from tokenizers_ext.midi import BandTokenizer, MidiTokenizer, Notes, Summary, choose, summary

ON, OFF, SHIFT, VELOCITY, PROGRAM, DRUM = 0, 128, 256, 356, 388, 516


def shift(steps: int) -> int:
    return SHIFT + steps - 1


def bin_of(velocity: int) -> int:
    return VELOCITY + (velocity - 1) // 4


def some_ids(size: int) -> st.SearchStrategy[np.ndarray]:
    near = st.sampled_from([60, 61, 188, 189, 256, 355, 356, 380] + ([388, 390, 516, 517] if size > 388 else []))
    return st.lists(st.one_of(near, st.integers(0, size - 1)), max_size=120).map(lambda x: np.array(x, np.int32))


# --- golden vectors -------------------------------------------------------------------------------------------------


def test_one_note() -> None:
    ids = MidiTokenizer().encode(Notes.of([0.5], [1.0], [60], [64]))
    assert ids.dtype == np.int32
    assert ids.tolist() == [shift(50), bin_of(64), ON + 60, shift(50), OFF + 60]


def test_order_within_a_step_is_offs_then_ons_by_pitch() -> None:
    notes = Notes.of([0, 0, 1, 1], [1, 1, 2, 2], [67, 60, 64, 60], [80, 80, 80, 80])
    expected = [bin_of(80), 60, 67, shift(100), OFF + 60, OFF + 67, 60, 64, shift(100), OFF + 60, OFF + 64]
    assert MidiTokenizer().encode(notes).tolist() == expected


def test_velocity_only_when_its_bin_changes() -> None:
    notes = Notes.of([0, 0.1, 0.2, 0.3], [0.05, 0.15, 0.25, 0.35], [60] * 4, [61, 64, 65, 64])
    ids = MidiTokenizer().encode(notes)
    assert [i - VELOCITY for i in ids.tolist() if VELOCITY <= i < PROGRAM] == [15, 16, 15]


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(2.5, [100, 100, 50]), (2.0, [100, 100]), (1.0, [100]), (1.01, [100, 1]), (0.01, [1])]
)
def test_long_gaps_are_hundreds_then_the_rest(seconds: float, tokens: list[int]) -> None:
    ids = MidiTokenizer().encode(Notes.of([seconds], [seconds + 0.1], [60], [64]))
    assert ids.tolist()[: len(tokens)] == [shift(t) for t in tokens]
    assert ids[len(tokens)] == bin_of(64)


def test_times_are_rounded_absolutely_and_no_note_is_empty() -> None:
    notes = Notes.of([0.0149, 1.0, 1.004], [0.0151, 1.0, 1.0049], [60, 62, 64], [64, 64, 64])
    assert MidiTokenizer().encode(notes).tolist() == [
        shift(1), bin_of(64), 60, shift(1), OFF + 60, shift(98), 62, 64, shift(1), OFF + 62, OFF + 64,
    ]  # fmt: skip


def test_exact_duplicates_become_one_and_are_counted() -> None:
    notes = Notes.of([0, 0.001, 0], [0.5, 0.2, 0.3], [60, 60, 61], [10, 90, 50])
    ids, duplicates = MidiTokenizer().encode_report(notes)
    assert duplicates == 1
    expected = [bin_of(90), 60, bin_of(50), 61, shift(30), OFF + 61, shift(20), OFF + 60]
    assert ids.tolist() == expected  # the longest end, the loudest velocity


def test_the_band_names_programs_and_hits() -> None:
    notes = Notes.of(
        [0, 0, 0, 0.5],
        [1, 0.5, 0.1, 0.6],
        [60, 40, 36, 38],
        [64, 64, 64, 100],
        [0, 33, 0, 0],
        [False, False, True, True],
    )
    assert BandTokenizer().encode(notes).tolist() == [
        PROGRAM, bin_of(64), 60, PROGRAM + 33, 40, DRUM + 36,
        shift(50), OFF + 40, bin_of(100), DRUM + 38, shift(50), PROGRAM, OFF + 60,
    ]  # fmt: skip


def test_midi_leaves_drums_out_and_merges_programs() -> None:
    notes = Notes.of([0, 0, 0], [1, 1, 1], [60, 64, 36], 64, [0, 48, 0], [False, False, True])
    ids = MidiTokenizer().encode(notes)
    assert ids.tolist() == [bin_of(64), 60, 64, shift(100), OFF + 60, OFF + 64]
    back = MidiTokenizer(program=11).decode_notes(ids)
    assert back.program.tolist() == [11, 11] and not back.drum.any()


def test_decoding_is_first_in_first_out() -> None:
    notes, repairs = MidiTokenizer().decode_report([bin_of(64), 60, shift(5), 60, shift(5), 188, shift(5), 188])
    assert notes.onset.tolist() == [0, 0.05] and notes.end.tolist() == [0.1, 0.15]
    assert repairs.total == 0


def test_decoding_mends_and_counts() -> None:
    ids = [OFF + 50, 60, shift(10), bin_of(20), 61, OFF + 61, 62, shift(7), OFF + 62, OFF + 62]
    notes, repairs = MidiTokenizer().decode_report(ids)
    assert (repairs.ignored_offs, repairs.hanging, repairs.zero_length, repairs.without_velocity) == (2, 1, 1, 1)
    assert notes.pitch.tolist() == [60, 62] and notes.velocity.tolist() == [100, 17]
    assert notes.end.tolist() == [0.17, 0.17]


def test_nothing_and_a_day() -> None:
    for tokenizer in (MidiTokenizer(), BandTokenizer()):
        assert len(tokenizer.encode(Notes.of([], [], [], []))) == 0
        assert len(tokenizer.decode_notes([])) == 0
    for onset, end in ((0, 1e9), (float("nan"), 1), (-1, 1), (0, float("inf"))):
        with pytest.raises(BadInput):
            MidiTokenizer().encode(Notes.of([onset], [end], [60], [64]))
    for pitch, velocity in ((128, 64), (-1, 64), (60, 0), (60, 128)):
        with pytest.raises(BadInput):
            MidiTokenizer().encode(Notes.of([0], [1], [pitch], [velocity]))


# --- a slow oracle --------------------------------------------------------------------------------------------------


def oracle_encode(notes: Notes, band: bool) -> list[int]:
    """The rules, one note and one event at a time."""
    merged: dict[tuple, list[int]] = {}
    for t0, t1, pitch, velocity, program, drum in zip(
        notes.onset, notes.end, notes.pitch, notes.velocity, notes.program, notes.drum, strict=True
    ):
        if drum and not band:
            continue
        start, stop = int(t0 * 100 + 0.5), int(t1 * 100 + 0.5)
        key = (start, bool(drum), 0 if drum or not band else int(program), int(pitch))
        old = merged.setdefault(key, [0, 0])
        merged[key] = [max(old[0], stop if stop > start else start + 1), max(old[1], int(velocity))]
    events = []
    for (start, drum, program, pitch), (stop, velocity) in merged.items():
        events.append((start, 2 if drum else 1, program, pitch, (velocity - 1) // 4))
        if not drum:
            events.append((stop, 0, program, pitch, 0))
    ids, now, current_program, current_bin = [], 0, None, None
    for step, kind, program, pitch, velocity_bin in sorted(events):
        while step > now:
            ids.append(shift(min(100, step - now)))
            now += min(100, step - now)
        if band and kind < 2 and program != current_program:
            ids.append(PROGRAM + program)
            current_program = program
        if kind and velocity_bin != current_bin:
            ids.append(VELOCITY + velocity_bin)
            current_bin = velocity_bin
        ids.append((OFF, ON, DRUM)[kind] + pitch)
    return ids


def oracle_decode(ids: np.ndarray, band: bool) -> list[tuple]:
    """Rows (onset step, end step, drum, program, pitch, velocity), sorted."""
    now, velocity, program, rows = 0, 100, 0, []
    sounding: dict[tuple, deque] = defaultdict(deque)
    for i in ids.tolist():
        if i < OFF:
            sounding[program, i].append((now, velocity))
        elif i < SHIFT:
            queue = sounding[program, i - OFF]
            if queue:
                start, loud = queue.popleft()
                rows.append((start, now, False, program, i - OFF, loud))
        elif i < VELOCITY:
            now += i - SHIFT + 1
        elif i < PROGRAM:
            velocity = 1 + 4 * (i - VELOCITY)
        elif i < DRUM:
            program = i - PROGRAM
        else:
            rows.append((now, now + 10, True, 0, i - DRUM, velocity))
    for (program, pitch), queue in sounding.items():
        rows += [(start, now, False, program, pitch, loud) for start, loud in queue]
    return sorted(row for row in rows if row[1] > row[0])


@BOTH
@settings(max_examples=200, deadline=None)
@given(notes=some_notes())
def test_encoding_is_the_oracle(tokenizer: MidiTokenizer, notes: Notes) -> None:
    assert tokenizer.encode(notes).tolist() == oracle_encode(notes, tokenizer.band)


@BOTH
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_decoding_any_ids_is_the_oracle(tokenizer: MidiTokenizer, data: st.DataObject) -> None:
    ids = data.draw(some_ids(tokenizer.vocab_size))
    notes, _ = tokenizer.decode_report(ids)
    steps = [np.rint(t * 100).astype(int).tolist() for t in (notes.onset, notes.end)]
    columns = (*steps, notes.drum.tolist(), notes.program.tolist(), notes.pitch.tolist(), notes.velocity.tolist())
    assert sorted(zip(*columns, strict=True)) == oracle_decode(ids, tokenizer.band)
    order = list(zip(notes.onset, notes.drum, notes.program, notes.pitch, strict=True))
    assert order == sorted(order)


# --- properties -----------------------------------------------------------------------------------------------------


@BOTH
@settings(max_examples=150, deadline=None)
@given(notes=some_notes())
def test_round_trip(tokenizer: MidiTokenizer, notes: Notes) -> None:
    ids, duplicates = tokenizer.encode_report(notes)
    back, repairs = tokenizer.decode_report(ids)
    assert repairs.total == 0
    assert np.array_equal(tokenizer.encode(back), ids)
    assert np.array_equal(tokenizer.encode(tokenizer.decode(ids)), ids)  # by way of a PrettyMIDI
    kept = notes if tokenizer.band else notes.select(~notes.drum)
    assert len(back) == len(kept) - duplicates
    if len(kept):  # each onset within half a step of one that was there, however late it is
        for pitch in np.unique(kept.pitch):
            old, new = kept.onset[kept.pitch == pitch], back.onset[back.pitch == pitch]
            assert np.abs(old[:, None] - new[None]).min(axis=1).max() <= 0.005 + 1e-9
    assert tokenizer.duration(ids) <= kept.duration + 0.0151


def test_no_drift_over_an_hour() -> None:
    onset = np.arange(10_000) * 0.3637
    notes = Notes.of(onset, onset + 0.1234, np.arange(10_000) % 60 + 30, 64)
    back = MidiTokenizer().decode_notes(MidiTokenizer().encode(notes))
    assert np.abs(back.onset - onset).max() <= 0.005 + 1e-9


@BOTH
def test_a_written_file_reads_back_to_the_same_ids(tokenizer: MidiTokenizer, tmp_path) -> None:
    rng = np.random.default_rng(3)
    for n, item in enumerate(tokenizer.examples(rng)[1:]):
        ids = tokenizer.encode(item)
        path = tmp_path / f"{n}.mid"
        tokenizer.write(tokenizer.decode(ids), path)
        assert np.array_equal(tokenizer.encode(path), ids)
        tokenizer.write(item, path)
        assert len(tokenizer.read(path)) == len(item)


@BOTH
def test_trim_keeps_the_first_seconds(tokenizer: MidiTokenizer) -> None:
    ids = tokenizer.encode(tokenizer.examples(np.random.default_rng(1))[-1])
    total = tokenizer.duration(ids)
    assert np.array_equal(tokenizer.trim(ids, total), ids)
    assert len(tokenizer.trim(ids, 0)) == 0 or tokenizer.duration(tokenizer.trim(ids, 0)) == 0
    for seconds in np.linspace(0.01, total, 37):
        part = tokenizer.trim(ids, seconds)
        assert np.array_equal(part, ids[: len(part)])
        assert tokenizer.duration(part) <= seconds + 0.0051
        after = ids[len(part) :]
        time = tokenizer.duration(part) + np.cumsum(np.where((after >= 256) & (after < 356), after - 255, 0)) / 100
        event = (after < OFF) | (after >= DRUM)
        assert (time[event] > seconds - 0.0051).all()  # no note of the first seconds is missing


def test_rebuilt_from_its_dict_it_is_the_same() -> None:
    for tokenizer in (MidiTokenizer(5, 21, 108), BandTokenizer(30, 90)):
        again = type(tokenizer).from_dict(tokenizer.to_dict())
        assert again.to_dict() == tokenizer.to_dict() and type(again) is type(tokenizer)


# --- the choice -----------------------------------------------------------------------------------------------------


def piece(pitches: list[int], program: int = 0, drum: bool = False) -> Summary:
    onset = np.arange(len(pitches)) / 2
    return summary(Notes.of(onset, onset + 0.4, pitches, 64, program, drum))


def test_a_tokenizer_is_chosen_by_what_the_corpus_holds() -> None:
    def chosen(*pieces: Summary) -> tuple[int, int, int]:
        tokenizer = choose(pieces)
        assert tokenizer.name == "midi"
        return tokenizer.program, tokenizer.low, tokenizer.high

    assert chosen(piece([60, 64]), piece([50], program=3)) == (0, 21, 108)
    assert chosen(piece([60, 12])) == (0, 0, 127)
    assert chosen(piece([60], program=40)) == (40, 21, 108)
    assert choose([piece([60]), piece([60], program=40)]).name == "band"
    band = choose([piece([60]), piece([36], drum=True)])
    assert (band.name, band.low, band.high) == ("band", 21, 108)
    assert choose([piece([36], drum=True)]).name == "band"
    assert choose([]).name == "midi"


def test_the_content_hash_hears_what_is_played() -> None:
    a = Notes.of([0, 1], [1, 2], [60, 62], [64, 64])
    assert summary(a).content_hash == summary(Notes.of([1, 0], [2, 1], [62, 60], [64, 64])).content_hash
    assert summary(a).content_hash != summary(Notes.of([0, 1], [1, 2], [60, 63], [64, 64])).content_hash
    assert summary(a).pitches.tolist() == [60, 62]
