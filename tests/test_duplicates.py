"""Near-duplicates: MinHash estimates what it should, alike pieces share a group, and groups are never torn apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.data.duplicates import group_near, minhash, split_groups


def jaccard(a: np.ndarray, b: np.ndarray, n: int = 5) -> float:
    first, second = ({tuple(x[i:i + n]) for i in range(len(x) - n + 1)} for x in (a.tolist(), b.tolist()))
    return len(first & second) / len(first | second)


def changed(tokens: np.ndarray, share: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    hit = rng.random(len(tokens)) < share
    return np.where(hit, rng.integers(0, 128, len(tokens)), tokens)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.03, 0.08, 0.2, 1.0])
def test_equal_entries_estimate_the_jaccard_similarity(share: float) -> None:
    tokens = np.random.default_rng(0).integers(0, 128, 2000)
    other = changed(tokens, share, 1)
    estimate = np.mean(minhash(tokens, permutations=512) == minhash(other, permutations=512))
    assert abs(estimate - jaccard(tokens, other)) < 4 * 0.5 / np.sqrt(512)


def test_a_signature_is_of_a_set_of_grams() -> None:
    a = np.array([60, 62, 64, 65, 67, 69])
    assert minhash(a).dtype == np.uint32 and minhash(a).shape == (64,)
    assert np.array_equal(minhash(a), minhash(a.astype(np.int8)))
    assert np.array_equal(minhash(np.tile([1, 2], 50)), minhash(np.tile([1, 2], 80)))  # a set counts nothing twice
    assert not np.array_equal(minhash(a), minhash(a[::-1]))
    assert not np.array_equal(minhash(a, n=5), minhash(a, n=3))


@pytest.mark.parametrize("length", [0, 1, 4])
def test_short_sequences_have_signatures(length: int) -> None:
    assert np.array_equal(minhash(np.arange(length)), minhash(np.arange(length)))
    assert not np.array_equal(minhash(np.arange(length)), minhash(np.arange(length) + 1)) or not length


def test_groups_hold_what_is_alike() -> None:
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 128, 400) for _ in range(40)]
    copies = [changed(piece, 0.02, i) for i, piece in enumerate(pieces[:15])]
    groups = group_near([minhash(p) for p in pieces + copies])
    assert len(set(groups[:40])) == 40
    assert np.array_equal(groups[40:], groups[:15])
    assert set(groups) == set(range(40))


def test_groups_join_through_others() -> None:
    tokens = np.random.default_rng(0).integers(0, 128, 1500)
    chain = [tokens[start:start + 600] for start in range(0, 900, 100)]  # neighbours alike, the ends not
    assert jaccard(chain[0], chain[-1]) < 0.1 < 0.6 < jaccard(chain[0], chain[1])
    assert len(set(group_near([minhash(p) for p in chain]))) == 1


def test_many_copies_are_quickly_one_group() -> None:
    rows = np.random.default_rng(0).integers(0, 2**32, (3000, 64), dtype=np.uint32)
    rows[1000:2000] = rows[0]
    groups = group_near(rows)
    assert len(set(groups)) == 2000 and len(set(groups[1000:2000])) == 1 and groups[0] == groups[1000]


def test_no_pieces_no_groups() -> None:
    assert len(group_near([])) == 0
    assert len(split_groups(np.zeros(0, np.int64), 0.1)) == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 9), st.data())
def test_a_split_tears_no_group_and_leaves_no_side_empty(
    labels: list[int], share: float, seed: int, data: st.DataObject
) -> None:
    groups = np.unique(labels, return_inverse=True)[1]
    weights = np.array(data.draw(st.lists(st.integers(1, 50), min_size=len(labels), max_size=len(labels))))
    held = split_groups(groups, share, seed, weights)
    for group in set(groups.tolist()):
        assert len(set(held[groups == group].tolist())) == 1
    if len(set(labels)) > 1:
        assert held.any() and not held.all()
    else:
        assert not held.any()
    assert np.array_equal(held, split_groups(groups, share, seed, weights))


@pytest.mark.parametrize("share", [0.05, 0.1, 0.3])
def test_the_share_is_met_by_weight(share: float) -> None:
    weights = np.random.default_rng(1).integers(1, 100, 1000)
    held = split_groups(np.arange(1000), share, 0, weights)
    assert abs(weights[held].sum() / weights.sum() - share) < 0.01
    assert not np.array_equal(held, split_groups(np.arange(1000), share, 1, weights))


def test_five_files_hold_one_out() -> None:
    assert split_groups(np.arange(5), 0.1).sum() == 1
    assert not split_groups(np.arange(5), 0.0).any()
