"""Text that ends behind what the user names, however its letters fall into ids."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Grammatical, Streamable


class Until:
    """In place of a grammar, over all ids of a block of text: anything, until what was made contains one of `stops`,
    and then the end. The prompt does not count. The id that completes a stop may hold letters behind it.

    Args:
        tokenizer: of the block.
        stops: texts, or one.

    Raises:
        ConfigError: for a tokenizer whose items are no text or that has a grammar, and a stop without letters.
    """

    def __init__(self, tokenizer: Any, stops: str | Sequence[str]) -> None:
        self._tokenizer: Any = tokenizer
        self.stops = (stops,) if isinstance(stops, str) else tuple(stops)
        if not isinstance(tokenizer, Streamable) or isinstance(tokenizer, Grammatical):
            name = self._tokenizer.name
            raise ConfigError(f"stop means nothing to the tokenizer {name}; it is for text without a grammar")
        if not self.stops or not all(self.stops):
            raise ConfigError("stop is empty; it is a text, or several, of at least one letter")
        # An id may be one byte, and a letter four; where the oldest is cut in two, no stop reaches so far back.
        self._last: deque[int] = deque(maxlen=4 * max(map(len, self.stops)) + 4)
        self._mask = np.ones(self._tokenizer.vocab_size + 1, bool)

    def mask(self) -> np.ndarray:
        """bool (ids + 1,), the end last, which is always allowed; written again by `advance`."""
        return self._mask

    def clip(self, id: int) -> int:
        """Ids stand as they are."""
        return id

    def advance(self, id: int) -> None:
        """Take an id."""
        self._last.append(id)
        text = self._tokenizer.decode(np.array(self._last, np.int32))
        if any(stop in text for stop in self.stops):
            self._mask[:-1] = False

    def copy(self) -> Self:
        """An independent copy."""
        other = type(self)(self._tokenizer, self.stops)
        other._last.extend(self._last)
        other._mask = self._mask.copy()
        return other

