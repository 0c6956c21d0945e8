"""Memorisation: how much of a piece stands, note for note, in the training data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

GAPS = (0.04, 0.12, 0.25, 0.5, 1.0, 2.0)
"""Borders in seconds between the classes of the time from one onset to the next, coarse enough for a copy that is
played a little faster or slower."""
AT_ONCE = 1 << 20
"""Notes of the training data that are looked through at a time."""
_PRIME = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2^64
_INVERSE = np.uint64(pow(int(_PRIME), -1, 1 << 64))


class NoteRuns:
    """Pieces as rows of notes whose runs of any length can be hashed, each length in time linear in the notes.

    A run is its first pitch, then the interval and the class of the gap to each next note. With `any_key` the first
    pitch is left out, so that a transposed copy counts too.

    Args:
        pieces: with arrays `onset` in seconds and `pitch`; their notes are put in order of onset and pitch.
        any_key: whether a run in another key is the same.
    """

    def __init__(self, pieces: Iterable[Any], any_key: bool = True) -> None:
        pitches, steps, lengths = [], [], []
        for piece in pieces:
            order = np.lexsort((piece.pitch, piece.onset))
            pitch, onset = np.asarray(piece.pitch)[order].astype(np.int64), np.asarray(piece.onset)[order]
            gap = np.digitize(np.diff(onset), GAPS)
            pitches.append(pitch)
            steps.append(np.append((np.diff(pitch) + 128) * len(GAPS) * 2 + gap, 0)[: len(pitch)])
            lengths.append(len(pitch))
        self.size = sum(lengths)
        self.piece = np.repeat(np.arange(len(lengths)), lengths)
        pitch = np.concatenate([np.zeros(0, np.int64), *pitches])
        step = np.concatenate([np.zeros(0, np.int64), *steps])
        self._first = np.zeros_like(pitch) if any_key else pitch + 1
        powers = np.cumprod(np.full(self.size, _PRIME))
        self._back = np.cumprod(np.full(self.size, _INVERSE))
        self._sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(_mixed(step) * powers)])  # modulo 2^64

    def hashes(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """uint64 (k,) for each run of n >= 2 notes within a piece, and (k,) the piece it is in."""
        start = np.arange(max(0, self.size - n + 1))
        start = start[self.piece[start] == self.piece[start + n - 1]] if len(start) else start
        runs = (self._sums[start + n - 1] - self._sums[start]) * self._back[start]
        return _mixed(runs ^ _mixed(self._first[start])), self.piece[start]


def copied(sample: NoteRuns, training: NoteRuns, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each run of n notes of the sample, bool (k,) whether it stands in the training data, and (k,) its piece."""
    ours, piece = sample.hashes(n)
    known = np.unique(ours)
    if not len(known):
        return np.zeros(0, bool), piece
    theirs = training.hashes(n)[0]
    at = np.minimum(np.searchsorted(known, theirs), len(known) - 1)  # few against many: look the many up in the few
    found = np.zeros(len(known), bool)
    found[at[known[at] == theirs]] = True
    return found[np.searchsorted(known, ours)], piece


def copy_rate(sample: NoteRuns, training: NoteRuns, n: int) -> float:
    """Share of the sample's runs of n notes that stand in the training data; 0 where there is none that long."""
    found, _ = copied(sample, training, n)
    return float(found.mean()) if len(found) else 0.0


def longest_copy(sample: NoteRuns, training: NoteRuns, known: int = 0) -> int:
    """Notes in the longest run of the sample that stands in the training data; 0 for less than two.

    `known` is a length that is found already, in other training data; a longer one is looked for.
    """
    return _largest(lambda n: bool(copied(sample, training, n)[0].any()), sample.size, known)


def copying(
    samples: Iterable[Any], held_out: Iterable[Any], training: Iterable[Any], *, lengths: Sequence[int] = (8, 16),
    any_key: bool = True,
) -> dict[str, float]:
    """The memorisation report: what is copied by samples, and by held-out pieces, which nobody copied.

    The training data is read once and never held whole, so that it may be larger than the memory.

    Returns:
        copy_rate_N and copy_rate_N_of_held_out for each length N; longest_copy and longest_copy_of_held_out, in notes.
    """
    rows = {"": NoteRuns(samples, any_key), "_of_held_out": NoteRuns(held_out, any_key)}
    found = {(n, whose): np.zeros(len(runs.hashes(n)[0]), bool) for n in lengths for whose, runs in rows.items()}
    longest = dict.fromkeys(rows, 0)
    for part in _parts(training):
        known = NoteRuns(part, any_key)
        for whose, runs in rows.items():
            for n in lengths:
                found[n, whose] |= copied(runs, known, n)[0]
            longest[whose] = longest_copy(runs, known, longest[whose])
    report = {f"copy_rate_{n}{whose}": float(here.mean()) if len(here) else 0.0 for (n, whose), here in found.items()}
    return report | {f"longest_copy{whose}": float(length) for whose, length in longest.items()}


def _parts(pieces: Iterable[Any]) -> Iterator[list[Any]]:
    """The pieces in lists of about `AT_ONCE` notes."""
    part: list[Any] = []
    notes = 0
    for piece in pieces:
        part.append(piece)
        notes += len(piece.pitch)
        if notes >= AT_ONCE:
            yield part
            part, notes = [], 0
    if part:
        yield part


def _largest(holds: Callable[[int], bool], most: int, known: int = 0) -> int:
    """The largest n from 2 to `most` for which `holds`, which fails from some n on, not at `known`; 0 for none."""
    low = max(1, known)
    high = low + 1
    while high <= most and holds(high):
        low, high = high, high * 2
    high = min(high, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low if low > 1 else 0


def _mixed(values: np.ndarray) -> np.ndarray:
    """Values spread over 64 bits (the finalizer of splitmix64, Steele et al. 2014)."""
    x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
