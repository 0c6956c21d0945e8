"""Sound files, by libsndfile, block by block: memory grows with what is kept and not with what the file holds."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput
from tokenizers_ext._sound_item import LOUDEST, RATES, Resampler, Sound

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".mp3", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".caf", ".w64", ".rf64",
)  # fmt: skip
FORMATS = frozenset(("WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "MPEG", "AIFF", "AU", "CAF"))
"""What libsndfile has to find in a file, whatever its name. It guesses others from few bytes, or from the suffix."""
MAX_SAMPLES = 100_000_000
"""A sound is no longer, at the rate it is read at: 400 MB, three and a half hours at 8 kHz."""
BLOCK = 1 << 19
"""Samples of all channels that are read at once."""
LOSSY = {
    ".mp3": ("MP3", "MPEG_LAYER_III"), ".opus": ("OGG", "OPUS"), ".ogg": ("OGG", "VORBIS"), ".oga": ("OGG", "VORBIS"),
}  # fmt: skip
LOSSLESS = {".wav": "WAV", ".flac": "FLAC", ".aif": "AIFF", ".aiff": "AIFF", ".au": "AU", ".caf": "CAF", ".w64": "W64"}


def read(path: str | PathLike[str], rate: int) -> Sound:
    """The sound in a file, its channels mixed down, at `rate` samples a second.

    The number of samples that a header claims is not believed: what is there is read.

    Raises:
        BadInput: for what is no sound, is damaged, holds nothing, or is too long.
    """
    import soundfile

    try:
        if Path(path).stat().st_size == 0:
            raise BadInput(path, "the file is empty")
        with soundfile.SoundFile(str(path)) as file:
            return Sound(_samples(file, path, rate), rate)
    except OSError as error:
        raise BadInput(path, error.strerror or str(error)) from error
    except (soundfile.SoundFileError, RuntimeError, ValueError, TypeError) as error:
        raise BadInput(path, f"cannot be read as sound: {_said(error)}") from error


def _samples(file: Any, path: str | PathLike[str], rate: int) -> np.ndarray:
    """Samples float32 (n,) at `rate` of an open file."""
    import soundfile

    if file.format not in FORMATS:
        raise BadInput(path, f"the format {file.format} is not read", f"convert it to {', '.join(SUFFIXES[:4])}")
    if not RATES[0] <= file.samplerate <= RATES[1]:
        raise BadInput(path, f"{file.samplerate} samples a second; sound has {RATES[0]} to {RATES[1]}")
    resampler = Resampler(file.samplerate, rate)
    out, length, frames = np.empty(0, np.float32), 0, 0
    while True:
        try:
            block = file.read(max(1, BLOCK // file.channels), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = frames / file.samplerate
            raise BadInput(path, f"damaged at {at:.2f} s or later: {_said(error)}") from error
        mono = block.mean(axis=1)
        if not (np.abs(mono) <= LOUDEST).all():
            at = frames / file.samplerate
            raise BadInput(path, f"at {at:.2f} s or later a sample is no number or beyond {LOUDEST:g} times full scale")
        frames += len(block)
        made = resampler.take(mono) if len(block) else resampler.rest()
        if length + len(made) > MAX_SAMPLES:
            longest = MAX_SAMPLES / rate / 60
            raise BadInput(path, f"longer than {longest:.0f} minutes", "cut it into several files")
        if length + len(made) > len(out):
            out.resize(max(length + len(made), min(2 * len(out), MAX_SAMPLES)), refcheck=False)
        out[length : length + len(made)] = made
        length += len(made)
        if not len(block):
            break
    if not frames:
        raise BadInput(path, "it holds no samples")
    out.resize(max(length, 1), refcheck=False)  # a few samples at a high rate are less than one at a low rate
    return out


def _said(error: Exception) -> str:
    """What libsndfile said, in one line. Of what it does not know it says that there is no file."""
    said = str(getattr(error, "error_string", error)).removeprefix("Error : ").rstrip(". ")
    return "no sound is found in it" if said.startswith("File does not exist") else said


def write(sound: Sound, path: str | PathLike[str]) -> None:
    """A sound file, its kind by its suffix: 16 bits where nothing is lost by compression.

    A sound that goes beyond full scale is made quieter as a whole, so that nothing is clipped.

    Raises:
        BadInput: for a suffix that is not written, a rate the format does not have, or a folder that is not there.
    """
    import soundfile

    suffix = Path(path).suffix.lower()
    if suffix not in LOSSY and suffix not in LOSSLESS:
        written = ", ".join((*LOSSLESS, *LOSSY))
        raise BadInput(path, f"no sound is written as {suffix or 'a file without a suffix'}", f"there are {written}")
    format, subtype = LOSSY[suffix] if suffix in LOSSY else (LOSSLESS[suffix], "PCM_16")
    peak = float(np.abs(sound.samples).max(initial=0))
    samples = sound.samples / max(peak, 1.0)
    try:
        with soundfile.SoundFile(str(path), "w", sound.rate, 1, subtype, format=format) as file:
            for first in range(0, len(samples), BLOCK):
                file.write(samples[first : first + BLOCK])
    except (soundfile.SoundFileError, RuntimeError, ValueError, OSError) as error:
        raise BadInput(path, f"cannot be written: {error}") from error
