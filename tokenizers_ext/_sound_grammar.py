"""Which codes may follow: the levels of a patch in order, an end only after a whole patch."""

from __future__ import annotations

from copy import copy
from typing import Self

import numpy as np


class SoundGrammar:
    """At the start of a sequence. Ids are level * codes + code.

    codes, levels: of the codebook. patch_seconds: how long a patch lasts.
    seconds: when so much is reached, only the end may come; None: no limit.
    """

    by_place = True

    def __init__(self, codes: int, levels: int, patch_seconds: float, seconds: float | None = None) -> None:
        self._levels, self._patch_seconds, self._taken = levels, patch_seconds, 0
        self._patches = None if seconds is None else int(seconds / patch_seconds + 1e-6)
        turn = np.repeat(np.arange(levels), codes)
        rows = turn[None] == np.arange(levels)[:, None]
        self._turns = np.concatenate([rows, np.arange(levels)[:, None] == 0], axis=1)
        self._end = np.arange(levels * codes + 1) == levels * codes

    @property
    def seconds(self) -> float:
        """The time that the whole patches so far last."""
        return self._taken // self._levels * self._patch_seconds

    def mask(self) -> np.ndarray:
        """bool (vocab_size + 1,), True for the ids that may come next; the last entry: the end."""
        whole, level = divmod(self._taken, self._levels)
        over = level == 0 and self._patches is not None and whole >= self._patches
        return self._end if over else self._turns[level]

    def clip(self, id: int) -> int:
        """The id itself: nothing is cut short."""
        return id

    def advance(self, id: int) -> None:
        """Take an id."""
        self._taken += 1

    def copy(self) -> Self:
        """An independent copy; the tables are shared."""
        return copy(self)
