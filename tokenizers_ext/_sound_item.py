"""A sound: its samples and their rate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seqmodal.errors import BadInput

RATES = (1_000, 768_000)
"""Samples a second that are taken for sound; a header that says anything else is damaged."""

LOUDEST = 65536.0
"""Times full scale that a sample may be; what goes beyond is no sound in floats."""


@dataclass(frozen=True, eq=False)
class Sound:
    """Samples float32 (n,), full scale from -1 to 1, `rate` a second. Several channels (n, channels) become their mean.

    Raises:
        BadInput: for samples that are not floats, not finite, or of another shape, and for a rate that is no sound's.
    """

    samples: np.ndarray
    rate: int

    def __post_init__(self) -> None:
        samples = np.asarray(self.samples)
        if not isinstance(self.rate, int | np.integer) or not RATES[0] <= self.rate <= RATES[1]:
            raise BadInput("sound", f"{self.rate} samples a second; allowed are {RATES[0]} to {RATES[1]}")
        if samples.dtype.kind != "f":
            hint = "divide whole numbers by their full scale, 32768 for 16 bits"
            raise BadInput("sound", f"its samples are {samples.dtype}; they have to be floats from -1 to 1", hint)
        if samples.ndim not in (1, 2) or samples.ndim == 2 and not samples.shape[1]:
            raise BadInput("sound", f"samples of shape {samples.shape}; needed are (n,) or (n, channels)")
        with np.errstate(over="ignore", invalid="ignore"):
            mono = np.ascontiguousarray(samples if samples.ndim == 1 else samples.mean(axis=1), np.float32)
        if not (mono.min(initial=0) >= -LOUDEST and mono.max(initial=0) <= LOUDEST):  # nor with NaN
            at = int((np.abs(mono) <= LOUDEST).argmin())
            raise BadInput("sound", f"sample {at} is {mono[at]}; allowed are numbers to {LOUDEST:g}, 1 is full scale")
        object.__setattr__(self, "samples", mono)
        object.__setattr__(self, "rate", int(self.rate))

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


def resampled(sound: Sound, rate: int) -> np.ndarray:
    """Samples float32 (ceil(seconds * rate),) at another rate; the sound itself where it has that rate already."""
    if sound.rate == rate:
        return sound.samples
    length = -(-len(sound.samples) * rate // sound.rate)
    resampler = Resampler(sound.rate, rate)
    made = np.concatenate([resampler.take(sound.samples), resampler.rest()])[:length]
    return np.pad(made, (0, length - len(made)))


class Resampler:
    """Changes the rate of a sound that comes in blocks, by soxr; where the rate stays, the blocks pass as they are."""

    def __init__(self, old: int, new: int) -> None:
        import soxr

        self._stream = None if old == new else soxr.ResampleStream(old, new, 1, dtype="float32")

    def take(self, block: np.ndarray) -> np.ndarray:
        """What is ready after a block of samples float32 (n,)."""
        return block if self._stream is None else self._stream.resample_chunk(block)

    def rest(self) -> np.ndarray:
        """What is still to come after the last block."""
        empty = np.zeros(0, np.float32)
        return empty if self._stream is None else self._stream.resample_chunk(empty, last=True)
