"""The residual codebook: against a slow one, on few vectors, on bad ones; the same whatever stands beside a vector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput, ConfigError
from tokenizers_ext import _codebook
from tokenizers_ext._codebook import ResidualCodebook


def slow_encode(centroids: np.ndarray, vector: np.ndarray) -> list[int]:
    paths: list[tuple[float, list[int], list[float]]] = [(0.0, [], [float(v) for v in vector])]
    for level in centroids:
        longer = []
        for _, ids, left in paths:
            for code, centroid in enumerate(level):
                if any(np.array_equal(centroid, before) for before in level[:code]):
                    continue
                rest = [a - float(b) for a, b in zip(left, centroid, strict=True)]
                longer.append((sum(r * r for r in rest), [*ids, code], rest))
        paths = sorted(longer, key=lambda path: path[0])[: _codebook.BEAMS]
    return paths[0][1]


def blobs(seed: int, n: int = 600, d: int = 3, centres: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(centres, d)) * 10
    return (middle[rng.integers(centres, size=n)] + rng.normal(size=(n, d)) * 0.1).astype(np.float32), middle


def error(book: ResidualCodebook, vectors: np.ndarray) -> float:
    return float(((book.decode(book.encode(vectors)) - vectors) ** 2).mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 4), st.integers(1, 9), st.integers(1, 3))
def test_encodes_as_the_slow_one_does(seed: int, n: int, d: int, codes: int, levels: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    book = ResidualCodebook.fit(vectors, codes=codes, levels=levels)
    assert book.centroids.shape == (levels, codes, vectors.shape[1]) and book.centroids.dtype == np.float32
    ids = book.encode(vectors)
    assert ids.shape == (len(vectors), levels) and ids.dtype == np.int32
    back = book.decode(ids)
    assert back.dtype == np.float32 and back.shape == vectors.shape
    for row, vector, got in zip(ids, vectors, back, strict=True):
        slow = slow_encode(book.centroids, vector)
        total = sum(book.centroids[level, code].astype(np.float64) for level, code in enumerate(slow))
        np.testing.assert_allclose(got, sum(book.centroids[level, code] for level, code in enumerate(row)), atol=1e-6)
        # Where a vector comes back exactly, several sums may be as near but for rounding.
        assert row.tolist() == slow or np.abs(total - vector).max() < 1e-6 > np.abs(got - vector).max()


@pytest.mark.parametrize("codes", [1, 3, 8, 20])
def test_few_distinct_vectors_come_back_exactly(codes: int) -> None:
    kinds = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    vectors = kinds[[0, 1, 2, 0, 0, 1]]
    book = ResidualCodebook.fit(vectors, codes=codes, levels=2)
    assert book.centroids.shape == (2, codes, 5)
    if codes >= 3:
        np.testing.assert_allclose(book.decode(book.encode(vectors)), vectors, atol=1e-6)
        assert len(np.unique(book.encode(vectors)[:, 0])) == 3 and book.encode(vectors).max() < 3


def test_one_code_is_the_mean_however_often_a_vector_comes() -> None:
    vectors = np.array([[0.0], [0.0], [0.0], [4.0]], np.float32)
    assert ResidualCodebook.fit(vectors, codes=1, levels=1).centroids.tolist() == [[[1.0]]]


@pytest.mark.parametrize("seed", range(5))
def test_finds_the_clusters(seed: int) -> None:
    vectors, middle = blobs(seed)
    book = ResidualCodebook.fit(vectors, codes=12, levels=1, seed=seed)
    assert error(book, vectors) < 0.012  # the variance inside a cluster is 0.01
    assert max(np.abs(book.centroids[0] - m).sum(1).min() for m in middle) < 0.5


def test_each_level_comes_nearer() -> None:
    vectors = np.random.default_rng(1).normal(size=(2000, 6)).astype(np.float32)
    errors = [error(ResidualCodebook.fit(vectors, codes=16, levels=levels), vectors) for levels in (1, 2, 4)]
    assert errors[1] < 0.7 * errors[0] and errors[2] < 0.7 * errors[1]
    assert error(ResidualCodebook.fit(vectors, codes=64, levels=1), vectors) < 0.8 * errors[0]


def test_a_vectors_codes_do_not_depend_on_its_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(2).normal(size=(500, 7)).astype(np.float32)
    book = ResidualCodebook.fit(vectors, codes=32, levels=3)
    whole = book.encode(vectors)
    monkeypatch.setattr(_codebook, "CHUNK_BYTES", 8 * 32 * 5)
    np.testing.assert_array_equal(book.encode(vectors), whole)
    np.testing.assert_array_equal(np.concatenate([book.encode(v[None]) for v in vectors]), whole)


def test_fitting_is_deterministic_and_follows_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codebook, "SAMPLE", 300)
    vectors, _ = blobs(3, n=1000)
    a, b, c = (ResidualCodebook.fit(vectors, codes=9, levels=2, seed=seed).centroids for seed in (0, 0, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_fitting_leaves_its_input_alone_and_takes_any_numbers() -> None:
    vectors = np.arange(24).reshape(8, 3)
    book = ResidualCodebook.fit(vectors, codes=8, levels=2)
    book.encode(vectors)
    np.testing.assert_array_equal(vectors, np.arange(24).reshape(8, 3))
    np.testing.assert_array_equal(book.decode(book.encode(vectors)), vectors)


def test_rebuilt_from_its_dict() -> None:
    vectors, _ = blobs(4)
    book = ResidualCodebook.fit(vectors, codes=9, levels=2)
    again = ResidualCodebook.from_dict(book.to_dict())
    np.testing.assert_array_equal(again.encode(vectors), book.encode(vectors))
    np.testing.assert_array_equal(again.decode(book.encode(vectors)), book.decode(book.encode(vectors)))


def test_nothing_in_nothing_out() -> None:
    book = ResidualCodebook.fit(blobs(5)[0], codes=4, levels=2)
    assert book.encode(np.zeros((0, 3), np.float32)).shape == (0, 2)
    assert book.decode(np.zeros((0, 2), np.int32)).shape == (0, 3)


def test_refuses_what_it_cannot_use() -> None:
    good = np.ones((4, 2), np.float32)
    for bad in (good[:0], good[0], np.full((3, 2), np.nan), np.full((3, 2), np.inf)):
        with pytest.raises(BadInput, match="codebook"):
            ResidualCodebook.fit(bad, codes=2, levels=1)
    for codes, levels in ((0, 1), (1, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            ResidualCodebook.fit(good, codes=codes, levels=levels)
    for centroids in (good, np.full((1, 2, 2), np.nan)):
        with pytest.raises(BadInput, match="levels, codes, d"):
            ResidualCodebook(centroids)
