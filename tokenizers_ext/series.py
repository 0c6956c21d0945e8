"""Series of numbers as tokens, by quantile bins: the shortest example of what a tokenizer is."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted

LARGEST = 3.4028235e38
"""Of what a series may hold: the values of bins are float32, and what is larger would be infinite there."""
MISSING = "fill in the number that is missing, or leave out the line"


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
        """Ids int32 (n,) of n numbers. Raises BadInput for what is not a row of finite numbers up to `LARGEST`."""
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
        """float64 (n,): a .npy of one axis, or the last column of a text, whose first line may name the columns.

        What parts the cells of a text is seen in its first line: semicolons, else tabs, else commas, else blanks. A
        cell may stand in double quotes. Between semicolons a comma is a decimal point. Blank lines are left out; a line
        of fewer or more cells than the others, an empty last cell and one that is no number raise BadInput with the
        line, since a series has a number at every step.
        """
        path = Path(path)
        try:
            return _array(path) if path.suffix.lower() == ".npy" else _column(path.read_text(encoding="utf-8-sig"))
        except BadInput as error:
            raise BadInput(path, error.reason, error.hint) from error
        except (OSError, ValueError) as error:
            raise BadInput(path, f"cannot be read as a series: {error}") from error

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
        given = np.asarray(item)
        if given.dtype.kind not in "biufO":  # NumPy makes numbers of dates, and of complex ones their real parts
            raise TypeError(f"an array of {given.dtype}")
        numbers = given.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput("series", f"not numbers: {error}") from error
    if numbers.ndim != 1:
        raise BadInput("series", f"numbers of shape {numbers.shape}; a series has one axis")
    fits = np.abs(numbers) <= LARGEST
    if not fits.all():
        at = int(np.argmin(fits))
        raise BadInput("series", f"number {at} is {numbers[at]}; all have to be finite, and at most {LARGEST:.3g}")
    return numbers


def _array(path: Path) -> np.ndarray:
    """The numbers of a .npy; not with np.load, which goes by what a file begins with and opens archives as well."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # mapped, since a header may promise more than there is
    except Exception as error:  # the header is parsed as Python, and that raises whatever it comes across
        raise BadInput(path, f"cannot be read as a series: {str(error) or type(error).__name__}") from error
    return _numbers(array)


def _column(text: str) -> np.ndarray:
    """The last column."""
    first = re.sub('"[^"]*"', "", next(filter(str.strip, text.split("\n")), ""))
    mark = next((mark for mark in ";\t," if mark in first), " ")
    found: list[float] = []
    width, points = 0, set()
    for count, (line, row) in enumerate(_rows(text, mark)):
        width, cell = width or len(row), row[-1].strip()
        if len(row) != width:
            hint = MISSING if len(row) < width else ""
            raise BadInput("series", f"line {line} has another number of cells, {len(row)}, than before, {width}", hint)
        if not cell:
            raise BadInput("series", f"line {line} ends in an empty cell", MISSING)
        ends = f"line {line} ends in {cell[:40]!r}"
        try:
            if "_" in cell:
                raise ValueError("Python's own way to part thousands")
            value = float(cell.replace(",", ".") if mark == ";" else cell)
        except ValueError as error:
            if not count and not re.fullmatch("[-+]?[0-9., ]+", cell):  # names; between blanks one may be several words
                width = 0 if mark == " " else width
                continue
            hint = "a decimal comma is read between semicolons alone" if "," in cell else ""
            raise BadInput("series", f"{ends}, which is no number", hint) from error
        points |= {point for point in ",." if point in cell}
        if len(points) > 1:
            raise BadInput("series", f"{ends}; a column has decimal commas or decimal points, not both")
        if not abs(value) <= LARGEST:
            raise BadInput("series", f"{ends}; all numbers have to be finite, and at most {LARGEST:.3g}")
        found.append(value)
    if not found:
        raise BadInput("series", "no numbers in it")
    return np.array(found)


def _rows(text: str, mark: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line that is not blank, with its number."""
    blanks = None if mark != "\t" else " \r\f\v"  # a line may begin with a tab: the column of it has no name
    lines = (
        " ".join(line.split()) if mark == " " else line.strip(blanks).rstrip() if line.strip() else ""
        for line in text.split("\n")
    )
    reader = csv.reader(lines, delimiter=mark, skipinitialspace=True, strict=True)
    try:
        for row in filter(None, reader):
            yield reader.line_num, row
    except csv.Error as error:
        raise BadInput("series", f"line {reader.line_num} is no row of cells: {error}") from error


TOKENIZERS = {"series": SeriesTokenizer}
