"""Training batches by number, and the walk over whole documents that evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Composed, compose

Augment = Callable[[np.ndarray, np.random.Generator], np.ndarray]
SLACK = 1.12
"""What is read of a document beyond the window, for augmentation that makes it shorter."""


@dataclass(frozen=True)
class Batch:
    """Arrays (B, T): ids and targets int64, weight float32, document int32 (from 0 in each row; -1: padding)."""

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    document: np.ndarray


class Batches:
    """Training batches; number i is a pure function of (seed, i), so that a run goes on anywhere at no cost.

    In each epoch the documents are laid end to end in a new order, the end joined to the beginning, and the ring is cut
    into windows of `context` targets from a new place on; short documents share a window and do not see each other.
    Where nothing augments, every target comes exactly once an epoch. Row r of batch i is window number i·B + r, counted
    through all epochs.

    Args:
        store: what to learn from.
        context: targets in a window.
        batch_size: windows in a batch.
        seed: of the order and the augmentation.
        augment: by block name, how to vary a stretch of ids.
    """

    def __init__(
        self, store: Store, *, context: int, batch_size: int, seed: int, augment: Mapping[str, Augment] | None = None
    ) -> None:
        if not len(store):
            raise BadInput(store.folder, "the store is empty; there is nothing to learn from")
        _must_be_causal(store)
        self.store, self.context, self.batch_size, self.seed = store, context, batch_size, seed
        self.augment = dict(augment or {})
        self._targets = store.lengths - 1  # a document of n ids has n - 1 targets
        self.total = int(self._targets.sum())
        self.windows = -(-self.total // context)
        self._epoch, self._plan = -1, (np.zeros(0, np.int64),) * 3 + (0,)

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0 on without end."""
        rows = [self._row(*divmod(number * self.batch_size + r, self.windows)) for r in range(self.batch_size)]
        return Batch(*(np.stack(part) for part in zip(*rows, strict=True)))

    def _epoch_plan(self, epoch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """Order of the documents, where each begins in the ring of targets, order of the windows, and the first cut."""
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.store))
            starts = np.concatenate([[0], np.cumsum(self._targets[order])])
            self._plan = order, starts, rng.permutation(self.windows), int(rng.integers(self.total))
            self._epoch = epoch
        return self._plan

    def _row(self, epoch: int, index: int) -> tuple[np.ndarray, ...]:
        """One window: pieces of documents until it is full, then padding."""
        order, starts, permuted, cut = self._epoch_plan(epoch)
        first = int(permuted[index]) * self.context
        at, room = (first + cut) % self.total, min(self.context, self.total - first)
        row = _Row(self.context, self.store.vocabulary.pad)
        rng = np.random.default_rng([self.seed, epoch, index, 1])
        place = int(np.searchsorted(starts, at, side="right")) - 1
        skip = at - int(starts[place])
        while room > 0:
            room -= row.add(self._piece(int(order[place]), skip, room, rng), room)
            place, skip = (place + 1) % len(order), 0
        return row.arrays()

    def _piece(self, document: int, skip: int, room: int, rng: np.random.Generator) -> Composed:
        """Targets `skip` to `skip + room` of a document, or up to its end: one id more than targets."""
        if not self.augment:
            return compose(self.store[document], self.store.vocabulary, skip, skip + room + 1)

        def vary(block: str, ids: np.ndarray) -> np.ndarray:
            return self.augment[block](ids, rng) if block in self.augment else ids

        return compose(self.store[document], self.store.vocabulary, skip, skip + int(room * SLACK) + 2, vary)


class _Row:
    """A window being filled."""

    def __init__(self, context: int, pad: int) -> None:
        self.ids = np.full(context, pad, np.int64)
        self.targets = np.full(context, pad, np.int64)
        self.weight = np.zeros(context, np.float32)
        self.document = np.full(context, -1, np.int32)
        self.filled = self.documents = 0

    def add(self, piece: Composed, room: int) -> int:
        """Append at most `room` targets of a piece; returns how many."""
        n = max(0, min(room, len(piece.ids) - 1))
        part = slice(self.filled, self.filled + n)
        self.ids[part], self.targets[part] = piece.ids[:n], piece.targets[:n]
        self.weight[part], self.document[part] = piece.weight[:n], self.documents
        self.filled += n
        self.documents += 1
        return n

    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.ids, self.targets, self.weight, self.document


def windows(store: Store, context: int, batch_size: int = 8, share: float = 1.0) -> Iterator[Batch]:
    """Each document alone, in segments of `context` targets that do not overlap, the short remainder included.

    Segments of like length share a batch, so that little is padded. With a `share` below 1, only that share of the
    batches, at least one, evenly taken.
    """
    _must_be_causal(store)
    targets = (store.lengths - 1).tolist()
    places = [(min(context, n - at), d, at) for d, n in enumerate(targets) for at in range(0, n, context)]
    places.sort(key=lambda place: -place[0])
    batches = -(-len(places) // batch_size)
    kept = np.unique(np.linspace(0, batches - 1, max(1, round(share * batches))).round().astype(int)) if batches else ()
    for first in (int(number) * batch_size for number in kept):
        rows = []
        for size, document, at in places[first:first + batch_size]:
            row = _Row(places[first][0], store.vocabulary.pad)
            row.add(compose(store[document], store.vocabulary, at, at + size + 1), size)
            rows.append(row.arrays())
        yield Batch(*(np.stack(part) for part in zip(*rows, strict=True)))


def _must_be_causal(store: Store) -> None:
    if store.both_ways:
        raise ConfigError(f"{store.folder} holds segments seen both ways; batches are causal only: set both_ways=False")
