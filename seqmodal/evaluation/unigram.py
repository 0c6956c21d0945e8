"""The least a model should beat: how well ids are predicted by how often each occurs."""

from __future__ import annotations

import numpy as np

from seqmodal.data.store import Store


def unigram_nats(train: Store, held: Store, kinds: np.ndarray) -> float:
    """Nats of all ids of `held`, by their frequencies in `train` plus one, among the ids of the same kind.

    Both have one segment a document. The end of a document costs nothing, as where lengths are known.

    Args:
        train, held: stores.
        kinds: int (vocab_size,), which ids may stand at one place, such as the codes of a level.
    """
    counts = _counts(train, len(kinds)) + 1
    share = counts / np.bincount(kinds, counts)[kinds]
    return float(-(_counts(held, len(kinds)) * np.log(share)).sum())


def _counts(store: Store, size: int) -> np.ndarray:
    total = np.zeros(size, np.int64)
    for number in range(len(store)):
        ids, times = np.unique(store[number].segments[0].ids, return_counts=True)
        total[ids] += times
    return total
