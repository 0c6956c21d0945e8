"""Digits as pictures and sounds: MNIST and the Free Spoken Digit Dataset, or scikit-learn's and dialled ones."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SIDE, BORDER = 28, 3
"""Pixels of a picture's side, and of the empty border around one that was enlarged."""
RATE = 8000
"""Samples a second of the dialled sounds."""
LOW, HIGH = (697, 770, 852, 941), (1209, 1336, 1477)
"""Hertz of the rows and columns of a telephone's keys: each key sounds one of both (ITU-T Q.23)."""
FILES = {"train": "train", "test": "t10k"}
"""How MNIST calls its parts."""


@dataclass(frozen=True)
class Digits:
    """Pictures uint8 (n, SIDE, SIDE) and sounds, files or (samples, rate), each with its digits int (n,)."""

    pictures: np.ndarray
    drawn: np.ndarray
    sounds: list[Any]
    said: np.ndarray


def read_digits(folder: Path) -> dict[str, Digits]:
    """The official parts, train and test, of a folder that holds `mnist` and `fsdd`.

    Raises:
        BadInput: for a folder without them, or files that are not what they should be.
    """
    parts = {}
    for split, start in FILES.items():
        pictures = _idx(folder / "mnist" / f"{start}-images-idx3-ubyte", 3)
        labels = _idx(folder / "mnist" / f"{start}-labels-idx1-ubyte", 1).astype(np.int64)
        if pictures.shape[1:] != (SIDE, SIDE) or len(pictures) != len(labels) or labels.max(initial=0) > 9:
            raise BadInput(
                folder / "mnist", f"{split}: pictures of shape {pictures.shape} and {len(labels)} labels do not fit"
            )
        sounds = sorted((folder / "fsdd" / split).glob("*.wav"))
        strange = [path for path in sounds if path.name[:2] not in {f"{digit}_" for digit in range(10)}]
        if not sounds or strange:
            raise BadInput(
                strange[0] if strange else folder / "fsdd" / split, "is no spoken digit" if strange else "has no .wav",
                "the files of the Free Spoken Digit Dataset are called DIGIT_SPEAKER_TAKE.wav",
            )  # fmt: skip
        parts[split] = Digits(pictures, labels, list(sounds), np.array([int(path.name[0]) for path in sounds]))
    return parts


def _idx(path: Path, axes: int) -> np.ndarray:
    """The bytes of an IDX file, plain or gzip (.gz), as an array."""
    found = next((each for each in (path, path.with_name(f"{path.name}.gz")) if each.is_file()), None)
    if found is None:
        raise BadInput(path, "there is no such file, nor with .gz", "give the folder that holds mnist/ and fsdd/")
    try:
        data = found.read_bytes() if found == path else gzip.decompress(found.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(found, f"is damaged: {error}", "fetch it again") from error
    head = 4 + 4 * axes
    shape = np.frombuffer(data[4:head], ">u4").astype(np.int64)
    if data[:4] != bytes([0, 0, 8, axes]) or len(shape) != axes or len(data) - head != shape.prod():
        raise BadInput(found, f"is no IDX file of {axes} axes of bytes", "fetch it again")
    return np.frombuffer(data, np.uint8, offset=head).reshape(shape)


def made_digits(train: int = 1543, test: int = 254, seed: int = 0) -> dict[str, Digits]:
    """Handwritten digits out of the package scikit-learn (the UCI data set of Alpaydin and Kaynak, 8 × 8 pixels), its
    first for training and its last, of other writers, for testing; and as many tones of telephone keys.

    Raises:
        BadInput: when scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError:
        raise BadInput(
            "the built-in digits", "they come with the package scikit-learn, which is not installed",
            "pip install 'seqmodal[demo]', or give --data a folder that holds mnist/ and fsdd/",
        ) from None
    found, rng, parts = load_digits(), np.random.default_rng(seed), {}
    for split, which in (("train", slice(train)), ("test", slice(-test, None))):
        pictures = np.stack([_enlarged(picture) for picture in found.images[which]])
        said = rng.permutation(np.arange(len(pictures)) % 10)
        sounds = [(_dialled(int(digit), rng), RATE) for digit in said]
        parts[split] = Digits(pictures, found.target[which].astype(np.int64), sounds, said)
    return parts


def _enlarged(picture: np.ndarray) -> np.ndarray:
    """Levels 0 to 16 as uint8 (SIDE, SIDE), within a border."""
    from PIL import Image

    grey = Image.fromarray((picture * 255 / 16).astype(np.uint8))
    inside = grey.resize((SIDE - 2 * BORDER,) * 2, Image.Resampling.BICUBIC)
    return np.pad(np.asarray(inside), BORDER)


def _dialled(digit: int, rng: np.random.Generator) -> np.ndarray:
    row, column = (3, 1) if digit == 0 else divmod(digit - 1, 3)
    time = np.arange(round(RATE * rng.uniform(0.2, 0.45))) / RATE
    waves = sum(np.sin(2 * np.pi * (hertz * time + rng.random())) for hertz in (LOW[row], HIGH[column]))
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.01)
    return (rng.uniform(0.1, 0.3) * waves * fade + 0.003 * rng.standard_normal(len(time))).astype(np.float32)


def varied_picture(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture turned by up to 12 degrees and moved by up to two pixels."""
    from PIL import Image

    turned = Image.fromarray(picture).rotate(
        rng.uniform(-12, 12), Image.Resampling.BILINEAR, translate=tuple(rng.uniform(-2, 2, 2))
    )
    return np.asarray(turned)


def varied_sound(samples: np.ndarray, rate: int, rng: np.random.Generator) -> tuple[np.ndarray, int]:
    """Samples a tenth quicker or slower at most, half to twice as loud, after up to 40 ms of silence."""
    speed = rng.uniform(0.9, 1.1)
    at = np.arange(0, max(1, len(samples) - 1), speed)
    moved = np.interp(at, np.arange(len(samples)), samples) * 2 ** rng.uniform(-1, 1)
    silence = np.zeros(round(rate * rng.uniform(0, 0.04)))
    return np.clip(np.concatenate([silence, moved]), -1, 1).astype(np.float32), rate
