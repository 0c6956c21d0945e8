"""Text from ids as they come: no half of a character is ever shown."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable

import numpy as np


class TextStream:
    """Turns ids into text while they come. What it gave, put together, is what `decode` makes of all of them.

    Args:
        to_bytes: the bytes of some ids.
    """

    def __init__(self, to_bytes: Callable[[np.ndarray], bytes]) -> None:
        self._to_bytes = to_bytes
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, ids: Iterable[int]) -> str:
        """The characters that are whole now; the bytes of one that is not are kept until they are."""
        return self._utf8.decode(self._to_bytes(np.asarray(list(ids), np.int32)))

    def end(self) -> str:
        """What is left: nothing, or U+FFFD where the last character was not finished."""
        return self._utf8.decode(b"", final=True)
