"""Pictures as tokens: patches, each a code a level of a residual k-means codebook that is fitted on the user's own."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted
from tokenizers_ext import _codebook, _image_read
from tokenizers_ext._codebook import ResidualCodebook
from tokenizers_ext._image_grid import Grid, GridGrammar

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["GridGrammar", "ImageTokenizer"]

LARGEST = 2048
"""Pixels of a side: more would be millions of ids."""
SHOWN = 256
"""Pixels of the longer side that a picture is enlarged to for people, about."""
WRITES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")


class ImageTokenizer:
    """Pictures by patches and a k-means codebook fitted on the user's own: 64 ids for 32x32 pixels.

    size: pixels, of a side or as (height, width), in whole patches.
    fixed: whether every picture is brought to that size, scaled and cut at its edges; else a picture is only scaled
    down to lie within, keeps its proportions, and its size is in its first two ids.
    patch: pixels of a side of a patch.
    codes, levels: of the codebook. A patch takes `levels` ids; each level halves the error or better.
    color: RGB, or else grey.
    seed: of the fit.
    """

    name: ClassVar[str] = "image"
    suffixes: ClassVar[tuple[str, ...]] = _image_read.SUFFIXES
    writes: ClassVar[tuple[str, ...]] = WRITES

    def __init__(
        self, size: int | tuple[int, int] = 32, patch: int = 4, codes: int = 512, levels: int = 1, color: bool = True,
        fixed: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        height, width = (size, size) if isinstance(size, int) else size
        if patch < 1 or min(height, width) < patch or max(height, width) > LARGEST or height % patch or width % patch:
            raise ConfigError(
                f"size={size}, patch={patch}: whole patches a side, at most {LARGEST} pixels, such as size=32, patch=4"
            )
        if codes < 1 or levels < 1:
            raise ConfigError(f"codes={codes}, levels={levels}: both are at least 1")
        self.size, self.patch, self.color, self.fixed, self.seed = (height, width), patch, color, fixed, seed
        self._mode, self._channels = ("RGB", 3) if color else ("L", 1)
        self._grid = Grid(height // patch, width // patch, fixed, codes, levels)
        self._book: ResidualCodebook | None = None
        self._mean, self._std = np.zeros(self._channels, np.float32), np.ones(self._channels, np.float32)

    @property
    def vocab_size(self) -> int:
        self._fitted()
        return self._grid.vocab_size

    def fit(self, items: Iterable[Image | str | PathLike[str]]) -> None:
        """Learn the codebook, and the mean and deviation of each channel, from pictures; a second fit starts anew.

        Raises BadInput where there are none.
        """
        rng = np.random.default_rng(self.seed)
        kept: list[np.ndarray] = []
        keys: list[np.ndarray] = []  # by chance; the patches with the smallest stay, so that all are equally likely to
        count, total, squares = 0, np.zeros(self._channels), np.zeros(self._channels)
        for item in items:
            patches = self._patches(self._pixels(item))
            kept.append(patches)
            keys.append(rng.random(len(patches)))
            values = patches.reshape(-1, self._channels) / 255
            count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
            if sum(map(len, kept)) > 4 * _codebook.SAMPLE:
                kept, keys = _smallest(kept, keys)
        if not count:
            raise BadInput("fit", "no pictures", "give the codebook at least one")
        (patches,), _ = _smallest(kept, keys)
        self._book = ResidualCodebook.fit(
            patches.astype(np.float32) / 255, codes=self._grid.codes, levels=self._grid.levels, seed=self.seed
        )
        mean = total / count
        self._mean = mean.astype(np.float32)
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
        self._std = np.where(deviation < 1e-3, 1, deviation).astype(np.float32)

    def encode(self, item: Image | str | PathLike[str]) -> np.ndarray:
        """Ids int32 (n,) of a picture or a file. Raises BadInput."""
        book, pixels = self._fitted(), self._pixels(item)
        rows, cols = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch
        return self._grid.join(rows, cols, book.encode(self._patches(pixels).astype(np.float32) / 255))

    def decode(self, ids: np.ndarray) -> Image:
        """A picture of any ids in range. A patch without all of its levels is coarse, one without any is black."""
        from PIL import Image

        book = self._fitted()
        rows, cols, codes, given = self._grid.split(np.asarray(ids))
        values = sum(
            np.where(given[:, [level]], book.centroids[level][codes[:, level]], 0) for level in range(book.levels)
        )
        pixels = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
        pixels = pixels.reshape(rows, cols, self.patch, self.patch, self._channels).swapaxes(1, 2)
        pixels = pixels.reshape(rows * self.patch, cols * self.patch, self._channels)
        return Image.fromarray(pixels if self.color else pixels[:, :, 0])

    def features(self, item: Image | str | PathLike[str]) -> np.ndarray:
        """float32 (rows * cols, patch * patch * channels): the patches row by row, mean 0 and deviation 1 a channel."""
        self._fitted()
        patches = self._patches(self._pixels(item)).reshape(-1, self.patch**2, self._channels)
        features: np.ndarray = (patches.astype(np.float32) / 255 - self._mean) / self._std
        return features.reshape(len(patches), -1)

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        """int32 (n, 2): row and column of each id's patch; (0, 0) for the two that say the size."""
        return self._grid.coordinates(np.asarray(ids))

    def grammar(self) -> GridGrammar:
        """What may come next: a sample has all of its patches, in the order of their levels."""
        return GridGrammar(self._grid)

    def read(self, path: str | PathLike[str]) -> Image:
        """The picture in a file as it is encoded: upright, in the tokenizer's colours and size. Raises BadInput."""
        from PIL import Image

        picture = self._fit_size(_image_read.read(Path(path), self._mode, 2 * max(self.size)))
        return Image.fromarray(np.asarray(picture))  # the pixels alone, without what else the file says

    def write(self, item: Image, path: str | PathLike[str]) -> None:
        """A picture to a file, in its own size."""
        if Path(path).suffix.lower() not in WRITES:
            raise ConfigError(f"{path}: pictures are written as {' '.join(WRITES)}")
        _image_read.flatten(item, self._mode).save(path)

    def show(self, item: Image, stem: str | PathLike[str], prompt_notes: int = 0) -> list[Path]:
        """The picture `stem`_large.png, each pixel a square where it is small."""
        from PIL import Image

        path = Path(f"{Path(stem)}_large.png")
        times = max(1, round(SHOWN / max(item.size)))
        large = _image_read.flatten(item, self._mode)
        large.resize((item.width * times, item.height * times), Image.Resampling.NEAREST).save(path)
        return [path]

    def distortion(self, x: Image | str | PathLike[str], y: Image | str | PathLike[str]) -> float:
        """Root of the mean squared difference of pixels from 0 to 1, of the pictures as they are encoded.

        -20 log10 of it is the PSNR in decibels. 1 where they are not of one size.
        """
        a, b = self._pixels(x), self._pixels(y)
        if a.shape != b.shape:
            return 1.0
        return float(np.sqrt(np.mean((a.astype(np.float64) - b) ** 2)) / 255)

    def examples(self, rng: np.random.Generator) -> list[Image]:
        """A picture of one colour, a slope, noise, and a picture of another shape and mode."""
        from PIL import Image

        height, width = self.size
        slope = np.linspace(0, 255, height * width * 3).reshape(height, width, 3).astype(np.uint8)
        noise = rng.integers(256, size=(height, width, 3)).astype(np.uint8)
        other = rng.integers(256, size=(2 * height + 1, width // 2 + 1, 4)).astype(np.uint8)
        return [Image.new("L", (width, height), 200), *map(Image.fromarray, (slope, noise, other))]

    def to_dict(self) -> dict[str, Any]:
        settings = {
            "size": list(self.size), "patch": self.patch, "codes": self._grid.codes, "levels": self._grid.levels,
            "color": self.color, "fixed": self.fixed, "seed": self.seed,
        }  # fmt: skip
        return settings | self._fitted().to_dict() | {"mean": self._mean, "std": self._std}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        settings = dict(d)
        book = ResidualCodebook(settings.pop("centroids"))
        mean, std = settings.pop("mean"), settings.pop("std")
        height, width = settings.pop("size")
        new = cls((height, width), **settings)
        new._book, new._mean, new._std = book, mean, std
        return new

    def _fitted(self) -> ResidualCodebook:
        if self._book is None:
            raise NotFitted("the image tokenizer has no codebook yet; call fit(pictures) first")
        return self._book

    def _pixels(self, item: Image | str | PathLike[str]) -> np.ndarray:
        """uint8 (height, width, channels) in whole patches."""
        from PIL import Image

        if isinstance(item, str | PathLike):
            picture = self.read(item)
        elif isinstance(item, Image.Image) and item.width and item.height:
            try:
                picture = self._fit_size(_image_read.flatten(item, self._mode))
            except (OSError, ValueError, SyntaxError) as error:  # a file that is read only now, as Pillow does
                raise BadInput(
                    getattr(item, "filename", "") or "picture", f"cannot be used: {type(error).__name__}: {error}"
                ) from error
        else:
            raise BadInput("picture", f"{item!r:.80}", "give a Pillow picture with pixels, or a file")
        return np.asarray(picture).reshape(picture.height, picture.width, self._channels)

    def _fit_size(self, picture: Image) -> Image:
        from PIL import Image, ImageOps

        height, width = self.size
        if not self.fixed:
            scale = min(1.0, height / picture.height, width / picture.width)
            height, width = (
                min(most, max(1, round(side * scale / self.patch)) * self.patch)
                for side, most in ((picture.height, height), (picture.width, width))
            )
        if picture.size == (width, height):
            return picture
        if self.fixed:
            return ImageOps.fit(picture, (width, height), Image.Resampling.LANCZOS)
        return picture.resize((width, height), Image.Resampling.LANCZOS)

    def _patches(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (rows * cols, patch * patch * channels), row by row."""
        rows, cols = pixels.shape[0] // self.patch, pixels.shape[1] // self.patch
        cut = pixels.reshape(rows, self.patch, cols, self.patch, self._channels).swapaxes(1, 2)
        return cut.reshape(rows * cols, -1)


def _smallest(kept: list[np.ndarray], keys: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """As many patches as the codebook looks at, those with the smallest keys."""
    patches, key = np.concatenate(kept), np.concatenate(keys)
    if len(key) <= _codebook.SAMPLE:
        return [patches], [key]
    chosen = np.sort(np.argpartition(key, _codebook.SAMPLE)[: _codebook.SAMPLE])
    return [patches[chosen]], [key[chosen]]


TOKENIZERS = {"image": ImageTokenizer}
