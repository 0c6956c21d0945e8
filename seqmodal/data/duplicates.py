"""Near-duplicates among many pieces, by MinHash, so that none stands on both sides of a split.

MinHash: Broder, On the resemblance and containment of documents (1997). The candidates come from bands of the signature
(locality-sensitive hashing: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, chapter 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

FOUND = 0.9
"""At least so many of the pairs that are just as alike as the threshold become candidates."""


def minhash(tokens: np.ndarray, n: int = 5, permutations: int = 64) -> np.ndarray:
    """Signature uint32 (permutations,) of the set of n-grams in a sequence of integers (length,).

    The share of equal entries of two signatures estimates the Jaccard similarity of the two sets. A sequence shorter
    than n is one gram.
    """
    tokens = np.asarray(tokens).astype(np.uint64)
    if not len(tokens):
        return np.full(permutations, np.iinfo(np.uint32).max, np.uint32)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, min(n, len(tokens)))
    grams = np.zeros(len(windows), np.uint64)
    for column in windows.T:
        grams = _mixed(grams + column)
    short = np.unique(grams >> np.uint64(32)).astype(np.uint32)
    keys = _mixed(np.arange(1, permutations + 1, dtype=np.uint64))
    flips, factors = (keys >> np.uint64(32)).astype(np.uint32), keys.astype(np.uint32) | np.uint32(1)
    return np.array([((short ^ flip) * factor).min() for flip, factor in zip(flips, factors, strict=True)], np.uint32)


def group_near(signatures: Sequence[np.ndarray] | np.ndarray, threshold: float = 0.5) -> np.ndarray:
    """Number of the group of each piece, int64 (pieces,); pieces that are alike, or joined by others, share one.

    Args:
        signatures: (pieces, permutations) of `minhash`.
        threshold: least estimated Jaccard similarity of two pieces that are alike.
    """
    rows = np.asarray(signatures)
    labels = np.arange(len(rows))
    for bucket in _buckets(rows, threshold) if len(rows) else ():
        for piece in bucket:
            others = bucket[labels[bucket] != labels[piece]]
            for other in others[(rows[others] == rows[piece]).mean(axis=1) >= threshold]:
                labels[labels == labels[other]] = labels[piece]
    return np.unique(labels, return_inverse=True)[1]


def split_groups(
    groups: np.ndarray, share: float, seed: int = 0, weights: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """Which pieces to hold out, bool (pieces,): whole groups in random order, up to `share` of the weight.

    Where there are two groups or more and share is above 0, at least one is held out and at least one is not.

    Args:
        groups: (pieces,) from `group_near`.
        share: of the weight, 0 to 1.
        seed: of the order.
        weights: (pieces,) how much each piece counts, such as its notes; alike when None.
    """
    groups = np.asarray(groups)
    sums = np.bincount(groups, weights, minlength=1) if weights is not None else np.bincount(groups, minlength=1)
    held = np.zeros(len(sums), bool)
    if len(groups) and share > 0 and len(sums) > 1:
        wanted, got = share * sums.sum(), 0.0
        for group in np.random.default_rng(seed).permutation(len(sums)):
            if abs(got + sums[group] - wanted) <= abs(got - wanted) and held.sum() < len(sums) - 1:
                held[group] = True
                got += sums[group]
        if not held.any():
            held[np.argmin(sums)] = True
    return held[groups]


def _mixed(x: np.ndarray) -> np.ndarray:
    """Every bit of the result depends on every bit of uint64 x (splitmix64: Steele, Lea and Flood, 2014)."""
    x = (x + np.uint64(0x9E3779B97F4A7C15)).copy()
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _buckets(rows: np.ndarray, threshold: float) -> Iterator[np.ndarray]:
    """Sets of pieces that agree in a whole band of their signatures."""
    width = rows.shape[1]
    size = max((r for r in range(1, width + 1) if 1 - (1 - threshold**r) ** (width // r) >= FOUND), default=1)
    for first in range(0, width - size + 1, size):
        keys = np.zeros(len(rows), np.uint64)
        for column in rows[:, first:first + size].T:
            keys = _mixed(keys + column)
        order = np.argsort(keys, kind="stable")
        edges = np.flatnonzero(np.diff(keys[order], prepend=~keys[order[0]], append=~keys[order[-1]]))
        for start in np.flatnonzero(np.diff(edges) > 1):
            yield order[edges[start]:edges[start + 1]]
