"""The order of the ids of a picture, and which id may come next.

First, where sizes are free, the number of rows of patches and the number of columns; then the patches row by row, each
a code a level. A place in this order says what an id means there, so that any ids are a picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Grid:
    """What the ids mean.

    Attributes:
        rows, cols: of patches, in a picture of fixed size; else the most there can be.
        fixed: whether every picture has that size; else it is in its first two ids.
        codes, levels: of the codebook. Id level * codes + code is a code; after them come the numbers of rows from 1,
            then those of columns.
    """

    rows: int
    cols: int
    fixed: bool
    codes: int
    levels: int

    @property
    def vocab_size(self) -> int:
        return self.levels * self.codes + (0 if self.fixed else self.rows + self.cols)

    @property
    def header(self) -> int:
        """How many ids come before those of patches."""
        return 0 if self.fixed else 2

    def join(self, rows: int, cols: int, codes: np.ndarray) -> np.ndarray:
        """Ids int32 (n,) of codes (rows * cols, levels)."""
        first = self.levels * self.codes
        head = [] if self.fixed else [first + rows - 1, first + self.rows + cols - 1]
        return np.concatenate([head, (codes + np.arange(self.levels) * self.codes).ravel()]).astype(np.int32)

    def shape(self, ids: np.ndarray) -> tuple[int, int]:
        """(rows, columns) that ids begin with; the most there can be, where they do not say."""
        if self.fixed:
            return self.rows, self.cols
        first = self.levels * self.codes
        rows = int(ids[0]) - first + 1 if len(ids) > 0 else 0
        cols = int(ids[1]) - first - self.rows + 1 if len(ids) > 1 else 0
        return (rows if 1 <= rows <= self.rows else self.rows), (cols if 1 <= cols <= self.cols else self.cols)

    def split(self, ids: np.ndarray) -> tuple[int, int, np.ndarray, np.ndarray]:
        """(rows, cols, codes (rows * cols, levels), bool of the same shape: which of them ids give).

        Missing are those after the end of the ids and those in whose place an id of another kind stands.
        """
        rows, cols = self.shape(ids)
        size = rows * cols * self.levels
        found = np.full(size, -1, np.int64)
        body = ids[self.header : self.header + size]
        found[: len(body)] = body
        codes = found.reshape(-1, self.levels) - np.arange(self.levels) * self.codes
        given = (codes >= 0) & (codes < self.codes)
        return rows, cols, np.where(given, codes, 0), given

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        """int32 (n, 2): row and column of the patch of each id; the size is at (0, 0), ids too many at the end."""
        rows, cols = self.shape(ids)
        patch = (np.arange(len(ids)) - self.header) // self.levels
        patch = patch.clip(0, rows * cols - 1)
        return np.stack([patch // cols, patch % cols], 1).astype(np.int32)


class GridGrammar:
    """Which id may come next: those of the size, then a code of each level for each patch, then the end."""

    by_place = True

    def __init__(self, grid: Grid) -> None:
        self._grid, self._taken = grid, 0
        self._size = np.zeros(2, np.int64)  # the first two ids
        self._last = self._length(grid.rows, grid.cols)

    def mask(self) -> np.ndarray:
        """bool (vocab_size + 1,), the last entry: the end."""
        grid, at = self._grid, self._taken - self._grid.header
        allowed = np.zeros(grid.vocab_size + 1, bool)
        first = grid.levels * grid.codes
        if self._taken >= self._last:
            allowed[-1] = True
        elif at >= 0:
            level = at % grid.levels
            allowed[level * grid.codes : (level + 1) * grid.codes] = True
        elif at == -2:
            allowed[first : first + grid.rows] = True
        else:
            allowed[first + grid.rows : -1] = True
        return allowed

    def clip(self, id: int) -> int:
        """The id itself: nothing is cut short."""
        return id

    def advance(self, id: int) -> None:
        """Takes one id, an allowed one or a prompt's."""
        if self._taken < self._grid.header:
            self._size[self._taken] = id
            if self._taken == 1:
                self._last = self._length(*self._grid.shape(self._size))
        self._taken += 1

    def copy(self) -> Self:
        new = type(self)(self._grid)
        new._taken, new._size, new._last = self._taken, self._size.copy(), self._last
        return new

    def _length(self, rows: int, cols: int) -> int:
        return self._grid.header + rows * cols * self._grid.levels
