"""What is known of each row while it grows, and what ends it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from seqmodal.errors import ConfigError
from seqmodal.sequence import Composed

Prompts = Sequence[np.ndarray | Composed]
"""What rows begin with: ids, of which a decoder with a limit forgets the older half when that is reached; or the start
of a composed document, which stays in reach as a whole, its spans seen both ways."""
MaxNewTokens = int | Sequence[int] | None
"""At most so many new ids, for all rows or for each; None: any number."""


def ids_of(prompt: np.ndarray | Composed) -> np.ndarray:
    """The ids of a prompt, (n,)."""
    return prompt.ids if isinstance(prompt, Composed) else np.asarray(prompt)


@dataclass(frozen=True)
class Continuation:
    """What one row went on with.

    Attributes:
        ids: int64 (n,), what ended it included.
        logprobs: float32 (n,), of the model's own distribution over what was allowed, before temperature and the like.
        stop: the stop id, as a tuple of one, or the stop sequence that ended it; None where the number of ids ran out.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    stop: tuple[int, ...] | None = None

    @property
    def finished(self) -> bool:
        """Whether it ended by itself, with a stop id or a stop sequence."""
        return self.stop is not None


class Stops:
    """What ends a row: single ids, and sequences of ids that lie wholly in what is new.

    Raises:
        ConfigError: for a sequence of no ids.
    """

    def __init__(self, ids: Collection[int] = (), sequences: Collection[Sequence[int]] = ()) -> None:
        self.ids = frozenset(ids)
        self.sequences = sorted((tuple(map(int, sequence)) for sequence in sequences), key=len, reverse=True)
        if self.sequences and not self.sequences[-1]:
            raise ConfigError("a stop sequence without ids would end every row before it begins")

    def met(self, ids: Sequence[int], start: int) -> tuple[int, ...] | None:
        """What the newest of `ids` completes; what is new begins at `start`. The longest, where there are several."""
        for stop in self.sequences:
            if ids[-1] == stop[-1] and len(ids) - start >= len(stop) and tuple(ids[-len(stop) :]) == stop:
                return stop
        return (ids[-1],) if ids[-1] in self.ids else None


class Rows:
    """Rows that grow until they stop.

    Attributes:
        histories: of each row, the prompt and what is new.
        live: the rows that go on.

    Raises:
        ConfigError: for a prompt of no ids, or lists that do not have one entry for each prompt.
    """

    def __init__(
        self, prompts: Prompts, max_new_tokens: MaxNewTokens, stops: Stops, **one_each: Sequence[Any] | None
    ) -> None:
        if isinstance(max_new_tokens, Sequence):
            one_each["max_new_tokens"] = max_new_tokens
        for name, given in one_each.items():
            if given is not None and len(given) != len(prompts):
                raise ConfigError(f"{len(prompts)} prompts and {len(given)} {name}; there must be one for each")
        self.histories = [ids_of(prompt).tolist() for prompt in prompts]
        if not self.histories or not all(self.histories):
            raise ConfigError("every row needs a prompt of at least one id, such as bos")
        self.starts = [len(history) for history in self.histories]
        self._most = list(max_new_tokens) if isinstance(max_new_tokens, Sequence) else [max_new_tokens] * len(prompts)
        self.live = [row for row, most in enumerate(self._most) if most is None or most > 0]
        self._stops = stops
        self._logprobs: list[list[float]] = [[] for _ in prompts]
        self._met: list[tuple[int, ...] | None] = [None] * len(prompts)

    def take(self, row: int, id: int, logprob: float) -> bool:
        """Add an id to a row; whether the row goes on."""
        history, start = self.histories[row], self.starts[row]
        history.append(id)
        self._logprobs[row].append(logprob)
        met = self._met[row] = self._stops.met(history, start)
        return met is None and len(history) - start != self._most[row]

    def room(self, row: int) -> int | None:
        """How many ids the row may still take; None: any number."""
        most = self._most[row]
        return None if most is None else most - (len(self.histories[row]) - self.starts[row])

    def continuations(self) -> list[Continuation]:
        """What each row went on with."""
        return [
            Continuation(np.array(history[start:], np.int64), np.array(logprobs, np.float32), met)
            for history, start, logprobs, met in zip(
                self.histories, self.starts, self._logprobs, self._met, strict=True
            )
        ]


def row_generators(seed: int, rows: int, first: int = 0) -> list[torch.Generator]:
    """A random generator a row, of (seed, row) alone, so that a row's sample does not depend on its neighbours."""
    states = (np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0] for row in range(first, first + rows))
    return [torch.Generator().manual_seed(int(state) >> 1) for state in states]


def histories_as_rows(histories: Sequence[Sequence[int]], vocab_size: int, device: torch.device) -> torch.Tensor:
    """The ids that each row has already, for a penalty of repetition: (L, V) bool."""
    seen = np.zeros((len(histories), vocab_size), bool)
    for row, ids in zip(seen, histories, strict=True):
        row[ids] = True
    return torch.from_numpy(seen).to(device)
