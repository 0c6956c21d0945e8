"""Reading MIDI files: pedal, tempo, drums; and damage of every kind, where only BadInput or valid notes may come."""

from __future__ import annotations

import io
import struct
import time
import warnings
from collections import Counter
from pathlib import Path

import mido
import numpy as np
import pretty_midi
import pytest
import symusic
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput
from tokenizers_ext import _midi_read, _midi_smf
from tokenizers_ext._midi_notes import fold_pedal
from tokenizers_ext.midi import MidiTokenizer, Notes, from_pretty_midi, read, read_bytes

ZOO = Path(__file__).parents[2] / "shared" / "data" / "midi_zoo"
ASAP = ZOO.parent / "asap" / "valid"


def chunk(name: bytes, body: bytes) -> bytes:
    return name + struct.pack(">I", len(body)) + body


def smf(*tracks: bytes, division: int = 480, kind: int | None = None, count: int | None = None) -> bytes:
    kind = (len(tracks) > 1) if kind is None else kind
    head = chunk(b"MThd", struct.pack(">HHH", kind, len(tracks) if count is None else count, division))
    return head + b"".join(chunk(b"MTrk", track) for track in tracks)


END = b"\x00\xff\x2f\x00"
SCALE = b"".join(bytes((0, 0x90, 60 + i, 64, 0x83, 0x60, 0x80, 60 + i, 0)) for i in range(8)) + END  # 480 ticks each


LONG = b"\x00\x90\x3c\x40\xff\xff\xff\x7f\x80\x3c\x00"  # a note of 77 hours


def midi(*tracks: list[mido.Message], division: int = 480) -> bytes:
    file = mido.MidiFile(type=1 if len(tracks) > 1 else 0, ticks_per_beat=division)
    for messages in tracks:
        file.tracks.append(mido.MidiTrack(messages))
    out = io.BytesIO()
    file.save(file=out)
    return out.getvalue()


def on(pitch: int, time: int = 0, channel: int = 0, velocity: int = 64) -> mido.Message:
    return mido.Message("note_on", note=pitch, time=time, channel=channel, velocity=velocity)


def off(pitch: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("note_off", note=pitch, time=time, channel=channel)


def pedal(value: int, time: int = 0, channel: int = 0) -> mido.Message:
    return mido.Message("control_change", control=64, value=value, time=time, channel=channel)


def rows(notes: Notes) -> list[tuple]:
    return [(round(a, 4), round(b, 4), p) for a, b, p in zip(notes.onset, notes.end, notes.pitch.tolist(), strict=True)]


def valid(notes: Notes) -> bool:
    notes.check()
    return len(notes) > 0 and bool((notes.end >= notes.onset).all() and (notes.end - notes.onset <= 3600).all())


# --- what a file says -----------------------------------------------------------------------------------------------


def test_a_scale() -> None:
    notes = read_bytes(smf(SCALE))
    assert rows(notes) == [(i / 2, (i + 1) / 2, 60 + i) for i in range(8)]
    assert notes.repairs == () and not notes.drum.any() and set(notes.velocity) == {64}


def test_the_whole_tempo_map_counts_on_any_track() -> None:
    tempos = [mido.MetaMessage("set_tempo", tempo=t, time=d) for t, d in ((1_000_000, 480), (250_000, 480))]
    notes = read_bytes(midi([on(60), off(60, 1440)], tempos))
    assert rows(notes) == [(0, 0.5 + 1.0 + 0.25, 60)]
    ignored = [mido.MetaMessage("set_tempo", tempo=0, time=480)]
    notes = read_bytes(midi([on(60), off(60, 960)], ignored))
    assert rows(notes) == [(0, 1.0, 60)] and "tempo 0 ignored" in notes.repairs


def test_drums_and_programs() -> None:
    program = mido.Message("program_change", program=33, channel=1)
    notes = read_bytes(midi([program, on(40, channel=1), on(36, channel=9), off(40, 480, 1), off(36, 0, 9)]))
    assert notes.program.tolist() == [33, 0] and notes.drum.tolist() == [False, True]


def test_overlapping_notes_of_one_pitch_end_first_in_first_out() -> None:
    data = midi([on(60), on(60, 480), off(60, 480), off(60, 480)])
    for notes in (read_bytes(data), by_events(data)):
        assert rows(notes) == [(0, 1.0, 60), (0.5, 1.5, 60)]


def by_events(data: bytes) -> Notes:
    mended: Counter[str] = Counter()
    columns, damage = _midi_read._by_events(data, mended)
    return _midi_read._checked(columns, mended, damage)


# --- the pedal ------------------------------------------------------------------------------------------------------


def test_the_pedal_holds_notes_until_it_comes_up() -> None:
    data = midi([pedal(127), on(60), off(60, 480), on(62), off(62, 480), pedal(0, 480), on(64), off(64, 480)])
    assert rows(read_bytes(data)) == [(0, 1.5, 60), (0.5, 1.5, 62), (1.5, 2.0, 64)]


def test_a_new_strike_ends_the_held_note() -> None:
    data = midi([pedal(64), on(60), off(60, 240), on(60, 240), off(60, 240), pedal(63, 240)])
    assert rows(read_bytes(data)) == [(0, 0.5, 60), (0.5, 1.0, 60)]


def test_a_pedal_that_never_comes_up_holds_to_the_last_event() -> None:
    assert rows(read_bytes(midi([pedal(127), on(60), off(60, 480), on(62), off(62, 960)]))) == [
        (0, 1.5, 60),
        (0.5, 1.5, 62),
    ]


def test_a_pedal_works_on_its_channel_wherever_it_is_written() -> None:
    right, left = [on(60), off(60, 480)], [on(40, channel=1), off(40, 480, 1)]
    expected = [(0, 0.5, 40), (0, 1.0, 60)]
    assert rows(read_bytes(midi(right, left, [pedal(127), pedal(0, 960)]))) == expected  # a track without notes
    assert rows(read_bytes(midi([pedal(127), *right, pedal(0, 480)], left))) == expected
    hands = midi([pedal(127), *right, pedal(0, 480)], [on(40), off(40, 480)])  # two hands, one channel
    assert rows(read_bytes(hands)) == [(0, 1.0, 40), (0, 1.0, 60)]
    drums = midi([pedal(127, channel=9), on(36, channel=9), off(36, 480, 9), pedal(0, 480, 9), *right])
    assert rows(read_bytes(drums))[0] == (0, 0.5, 36)


def test_running_status_hides_no_pedal() -> None:
    track = b"\x00\xb0\x07\x64\x00\x0b\x7f\x00\x40\x7f\x00\x90\x3c\x40\x83\x60\x3c\x00\x83\x60\xb0\x40\x00" + END
    second = b"\x00\x91\x30\x40\x83\x60\x30\x00" + END
    assert rows(read_bytes(smf(track))) == [(0, 1.0, 60)]
    assert rows(read_bytes(smf(track, second))) == [(0, 0.5, 48), (0, 1.0, 60)]


def oracle_pedal(notes: list[tuple], pedals: list[tuple], last: int) -> list[tuple]:
    """One event at a time, after apply_sustain_control_changes of note_seq."""
    events = [(t, 0 if v >= 64 else 1, None) for t, v in pedals]
    for index, (onset, end, _) in enumerate(notes):
        events += [(onset, 2, index), (end, 3, index)]
    events.sort(key=lambda e: (e[0], e[1]))
    ends, active, down, gone = [n[1] for n in notes], [], False, set()
    for now, kind, index in events:
        if kind == 0:
            down = True
        elif kind == 1:
            down = False
            for i in active:
                if ends[i] < now:
                    ends[i] = now
            active = [i for i in active if ends[i] > now or notes[i][1] >= now]
        elif kind == 2:
            if down:
                for i in [i for i in active if notes[i][2] == notes[index][2]]:
                    ends[i] = now
                    active.remove(i)
                    if notes[i][0] == now:
                        gone.add(i)
            active.append(index)
        elif not down and index in active:
            active.remove(index)
    for i in active:
        ends[i] = max(ends[i], last)
    return [(n[0], ends[i], n[2]) for i, n in enumerate(notes) if i not in gone]


times = st.integers(0, 12)


@settings(max_examples=400, deadline=None)
@given(
    notes=st.lists(st.tuples(times, st.integers(1, 6), st.integers(60, 61)), max_size=8),
    pedals=st.lists(st.tuples(times, st.sampled_from([0, 63, 64, 127])), max_size=8),
)
def test_the_folded_pedal_is_the_oracle(notes: list[tuple], pedals: list[tuple]) -> None:
    notes = sorted((t, t + d, p) for t, d, p in notes)
    last = max([n[1] for n in notes] + [t for t, _ in pedals] + [0])
    onset, end, pitch = (np.array([n[i] for n in notes], np.int64) for i in range(3))
    time, value = (np.array([p[i] for p in pedals], np.int64) for i in range(2))
    new_end, keep = fold_pedal(onset, end, pitch, time, value, last)
    folded = sorted(zip(onset[keep].tolist(), new_end[keep].tolist(), pitch[keep].tolist(), strict=True))
    assert folded == sorted(oracle_pedal(notes, pedals, last))


def test_a_pretty_midi_with_a_pedal() -> None:
    item = pretty_midi.PrettyMIDI()
    piano, kit = pretty_midi.Instrument(0), pretty_midi.Instrument(0, is_drum=True)
    piano.notes = [pretty_midi.Note(64, 60, 0.0, 0.5), pretty_midi.Note(64, 62, 1.0, 1.25)]
    piano.control_changes = [pretty_midi.ControlChange(64, 100, 0.0), pretty_midi.ControlChange(64, 0, 0.75)]
    kit.notes = [pretty_midi.Note(64, 36, 0.0, 0.1)]
    item.instruments = [piano, kit]
    assert rows(from_pretty_midi(item)) == [(0, 0.75, 60), (0, 0.1, 36), (1.0, 1.25, 62)]
    assert len(from_pretty_midi(pretty_midi.PrettyMIDI())) == 0


# --- damage ---------------------------------------------------------------------------------------------------------


def test_a_riff_is_unwrapped(tmp_path: Path) -> None:
    inner = smf(SCALE)
    path = tmp_path / "scale.rmi"
    path.write_bytes(chunk(b"RIFF", b"RMID" + chunk(b"data", inner)))
    assert rows(read(path)) == rows(read_bytes(inner))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("data byte above 127", smf(b"\x00\x90\xfc\x40\x10\x80\x3c\x00" + SCALE), 8),
        ("data byte above 127 in a controller", smf(b"\x00\xb0\x07\xa8" + SCALE), 8),
        ("running status without status", smf(b"\x00\x3c\x40" + SCALE), 8),
        ("undefined status", smf(b"\x00\xf4" + SCALE), 8),
        ("header says five tracks", smf(SCALE, count=5, kind=1), 8),
        ("header says no track", smf(SCALE, count=0, kind=0), 8),
        ("unknown chunk first", smf()[:14] + chunk(b"XFIH", b"abc") + chunk(b"MTrk", SCALE), 8),
        ("key signature of nine sharps", smf(b"\x00\xff\x59\x02\x09\x05" + SCALE), 8),
        ("time signature of two bytes", smf(b"\x00\xff\x58\x02\x00\x00" + SCALE), 8),
        ("track length too short", smf(SCALE)[:18] + struct.pack(">I", 40) + SCALE, 8),
        ("track length too long", smf(SCALE)[:18] + struct.pack(">I", 4000) + SCALE, 8),
        ("bytes before the header", b"junk" + smf(SCALE), 8),
        ("running status after system exclusive", smf(SCALE[:4] + b"\x00\xf0\x01\xf7\x10\x3c\x00" + SCALE), 9),
        ("SMPTE division", smf(SCALE, division=0xE728), 8),
        ("an empty track too", smf(END, SCALE), 8),
        ("no end of track", smf(SCALE[:-4]), 8),
        ("one note of 77 hours among others", smf(SCALE[:-4] + LONG + END), 8),
        ("format 2", smf(SCALE, SCALE, kind=2), 16),
    ],
)  # fmt: skip
def test_damage_is_mended(name: str, data: bytes, expected: int) -> None:
    notes = read_bytes(data)
    assert valid(notes), name
    assert abs(len(notes) - expected) <= (name == "data byte above 127"), name
    if name == "SMPTE division":  # 25 frames of 40 ticks: 1000 a second
        assert notes.end[0] == 0.48


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "empty"),
        (b"hello, I am a text file", "not a MIDI file"),
        (smf(), "no MIDI track"),
        (smf(END), "no note"),
        (smf(SCALE, division=0), "division"),
        (smf(SCALE, division=0x8000), "division"),
        (smf(b"\x00\x90\x3c\x40" + END), "no note"),
        (smf(LONG + END), "hour"),
        (smf(b"\x00\xf4" * 300 + SCALE), "damaged"),
    ],
)
def test_what_cannot_be_used_says_why(data: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mid"
    path.write_bytes(data)
    with pytest.raises(BadInput, match=word) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_folder_and_a_missing_file_are_bad_input(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.mid"):
        with pytest.raises(BadInput):
            read(path)


def test_a_file_cut_anywhere_keeps_its_whole_events() -> None:
    data = smf(SCALE)
    for size in range(len(data)):
        whole = max(0, size - 22)  # bytes of the track
        struck = (whole + 5) // 9  # a note-on is whole after the first 4 of 9 bytes
        if struck == 0:
            with pytest.raises(BadInput):
                read_bytes(data[:size])
            continue
        notes = read_bytes(data[:size])
        assert valid(notes) and min(struck, 8) == len(notes), size
        assert notes.repairs


def test_flipped_bits_give_valid_notes_or_a_reason() -> None:
    rng = np.random.default_rng(0)
    notes = [message for pitch in range(50, 62) for message in (on(pitch, 9), off(pitch, 200))]
    body = midi([mido.MetaMessage("set_tempo", tempo=400_000), pedal(99), *notes], [on(40), off(40, 900)])
    start, outcomes = time.process_time(), Counter()
    for _ in range(1500):
        data = bytearray(body)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] ^= 1 << rng.integers(0, 8)
        try:
            notes = read_bytes(bytes(data))
            assert valid(notes)
            MidiTokenizer().encode(notes)
            outcomes["read"] += 1
        except BadInput as error:
            assert error.reason
            outcomes["refused"] += 1
    assert outcomes["read"] > 500 and time.process_time() - start < 30


@settings(max_examples=200, deadline=None)
@given(head=st.booleans(), body=st.binary(max_size=200))
def test_rubbish_is_bad_input_or_valid(head: bool, body: bytes) -> None:
    try:
        assert valid(read_bytes(smf(body) if head else body))
    except BadInput as error:
        assert error.reason


def test_hostile_files_take_bounded_time() -> None:
    for body in (
        b"\x00\x90\x3c\x40" * 60_000 + b"\x00\x80\x3c\x00" * 60_000 + END,  # one pitch, open many times
        b"\x00\xb0" + b"\x00\x00\xb0\xb0\x00" * 60_000,  # what could be a pedal at every byte
        b"\x00\xf0\x7f" * 80_000,
        b"MTrk" * 50_000,
    ):
        start = time.process_time()
        try:
            assert valid(read_bytes(smf(body)))
        except BadInput as error:
            assert error.reason
        assert time.process_time() - start < 10


# --- files of the world ---------------------------------------------------------------------------------------------


def by_mido(data: bytes) -> int:
    notes, file = 0, mido.MidiFile(file=io.BytesIO(data), clip=True)
    for track in file.tracks:
        sounding: Counter[tuple[int, int]] = Counter()
        for message in track:
            if message.type == "note_on" and message.velocity:
                sounding[message.channel, message.note] += 1
            elif message.type in ("note_on", "note_off") and sounding[message.channel, message.note]:
                sounding[message.channel, message.note] -= 1
                notes += 1
    return notes


def by_pretty_midi(data: bytes) -> int:
    return sum(len(i.notes) for i in pretty_midi.PrettyMIDI(io.BytesIO(data)).instruments)


def by_symusic(data: bytes) -> int:
    return symusic.Score.from_midi(data, sanitize_data=True).note_num()


def count(reader, data: bytes) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reader(data)
    except Exception:  # whatever a peer raises: it did not read the file
        return 0


@pytest.mark.skipif(not ZOO.is_dir(), reason="needs the MIDI zoo beside the repository")
def test_every_file_of_the_zoo_that_anybody_reads() -> None:
    used = 0
    for path in sorted(p for p in ZOO.rglob("*") if p.is_file() and p.suffix not in (".json", ".csv")):
        data = path.read_bytes()
        most = max(count(by_symusic, data), count(by_mido, data))
        try:
            notes = read(path)
        except BadInput as error:
            assert error.reason and str(path) in str(error)
            assert most == 0 and count(by_pretty_midi, data) == 0, path
            continue
        used += 1
        assert valid(notes)
        # What the pedal folds into one (struck twice at one time) is all that may be missing.
        assert len(notes) >= 0.99 * most - 1 or notes.repairs, path
        ids = MidiTokenizer().encode(notes)
        assert np.array_equal(MidiTokenizer().encode(MidiTokenizer().decode_notes(ids)), ids)
    assert used > 100


@pytest.mark.skipif(not ASAP.is_dir(), reason="needs ASAP beside the repository")
def test_both_readers_agree_on_healthy_files() -> None:
    for path in sorted(ASAP.rglob("*.mid"))[::12]:
        data = path.read_bytes()
        fast = _midi_read._by_symusic(data, Counter())
        if fast is None:
            continue
        a, b = _midi_read._checked(fast, Counter(), 0), by_events(data)
        for name in ("onset", "end", "pitch", "velocity", "program", "drum"):
            x, y = (np.lexsort((n.velocity, n.end, n.pitch, n.onset)) for n in (a, b))
            assert np.allclose(getattr(a, name)[x], getattr(b, name)[y], atol=1e-9), (path, name)


def test_the_tempo_map_of_no_division() -> None:
    with pytest.raises(BadInput):
        _midi_smf.seconds_of(np.arange(3), 0, [], Counter())
