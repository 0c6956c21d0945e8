"""MIDI files as tokens: "midi" for one instrument (388 ids), "band" for several with drums (644 ids)."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import ConfigError
from tokenizers_ext import _midi_codec as codec
from tokenizers_ext._midi_augment import transform
from tokenizers_ext._midi_codec import Repairs
from tokenizers_ext._midi_grammar import MidiGrammar
from tokenizers_ext._midi_notes import Notes, from_pretty_midi
from tokenizers_ext._midi_read import read, read_bytes
from tokenizers_ext._midi_summary import Summary, summary

__all__ = [
    "BandTokenizer",
    "MidiGrammar",
    "MidiTokenizer",
    "Notes",
    "Repairs",
    "Summary",
    "choose",
    "from_pretty_midi",
    "read",
    "read_bytes",
    "summary",
]

PIANOS = frozenset(range(8))
PIANO_KEYS = (21, 108)
MAX_TRANSPOSE = 3
MAX_SILENCE = 4.0
USUAL = 0.5
"""A sample's notes are no longer than the longest of such a share of the pieces: one stuck key sets no standard."""


class MidiTokenizer:
    """The 388-event performance vocabulary for one instrument. Drums are left out; programs become the one `program`.

    low, high: the pitches augmentation may move notes to; encoding takes any pitch.
    stretch: share by which augmentation slows or quickens; 0 where one tempo is meant to be learned.
    restrikes: whether a pitch may be struck again while it sounds, as by two hands or tracks; where it may not, the
    note before ends there, and no model can leave a note hanging behind another.
    longest: seconds that a note of a sample may sound; encoding takes any length. 0: as long as the model likes.
    """

    name: ClassVar[str] = "midi"
    vocab_size: ClassVar[int] = codec.PLAIN_SIZE
    suffixes: ClassVar[tuple[str, ...]] = (".mid", ".midi", ".kar", ".rmi")
    band: ClassVar[bool] = False

    def __init__(
        self, program: int = 0, low: int = 0, high: int = 127, stretch: float = 0.05, restrikes: bool = True,
        longest: float = 0.0,
    ) -> None:  # fmt: skip
        if not 0 <= program <= 127:
            raise ConfigError(f"program={program}: a MIDI program is 0..127")
        if not 0 <= low <= high <= 127:
            raise ConfigError(f"low={low}, high={high}: pitches are 0..127, low first")
        if not 0 <= stretch < 1:
            raise ConfigError(f"stretch={stretch}: a share from 0 to below 1")
        if not 0 <= longest < float("inf"):
            raise ConfigError(f"longest={longest}: a time in seconds, or 0 for no limit")
        self.program, self.low, self.high, self.stretch = program, low, high, stretch
        self.restrikes, self.longest = restrikes, longest

    def encode(self, item: Notes | Any | str | PathLike[str]) -> np.ndarray:
        """Ids int32 (n,) of Notes, a `PrettyMIDI` or a file. Raises BadInput."""
        return self.encode_report(item)[0]

    def encode_report(self, item: Notes | Any | str | PathLike[str]) -> tuple[np.ndarray, int]:
        """(ids, how many notes became one with another of the same program, pitch and onset step)."""
        return codec.encode(self._notes(item), self.band, self.restrikes)

    def decode(self, ids: np.ndarray) -> Any:
        """A `pretty_midi.PrettyMIDI` of any ids in range."""
        return self.decode_notes(ids).to_pretty_midi()

    def decode_notes(self, ids: np.ndarray) -> Notes:
        """The notes of any ids in range; what is amiss is mended as `decode_report` tells."""
        return self.decode_report(ids)[0]

    def decode_report(self, ids: np.ndarray) -> tuple[Notes, Repairs]:
        """(notes, what had to be mended): offs without an on, hanging notes, notes of no length and the like."""
        return codec.decode(np.asarray(ids), self.band, self.program)

    def read(self, path: str | PathLike[str]) -> Notes:
        """The notes of a MIDI file, its sustain pedal folded into the note ends. Raises BadInput."""
        return read(path)

    def write(self, item: Notes | Any, path: str | PathLike[str]) -> None:
        """A MIDI file of Notes or a `PrettyMIDI`."""
        midi = item.to_pretty_midi() if isinstance(item, Notes) else item
        midi.write(str(path))

    def show(self, item: Notes | Any, stem: str | PathLike[str], prompt_notes: int = 0) -> list[Path]:
        """A piano roll `stem`.png, its first `prompt_notes` notes in another colour, and a sound `stem`.wav."""
        from seqmodal.show.piano_roll import piano_roll
        from seqmodal.show.sound import render_wav

        notes = self._notes(item)
        picture, sound = (Path(f"{Path(stem)}{suffix}") for suffix in (".png", ".wav"))
        piano_roll(
            notes.onset,
            notes.end,
            notes.pitch,
            notes.velocity,
            drum=notes.drum,
            program=notes.program,
            prompt_notes=prompt_notes,
            path=picture,
        )
        render_wav(notes.to_pretty_midi(), sound)
        return [picture, sound]

    @property
    def limits(self) -> dict[str, float]:
        """What samples keep to: no silence of more than four seconds, no note longer than is usual in the corpus."""
        return {"max_silence": MAX_SILENCE} | ({"max_note": self.longest} if self.longest else {})

    def grammar(
        self, seconds: float | None = None, max_silence: float | None = None, max_note: float | None = None
    ) -> MidiGrammar:
        """What may come next.

        seconds: where it ends; max_silence, max_note: how long nothing, and one note, may sound. None: no limit.
        """
        return MidiGrammar(self.band, seconds, max_silence, max_note, self.restrikes)

    def effects(self) -> np.ndarray:
        """int8 (vocab_size, 128): a note-on opens its pitch, a note-off closes it, whatever the program."""
        table = np.zeros((self.vocab_size, 128), np.int8)
        table[codec.ON : codec.OFF], table[codec.OFF : codec.SHIFT] = np.eye(128), -np.eye(128)
        return table

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """A window of ids up to 3 semitones up or down and faster or slower by `stretch`; its length may change."""
        transpose = int(rng.integers(-MAX_TRANSPOSE, MAX_TRANSPOSE + 1))
        stretch = 1 + self.stretch * float(rng.uniform(-1, 1))
        return transform(np.asarray(ids), self.band, transpose, stretch, self.low, self.high)

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        """The ids of the first `seconds`; notes that still sound then are left open."""
        return codec.trim(np.asarray(ids), seconds, self.band)

    def duration(self, ids: np.ndarray) -> float:
        """The time in seconds that the ids reach."""
        return codec.parse(np.asarray(ids), self.band).last_step / codec.STEPS_PER_SECOND

    def examples(self, rng: np.random.Generator) -> list[Notes]:
        """A few pieces made of chance, the empty one and one note among them."""
        return [_random_notes(rng, n, self.band) for n in (0, 1, 5, 60)]

    def _notes(self, item: Notes | Any | str | PathLike[str]) -> Notes:
        if isinstance(item, Notes):
            return item
        return read(item) if isinstance(item, str | PathLike) else from_pretty_midi(item)

    def to_dict(self) -> dict[str, Any]:
        return {"program": self.program} | self._shared()

    def _shared(self) -> dict[str, Any]:
        return {
            "low": self.low, "high": self.high, "stretch": self.stretch, "restrikes": self.restrikes,
            "longest": self.longest,
        }  # fmt: skip

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(**d)


class BandTokenizer(MidiTokenizer):
    """Several programs and drums: 128 program tokens and 128 drum hits on top of the 388."""

    name: ClassVar[str] = "band"
    vocab_size: ClassVar[int] = codec.BAND_SIZE
    band: ClassVar[bool] = True

    def __init__(
        self, low: int = 0, high: int = 127, stretch: float = 0.05, restrikes: bool = True, longest: float = 0.0
    ) -> None:
        super().__init__(0, low, high, stretch, restrikes, longest)

    def to_dict(self) -> dict[str, Any]:
        return self._shared()


def choose(summaries: Iterable[Summary]) -> MidiTokenizer:
    """The tokenizer for a corpus: "band" where there are drums or several programs not all pianos, else "midi".

    Its low..high is the piano's where every note lies on its keys. It goes without restrikes: on one instrument a
    sounding pitch is not struck again before it is let go. Samples hold no note longer than half of the pieces do.
    """
    pieces = list(summaries)
    programs = frozenset().union(*(piece.programs for piece in pieces))
    pitches = [pitch for piece in pieces if piece.programs for pitch in (piece.low, piece.high)]
    low, high = PIANO_KEYS
    if not pitches or min(pitches) < low or max(pitches) > high:
        low, high = 0, 127
    held = [piece.longest for piece in pieces if piece.programs]
    longest = round(float(np.quantile(held, USUAL)), 2) if held else 0.0
    if any(piece.drums for piece in pieces) or not (programs <= PIANOS or len(programs) == 1):
        return BandTokenizer(low, high, restrikes=False, longest=longest)
    program = next(iter(programs)) if len(programs) == 1 else 0
    return MidiTokenizer(program, low, high, restrikes=False, longest=longest)


def _random_notes(rng: np.random.Generator, n: int, band: bool) -> Notes:
    onset = np.cumsum(rng.choice([0.0, 0.004, 0.1, 0.37, 2.5], n)) + rng.random(n) * 0.01
    end = onset + rng.choice([0.0, 0.01, 0.2, 1.5], n)
    program, drum = (rng.choice([0, 0, 33, 48], n), rng.random(n) < 0.2) if band else (0, False)
    return Notes.of(onset, end, rng.integers(40, 90, n), rng.integers(1, 128, n), np.where(drum, 0, program), drum)


TOKENIZERS = {"midi": MidiTokenizer, "band": BandTokenizer}
