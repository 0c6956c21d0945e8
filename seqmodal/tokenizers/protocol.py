"""What a tokenizer is, and what it may be able to do beside. No base class is needed: these are only shapes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self, TypeVar, runtime_checkable

import numpy as np

Item_co = TypeVar("Item_co", covariant=True)


@runtime_checkable
class Tokenizer(Protocol[Item_co]):
    """Turns an item into ids and ids into an item.

    `encode` is deterministic and takes what `decode` returns; `decode` is total: any ids from 0 to vocab_size - 1 give
    an item. All that `decode` needs is in the ids or in `to_dict`.
    """

    name: str
    """Name of the block in a vocabulary."""
    vocab_size: int
    """How many ids there are. Raises NotFitted before `fit`, where there is one."""

    def encode(self, item: Any) -> np.ndarray:
        """Ids int32 (n,) of an item. Raises BadInput for one that cannot be encoded."""

    def decode(self, ids: np.ndarray) -> Item_co:
        """An item of any ids in range."""

    def to_dict(self) -> dict[str, Any]:
        """JSON values and NumPy arrays, all that `from_dict` needs."""

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        """Rebuild from `to_dict`; the only way to rebuild."""


class Grammar(Protocol):
    """Which ids may follow. Each call costs the same however long the sequence is.

    With an attribute `by_place` that is true, it depends on how many ids came before, and on which only where an item
    begins with its size: places in the middle can then be filled without those before them.
    """

    def mask(self) -> np.ndarray:
        """bool (vocab_size + 1,), True for the ids that may come next; the last entry: the end."""

    def clip(self, id: int) -> int:
        """The id that is taken when an allowed `id` is drawn: a limit may cut short what would pass it."""

    def advance(self, id: int) -> None:
        """Take an id."""

    def copy(self) -> Grammar:
        """An independent copy, so that beams and speculation can branch."""


@runtime_checkable
class Readable(Protocol):
    """Reads items from files."""

    suffixes: ClassVar[tuple[str, ...]]

    def read(self, path: Path) -> Any:
        """The item in a file. Raises BadInput that names the file."""


@runtime_checkable
class Writable(Protocol):
    """Writes items to files: with the suffixes it reads, or with those of `writes` where it has such an attribute."""

    def write(self, item: Any, path: Path) -> None:
        """Write an item; the suffix of `path` says how."""


@runtime_checkable
class Fittable(Protocol):
    """Has to learn from items before it can encode."""

    def fit(self, items: Iterable[Any]) -> None:
        """Fit in place."""


@runtime_checkable
class Grammatical(Protocol):
    """Knows which ids may follow. `Model.sample` gives `grammar` the tokenizer's `limits`, a dict, if it has one."""

    def grammar(self, **limits: Any) -> Grammar:
        """A grammar at the start of a sequence; it accepts all that `encode` gives, except where `limits` bind."""


@runtime_checkable
class Tallied(Protocol):
    """Has ids that open things and ids that close them; a decoder is told what is open."""

    def effects(self) -> np.ndarray:
        """int8 (vocab_size, counters): what each id adds to each counter, from -1 to 1."""


@runtime_checkable
class Augmentable(Protocol):
    """Can vary its ids in training."""

    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Ids of a varied item, from a window cut anywhere out of an item's ids."""


@runtime_checkable
class Distorting(Protocol):
    """Loses something on the way; says how much."""

    def distortion(self, x: Any, y: Any) -> float:
        """How far item y is from item x."""


@runtime_checkable
class Exemplary(Protocol):
    """Brings items of its own for the conformance kit."""

    def examples(self, rng: np.random.Generator) -> list[Any]:
        """A few items."""


@runtime_checkable
class Showable(Protocol):
    """Makes pictures and sounds of an item for people."""

    def show(self, item: Any, stem: Path, prompt_notes: int = 0) -> list[Path]:
        """Write them beside `stem`, the start of their names; returns what was written."""


class Stream(Protocol):
    """Text of ids while they come; together it is what `decode` makes of all of them."""

    def push(self, ids: Iterable[int]) -> str:
        """What can be shown now."""

    def end(self) -> str:
        """What is left."""


@runtime_checkable
class Streamable(Protocol):
    """Its items are text (str), which can be shown while ids come."""

    def stream(self) -> Stream:
        """A stream at the start of a sequence."""


@runtime_checkable
class Timed(Protocol):
    """Its ids last for some time."""

    def duration(self, ids: np.ndarray) -> float:
        """Seconds."""

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        """The ids of the first seconds."""


@runtime_checkable
class Featured(Protocol):
    """Gives continuous vectors as well, for spans that are read and never written."""

    def features(self, item: Any) -> np.ndarray:
        """float32 (n, F), normalised by what the tokenizer holds itself; F is the same for every item."""


@runtime_checkable
class Located(Protocol):
    """Its ids lie on a grid."""

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        """int32 (n, axes): where each id lies, for pictures its row and column; ids that come later change nothing."""


METHODS = ("encode", "decode", "to_dict", "from_dict")
"""What every tokenizer has, beside its name and its vocab_size."""
ABILITIES: tuple[type, ...] = (
    Readable,
    Writable,
    Fittable,
    Grammatical,
    Tallied,
    Augmentable,
    Distorting,
    Exemplary,
    Showable,
    Streamable,
    Timed,
    Featured,
    Located,
)
