"""Training batches by number, and the walk over whole documents that evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from seqmodal.config import Causal, Masked, Objective, Prefix
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.objective import Arranged, arrange, capacity, must_suit, with_marks
from seqmodal.sequence import NOWHERE, Composed, Vary, compose
from seqmodal.tokenizers.vocabulary import Vocabulary

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
SLACK = 1.12
"""What is read of a document beyond the window, for augmentation that makes it shorter."""
CAUSAL = Causal()
EMPTY = {"features": 0, "coordinates": NOWHERE}
"""Arrays of several columns, and what stands in them where there is nothing."""
FIXED = 1_000_003
"""Seed of what an objective leaves to chance where windows are for evaluation: the same in all runs."""


@dataclass(frozen=True)
class Batch:
    """Arrays (B, T).

    Attributes:
        ids, targets: int64.
        weight: float32, how much each target counts.
        document: int32, from 0 in each row; -1: padding.
        span: int32, 0 where positions see what came before, k in the row's k-th span seen both ways; None: nowhere.
        order, reveal: int32, see `seqmodal.nn.mask.Mask`; None: in the order of the ids.
        positions: int64, where each id stands; None: one after the other.
        block: int8, index of each position's block; features (B, T, F) and coordinates (B, T, axes) as in `Composed`;
            None: there is one block, or there are none.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    document: np.ndarray
    span: np.ndarray | None = None
    order: np.ndarray | None = None
    reveal: np.ndarray | None = None
    positions: np.ndarray | None = None
    block: np.ndarray | None = None
    features: np.ndarray | None = None
    coordinates: np.ndarray | None = None


class Batches:
    """Training batches; number i is a pure function of (seed, i), so that a run goes on anywhere at no cost.

    In each epoch the documents are laid end to end in a new order, the end joined to the beginning, and the ring is cut
    into windows of `context` targets from a new place on; short documents share a window and do not see each other.
    Where nothing augments, every target comes exactly once an epoch. Row r of batch i is window number i·B + r, counted
    through all epochs.

    An objective that lays out more positions than it reads targets has narrower windows, so that a row holds one whole;
    where several documents share it, the last may lose a few.

    Args:
        store: what to learn from.
        context: positions in a row.
        batch_size: windows in a batch.
        seed: of the order, the augmentation and the objective.
        augment: by block name, how to vary a stretch of ids.
        objective: what is to be predicted.
    """

    def __init__(
        self, store: Store, *, context: int, batch_size: int, seed: int, augment: Mapping[str, Augment] | None = None,
        objective: Objective = CAUSAL,
    ) -> None:  # fmt: skip
        if not len(store):
            raise BadInput(store.folder, "the store is empty; there is nothing to learn from")
        vocabulary = suited(store, objective, context)
        self.store, self.context, self.batch_size, self.seed = store, context, batch_size, seed
        self.augment, self.objective, self.vocabulary = dict(augment or {}), objective, vocabulary
        self._targets = store.lengths - 1  # a document of n ids has n - 1 targets
        self.total = int(self._targets.sum())
        self._width = capacity(objective, context)
        self.windows = -(-self.total // self._width)
        self._epoch, self._plan = -1, (np.zeros(0, np.int64),) * 3 + (0,)

    @property
    def per_epoch(self) -> float:
        """Batches in an epoch."""
        return self.windows / self.batch_size

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0 on without end."""
        rows = [self._row(*divmod(number * self.batch_size + r, self.windows)) for r in range(self.batch_size)]
        return stacked(rows)

    def _epoch_plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Order of the documents, where each begins in the ring of targets, order of the windows, and the first cut."""
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.store))
            starts = np.concatenate([[0], np.cumsum(self._targets[order])])
            self._plan = order, starts, rng.permutation(self.windows), int(rng.integers(self.total))
            self._epoch = epoch
        return self._plan

    def _row(self, epoch: int, index: int) -> Row:
        """One window: pieces of documents until it is full, then padding."""
        order, starts, permuted, cut = self._epoch_plan(epoch)
        first = int(permuted[index]) * self._width
        at, room = (first + cut) % self.total, min(self._width, self.total - first)
        row = Row(self.context, self.store.vocabulary.pad)
        rng, chance = (np.random.default_rng([self.seed, epoch, index, use]) for use in (1, 2))
        place = int(np.searchsorted(starts, at, side="right")) - 1
        skip = at - int(starts[place])
        while (most := min(room, capacity(self.objective, row.left))) > 0:
            piece = self._piece(int(order[place]), skip, most, rng)
            if (found := min(most, len(piece.ids) - 1)) > 0:
                row.add(arrange(self.objective, piece.part(0, found + 1), chance, self.vocabulary))
                room -= found
            place, skip = (place + 1) % len(order), 0
        return row

    def _piece(self, document: int, skip: int, room: int, rng: np.random.Generator) -> Composed:
        """Targets `skip` to `skip + room` of a document, or up to its end: one id more than targets."""
        if not self.augment:
            return compose(self.store[document], self.store.vocabulary, skip, skip + room + 1)

        stop = skip + int(room * SLACK) + 2
        return compose(self.store[document], self.store.vocabulary, skip, stop, varied(self.augment, rng))


def varied(augment: Mapping[str, Augment], rng: np.random.Generator) -> Vary:
    """What `compose` takes to vary ids: each block as its tokenizer can."""
    return lambda block, ids: augment[block](ids, rng) if block in augment else ids


class Row:
    """A row being filled."""

    def __init__(self, context: int, pad: int) -> None:
        self.arrays: dict[str, np.ndarray] = {
            "ids": np.full(context, pad, np.int64),
            "targets": np.full(context, pad, np.int64),
            "weight": np.zeros(context, np.float32),
            "document": np.full(context, -1, np.int32),
            "span": np.zeros(context, np.int32),
            "order": np.zeros(context, np.int32),
            "reveal": np.zeros(context, np.int32),
            "positions": np.arange(context),
            "block": np.zeros(context, np.int8),
            "features": np.zeros((context, 0), np.float32),
            "coordinates": np.full((context, 0), NOWHERE, np.int32),
        }
        self.needed = {"ids", "targets", "weight", "document"}
        self.filled = self.documents = 0

    @property
    def left(self) -> int:
        """Positions that are free."""
        return len(self.arrays["ids"]) - self.filled

    def add(self, piece: Arranged) -> None:
        """Append a piece, which must fit."""
        part = slice(self.filled, self.filled + len(piece))
        given = {f.name: value for f in fields(piece) if (value := getattr(piece, f.name)) is not None}
        if "span" in given:
            given["span"] = np.where(given["span"] > 0, given["span"] + self.arrays["span"].max(), 0)
        for name, value in given.items():
            if value.ndim == 2:
                self.arrays[name] = _wider(self.arrays[name], value.shape[1], EMPTY[name])
                self.arrays[name][part, : value.shape[1]] = value
            else:
                self.arrays[name][part] = value
        self.arrays["document"][part] = self.documents
        self.needed |= given.keys()
        self.filled += len(piece)
        self.documents += 1


def stacked(rows: Sequence[Row]) -> Batch:
    """The batch of some rows, with the arrays that any of them needs."""
    needed = set().union(*(row.needed for row in rows))
    for name in needed & EMPTY.keys():
        widest = max(row.arrays[name].shape[1] for row in rows)
        for row in rows:
            row.arrays[name] = _wider(row.arrays[name], widest, EMPTY[name])
    return Batch(**{name: np.stack([row.arrays[name] for row in rows]) for name in needed})


def _wider(array: np.ndarray, width: int, empty: int) -> np.ndarray:
    """(n, F) as (n, width), or as it is where it is as wide."""
    more = max(0, width - array.shape[1])
    return np.pad(array, ((0, 0), (0, more)), constant_values=empty) if more else array


def windows(
    store: Store, context: int, batch_size: int = 8, share: float = 1.0, objective: Objective = CAUSAL
) -> Iterator[Batch]:
    """Each document alone, in segments of `context` positions that do not overlap, the short remainder included; where
    documents have several segments, as tasks do, each whole, however long it is.

    Segments of like length share a batch, so that little is padded. With a `share` below 1, only that share of the
    batches, at least one, evenly taken. What the objective leaves to chance depends on the document and place alone.
    """
    vocabulary, width = suited(store, objective, context), capacity(objective, context)
    if store.tasks:
        width = int(store.lengths.max())
    targets = (store.lengths - 1).tolist()
    places = [(min(width, n - at), d, at) for d, n in enumerate(targets) for at in range(0, n, width)]
    places.sort(key=lambda place: -place[0])
    batches = -(-len(places) // batch_size)
    kept = np.unique(np.linspace(0, batches - 1, max(1, round(share * batches))).round().astype(int)) if batches else ()
    for first in (int(number) * batch_size for number in kept):
        pieces = []
        for size, document, at in places[first : first + batch_size]:
            piece, chance = compose(store[document], vocabulary, at, at + size + 1), (FIXED, document, at)
            pieces.append(arrange(objective, piece, np.random.default_rng(chance), vocabulary))
        rows = [Row(max(map(len, pieces)), vocabulary.pad) for _ in pieces]
        for row, arranged in zip(rows, pieces, strict=True):
            row.add(arranged)
        yield stacked(rows)


def suited(store: Store, objective: Objective, context: int) -> Vocabulary:
    """The vocabulary with the objective's marks.

    Raises:
        ConfigError: for segments seen both ways and an objective that cannot have them, or a context too short for it.
    """
    if store.both_ways and not isinstance(objective, Prefix | Masked):
        raise ConfigError(
            f"{store.folder} holds segments seen both ways, and the objective is {objective.kind}; "
            "set both_ways=False, or the objective prefix"
        )
    must_suit(objective, context)
    return with_marks(store.vocabulary, objective)
