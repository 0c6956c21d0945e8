"""Classifier-free guidance (Ho and Salimans 2022): away from what a model would say without its condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.reader import Reader
from seqmodal.generation.rows import Prompts
from seqmodal.start import Start


class Guided:
    """Reads each row twice, after what is given and after a null: logits u + weight · (c - u).

    It is called as a `Reader` is.

    Args:
        decoder: trained with condition dropout, in evaluation mode.
        prompts: starts of documents in which something is given.
        most: new ids of each row, at most.
        weight: 1: as the model has it; above: more of the condition; 0: without it.

    Raises:
        ConfigError: for a prompt in which nothing is given, or a weight that is no number from 0 on.
    """

    def __init__(self, decoder: Decoder, prompts: Prompts, most: Sequence[int | None], weight: float) -> None:
        if not 0 <= weight < float("inf"):
            raise ConfigError(f"guidance is {weight}; it is 1 (as the model has it), a number above it, or down to 0")
        pairs, self.bare = list[np.ndarray | Start](), list[list[int]]()
        for prompt in prompts:
            if not isinstance(prompt, Start) or not prompt.is_given:
                raise ConfigError("guidance leads away from what comes without a condition, and nothing is given here")
            bare = prompt.without_condition()
            pairs += [prompt, bare]
            self.bare.append(bare.ids.tolist())
        self.weight = weight
        self.reader = Reader(decoder, pairs, [new for new in most for _ in range(2)])

    def recent(self, ids: list[int]) -> list[int]:
        """All of them: what is given stays in reach."""
        return ids

    def last(self, runs: Sequence[list[int]]) -> Tensor:
        """Read the prompts: hidden states (2L, D)."""
        return self.reader.last([run for pair in zip(runs, self.bare, strict=True) for run in pair])

    def next(self, ids: Tensor, histories: Sequence[list[int]]) -> Tensor:
        """The hidden states (2L, D) after one more id for each row."""
        return self.reader.next(ids.repeat_interleave(2), [history for history in histories for _ in range(2)])

    def logits(self, hidden: Tensor) -> Tensor:
        """(2L, D) to (L, V)."""
        both = self.reader.logits(hidden)
        given, bare = both[0::2], both[1::2]
        return bare + self.weight * (given - bare)

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        self.reader.reorder([2 * row + part for row in rows for part in range(2)])
