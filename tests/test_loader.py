"""The loader: every target once an epoch, and batch i the same whoever asks for it, in whatever order."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits

from seqmodal.data.loader import Batch, Batches, windows
from seqmodal.data.store import Store, write_store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers import Vocabulary

VOCABULARY = Vocabulary.of([Digits("a", 50_000), Digits("b", 100)])
FIELDS = ("ids", "targets", "weight", "document")
LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=12)


def a_store(folder: str | Path, lengths: list[int], tasks: bool = True) -> Store:
    """Documents in which no content id comes twice, so that a target tells where it stood; a segment before that, where
    they are tasks."""
    starts = np.concatenate([[0], np.cumsum(lengths)])
    documents = (
        Document(
            (Segment("b", np.array([n % 100]), loss=0),) * tasks + (Segment("a", np.arange(n) + start),), str(n)
        )
        for n, start in zip(lengths, starts[:-1], strict=True)
    )
    return write_store(Path(folder), documents, VOCABULARY)


def pairs(batch: Batch) -> Counter[tuple[int, int, float]]:
    """(id, target, weight) of all positions that are not padding."""
    inside = batch.document >= 0
    return Counter(zip(*(getattr(batch, f)[inside].tolist() for f in ("ids", "targets", "weight")), strict=True))


def wanted(store: Store) -> Counter[tuple[int, int, float]]:
    found: Counter[tuple[int, int, float]] = Counter()
    for number in range(len(store)):
        c = compose(store[number], store.vocabulary)
        found.update(zip(c.ids[:-1].tolist(), c.targets[:-1].tolist(), c.weight[:-1].tolist(), strict=True))
    return found


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in FIELDS)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_every_target_exactly_once_an_epoch(lengths: list[int], context: int, seed: int, epoch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        batches = Batches(store, context=context, batch_size=1, seed=seed)
        seen = sum((pairs(batches.batch(epoch * batches.windows + i)) for i in range(batches.windows)), Counter())
        assert seen == wanted(store)


@settings(deadline=None, max_examples=30)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 7))
def test_other_batch_sizes_see_the_same_rows(lengths: list[int], context: int, batch_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        one = Batches(store, context=context, batch_size=1, seed=3)
        many = Batches(store, context=context, batch_size=batch_size, seed=3)
        for number in (0, 1, 5):
            batch = many.batch(number)
            assert batch.ids.shape == (batch_size, context)
            for row in range(batch_size):
                alone = one.batch(number * batch_size + row)
                assert all(np.array_equal(getattr(alone, f)[0], getattr(batch, f)[row]) for f in FIELDS)


def shaken(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.roll(ids, int(rng.integers(10)))[:int(len(ids) * rng.uniform(0.9, 1))]


@pytest.fixture()
def store(tmp_path: Path) -> Store:
    return a_store(tmp_path, [100, 3, 0, 45, 7, 260, 1])


@pytest.mark.parametrize("augment", [{}, {"a": shaken}])
def test_batch_is_a_pure_function_of_seed_and_number(store: Store, augment: dict) -> None:
    def fresh(seed: int) -> Batches:
        return Batches(store, context=32, batch_size=3, seed=seed, augment=augment)

    forwards = fresh(1)
    first = [forwards.batch(i) for i in range(40)]
    backwards = fresh(1)
    for i in reversed(range(40)):
        assert same(backwards.batch(i), first[i])
    assert same(fresh(1).batch(39), first[39])
    assert not any(same(fresh(2).batch(i), first[i]) for i in range(5))


def test_no_two_epochs_cut_alike(store: Store) -> None:
    batches = Batches(store, context=32, batch_size=1, seed=0)
    edges = []
    for epoch in range(3):
        rows = [batches.batch(epoch * batches.windows + i) for i in range(batches.windows)]
        edges.append({int(row.ids[0, 0]) for row in rows})
    assert len(set.union(*edges)) > 2 * batches.windows


def test_documents_are_numbered_within_a_row_and_begin_with_bos(store: Store) -> None:
    batch = Batches(store, context=200, batch_size=4, seed=0).batch(0)
    for ids, document in zip(batch.ids, batch.document, strict=True):
        inside = document >= 0
        assert document[0] == 0 and set(np.diff(document[inside])) <= {0, 1}
        assert not inside[np.argmin(inside):].any() or inside.all()  # padding stands at the end
        changes = np.flatnonzero(np.diff(document[inside])) + 1
        assert (ids[changes] == VOCABULARY.bos).all()
        assert (ids[~inside] == VOCABULARY.pad).all()
    assert (batch.weight[batch.document < 0] == 0).all()
    assert batch.document.max() > 0


def test_no_row_is_empty_and_one_window_holds_a_tiny_corpus(tmp_path: Path) -> None:
    batches = Batches(a_store(tmp_path, [4, 2, 5]), context=64, batch_size=8, seed=0)
    batch = batches.batch(7)
    assert batches.windows == 1
    assert (batch.weight.sum(axis=1) > 0).all()
    assert len({row.tobytes() for row in batch.ids}) > 1  # each row an epoch of its own, cut elsewhere


def test_next_token_across_a_cut_is_kept(tmp_path: Path) -> None:
    store = a_store(tmp_path, [500])
    batches = Batches(store, context=50, batch_size=1, seed=0)
    for i in range(batches.windows):
        batch = batches.batch(i)
        inside = batch.document[0] >= 0
        ids, targets = batch.ids[0][inside], batch.targets[0][inside]
        joined = (ids[1:] == targets[:-1]) | (ids[1:] == VOCABULARY.bos)
        assert joined.all()
        assert targets[-1] != VOCABULARY.pad


def test_augmentation_reaches_its_block_and_fills_the_window(store: Store) -> None:
    def shortened(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.full(int(len(ids) * 0.9), 49_999, np.int32)

    batch = Batches(store, context=64, batch_size=8, seed=0, augment={"a": shortened}).batch(0)
    content = VOCABULARY.block("a").content_slice
    of_a = batch.ids[(batch.ids >= content.start) & (batch.ids < content.stop)]
    assert set(of_a.tolist()) == {content.stop - 1}
    assert np.sum((batch.document >= 0).all(axis=1)) >= 7  # all but the last of the epoch
    plain = Batches(store, context=64, batch_size=8, seed=0, augment={"other": shortened}).batch(0)
    assert same(plain, Batches(store, context=64, batch_size=8, seed=0).batch(0))


def test_augmentation_that_leaves_nothing_does_no_harm(store: Store) -> None:
    batch = Batches(store, context=64, batch_size=8, seed=0, augment={"a": lambda ids, rng: ids[:0]}).batch(0)
    assert np.sum((batch.document >= 0).all(axis=1)) >= 7


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 5))
def test_the_walk_takes_every_target_once(lengths: list[int], context: int, batch_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths, tasks=False)
        seen: Counter[tuple[int, int, float]] = Counter()
        for batch in windows(store, context, batch_size):
            assert batch.ids.shape[0] <= batch_size and batch.ids.shape[1] <= context
            assert batch.document.max() <= 0  # a document alone in its row
            seen += pairs(batch)
        assert seen == wanted(store)


def test_the_walk_starts_each_document_at_its_start_and_cuts_every_context(tmp_path: Path) -> None:
    store = a_store(tmp_path, [100], tasks=False)
    rows = [row for batch in windows(store, 40, 2) for row in zip(batch.ids, batch.document, strict=True)]
    assert [int((document >= 0).sum()) for _, document in rows] == [40, 40, 23]
    assert rows[0][0][0] == VOCABULARY.bos


def test_an_empty_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to learn from"):
        Batches(write_store(tmp_path, [], VOCABULARY), context=8, batch_size=1, seed=0)


def test_segments_seen_both_ways_are_refused_and_not_read_as_causal(tmp_path: Path) -> None:
    read = Segment("a", np.arange(3), loss=0, both_ways=True)
    store = write_store(tmp_path, [Document((read, Segment("a", np.arange(4))))], VOCABULARY)
    with pytest.raises(ConfigError, match="both_ways"):
        Batches(store, context=8, batch_size=1, seed=0)
    with pytest.raises(ConfigError, match="both_ways"):
        next(windows(store, 8))


@pytest.mark.parametrize("share", [0.01, 0.3, 1.0])
def test_a_share_of_the_windows_is_evenly_taken(tmp_path: Path, share: float) -> None:
    store = a_store(tmp_path, [60] * 9, tasks=False)
    whole, part = list(windows(store, 8, 4)), list(windows(store, 8, 4, share))
    assert len(part) == max(1, round(share * len(whole)))
    kept = [next(i for i, b in enumerate(whole) if b.ids.shape == a.ids.shape and (b.ids == a.ids).all()) for a in part]
    assert kept[0] == 0 and kept == sorted(kept)
