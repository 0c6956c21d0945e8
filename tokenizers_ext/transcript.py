"""Notes as they are heard in a recording: note-ons, note-offs and time alone, each id with its place in time."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import ConfigError
from tokenizers_ext import _midi_codec as codec
from tokenizers_ext.midi import MidiTokenizer, Notes

STEPS = codec.STEPS_PER_SECOND
"""Of time, a second."""
SLACK = 3
"""Steps that two windows may differ in when they tell the same event."""


class TranscriptTokenizer:
    """The first 356 of the 388 events of "midi": no velocities, and one instrument.

    Each id lies at the time it is about, in steps of 10 ms. A model that is also told the times of what it hears need
    not add up time shifts to know where to listen, and their errors do not add up either (MT3, Gardner et al. 2022, has
    times in place of shifts for the same reason).
    """

    name: ClassVar[str] = "transcript"
    vocab_size: ClassVar[int] = codec.VELOCITY
    suffixes: ClassVar[tuple[str, ...]] = MidiTokenizer.suffixes

    def __init__(self, program: int = 0) -> None:
        self._midi = MidiTokenizer(program, restrikes=False)

    def encode(self, item: Notes | Any | str | PathLike[str]) -> np.ndarray:
        """Ids int32 (n,) of Notes, a `PrettyMIDI` or a file, drums left out. Raises BadInput."""
        ids = self._midi.encode(item)
        return ids[ids < self.vocab_size]

    def decode(self, ids: np.ndarray) -> Any:
        """A `pretty_midi.PrettyMIDI` of any ids in range."""
        return self.decode_notes(ids).to_pretty_midi()

    def decode_notes(self, ids: np.ndarray) -> Notes:
        """The notes of any ids in range; one that nothing ends lasts to where its pitch is struck again, or to the last
        time that the ids name."""
        return self.join([np.asarray(ids)], 1, 0, codec.OPEN)

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        """int32 (n, 1): the time of each id in steps, that of a time shift being where it leads."""
        ids = np.asarray(ids, np.int64)
        passed = np.where(ids >= codec.SHIFT, ids - (codec.SHIFT - 1), 0)
        return np.cumsum(passed).astype(np.int32)[:, None]

    def window(self, ids: np.ndarray, start: int, stop: int, *, ends: bool = False) -> np.ndarray:
        """The ids of the events from step `start` to before `stop`, timed from `start` on.

        What sounds at `start` is not said; its end is, where it lies in the window. With `ends`, notes that end at a
        border end in the window before it, as in bars of music.
        """
        parsed = codec.parse(ids, False)
        late = parsed.step - (ends & (parsed.kind == 0))
        inside = (late >= start) & (late < stop)
        events = codec.pack(
            parsed.step[inside] - start, parsed.kind[inside], 0, parsed.pitch[inside], codec.NO_VELOCITY
        )
        return codec.emit(np.sort(events), False)

    def join(self, windows: Sequence[np.ndarray], stride: int, margin: int, longest: int) -> Notes:
        """The notes of windows of one recording, number k of which begins at step k · stride.

        A border between two windows lies `margin` steps behind the later one's beginning; what both tell within `SLACK`
        steps beside it is taken once. A note that nothing ends lasts `longest` steps at most.
        """
        found: list[tuple[int, int, int, int]] = []
        last = 0
        for number, ids in enumerate(windows):
            parsed, at = codec.parse(ids, False), number * stride
            first = at + margin - SLACK if number else 0
            stop = at + stride + margin + SLACK if number < len(windows) - 1 else codec.OPEN
            last = max(last, min(at + parsed.last_step, stop))
            for step, kind, pitch in zip(
                (parsed.step + at).tolist(), parsed.kind.tolist(), parsed.pitch.tolist(), strict=True
            ):
                if first <= step < stop:
                    found.append((step, kind, pitch, number))
        said: dict[tuple[int, int], tuple[int, int]] = {}
        sounding: dict[int, int] = {}
        rows: list[tuple[int, int, int]] = []
        for step, kind, pitch, number in sorted(found):
            before, teller = said.get((kind, pitch), (-codec.OPEN, number))
            said[kind, pitch] = step, number
            if teller != number and step - before <= 2 * SLACK:
                continue
            if pitch in sounding and step > sounding[pitch]:
                start = sounding.pop(pitch)
                rows.append((start, step if kind == 0 else min(step, start + longest), pitch))
            if kind == 1:
                sounding.setdefault(pitch, step)
        rows += [(start, min(max(last, start + 1), start + longest), pitch) for pitch, start in sounding.items()]
        rows = [row for row in rows if row[1] > row[0]]
        onset, end, pitches = np.array(rows, np.int64).reshape(-1, 3).T
        return Notes.of(onset / STEPS, end / STEPS, pitches, codec.DEFAULT_VELOCITY, self._midi.program)

    def duration(self, ids: np.ndarray) -> float:
        """The time in seconds that the ids reach."""
        return self._midi.duration(ids)

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        """The ids of the first `seconds`."""
        return self._midi.trim(ids, seconds)

    def read(self, path: str | PathLike[str]) -> Notes:
        """The notes of a MIDI file. Raises BadInput."""
        return self._midi.read(path)

    def write(self, item: Notes | Any, path: str | PathLike[str]) -> None:
        """A MIDI file of Notes or a `PrettyMIDI`."""
        self._midi.write(item, path)

    def show(self, item: Notes | Any, stem: str | PathLike[str], prompt_notes: int = 0) -> list[Path]:
        """A piano roll `stem`.png and a sound `stem`.wav."""
        return self._midi.show(item, stem, prompt_notes)

    def examples(self, rng: np.random.Generator) -> list[Notes]:
        """A few pieces made of chance."""
        return self._midi.examples(rng)

    def to_dict(self) -> dict[str, Any]:
        return {"program": self._midi.program}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        if set(d) != {"program"}:
            raise ConfigError(f"a transcript tokenizer is made of its program, not of {', '.join(sorted(d))}")
        return cls(**d)


TOKENIZERS = {"transcript": TranscriptTokenizer}
