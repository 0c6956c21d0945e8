"""Made sounds to learn from where no folder is given, always the same."""

from __future__ import annotations

import numpy as np

LOUD = 0.5
"""Of full scale."""


def tones(count: int, rate: int, seed: int = 0) -> list[np.ndarray]:
    """Sounds float32 (n,) of half a second to a second and a half: a tone with overtones that fades, one that glides up
    or down by an octave, a tone struck in an even rhythm, or bursts of noise in one.

    rate: samples a second.
    """
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        time = np.arange(int(rng.uniform(0.5, 1.5) * rate)) / rate
        pitch = 220 * 2 ** (rng.integers(0, 13) / 12)  # Hertz, a semitone apart
        kind, beat = rng.integers(4), time % rng.choice([0.15, 0.2, 0.3])
        if kind == 0:
            samples = _overtones(pitch * time) * np.exp(-2 * time)
        elif kind == 1:
            turn = rng.choice([1.0, -0.5])  # to twice the pitch, or to half of it
            samples = _overtones(pitch * (time + turn * time**2 / (2 * time[-1])))
        elif kind == 2:
            samples = _overtones(pitch * time) * np.exp(-25 * beat)
        else:
            samples = rng.uniform(-1, 1, len(time)) * np.exp(-40 * beat)
        made.append((LOUD * samples).astype(np.float32))
    return made


def _overtones(cycles: np.ndarray) -> np.ndarray:
    """A tone and two overtones, at most 1; `cycles` of the tone since the start."""
    return np.sum([np.sin(2 * np.pi * n * cycles) / n for n in (1, 2, 3)], axis=0) / (1 + 1 / 2 + 1 / 3)
