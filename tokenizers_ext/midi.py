"""MIDI files as tokens: "midi" for one instrument (388 ids), "band" for several with drums (644 ids)."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import ConfigError
from tokenizers_ext import _midi_codec as codec
from tokenizers_ext._midi_codec import Repairs
from tokenizers_ext._midi_notes import Notes, from_pretty_midi
from tokenizers_ext._midi_read import read, read_bytes

__all__ = ["BandTokenizer", "MidiTokenizer", "Notes", "Repairs", "from_pretty_midi", "read", "read_bytes"]


class MidiTokenizer:
    """The 388-event performance vocabulary for one instrument. Drums are left out; programs become the one `program`.

    low, high: the pitches augmentation may move notes to; encoding takes any pitch.
    """

    name: ClassVar[str] = "midi"
    vocab_size: ClassVar[int] = codec.PLAIN_SIZE
    suffixes: ClassVar[tuple[str, ...]] = (".mid", ".midi", ".kar", ".rmi")
    band: ClassVar[bool] = False

    def __init__(self, program: int = 0, low: int = 0, high: int = 127) -> None:
        if not 0 <= program <= 127:
            raise ConfigError(f"program={program}: a MIDI program is 0..127")
        if not 0 <= low <= high <= 127:
            raise ConfigError(f"low={low}, high={high}: pitches are 0..127, low first")
        self.program, self.low, self.high = program, low, high

    def encode(self, item: Notes | Any | str | PathLike[str]) -> np.ndarray:
        """Ids int32 (n,) of Notes, a `PrettyMIDI` or a file. Raises BadInput."""
        return self.encode_report(item)[0]

    def encode_report(self, item: Notes | Any | str | PathLike[str]) -> tuple[np.ndarray, int]:
        """(ids, how many notes became one with another of the same program, pitch and onset step)."""
        return codec.encode(self._notes(item), self.band)

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

    def _notes(self, item: Notes | Any | str | PathLike[str]) -> Notes:
        if isinstance(item, Notes):
            return item
        return read(item) if isinstance(item, str | PathLike) else from_pretty_midi(item)

    def to_dict(self) -> dict[str, Any]:
        return {"program": self.program, "low": self.low, "high": self.high}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(**d)


class BandTokenizer(MidiTokenizer):
    """Several programs and drums: 128 program tokens and 128 drum hits on top of the 388."""

    name: ClassVar[str] = "band"
    vocab_size: ClassVar[int] = codec.BAND_SIZE
    band: ClassVar[bool] = True

    def __init__(self, low: int = 0, high: int = 127) -> None:
        super().__init__(0, low, high)

    def to_dict(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}


TOKENIZERS = {"midi": MidiTokenizer, "band": BandTokenizer}
