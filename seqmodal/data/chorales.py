"""The built-in corpus of music: Bach's chorales, out of the package music21, converted once and kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.data.cache import cache_folder
from seqmodal.data.duplicates import group_near, minhash
from seqmodal.data.source import Failure, process_files, watch
from seqmodal.errors import BadInput

VOICES = 4
COLUMNS = ("onset", "end", "pitch", "part")


@dataclass(frozen=True)
class Chorale:
    """A chorale for four voices: arrays (n,) of onset and end in quarter notes, pitch, and part (0: soprano)."""

    name: str
    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    part: np.ndarray
    split: str


def chorales() -> list[Chorale]:
    """All four-part chorales with their split; the first call converts them, later ones read the cache.

    Near-duplicates, harmonisations that share most of their notes, are on one side of the split.

    Raises:
        BadInput: when music21 is not installed.
    """
    try:
        version = importlib.metadata.version("music21")
    except importlib.metadata.PackageNotFoundError:
        raise BadInput(
            "the built-in chorales", "they come with the package music21, which is not installed",
            "pip install 'seqmodal[demo]', or give --data a folder of your own MIDI files",
        ) from None
    path = cache_folder() / f"chorales-music21-{version}.npz"
    if not path.is_file():
        _convert_all(path)
    with np.load(path, allow_pickle=False) as file:
        names = [str(name) for name in file["names"]]
        columns = {column: np.split(file[column], file["cuts"]) for column in COLUMNS}
    order = [np.lexsort((columns["pitch"][i], columns["onset"][i])) for i in range(len(names))]
    groups = group_near([minhash(columns["pitch"][i][o]) for i, o in enumerate(order)])
    first = np.unique(groups, return_index=True)[1]  # a group goes where its first chorale goes
    return [
        Chorale(name, split=_split_of(names[first[groups[i]]]), **{column: columns[column][i] for column in COLUMNS})
        for i, name in enumerate(names)
    ]


def _split_of(name: str) -> str:
    """A fixed tenth for validation, a tenth for testing, by a hash of the name."""
    at = hashlib.sha256(name.encode()).digest()[0] / 256
    return "valid" if at < 0.1 else "test" if at < 0.2 else "train"


def _convert_all(path: Path) -> None:
    spec = importlib.util.find_spec("music21")
    assert spec is not None and spec.origin is not None
    files = sorted((Path(spec.origin).parent / "corpus" / "bach").glob("bwv*"), key=_number)
    files = [file for file in files if file.suffix in (".mxl", ".xml", ".krn")]
    found: dict[str, dict[str, np.ndarray]] = {}
    for file, result in watch(process_files(files, _convert), len(files), "converting chorales"):
        if isinstance(result, Failure):  # music21 reads them all; a cache with fewer would stay
            raise BadInput(file, result.reason)
        if result is not None:
            found[file.stem] = result
    cuts = np.cumsum([len(notes["pitch"]) for notes in found.values()])[:-1]
    joined: dict[str, Any] = {column: np.concatenate([notes[column] for notes in found.values()]) for column in COLUMNS}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.npz")  # another process may be at it
    np.savez_compressed(part, names=np.array(list(found)), cuts=cuts, **joined)
    part.replace(path)


def _number(file: Path) -> list[int]:
    """BWV numbers in order of number, not of spelling."""
    return [int(digits) for digits in re.findall(r"\d+", file.stem)]


def _convert(file: Path) -> dict[str, np.ndarray] | None:
    """The notes of a score; None for one that has not just four parts. Runs in a worker."""
    from music21 import converter

    score: Any = converter.parse(file, forceSource=True)
    parts = list(score.parts)
    if len(parts) != VOICES:
        return None
    rows: list[list[float]] = []
    for number, part in enumerate(parts):
        sounding: dict[int, list[float]] = {}  # pitch to its last row; stripTies would copy the whole score
        for note in part.flatten().notes:
            onset, length = float(note.offset), float(note.quarterLength)
            for single in (note.notes if note.isChord else (note,)) if length else ():  # grace notes last nothing
                pitch, row = single.pitch.midi, sounding.get(single.pitch.midi)
                if single.tie is not None and single.tie.type != "start" and row is not None and row[1] == onset:
                    row[1] += length
                else:
                    sounding[pitch] = [onset, onset + length, pitch, number]
                    rows.append(sounding[pitch])
    if not rows:
        return None
    columns = zip(COLUMNS, (np.float32, np.float32, np.int16, np.int8), zip(*rows, strict=True), strict=True)
    return {column: np.array(values, dtype) for column, dtype, values in columns}
