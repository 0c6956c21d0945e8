"""What a model makes, and how far it is while it makes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Progress = Callable[[float, float], None]


@dataclass(frozen=True)
class Generated:
    """One thing that was made.

    Attributes:
        ids: int32, the tokenizer's, of the whole item: first the prompt's, then the new ones; no marks.
        prompt_ids: int32, those of the prompt.
        item: what the tokenizer decodes `ids` to.
        logprobs: float32, of the new ids and of the end: the model's own over what was allowed, before temperature and
            the like.
        finished: whether the item came to its end; False where the number of ids ran out.
        seed: what makes it again, with the same arguments.
        seconds_taken: of the clock, for it and the others that were made with it.
    """

    ids: np.ndarray
    prompt_ids: np.ndarray
    item: Any
    logprobs: np.ndarray
    finished: bool
    seed: int
    seconds_taken: float


@dataclass(frozen=True)
class Candidate:
    """An id that may come next.

    Attributes:
        id: the tokenizer's; None: the end.
        text: what it stands for, U+FFFD for part of a character; nothing for the end.
        probability: of the model as it is, at temperature 1.
    """

    id: int | None
    text: str
    probability: float


class Report:
    """Tells how far a batch has come, after each step: the mean over its rows, laid on the share of the whole."""

    def __init__(
        self,
        tell: Progress,
        first: int,
        rows: int,
        variations: int,
        seconds: float | None,
        bound: int,
        start: float,
    ) -> None:
        self.tell, self.total = tell, bound if seconds is None else seconds
        self.counts_seconds, self.done = seconds is not None, first / variations
        self.share, self.steps, self.start, self.told = rows / variations, 0, start, 0.0

    def __call__(self, constraints: Sequence[Any]) -> None:
        self.steps += 1
        at: float = self.steps
        if self.counts_seconds:
            at = sum(constraint.grammar.seconds for constraint in constraints) / len(constraints)
            at = min(at - self.start, self.total)
        self.told = max(self.told, self.done * self.total + self.share * at)  # the best beam may be a shorter one
        self.tell(self.told, self.total)
