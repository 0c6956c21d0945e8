"""Training batches of whole documents: one a row, none cut, those of like length together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from seqmodal.config import Objective
from seqmodal.data.loader import CAUSAL, Augment, Batch, Row, stacked, suited, varied
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.objective import Arranged, arrange, capacity, needed
from seqmodal.sequence import compose

SPREAD = 1.125
"""The longest document of a pool is at most so many times the shortest, where there are enough of them."""
BATCHES = 4
"""A pool fills so many batches at least, where there are documents enough, so that chance can mix them."""


class WholeBatches:
    """Batches of documents that mean something as a whole only: a source and its target, a picture.

    A batch holds as many documents as fit batch_size · context positions, padding counted, so its shape (B, T) varies.
    Documents of like length form a pool. In each epoch every pool is shuffled and dealt out into batches of one size,
    and the batches of all pools are shuffled. Batch i is a pure function of (seed, i), every epoch has the same number
    of batches, and where nothing augments, every target comes exactly once an epoch.

    Args:
        store: what to learn from.
        context: positions that the longest document may take.
        batch_size: how many of the longest a batch may hold.
        seed: of the order, the augmentation and the objective.
        augment: by block name, how to vary ids. What it makes too long is taken as it was.
        objective: what is to be predicted.
        condition_dropout: how often a null stands in place of what is given, so that generation can be guided.

    Raises:
        BadInput: for a store without documents.
        ConfigError: for a document that is longer than the context.
    """

    def __init__(
        self, store: Store, *, context: int, batch_size: int, seed: int, augment: Mapping[str, Augment] | None = None,
        objective: Objective = CAUSAL, condition_dropout: float = 0.0,
    ) -> None:  # fmt: skip
        if not len(store):
            raise BadInput(store.folder, "the store is empty; there is nothing to learn from")
        self.vocabulary = suited(store, objective, context)
        self.store, self.context, self.seed = store, context, seed
        self.augment, self.objective, self.condition_dropout = dict(augment or {}), objective, condition_dropout
        self._most = capacity(objective, context)
        must_fit(store, objective, context)
        lengths, which = np.unique(store.lengths - 1, return_inverse=True)
        takes = np.array([needed(objective, int(length)) for length in lengths])[which]
        self._pools = _pools(takes, batch_size * context)
        self._epoch, self._batches = -1, list[np.ndarray]()

    @property
    def per_epoch(self) -> float:
        """Batches in an epoch."""
        return sum(parts for _, parts in self._pools)

    def batch(self, number: int) -> Batch:
        """Batch `number`, from 0 on without end."""
        epoch, index = divmod(number, int(self.per_epoch))
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch])
            dealt = [part for pool, parts in self._pools for part in np.array_split(rng.permutation(pool), parts)]
            self._epoch, self._batches = epoch, [dealt[at] for at in rng.permutation(len(dealt))]
        pieces = [self._arranged(epoch, int(document)) for document in self._batches[index]]
        rows = [Row(max(map(len, pieces)), self.vocabulary.pad) for _ in pieces]
        for row, piece in zip(rows, pieces, strict=True):
            row.add(piece)
        return stacked(rows)

    def _arranged(self, epoch: int, document: int) -> Arranged:
        """One document as the objective lays it out."""
        rng, chance, drop = (np.random.default_rng([self.seed, epoch, document, use]) for use in (1, 2, 3))
        whole = self.store[document]
        if self.condition_dropout and drop.random() < self.condition_dropout:
            whole = whole.without_condition()
        piece = compose(whole, self.store.vocabulary)
        if self.augment:
            other = compose(whole, self.store.vocabulary, vary=varied(self.augment, rng))
            piece = other if len(other.ids) - 1 <= self._most else piece
        return arrange(self.objective, piece, chance, self.vocabulary)


def must_fit(store: Store, objective: Objective, context: int) -> None:
    """Raises ConfigError that names the longest document where it does not fit the context."""
    longest = int(store.lengths.argmax())
    takes = needed(objective, int(store.lengths[longest]) - 1)
    if takes > context:
        raise ConfigError(
            f"{store.names[longest] or 'a document'} takes {takes} positions and the context has {context}; documents "
            f"are learned whole: set model.max_seq_len to {takes} or more, or leave out those that are longer"
        )


def _pools(takes: np.ndarray, budget: int) -> list[tuple[np.ndarray, int]]:
    """Documents of like length, and how many batches of at most `budget` positions they are dealt out into.

    Begun with the longest, so that what is left over for the last pool is short.
    """
    order = np.argsort(-takes, kind="stable")
    ranked = takes[order]
    edges = np.flatnonzero(np.diff(ranked)) + 1  # a pool ends between two lengths
    pools, first = [], 0
    for edge in [*edges.tolist(), len(order)]:
        most = int(ranked[first])
        enough = (edge - first) * most >= BATCHES * budget
        if edge == len(order) or (enough and ranked[edge] * SPREAD < most):
            pools.append((order[first:edge], -(-(edge - first) // max(1, budget // most))))
            first = edge
    return pools
