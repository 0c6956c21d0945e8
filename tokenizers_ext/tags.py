"""Names as tokens: what is asked of a text, such as the language to translate into. No text becomes a tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from seqmodal.errors import BadInput, NotFitted


class TagTokenizer:
    """Names from a fixed list, a token each: languages to translate into, tasks to do.

    name: of the block; a model that learns further names later has them in a block of their own.
    """

    def __init__(self, names: Sequence[str] = (), name: str = "tags") -> None:
        self.names, self.name = tuple(dict.fromkeys(names)), name

    def fit(self, items: Iterable[str | Sequence[str]]) -> None:
        """Take all names of some items, in the order in which they come first."""
        self.names = tuple(dict.fromkeys(name for item in items for name in _as_names(item)))

    @property
    def vocab_size(self) -> int:
        if not self.names:
            raise NotFitted("there are no tags yet; call fit(names) first")
        return len(self.names)

    def encode(self, item: str | Sequence[str]) -> np.ndarray:
        """Ids int32 (n,) of a name, or of a list of n. Raises BadInput for one that is not known."""
        known = {name: number for number, name in enumerate(self.names)}
        if not known:
            raise NotFitted("there are no tags yet; call fit(names) first")
        for name in _as_names(item):
            if name not in known:
                raise BadInput("tag", f"{name!r} is not known; there are: {', '.join(self.names)}")
        return np.array([known[name] for name in _as_names(item)], np.int32)

    def decode(self, ids: np.ndarray) -> list[str]:
        """The names."""
        return [self.names[id] for id in np.asarray(ids, np.intp)]

    def to_dict(self) -> dict[str, Any]:
        return {"names": list(self.names)} | ({"name": self.name} if self.name != "tags" else {})

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(**d)

    def examples(self, rng: np.random.Generator) -> list[list[str]]:
        """No name, and all there are."""
        return [[], list(self.names or ("de", "en"))]


def _as_names(item: str | Sequence[str]) -> list[str]:
    return [item] if isinstance(item, str) else list(item)


TOKENIZERS = {"tags": TagTokenizer}
