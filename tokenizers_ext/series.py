"""Series of numbers as tokens, by quantile bins: the shortest example of what a tokenizer is."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted


class SeriesTokenizer:
    """Numbers at equal steps of time, each as the nearest of `bins` values that are equally frequent in the data."""

    name: ClassVar[str] = "series"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".txt", ".npy")

    def __init__(self, bins: int = 256) -> None:
        if bins < 1:
            raise ConfigError(f"bins={bins}: at least 1")
        self.bins = bins
        self._values: np.ndarray | None = None

    def fit(self, items: Iterable[Any]) -> None:
        """Take the middle of each bin from the numbers of all items; bins that would be equal become one."""
        numbers = np.concatenate([np.zeros(0), *map(_numbers, items)])
        if not len(numbers):
            raise BadInput("fit", "no numbers", "give at least one series that is not empty")
        middles = (np.arange(self.bins) + 0.5) / self.bins
        self._values = np.unique(np.quantile(numbers, middles).astype(np.float32))

    @property
    def values(self) -> np.ndarray:
        """float32 (vocab_size,), rising: what each id stands for."""
        if self._values is None:
            raise NotFitted("the series tokenizer has no bins yet; call fit(series) first")
        return self._values

    @property
    def vocab_size(self) -> int:
        return len(self.values)

    def encode(self, item: Any) -> np.ndarray:
        """Ids int32 (n,) of n numbers. Raises BadInput for what is not a row of finite numbers."""
        wide = self.values.astype(np.float64)  # halfway between two float32 there is always a float64
        return np.searchsorted((wide[1:] + wide[:-1]) / 2, _numbers(item)).astype(np.int32)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """float32 (n,)."""
        return self.values[np.asarray(ids, np.intp)]

    def to_dict(self) -> dict[str, Any]:
        return {"bins": self.bins, "values": self.values}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        new = cls(d["bins"])
        new._values = d["values"]
        return new

    def read(self, path: str | Path) -> np.ndarray:
        """float64 (n,): a .npy of one axis, or the last column of a text, whose first line may name it."""
        path = Path(path)
        try:
            if path.suffix.lower() == ".npy":
                return _numbers(np.load(path, mmap_mode="r"))
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except BadInput as error:
            raise BadInput(path, error.reason) from error
        except (OSError, ValueError, EOFError) as error:
            raise BadInput(path, f"cannot be read as a series: {error}") from error
        return _column(path, lines)

    def write(self, item: Any, path: str | Path) -> None:
        """A .npy, or a text with a number a line."""
        if Path(path).suffix.lower() == ".npy":
            np.save(path, _numbers(item))
        else:
            np.savetxt(path, _numbers(item), fmt="%.9g")

    def examples(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Nothing, a walk by chance, and a wave of whole numbers."""
        return [np.zeros(0), rng.normal(size=200).cumsum(), np.rint(9 * np.sin(np.arange(50) / 4))]


def _numbers(item: Any) -> np.ndarray:
    """float64 (n,)."""
    try:
        numbers = np.array(item, np.float64)
    except (TypeError, ValueError) as error:
        raise BadInput("series", f"not numbers: {error}") from error
    if numbers.ndim != 1:
        raise BadInput("series", f"numbers of shape {numbers.shape}; a series has one axis")
    if not np.isfinite(numbers).all():
        at = int(np.argmin(np.isfinite(numbers)))
        raise BadInput("series", f"number {at} is {numbers[at]}; all have to be finite")
    return numbers


def _column(path: Path, lines: list[str]) -> np.ndarray:
    """The last column; fields are parted by commas, semicolons or blanks."""
    found: list[float] = []
    for number, line in enumerate(lines, 1):
        fields = line.replace(",", " ").replace(";", " ").split()
        if not fields:
            continue
        try:
            value = float(fields[-1])
        except ValueError as error:
            if number == 1:
                continue  # names of columns
            raise BadInput(path, f"line {number} ends in {fields[-1][:40]!r}, which is no number") from error
        if not np.isfinite(value):
            raise BadInput(path, f"line {number} ends in {fields[-1][:40]!r}; all numbers have to be finite")
        found.append(value)
    if not found:
        raise BadInput(path, "no numbers in it")
    return np.array(found)


TOKENIZERS = {"series": SeriesTokenizer}
