"""What ends where the user says, for tokenizers without a grammar of their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Grammatical, Streamable


class Until(ABC):
    """In place of a grammar, over all ids of a block: anything, until enough was made, and then the end alone.

    Args:
        tokenizer: of the block.
        made: ids that stand already.
    """

    def __init__(self, tokenizer: Any, made: Sequence[int] = ()) -> None:
        self.tokenizer, self.made = tokenizer, list(made)
        self._mask = np.ones(tokenizer.vocab_size + 1, bool)

    @abstractmethod
    def enough(self) -> bool:
        """Whether what was made is to end."""

    def mask(self) -> np.ndarray:
        """bool (ids + 1,), the end last; written again by `advance`."""
        return self._mask

    def clip(self, id: int) -> int:
        """Ids stand as they are."""
        return id

    def advance(self, id: int) -> None:
        """Take an id."""
        self.made.append(id)
        if self.enough():
            self._mask[:-1], self._mask[-1] = False, True

    def copy(self) -> Self:
        """An independent copy."""
        other = object.__new__(type(self))
        vars(other).update(vars(self) | {"made": list(self.made), "_mask": self._mask.copy()})
        return other


class UntilText(Until):
    """Text that ends behind what the user names, however its letters fall into ids, or before. A prompt does not count,
    and the id that completes a stop may hold letters behind it.

    Args:
        tokenizer: of the block.
        stops: texts, or one.

    Raises:
        ConfigError: for a tokenizer whose items are no text or that has a grammar, and a stop without letters.
    """

    def __init__(self, tokenizer: Any, stops: str | Sequence[str]) -> None:
        self.stops = (stops,) if isinstance(stops, str) else tuple(stops)
        if isinstance(tokenizer, Grammatical) or not isinstance(tokenizer, Streamable):
            name = getattr(tokenizer, "name", "")
            raise ConfigError(f"stop means nothing to the tokenizer {name}; it is for text without a grammar")
        if not self.stops or not all(self.stops):
            raise ConfigError("stop is empty; it is a text, or several, of at least one letter")
        super().__init__(tokenizer)
        # An id may be one byte, and a letter four; where the oldest is cut in two, no stop reaches so far back.
        self.reach = 4 * max(map(len, self.stops)) + 4

    def enough(self) -> bool:
        """Whether one of the stops is there."""
        text = self.tokenizer.decode(np.array(self.made[-self.reach :], np.int32))
        return any(stop in text for stop in self.stops)


class UntilTime(Until):
    """What lasts for some seconds, by the tokenizer's `duration`, and does not end before.

    Args:
        tokenizer: of the block.
        seconds: of all that is made, what stands already included.
        made: ids that stand already.
    """

    def __init__(self, tokenizer: Any, seconds: float, made: Sequence[int] = ()) -> None:
        super().__init__(tokenizer, made)
        self.most = seconds
        self._mask[-1] = False

    @property
    def seconds(self) -> float:
        """How long it is so far."""
        return float(self.tokenizer.duration(np.array(self.made, np.int32)))

    def enough(self) -> bool:
        """Whether the time is over."""
        return self.seconds >= self.most
