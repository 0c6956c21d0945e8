"""A vocabulary is an append-only row of named blocks. All arithmetic of offsets lives here and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from seqmodal.errors import ConfigError, Mismatch

SPECIAL = "special"
MARKS = ("<pad>", "<bos>", "<eos>", "<null>")
ADDED = "marks"
"""Name of the block of marks that an objective needs beside these; see `seqmodal.objective`."""


@dataclass(frozen=True)
class Block:
    """Ids `start` to `start + size` of a vocabulary. A marked block opens with its begin and end, content follows.

    Attributes:
        name: the tokenizer's.
        start: first global id.
        size: ids in all, marks included.
        marked: whether the block has begin and end marks.
    """

    name: str
    start: int
    size: int
    marked: bool = True

    @property
    def begin(self) -> int | None:
        """Global id that opens a segment of this block, None where the block has no marks."""
        return self.start if self.marked else None

    @property
    def end(self) -> int | None:
        """Global id that closes a segment, None where the block has no marks."""
        return self.start + 1 if self.marked else None

    @property
    def first_content(self) -> int:
        """Global id of the tokenizer's id 0."""
        return self.start + 2 * self.marked

    @property
    def content_slice(self) -> slice:
        """Global ids of the tokenizer's ids."""
        return slice(self.first_content, self.start + self.size)

    @property
    def num_content(self) -> int:
        """How many ids the tokenizer has."""
        return self.size - 2 * self.marked


@dataclass(frozen=True)
class Vocabulary:
    """Blocks in the order they came, and the ids of the marks that belong to no block.

    The marks are a block of their own at 0, or lie on ids of another block (`single`).
    """

    blocks: tuple[Block, ...]
    pad: int = 0
    bos: int = 1
    eos: int = 2
    null: int | None = 3

    def __post_init__(self) -> None:
        names = self.names
        double = sorted({name for name in names if names.count(name) > 1})
        if double:
            raise ConfigError(f"two blocks of a vocabulary are called {', '.join(double)}; names tell them apart")

    @classmethod
    def of(cls, tokenizers: Iterable[Any]) -> Self:
        """The marks, then a block for every tokenizer in turn."""
        vocabulary = cls((Block(SPECIAL, 0, len(MARKS), marked=False),))
        for tokenizer in tokenizers:
            vocabulary = vocabulary.append(tokenizer.name, tokenizer.vocab_size)
        return vocabulary

    @classmethod
    def single(cls, name: str, size: int, *, bos: int, eos: int) -> Self:
        """One block at 0 without marks, with bos and eos laid on ids of its own, as in GPT-2 (both 50256)."""
        if not (0 <= bos < size and 0 <= eos < size):
            raise ConfigError(f"bos {bos} and eos {eos} must be ids of the block, 0 to {size - 1}")
        return cls((Block(name, 0, size, marked=False),), pad=eos, bos=bos, eos=eos, null=None)

    def append(self, name: str, size: int, *, marked: bool = True) -> Self:
        """The same vocabulary with a block for `size` more ids, begin and end before them if `marked`; nothing is
        renumbered."""
        if size < 1:
            raise ConfigError(f"the block {name} would have {size} ids; it needs at least one")
        return replace(self, blocks=(*self.blocks, Block(name, self.size, size + 2 * marked, marked)))

    @property
    def size(self) -> int:
        """Ids in all."""
        return self.blocks[-1].start + self.blocks[-1].size

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the blocks in order, the marks' own included."""
        return tuple(block.name for block in self.blocks)

    @property
    def content(self) -> tuple[Block, ...]:
        """The tokenizers' blocks."""
        return tuple(block for block in self.blocks if block.name not in (SPECIAL, ADDED))

    def block(self, name: str) -> Block:
        """The block of that name.

        Raises:
            ConfigError: when there is none, with those there are.
        """
        for block in self.blocks:
            if block.name == name:
                return block
        raise ConfigError(f"the vocabulary has no block {name!r}; it has {', '.join(self.names)}")

    def to_global(self, name: str, ids: np.ndarray) -> np.ndarray:
        """A tokenizer's ids as ids of the vocabulary, int32.

        Raises:
            Mismatch: for an id outside the block.
        """
        block, ids = self.block(name), np.asarray(ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < block.num_content:
            raise Mismatch(f"ids {ids.min()} to {ids.max()} do not fit {name}, which has 0 to {block.num_content - 1}")
        return (ids + block.first_content).astype(np.int32)

    def to_local(self, name: str, ids: np.ndarray) -> np.ndarray:
        """The reverse of `to_global`.

        Raises:
            Mismatch: for an id that is not content of the block.
        """
        block, ids = self.block(name), np.asarray(ids)
        content = block.content_slice
        if ids.size and not content.start <= ids.min() <= ids.max() < content.stop:
            raise Mismatch(
                f"ids {ids.min()} to {ids.max()} are not {name}, which is {content.start} to {content.stop - 1}"
            )
        return (ids - block.first_content).astype(np.int32)

    def block_of(self, ids: np.ndarray) -> np.ndarray:
        """Index into `blocks` of each id, int8."""
        starts = np.array([block.start for block in self.blocks])
        return (np.searchsorted(starts, ids, side="right") - 1).astype(np.int8)

    def to_dict(self) -> dict[str, Any]:
        """JSON values from which `from_dict` rebuilds it."""
        marks = {"pad": self.pad, "bos": self.bos, "eos": self.eos, "null": self.null}
        return marks | {"blocks": [[b.name, b.start, b.size, b.marked] for b in self.blocks]}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        """Rebuild from `to_dict`."""
        blocks = tuple(Block(name, start, size, marked) for name, start, size, marked in d["blocks"])
        return cls(blocks, d["pad"], d["bos"], d["eos"], d["null"])
