"""Guesses at what comes next: a draft decoder, or a look-up in the row's own context. Speculation checks them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.path import Path, stacked
from seqmodal.generation.probability import Sampler, draw, probabilities
from seqmodal.generation.reader import Reader
from seqmodal.generation.rows import histories_as_rows


class Drafter(Protocol):
    """Guesses for the rows of one batch."""

    def propose(self, histories: Sequence[list[int]], paths: Sequence[Path]) -> Tensor | None:
        """Let each path grow while it is open.

        Returns:
            (L, n, V), the distribution that each id was drawn from; None where the guesses were not drawn.
        """

    def keep(self, rows: list[int]) -> None:
        """Only these rows go on."""


@dataclass(frozen=True)
class Lookup:
    """Guess that what followed the last few ids the last time they came, follows again (prompt look-up decoding,
    Saxena 2023; after the longest run of ids that came before).

    Attributes:
        length: ids guessed at once.
        longest, shortest: how many of the last ids are looked up.

    Raises:
        ConfigError: for a value out of range.
    """

    length: int = 8
    longest: int = 4
    shortest: int = 2

    def __post_init__(self) -> None:
        if not (self.length >= 1 and 1 <= self.shortest <= self.longest):
            raise ConfigError(
                f"a look-up guesses at least one id after at least one: length {self.length}, "
                f"shortest {self.shortest}, longest {self.longest}"
            )

    def drafter(self, rows: int, sampler: Sampler, generators: Sequence[torch.Generator]) -> Drafter:
        """One for a batch."""
        return _LookupDrafter([_Index(self) for _ in range(rows)])


@dataclass(frozen=True)
class DraftModel:
    """Guess with another decoder over the same vocabulary.

    Attributes:
        decoder: the smaller one, in evaluation mode.
        length: ids guessed at once.

    Raises:
        ConfigError: for a length below 1.
    """

    decoder: Decoder
    length: int = 4

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ConfigError(f"the length of a draft is {self.length}; it must be at least 1")

    def drafter(self, rows: int, sampler: Sampler, generators: Sequence[torch.Generator]) -> Drafter:
        """One for a batch."""
        return _ModelDrafter(self, rows, sampler, generators)


class _Index:
    """Where each run of ids in one row was last followed by something."""

    def __init__(self, lookup: Lookup) -> None:
        self.sizes = range(lookup.longest, lookup.shortest - 1, -1)
        self.known, self.follows = 0, -1
        self.ends: dict[tuple[int, ...], int] = {}

    def extend(self, history: list[int]) -> None:
        """Take in what is new; `follows` is where the guess begins, -1 for none."""
        for end in range(self.known + 1, len(history) + 1):
            self.follows = -1
            for size in self.sizes:
                if size <= end:
                    run = tuple(history[end - size : end])
                    if self.follows < 0:
                        self.follows = self.ends.get(run, -1)
                    self.ends[run] = end
        self.known = len(history)


class _LookupDrafter:
    def __init__(self, indices: list[_Index]) -> None:
        self.indices = indices

    def propose(self, histories: Sequence[list[int]], paths: Sequence[Path]) -> None:
        for index, history, path in zip(self.indices, histories, paths, strict=True):
            index.extend(history)
            at = index.follows
            while at >= 0 and path.open:  # beyond the end the guess repeats itself
                id = history[at] if at < len(history) else path.ids[at - len(history)]
                allowed = path.allowed()
                if allowed is not None and not allowed[id]:
                    break
                path.take(id)
                at += 1

    def keep(self, rows: list[int]) -> None:
        self.indices = [self.indices[row] for row in rows]


class _ModelDrafter:
    def __init__(
        self, draft: DraftModel, rows: int, sampler: Sampler, generators: Sequence[torch.Generator]
    ) -> None:  # fmt: skip
        self.decoder, self.sampler, self.generators = draft.decoder, sampler, list(generators)
        self.reader = Reader(draft.decoder, [np.zeros(1, np.int64)] * rows, [None] * rows)
        if self.reader.limit is None and draft.length > self.reader.state.chunk:
            raise ConfigError(
                f"a draft of {draft.length} ids is more than the draft decoder's state can take back; at most "
                f"{self.reader.state.chunk}"
            )
        if self.reader.limit is not None and draft.length > self.reader.limit // 2:
            raise ConfigError(
                f"a draft of {draft.length} ids does not fit half the context of its decoder, {self.reader.limit}"
            )
        self.length = draft.length
        self.held = [0] * rows  # how much of each row's history was read, its guesses aside
        self.guessed: list[list[int]] = [[] for _ in range(rows)]  # and the guesses read behind it

    def propose(self, histories: Sequence[list[int]], paths: Sequence[Path]) -> Tensor | None:
        reader, sampler, drawn = self.reader, self.sampler, []
        hidden = reader.last(self._news(histories))
        self.held, self.guessed = [len(history) for history in histories], [[] for _ in histories]
        while any(path.open for path in paths):
            logits = self.decoder.logits(hidden)  # (L, V)
            allowed, seen = stacked([[path.allowed()] for path in paths], logits[:, None]), None
            if sampler.remembers:
                so_far = [history + path.ids for history, path in zip(histories, paths, strict=True)]
                seen = histories_as_rows(so_far, logits.shape[-1], logits.device)
            q = probabilities(logits, sampler, None if allowed is None else allowed[:, 0], seen)
            if sampler.temperature == 0:
                ids = q.argmax(dim=-1).tolist()
            else:
                drawn.append(q)
                numbers = [
                    float(torch.rand(1, generator=generator)) if path.open else 0.0
                    for path, generator in zip(paths, self.generators, strict=True)
                ]
                ids = draw(q, torch.tensor(numbers, device=q.device)).tolist()
            going = []
            for path, id in zip(paths, ids, strict=True):
                grows = path.open
                if grows:
                    path.take(id)
                going.append(grows and path.open)
            if not any(going):
                break
            runs = [[id] if goes else [] for id, goes in zip(ids, going, strict=True)]
            for guessed, run in zip(self.guessed, runs, strict=True):
                guessed += run
            hidden = reader.last(runs)
        return torch.stack(drawn, dim=1) if drawn else None

    def _news(self, histories: Sequence[list[int]]) -> list[list[int]]:
        """What the draft's state has still to read, after forgetting the guesses that did not come true."""
        used = []
        for at, (history, guessed) in enumerate(zip(histories, self.guessed, strict=True)):
            true = 0
            while true < len(guessed) and history[self.held[at] + true : self.held[at] + true + 1] == [guessed[true]]:
                true += 1
            self.held[at] += true
            used.append(self.reader.used[at] - len(guessed) + true)
        self.reader.truncate(used)
        news = [history[held:] for history, held in zip(histories, self.held, strict=True)]
        limit = self.reader.limit
        if limit is not None:
            full = [n + len(new) + self.length > limit for n, new in zip(used, news, strict=True)]
            self.reader.truncate([0 if none else n for none, n in zip(full, used, strict=True)])
            half = max(1, limit // 2)
            news = [h[-half:] if none else new for none, h, new in zip(full, histories, news, strict=True)]
        return news

    def keep(self, rows: list[int]) -> None:
        self.reader.reorder(rows)
        self.held, self.guessed, self.generators = (
            [self.held[row] for row in rows],
            [self.guessed[row] for row in rows],
            [self.generators[row] for row in rows],
        )
