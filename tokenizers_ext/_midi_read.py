"""A MIDI file to Notes: symusic where it can, the forgiving reader where it cannot, and a check of what came out.

symusic is a hundred times faster than a parser in Python. It leaves out channels, and with them the controllers of a
track without notes; where a pedal could be lost that way, the forgiving reader, which keeps channels, takes over.
"""

from __future__ import annotations

import re
from collections import Counter
from os import PathLike
from typing import Any

import numpy as np

from seqmodal.errors import BadInput
from tokenizers_ext import _midi_smf as smf
from tokenizers_ext._midi_notes import MAX_SECONDS, Notes, fold_pedal, in_range

MAX_NOTE_SECONDS = 3600.0  # longer is a note-off that got lost
MAX_BYTES = 32 << 20
NOTES_FOR_DAMAGE = 50  # with more damage than one place in 50 notes, what was read is no longer the music
SUSTAIN = 64

# Controller 64 at 64 or more, also under running status. What it finds may be text; what it misses is no pedal.
_PEDAL = re.compile(rb"[\xb0-\xbf](?:[\x00-\x7f]{2}[\x80-\xff]{0,3}[\x00-\x7f]){0,255}?\x40[\x40-\x7f]")
# Data bytes that follow a system exclusive message: running status goes on, though the standard ends it there.
_RUNNING_ON = re.compile(rb"\xf0[\x00-\x7f]*\xf7[\x80-\xff]{0,3}[\x00-\x7f][\x00-\x7f]")

Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def read(path: str | PathLike[str]) -> Notes:
    """The notes of a MIDI file, sustain pedal folded in. `repairs` says what had to be mended; raises BadInput."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadInput(path, error.strerror or str(error)) from error
    try:
        if len(data) > MAX_BYTES:
            raise BadInput(path, f"over {MAX_BYTES >> 20} MiB are too large for a MIDI file")
        return read_bytes(data)
    except BadInput as error:
        raise BadInput(path, error.reason, error.hint) from error


def read_bytes(data: bytes) -> Notes:
    """The notes in a MIDI file's bytes. Raises BadInput."""
    if not data:
        raise BadInput("MIDI", "the file is empty")
    mended: Counter[str] = Counter()
    damage = 0
    columns = _by_symusic(smf.unwrap(data, mended), mended)
    if columns is None:
        mended.clear()
        columns, damage = _by_events(data, mended)
    return _checked(columns, mended, damage)


def _by_symusic(data: bytes, mended: Counter[str]) -> Columns | None:
    """The notes by symusic, times in seconds; None where it fails or might leave something out."""
    import symusic

    spans = smf.healthy_tracks(data)
    if not spans or int.from_bytes(data[8:10], "big") > 1 or _RUNNING_ON.search(data):
        return None
    try:
        score = symusic.Score.from_midi(data)
    except (RuntimeError, ValueError):
        try:
            score = symusic.Score.from_midi(data, sanitize_data=True)
        except (RuntimeError, ValueError):
            return None
        mended["data byte above 127 clipped"] += 1
    parts = [(track, track.notes.numpy()) for track in score.tracks if len(track.notes)]
    if not parts or score.ticks_per_quarter <= 0:
        return None
    start = [notes["time"].astype(np.int64) for _, notes in parts]
    stop = [onset + notes["duration"] for onset, (_, notes) in zip(start, parts, strict=True)]
    pitch = [notes["pitch"].astype(np.int64) for _, notes in parts]
    velocity = [notes["velocity"].astype(np.int64) for _, notes in parts]
    if min(onset.min() for onset in start) < 0 or any((e < s).any() for s, e in zip(start, stop, strict=True)):
        return None  # its 32-bit ticks have overflowed
    pedals = [_pedal(track) for track, _ in parts]
    pressed = [i for i, (_, value) in enumerate(pedals) if (value >= 64).any()]
    if pressed or _PEDAL.search(data):
        # Exact without channels only where one part has the one pedal.
        tonal = [i for i, (track, _) in enumerate(parts) if not track.is_drum]
        if pressed != tonal or len(tonal) != 1 or sum(_PEDAL.search(data, *span) is not None for span in spans) > 1:
            return None
        i, (time, value) = tonal[0], pedals[tonal[0]]
        last = max(int(time.max()), max(int(end.max()) for end in stop))
        stop[i], keep = fold_pedal(start[i], stop[i], pitch[i], time, value, last)
        if not keep.all():
            start[i], stop[i], pitch[i], velocity[i] = (x[i][keep] for x in (start, stop, pitch, velocity))
    sizes = [len(onset) for onset in start]
    program = np.repeat([track.program for track, _ in parts], sizes)
    drum = np.repeat([track.is_drum for track, _ in parts], sizes)
    tempos = score.tempos.numpy()
    tempo_map = list(zip(tempos["time"].tolist(), tempos["mspq"].tolist(), strict=True))
    division = score.ticks_per_quarter
    onset, end = np.split(smf.seconds_of(np.concatenate(start + stop), division, tempo_map, mended), 2)
    return onset, end, np.concatenate(pitch), np.concatenate(velocity), program, drum


def _pedal(track: Any) -> tuple[np.ndarray, np.ndarray]:
    """Times in ticks and values of a track's sustain pedal."""
    controls = track.controls.numpy()
    sustain = controls["number"] == SUSTAIN
    return controls["time"][sustain].astype(np.int64), controls["value"][sustain]


def _by_events(data: bytes, mended: Counter[str]) -> tuple[Columns, int]:
    """The notes by the forgiving reader, the pedal of each channel folded in; and the damage. Raises BadInput."""
    events = smf.parse(data)
    mended.update(events.mended)
    table = np.array(events.notes, np.int64).reshape(-1, 6)
    pedals = np.array(events.pedals, np.int64).reshape(-1, 3)
    start, stop, pitch, velocity, program, channel = table.T
    drum = channel == smf.DRUM_CHANNEL
    keep = np.ones(len(table), bool)
    stop = stop.copy()
    for c in np.unique(pedals[:, 2]):
        rows, presses = np.flatnonzero((channel == c) & ~drum), pedals[pedals[:, 2] == c]
        stop[rows], keep[rows] = fold_pedal(
            start[rows], stop[rows], pitch[rows], presses[:, 0], presses[:, 1], events.last
        )
    ticks = np.concatenate((start, stop))
    onset, end = np.split(smf.seconds_of(ticks, events.division, events.tempos, mended), 2)
    if events.hanging:
        hanging = np.array(events.hanging)
        end[hanging] = np.minimum(end[hanging], onset[hanging] + smf.MAX_HANGING_SECONDS)
        mended["note cut off by the end closed there"] += len(hanging)
    return (onset[keep], end[keep], pitch[keep], velocity[keep], program[keep], drum[keep]), events.damage


def _checked(columns: Columns, mended: Counter[str], damage: int) -> Notes:
    """Notes whose every number is one of music; what is not is left out and said. Raises BadInput when none is left."""
    onset, end, pitch, velocity, program, drum = columns
    if not len(onset):
        raise BadInput("MIDI", "it holds no note")
    with np.errstate(invalid="ignore"):
        length = end - onset
        keep = (length >= 0) & (length <= MAX_NOTE_SECONDS) & (onset >= 0) & (end < MAX_SECONDS)
    if not (keep.all() and in_range(pitch, program, velocity)):
        whole = np.isfinite(length) & (length >= 0) & (onset >= 0)
        numbers = (pitch | program | velocity) >> 7 == 0
        for reason, wrong in (
            ("note with an impossible time left out", ~whole),
            ("note longer than an hour, or later than a day, left out", whole & ~keep),
            ("note with an impossible pitch or velocity left out", keep & ~(numbers & (velocity > 0))),
        ):
            mended[reason] += int(wrong.sum())
        keep &= numbers & (velocity > 0)
    repairs = tuple(f"{reason} ({count})" if count > 1 else reason for reason, count in mended.items() if count)
    if not keep.any():
        raise BadInput("MIDI", "it holds no valid note: " + "; ".join(repairs))
    if damage:
        damage += mended[smf.WITHOUT_END] + len(keep) - int(keep.sum())
    if damage > max(8, len(onset) // NOTES_FOR_DAMAGE):
        raise BadInput("MIDI", "it is damaged beyond mending: " + "; ".join(repairs))
    arrays: tuple[Any, ...] = columns if keep.all() else tuple(column[keep] for column in columns)
    return Notes.of(*arrays, repairs=repairs)
