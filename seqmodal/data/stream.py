"""Batches whose rows go on where they stopped, for decoders that carry a memory from one segment to the next."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping

import numpy as np

from seqmodal.data.loader import Augment, Batch, varied
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Composed, compose

NUMBERS = 1 << 31
"""Document numbers stay below it."""


class StreamBatches:
    """Training batches in which row r of batch i + 1 goes on where row r of batch i ended.

    In each epoch the documents are laid end to end in a new order, the end joined to the beginning, and the ring is cut
    from a new place on into as many parts of equal length as there are rows. A row reads its part of the first epoch,
    then its part of the second, and so on without padding: where nothing augments, every target comes exactly once an
    epoch. A document that augmentation makes longer or shorter moves what follows it in its row; at the end of the part
    a row then stops early or runs on.

    Along a row every document has a number of its own, so that no memory reaches from one into another. Batch i is a
    pure function of (seed, i).

    Args:
        store: what to learn from.
        context: positions in a row of a batch: the segment.
        batch_size: rows.
        seed: of the order and the augmentation.
        augment: by block name, how to vary ids; each document is varied as a whole, anew in each epoch.
    """

    def __init__(
        self, store: Store, *, context: int, batch_size: int, seed: int, augment: Mapping[str, Augment] | None = None
    ) -> None:
        if not len(store):
            raise BadInput(store.folder, "the store is empty; there is nothing to learn from")
        _must_be_causal(store)
        self.store, self.context, self.batch_size, self.seed = store, context, batch_size, seed
        self.augment = dict(augment or {})
        self.targets = store.lengths - 1  # a document of n ids has n - 1 targets
        self.total = int(self.targets.sum())
        self.edges = np.arange(batch_size + 1) * self.total // batch_size
        self._epoch, self._ring = -1, (np.zeros(0, np.int64),) * 2 + (0,)
        self._parts: list[_Part | None] = [None] * batch_size

    @property
    def per_epoch(self) -> float:
        """Batches in an epoch."""
        return self.total / (self.batch_size * self.context)

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0 on without end."""
        rows = _blank(self.batch_size, self.context, self.store)
        for row in range(self.batch_size):
            self._fill(rows, row, number * self.context)
        return rows

    def ring(self, epoch: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Order of the documents, where each begins in the ring of targets, and where the ring is cut."""
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            order = rng.permutation(len(self.store))
            self._ring = order, np.concatenate([[0], np.cumsum(self.targets[order])]), int(rng.integers(self.total))
            self._epoch = epoch
        return self._ring

    def _fill(self, rows: Batch, row: int, at: int) -> None:
        """Write what a row reads from position `at` of its stream on; with fewer targets than rows, some read none."""
        length, filled = int(self.edges[row + 1] - self.edges[row]), 0
        while length and filled < self.context:
            epoch, inside = divmod(at + filled, length)
            part = self._parts[row]
            if part is None or part.epoch != epoch:
                part = self._parts[row] = _Part(self, row, epoch)
            piece, begins = part.read(inside, min(self.context - filled, length - inside))
            _put(rows, row, filled, piece, (epoch * length + begins) % NUMBERS)
            filled += len(piece.ids) - 1


class _Part:
    """What one row reads in one epoch: documents end to end. Where they begin is found out as far as it is needed."""

    def __init__(self, batches: StreamBatches, row: int, epoch: int) -> None:
        self.batches, self.epoch = batches, epoch
        order, starts, cut = batches.ring(epoch)
        at = (int(batches.edges[row]) + cut) % batches.total
        self.order, self.first = order, int(np.searchsorted(starts, at, side="right")) - 1
        self._held: tuple[int, Composed] | None = None
        skipped, whole = at - int(starts[self.first]), int(batches.targets[order[self.first]])
        self.starts = [-(skipped * self._length(0) // whole)]

    def read(self, at: int, room: int) -> tuple[Composed, int]:
        """Up to `room` targets of one document from `at` on, one id more, and where the document begins in the part."""
        while (end := self.starts[-1] + self._length(len(self.starts) - 1)) <= at:
            self.starts.append(end)
        number = bisect_right(self.starts, at) - 1
        skip = at - self.starts[number]
        if self.batches.augment:
            piece = self._varied(number).part(skip, skip + room + 1)
        else:
            store = self.batches.store
            piece = compose(store[self._index(number)], store.vocabulary, skip, skip + room + 1)
        return piece, max(0, self.starts[number])

    def _index(self, number: int) -> int:
        return int(self.order[(self.first + number) % len(self.order)])

    def _length(self, number: int) -> int:
        """Targets of the document that comes as `number` in this part."""
        if self.batches.augment:
            return len(self._varied(number).ids) - 1
        return int(self.batches.targets[self._index(number)])

    def _varied(self, number: int) -> Composed:
        """That document as it is varied in this epoch."""
        if self._held is None or self._held[0] != number:
            batches, document = self.batches, self._index(number)
            rng = np.random.default_rng([batches.seed, self.epoch, document])
            vary = varied(batches.augment, rng)
            self._held = number, compose(batches.store[document], batches.store.vocabulary, vary=vary)
        return self._held[1]


def segments(store: Store, context: int, batch_size: int = 8, share: float = 1.0) -> Iterator[Batch]:
    """Each document from its beginning to its end in segments of `context` positions, for a memory to be carried along.

    Documents of like length stand side by side, the longest in the first row; where one ends, its row drops out, so
    that a batch with fewer rows than the one before goes on with its first rows. A batch with more rows starts others.
    The number of a document is its place in the store.

    Args:
        store: what to read.
        context: positions of a segment.
        batch_size: documents side by side.
        share: of the targets that are read. Whole documents, at least one, evenly taken; of one that is longer alone,
            its beginning.
    """
    _must_be_causal(store)
    count = max(1, round(share * len(store)))
    taken = np.unique(np.linspace(0, len(store) - 1, count).round().astype(int)) if len(store) else np.zeros(0, int)
    targets = store.lengths[taken] - 1
    if count == 1:
        targets = np.minimum(targets, max(1, round(share * int((store.lengths - 1).sum()))))
    order = np.argsort(-targets, kind="stable")
    for first in range(0, len(order), batch_size):
        group = order[first : first + batch_size]
        for at in range(0, int(targets[group[0]]), context):
            rooms = [min(context, int(targets[one]) - at) for one in group if targets[one] > at]
            rows = _blank(len(rooms), rooms[0], store)
            for row, room in enumerate(rooms):
                number = int(taken[group[row]])
                _put(rows, row, 0, compose(store[number], store.vocabulary, at, at + room + 1), number)
            yield rows


def _must_be_causal(store: Store) -> None:
    if any(shape.features for shape in store.shapes().values()):
        raise ConfigError(f"{store.folder} holds features, which a decoder with memory cannot read; set model.memory 0")
    if store.both_ways:
        raise ConfigError(
            f"{store.folder} holds segments seen both ways, and a decoder with memory reads from left to right; set "
            "both_ways=False, or model.memory 0"
        )


def _blank(rows: int, length: int, store: Store) -> Batch:
    """A batch of padding."""
    ids = np.full((rows, length), store.vocabulary.pad, np.int64)
    return Batch(ids, ids.copy(), np.zeros(ids.shape, np.float32), np.full(ids.shape, -1, np.int32))


def _put(rows: Batch, row: int, at: int, piece: Composed, document: int) -> None:
    """Write the targets of a piece, which has one id more, into a row from column `at` on."""
    part = slice(at, at + len(piece.ids) - 1)
    rows.ids[row, part], rows.targets[row, part] = piece.ids[:-1], piece.targets[:-1]
    rows.weight[row, part], rows.document[row, part] = piece.weight[:-1], document
