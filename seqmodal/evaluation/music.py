"""Statistics of music over plain arrays, and how the statistics of two collections overlap."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np

from seqmodal.evaluation.copying import copying

__all__ = ["STATISTICS", "NoteArrays", "compare", "copying", "overlap", "statistics", "statistics_of"]

WINDOW = 20.0
GRID = 1024


class NoteArrays(Protocol):
    """Notes as equal-length arrays; `drum` (bool) may be there too."""

    @property
    def onset(self) -> np.ndarray:
        """Seconds."""

    @property
    def end(self) -> np.ndarray:
        """Seconds."""

    @property
    def pitch(self) -> np.ndarray:
        """0..127."""

    @property
    def velocity(self) -> np.ndarray:
        """1..127."""


STATISTICS = ("pitch_class_entropy", "note_density", "velocity", "duration", "polyphony")


def statistics(piece: NoteArrays, window: float = WINDOW) -> dict[str, np.ndarray]:
    """What a piece is like. Pieces of different lengths compare because most values are of windows of equal length.

    A window left over at the end counts when it is at least half as long, or the only one. Drums have no pitch and no
    length; they count for density and velocity.

    Args:
        piece: the notes.
        window: seconds.

    Returns:
        pitch_class_entropy: bits, of each window with pitched notes (MusPy, Dong et al. 2020).
        note_density: notes a second, of each window.
        polyphony: pitched notes sounding at once, mean over time, of each window.
        velocity: of each note.
        duration: log2 seconds, of each pitched note, since durations are told apart by their ratio.
    """
    onset, end = np.asarray(piece.onset, np.float64), np.asarray(piece.end, np.float64)
    pitch, velocity = np.asarray(piece.pitch), np.asarray(piece.velocity)
    drum = np.asarray(getattr(piece, "drum", np.zeros(len(onset), bool)))
    if not len(onset):
        return {name: np.zeros(0) for name in STATISTICS}
    edges = _edges(float(onset.min()), float(end.max()), window)
    width = np.diff(edges)
    tuned = ~drum
    sounding = _time_since(edges, onset[tuned]) - _time_since(edges, end[tuned])
    return {
        "pitch_class_entropy": _entropy(onset[tuned], pitch[tuned] % 12, edges),
        "note_density": np.histogram(onset, edges)[0] / width,
        "polyphony": np.diff(sounding) / width,
        "velocity": velocity.astype(np.float64),
        "duration": np.log2(np.maximum(end[tuned] - onset[tuned], 1e-3)),
    }


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Overlapped area of two distributions, 0 to 1, after Yang and Lerch (2018), mgeval.

    Both are smoothed by one Gaussian kernel, of Scott's width for the smaller sample and the spread of the two; mgeval
    takes a width of each sample's own, by which two samples of one source but different size seem to differ. Without
    values there is no overlap.

    Args:
        a, b: (n,) and (m,) values.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not len(a) or not len(b):
        return 0.0
    spread = float(np.sqrt((a.var() + b.var()) / 2 + ((a.mean() - b.mean()) / 2) ** 2))  # each sample counts the same
    if spread <= 1e-9 * (1 + abs(float(a[0]))):
        return 1.0
    width = spread * min(len(a), len(b)) ** -0.2
    low, high = min(a.min(), b.min()) - 4 * width, max(a.max(), b.max()) + 4 * width
    cells = max(GRID, int(np.ceil((high - low) / width * 8)))  # at least eight cells across a kernel's width
    step = (high - low) / cells
    kernel = np.exp(-0.5 * (np.arange(-int(4 * width / step), int(4 * width / step) + 1) * step / width) ** 2)
    curves = [np.convolve(np.histogram(x, cells, (low, high))[0] / len(x), kernel / kernel.sum()) for x in (a, b)]
    return float(min(1.0, np.minimum(*curves).sum()))


def statistics_of(pieces: Iterable[NoteArrays], window: float = WINDOW) -> dict[str, np.ndarray]:
    """The `statistics` of all pieces together: name to (n,) values."""
    found = [statistics(piece, window) for piece in pieces]
    return {name: np.concatenate([np.zeros(0), *(one[name] for one in found)]) for name in STATISTICS}


def compare(samples: Iterable[NoteArrays], reference: Iterable[NoteArrays], window: float = WINDOW) -> dict[str, float]:
    """Overlap of each of the `statistics` of two collections of pieces, by its name."""
    ours, theirs = statistics_of(samples, window), statistics_of(reference, window)
    return {name: overlap(ours[name], theirs[name]) for name in STATISTICS}


def _edges(start: float, stop: float, window: float) -> np.ndarray:
    """Borders of the windows, the last of which may be shorter."""
    whole = int((stop - start) / window)
    edges = start + window * np.arange(whole + 1)
    if whole == 0 or stop - edges[-1] >= window / 2:
        edges = np.append(edges, max(stop, edges[-1] + 1e-3))
    return edges


def _entropy(onset: np.ndarray, pitch_class: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Bits, of the pitch classes that begin in each window that has any."""
    counts = np.histogram2d(onset, pitch_class, (edges, np.arange(13)))[0]
    counts = counts[counts.sum(axis=1) > 0]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)


def _time_since(moments: np.ndarray, events: np.ndarray) -> np.ndarray:
    """Sum over all earlier events of the time that has passed since each."""
    events = np.sort(events)
    earlier = np.searchsorted(events, moments)
    return earlier * moments - np.concatenate([[0.0], np.cumsum(events)])[earlier]
