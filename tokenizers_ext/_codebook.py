"""A residual k-means codebook: vectors as a few small whole numbers each, for patches of pictures and of spectrograms.

Level 0 is k-means over the vectors (Lloyd's iterations, started by k-means++), level 1 over what level 0 leaves, and so
on: residual vector quantisation (Juang and Gray, 1982; the scheme of SoundStream and of EnCodec, without a network).
With several levels the codes of a vector are searched with a few beams, as faiss does: the nearest centroid is not
always the best to go on from. Four beams bring 1 dB on MNIST with four levels, and a second round trip loses less.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError

SAMPLE = 100_000
"""Vectors that are looked at in fitting; more are drawn from by the seed."""
ITERATIONS = 20
STARTERS = 16
"""Vectors a code that k-means++ chooses its starts from: looking at all of them would cost more than the iterations."""
BEAMS = 4
CHUNK_BYTES = 1 << 24
"""Size of a block of scores, whatever the number of vectors."""


class ResidualCodebook:
    """Centroids float32 (levels, codes, d). A vector is one code a level; their centroids add up to the vector again.

    Scores are computed in double precision, so that the codes of a vector depend neither on the number of threads nor
    on the vectors beside it. Of equal centroids the first is used.
    """

    def __init__(self, centroids: np.ndarray) -> None:
        centroids = np.ascontiguousarray(centroids, np.float32)
        if centroids.ndim != 3 or not centroids.size or not np.isfinite(centroids).all():
            raise BadInput("codebook", f"centroids of shape {centroids.shape}; needed are finite (levels, codes, d)")
        self.centroids = centroids
        self.levels, self.codes, self.dim = centroids.shape
        self._tables = [_Table(level) for level in centroids]

    @classmethod
    def fit(cls, vectors: np.ndarray, *, codes: int, levels: int, seed: int = 0) -> Self:
        """A codebook of vectors float32 (n, d), of which at most `SAMPLE` are looked at.

        With fewer distinct vectors than codes, the codes left over repeat a centroid and are never used by `encode`.

        Raises:
            ConfigError: for codes or levels below 1.
            BadInput: for no vectors, another shape, or values that are not finite.
        """
        if codes < 1 or levels < 1:
            raise ConfigError(f"codes={codes}, levels={levels}: both are at least 1")
        vectors = np.asarray(vectors)
        if vectors.ndim != 2 or not vectors.size:
            raise BadInput("codebook", f"vectors of shape {vectors.shape}; needed are (n, d) with at least one")
        rng = np.random.default_rng(seed)
        if len(vectors) > SAMPLE:
            vectors = vectors[np.sort(rng.choice(len(vectors), SAMPLE, replace=False))]
        vectors = vectors.astype(np.float32)
        if not np.isfinite(vectors).all():
            raise BadInput("codebook", "vectors that hold values which are not finite")
        distinct, counts = np.unique(vectors, axis=0, return_counts=True)
        left, weights = distinct.astype(np.float64), counts.astype(np.float64)
        centroids = []
        for _ in range(levels):
            centroids.append(_k_means(left, weights, codes, rng))
            left -= centroids[-1][_Table(centroids[-1]).nearest(left)[0]]
        return cls(np.stack(centroids))

    def encode(self, vectors: np.ndarray) -> np.ndarray:
        """Codes int32 (n, levels) of vectors (n, d)."""
        vectors = np.asarray(vectors).reshape(-1, self.dim)
        ids = np.empty((len(vectors), self.levels), np.int32)
        rows = max(1, CHUNK_BYTES // (8 * self.codes * (BEAMS if self.levels > 1 else 1)))
        for start in range(0, len(vectors), rows):
            ids[start : start + rows] = self._search(vectors[start : start + rows].astype(np.float64))
        return ids

    def _search(self, vectors: np.ndarray) -> np.ndarray:
        """At each level the `BEAMS` best sums of centroids go on, at the last the best one is taken."""
        n = len(vectors)
        left, ids = vectors[:, None], np.empty((n, 1, 0), np.intp)  # (n, beams, d), (n, beams, levels so far)
        for level, table in enumerate(self._tables):
            rows = left.reshape(-1, self.dim)  # one product of two matrices, not n small ones
            scores, width = table.scores(rows), len(table.distinct)
            scores += (rows**2).sum(1, keepdims=True)
            scores = scores.reshape(n, -1)
            beams = min(BEAMS, scores.shape[1]) if level < self.levels - 1 else 1
            if beams == 1:
                best = scores.argmin(1)[:, None]
            else:
                best = np.sort(np.argpartition(scores, beams - 1, 1)[:, :beams], 1)
            parent, code = best // width, table.distinct[best % width]
            ids = np.concatenate([np.take_along_axis(ids, parent[:, :, None], 1), code[:, :, None]], 2)
            left = np.take_along_axis(left, parent[:, :, None], 1) - self.centroids[level][code]
        return ids[:, 0]

    def decode(self, ids: np.ndarray) -> np.ndarray:
        """Vectors float32 (n, d) of codes (n, levels), each from 0 to codes - 1."""
        ids = np.asarray(ids).reshape(-1, self.levels)
        out = np.zeros((len(ids), self.dim), np.float32)
        for level in range(self.levels):
            out += self.centroids[level][ids[:, level]]
        return out

    def to_dict(self) -> dict[str, Any]:
        return {"centroids": self.centroids}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(d["centroids"])


class _Table:
    """The centroids of a level, made ready for products. Of equal ones the first stands for all."""

    def __init__(self, centroids: np.ndarray) -> None:
        self.distinct = np.sort(np.unique(centroids, axis=0, return_index=True)[1])
        wide = centroids[self.distinct].astype(np.float64)
        self._products, self._norms = np.ascontiguousarray(-2 * wide.T), (wide**2).sum(1)

    def scores(self, vectors: np.ndarray) -> np.ndarray:
        """Squared distances (n, distinct) of vectors float64 (n, d), less their own squares."""
        scores: np.ndarray = vectors @ self._products
        scores += self._norms
        return scores

    def nearest(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(index of the nearest centroid, squared distance to it) of each vector (n, d)."""
        ids, squared = np.empty(len(vectors), np.intp), np.empty(len(vectors))
        rows = max(1, CHUNK_BYTES // (8 * len(self.distinct)))
        for start in range(0, len(vectors), rows):
            part = vectors[start : start + rows]
            scores = self.scores(part)
            best = scores.argmin(1)
            ids[start : start + rows] = self.distinct[best]
            squared[start : start + rows] = (part**2).sum(1) + scores[np.arange(len(part)), best]
        return ids, np.maximum(squared, 0)


def _k_means(vectors: np.ndarray, weights: np.ndarray, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Centroids float32 (codes, d) of distinct weighted vectors.

    A code that nothing is nearest to starts anew where the error is greatest.
    """
    centroids = _plus_plus(vectors, weights, codes, rng)
    before = None
    for _ in range(ITERATIONS):
        ids, squared = _Table(centroids).nearest(vectors)
        if before is not None and np.array_equal(ids, before):
            break
        before = ids
        mass = np.bincount(ids, weights, codes)
        for axis in range(vectors.shape[1]):
            sums = np.bincount(ids, weights * vectors[:, axis], codes)
            np.divide(sums, mass, out=centroids[:, axis], where=mass > 0, casting="same_kind")
        dead = np.flatnonzero(mass == 0)
        worst = np.argsort(-weights * squared, kind="stable")[: len(dead)]
        centroids[dead[: len(worst)]] = vectors[worst]
    return centroids


def _plus_plus(vectors: np.ndarray, weights: np.ndarray, codes: int, rng: np.random.Generator) -> np.ndarray:
    """Starts float32 (codes, d), each drawn by squared distance to those before (Arthur and Vassilvitskii, 2007)."""
    if len(vectors) <= codes:
        return vectors[np.arange(codes) % len(vectors)].astype(np.float32)
    if len(vectors) > STARTERS * codes:
        chosen = rng.choice(len(vectors), STARTERS * codes, replace=False)
        vectors, weights = vectors[chosen], weights[chosen]
    starts = np.empty((codes, vectors.shape[1]), np.float32)
    squared = np.ones(len(vectors))
    for number in range(codes):
        odds = np.cumsum(weights * squared)
        at = min(int(np.searchsorted(odds, rng.random() * odds[-1], side="right")), len(odds) - 1)
        starts[number] = vectors[at]
        distance = ((vectors - vectors[at]) ** 2).sum(1)
        squared = distance if number == 0 else np.minimum(squared, distance)
    return starts
