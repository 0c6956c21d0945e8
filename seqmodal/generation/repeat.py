"""No run of ids comes twice: what summaries are searched for with (Paulus et al. 2018)."""

from __future__ import annotations

from typing import Self

import numpy as np

from seqmodal.errors import ConfigError


class NoRepeat:
    """In place of a grammar, over all ids of a block: none that would complete a run of `length` ids that has been made
    before. What is given does not count: to copy from it is allowed.

    Args:
        size: ids of the block.
        length: of a run, at least 1.
    """

    def __init__(self, size: int, length: int) -> None:
        if length < 1:
            raise ConfigError(f"no_repeat is {length}; a run has at least one id")
        self.length = length
        self._made: list[int] = []
        self._after: dict[tuple[int, ...], tuple[int, ...]] = {}
        self._mask = np.ones(size + 1, bool)
        self._barred: tuple[int, ...] = ()

    def mask(self) -> np.ndarray:
        """bool (size + 1,), the end last, which is always allowed; written again by `advance`."""
        return self._mask

    def clip(self, id: int) -> int:
        """Ids stand as they are."""
        return id

    def advance(self, id: int) -> None:
        """Take an id."""
        if len(self._made) >= self.length - 1:
            before = self._last()
            self._after[before] = (*self._after.get(before, ()), id)
        self._made.append(id)
        self._mask[list(self._barred)] = True
        self._barred = self._after.get(self._last(), ()) if len(self._made) >= self.length - 1 else ()
        self._mask[list(self._barred)] = False

    def copy(self) -> Self:
        """An independent copy."""
        other = type(self)(len(self._mask) - 1, self.length)
        other._made, other._after = list(self._made), dict(self._after)
        other._mask, other._barred = self._mask.copy(), self._barred
        return other

    def _last(self) -> tuple[int, ...]:
        return tuple(self._made[len(self._made) - self.length + 1 :])
