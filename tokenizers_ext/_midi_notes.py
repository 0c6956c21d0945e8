"""Notes as arrays: what reading a MIDI file gives, and what encoding takes.

Building one Python object per note is what costs in other libraries; here a piece is six arrays of equal length.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from seqmodal.errors import BadInput

MAX_SECONDS = 24 * 3600.0  # a longer document is a broken file, and its time shifts would fill the memory


@dataclass(frozen=True, eq=False)
class Notes:
    """The notes of a piece in canonical order: by onset, then drums last, then program, then pitch.

    onset, end: float64 (n,) seconds; pitch 0..127, velocity 1..127, program 0..127: int64 (n,); drum: bool (n,).
    `repairs` says in words what reading had to mend; it is empty for a clean file.
    """

    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    program: np.ndarray
    drum: np.ndarray
    repairs: tuple[str, ...] = field(default=())

    @classmethod
    def of(
        cls,
        onset: Any,
        end: Any,
        pitch: Any,
        velocity: Any,
        program: Any = 0,
        drum: Any = False,
        repairs: tuple[str, ...] = (),
    ) -> Notes:
        """Notes from sequences in any order; `program` and `drum` may be one value for all."""
        onset = np.asarray(onset, np.float64)
        n = len(onset)
        end, pitch = np.asarray(end, np.float64), np.asarray(pitch, np.int64)
        velocity = np.broadcast_to(np.asarray(velocity, np.int64), n)
        program = np.broadcast_to(np.asarray(program, np.int64), n)
        drum = np.broadcast_to(np.asarray(drum, bool), n)
        order = _canonical_order(onset, (drum.astype(np.int64) << 14) + (program << 7) + pitch)
        return cls(onset[order], end[order], pitch[order], velocity[order], program[order], drum[order], repairs)

    def __len__(self) -> int:
        return len(self.onset)

    @property
    def duration(self) -> float:
        """Seconds from 0 to the end of the last note; 0.0 without notes."""
        return float(self.end.max()) if len(self) else 0.0

    def select(self, keep: np.ndarray) -> Notes:
        """The notes where `keep` (bool (n,) or indices) says so."""
        arrays = (self.onset, self.end, self.pitch, self.velocity, self.program, self.drum)
        return Notes(*(a[keep] for a in arrays), repairs=self.repairs)

    def check(self, where: str = "notes") -> Notes:
        """These notes; raises BadInput when a time or a number is not one that a piece of music can have."""
        if not len(self) or (self._in_time() and in_range(self.pitch, self.program, self.velocity)):
            return self
        if not (np.isfinite(self.onset).all() and np.isfinite(self.end).all()):
            raise BadInput(where, "a note's time is not a finite number")
        if self.onset.min() < 0:
            raise BadInput(where, f"a note starts at {self.onset.min():.3f} s, before the beginning")
        if not self._in_time():
            raise BadInput(where, f"it lasts {self.duration / 3600:.1f} hours", "at most 24 are taken")
        raise BadInput(where, "a pitch or program lies outside 0..127, or a velocity outside 1..127")

    def _in_time(self) -> bool:
        return bool(self.onset.min() >= 0 and self.onset.max() < MAX_SECONDS and self.end.max() < MAX_SECONDS)

    def to_pretty_midi(self) -> Any:
        """A `pretty_midi.PrettyMIDI`, one instrument a program, drums on the drum channel; 1 ms ticks.

        A note of under 2 ms, which ticks could lose, gets 10 ms, the length that encoding gives it.
        """
        import pretty_midi

        end = np.where(self.end - self.onset < 0.002, self.onset + 0.01, self.end)
        midi = pretty_midi.PrettyMIDI(resolution=500, initial_tempo=120.0)
        for is_drum, program in sorted({(bool(d), int(p)) for d, p in zip(self.drum, self.program, strict=True)}):
            rows = np.flatnonzero((self.drum == is_drum) & (self.program == program))
            columns = (column[rows].tolist() for column in (self.velocity, self.pitch, self.onset, end))
            instrument = pretty_midi.Instrument(program, is_drum)
            instrument.notes = [pretty_midi.Note(*note) for note in zip(*columns, strict=True)]
            midi.instruments.append(instrument)
        return midi


def in_range(pitch: np.ndarray, program: np.ndarray, velocity: np.ndarray) -> bool:
    """Whether all of n > 0 notes have numbers that MIDI knows: pitch and program 0..127, velocity 1..127."""
    return 0 <= int(np.bitwise_or.reduce(pitch | program | velocity)) <= 127 and bool(velocity.min() >= 1)


def _canonical_order(onset: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Sorts by onset, then rank (below 2**15). Files are nearly in order, which is what stable sorts are quick with."""
    order = np.argsort(onset, kind="stable")
    later = np.diff(onset[order], prepend=-np.inf) != 0
    return order[np.argsort((np.cumsum(later) << 15) + rank[order], kind="stable")]


def fold_pedal(
    onset: np.ndarray, end: np.ndarray, pitch: np.ndarray, time: np.ndarray, value: np.ndarray, last: float
) -> tuple[np.ndarray, np.ndarray]:
    """The sustain pedal (controller 64) of one channel folded into its notes' ends, by the rules of note_seq.

    While the pedal is down (value >= 64) a note goes on until the pedal comes up, until its pitch is struck
    again, or until `last`, the piece's last event. Times in any one unit. Returns the new ends and a bool mask of
    the notes that stay: one struck again at its own onset goes. After `apply_sustain_control_changes` of note_seq.
    """
    if not len(onset) or not (value >= 64).any():
        return end, np.ones(len(onset), bool)
    order = np.lexsort((value < 64, time))  # at one time, down comes before up
    time, down = time[order], np.append(value[order] >= 64, False)  # [-1]: before the first event the pedal is up
    up_at = np.append(np.where(down[:-1], last, time), last).astype(end.dtype)
    up_after = np.minimum.accumulate(up_at[::-1])[::-1][1:]  # when it comes up next after the k-th event
    before_end = np.searchsorted(time, end, side="right") - 1
    held = down[before_end]
    new_end = np.where(held, np.maximum(up_after[before_end], end), end)

    # A strike while the pedal is down ends everything of its pitch that still sounds.
    order = np.argsort(onset, kind="stable")
    order = order[np.argsort(pitch[order].astype(np.uint8), kind="stable")]
    is_strike = down[np.searchsorted(time, onset, side="right") - 1][order]
    strikes = np.flatnonzero(is_strike)
    if not len(strikes):
        return new_end, np.ones(len(onset), bool)
    later = np.cumsum(is_strike)  # which of the strikes is the next one
    strike = order[strikes[np.minimum(later, len(strikes) - 1)]]
    cut = (later < len(strikes)) & (pitch[strike] == pitch[order]) & (onset[strike] < new_end[order])
    new_end[order[cut]] = onset[strike[cut]]
    keep = np.ones(len(onset), bool)
    keep[order[cut]] = new_end[order[cut]] > onset[order[cut]]
    return new_end, keep


def from_pretty_midi(midi: Any) -> Notes:
    """The notes of a `PrettyMIDI`, each instrument's sustain pedal folded into its note ends. Raises BadInput."""
    parts = []
    for instrument in midi.instruments:
        rows = [(n.start, n.end, n.pitch, n.velocity) for n in instrument.notes]
        table = np.array(rows, np.float64).reshape(-1, 4)
        pedal = [(c.time, c.value) for c in instrument.control_changes if c.number == 64]
        parts.append((table, np.array(pedal, np.float64).reshape(-1, 2), instrument.program, instrument.is_drum))
    times = [table[:, :2].max(initial=0.0) for table, *_ in parts] + [p[:, 0].max(initial=0.0) for _, p, *_ in parts]
    last = max(times, default=0.0)
    columns: list[list[np.ndarray]] = [[], [], [], [], [], []]
    for table, pedal, program, is_drum in parts:
        onset, end, pitch, velocity = table.T
        if not is_drum and len(pedal):
            end, keep = fold_pedal(onset, end, pitch, pedal[:, 0], pedal[:, 1], last)
            onset, end, pitch, velocity = onset[keep], end[keep], pitch[keep], velocity[keep]
        n = len(onset)
        for column, values in zip(
            columns, (onset, end, pitch, velocity, np.full(n, program), np.full(n, is_drum)), strict=True
        ):
            column.append(values)
    if not parts:
        return Notes.of([], [], [], [])
    return Notes.of(*(np.concatenate(column) for column in columns)).check("PrettyMIDI")
