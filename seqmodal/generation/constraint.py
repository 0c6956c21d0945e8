"""What may come next, as rows of the whole vocabulary."""

from __future__ import annotations

from copy import copy
from typing import Protocol, Self

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Grammar
from seqmodal.tokenizers.vocabulary import Vocabulary


class Constraint(Protocol):
    """Follows one row of a batch."""

    def allowed(self) -> np.ndarray:
        """bool (V,); it may be written again by the next call."""

    def advance(self, id: int) -> int:
        """Take the id that was chosen; returns the one that stands for it, usually itself."""

    def copy(self) -> Self:
        """An independent copy: beams and speculation branch."""


class BlockConstraint:
    """Content of one block, as its grammar allows it, and the block's end.

    Args:
        vocabulary: of the model.
        block: whose turn it is.
        grammar: of the block's tokenizer, on its own ids, where the continuation begins; None: anything goes.
    """

    def __init__(self, vocabulary: Vocabulary, block: str, grammar: Grammar | None = None) -> None:
        found = vocabulary.block(block)
        self.end = vocabulary.eos if found.end is None else found.end
        self.grammar = grammar
        self._first, self._content = found.first_content, found.content_slice
        self._row = np.zeros(vocabulary.size, bool)
        if grammar is None:
            self._row[self._content] = self._row[self.end] = True
        elif len(grammar.mask()) != found.num_content + 1:
            raise ConfigError(
                f"the grammar speaks of {len(grammar.mask()) - 1} ids; the block {block} has {found.num_content}"
            )

    def allowed(self) -> np.ndarray:
        """bool (V,); only the block's part is written at each call."""
        if self.grammar is not None:
            mask = self.grammar.mask()
            self._row[self._content] = mask[:-1]
            self._row[self.end] = mask[-1]
        return self._row

    def advance(self, id: int) -> int:
        """Take an id of the vocabulary, as the grammar's limits let it stand; the end changes nothing."""
        if self.grammar is None or id == self.end:
            return id
        taken = self.grammar.clip(id - self._first)
        self.grammar.advance(taken)
        return taken + self._first

    def copy(self) -> BlockConstraint:
        """The same block with a grammar of its own; without one nothing ever changes, and it is the same."""
        if self.grammar is None:
            return self
        other = copy(self)
        other._row = self._row.copy()
        other.grammar = self.grammar.copy()
        return other
