"""Batches of whole documents: nothing is cut, every target comes once an epoch, batch i is the same whoever asks."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loader import LENGTHS, VOCABULARY, a_store, pairs, same, shaken, wanted
from variants import BASE, random_decoder

from seqmodal.config import (
    Causal,
    FillInTheMiddle,
    Masked,
    Objective,
    Permutation,
    Prefix,
    RecipeConfig,
    SpanCorruption,
)
from seqmodal.data.loader import Batch, Batches, windows
from seqmodal.data.store import Store, write_store
from seqmodal.data.whole import WholeBatches
from seqmodal.errors import BadInput, ConfigError
from seqmodal.nn.mask import Mask
from seqmodal.objective import needed
from seqmodal.sequence import Document, Segment, compose
from seqmodal.training.lit import as_tensors, loss_and_memory
from seqmodal.training.scale import adapt

OBJECTIVES = [Causal(), Prefix(), Masked(), SpanCorruption(), FillInTheMiddle(), Permutation()]


def whole(store: Store, batch_size: int = 3, seed: int = 0, **more: object) -> WholeBatches:
    objective = more.get("objective", Causal())
    context = needed(objective, int(store.lengths.max()) - 1)  # type: ignore[arg-type]
    return WholeBatches(store, context=context, batch_size=batch_size, seed=seed, **more)  # type: ignore[arg-type]


def epoch_of(batches: WholeBatches, epoch: int) -> list[Batch]:
    size = int(batches.per_epoch)
    return [batches.batch(epoch * size + i) for i in range(size)]


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 7), st.integers(0, 5), st.integers(0, 3))
def test_every_document_whole_and_once_an_epoch(lengths: list[int], batch_size: int, seed: int, epoch: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        seen: Counter[tuple[int, int, float]] = Counter()
        found = epoch_of(batches := whole(store, batch_size, seed), epoch)
        for batch in found:
            assert batch.ids.size <= batch_size * batches.context
            assert (batch.ids[:, 0] == VOCABULARY.bos).all() and set(np.unique(batch.document)) <= {0, -1}
            assert (np.diff(batch.document) <= 0).all()  # padding is at the end
            ends = (batch.document == 0).sum(axis=1) - 1
            assert (batch.targets[np.arange(len(ends)), ends] == VOCABULARY.eos).all()
            seen += pairs(batch)
        assert seen == wanted(store) and sum(len(batch.ids) for batch in found) == len(lengths)


@pytest.mark.parametrize("augment", [{}, {"a": shaken}])
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda objective: objective.kind)
def test_batch_is_a_pure_function_of_seed_and_number(tmp_path: Path, objective: Objective, augment: dict) -> None:
    store = a_store(tmp_path, [10, 3, 40, 45, 7, 26, 1, 9, 30, 31, 32, 33, 12, 5])

    def fresh(seed: int) -> WholeBatches:
        return whole(store, 2, seed, objective=objective, augment=augment)

    forwards = fresh(1)
    first, backwards = [forwards.batch(i) for i in range(30)], fresh(1)
    assert all(same(backwards.batch(i), first[i]) for i in reversed(range(30)))
    assert not all(same(fresh(2).batch(i), first[i]) for i in range(5))
    for batch in first:
        assert all(getattr(batch, f.name) is None or getattr(batch, f.name).shape == batch.ids.shape
                   for f in fields(batch))


def test_epochs_mix_documents_and_like_lengths_share_a_batch(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(10, 90, 600).tolist()
    batches = whole(a_store(tmp_path, lengths), batch_size=4)
    neighbours = []
    for epoch in range(2):
        found, filled, taken = epoch_of(batches, epoch), 0, 0
        for batch in found:
            filled, taken = filled + int((batch.document == 0).sum()), taken + batch.ids.size
        assert filled / taken > 0.9
        assert filled / len(found) > 0.8 * 4 * batches.context  # and the batches are full
        neighbours.append({frozenset(batch.ids[:, 5].tolist()) for batch in found})
    assert not neighbours[0] & neighbours[1]


def test_what_augmentation_makes_too_long_is_taken_as_it_was(tmp_path: Path) -> None:
    store = a_store(tmp_path, [8, 20])
    found = epoch_of(whole(store, augment={"a": lambda ids, rng: np.concatenate([ids, ids])}), 0)
    assert sorted(int((row == 0).sum()) for batch in found for row in batch.document) == [22, 26]  # 16 + 6 and 20 + 6


def test_a_document_longer_than_the_context_is_named_at_the_start(tmp_path: Path) -> None:
    store = a_store(tmp_path / "a", [8, 20])
    with pytest.raises(ConfigError, match=r"^20 takes 26 positions and the context has 20; .*max_seq_len to 26"):
        WholeBatches(store, context=20, batch_size=1, seed=0)
    with pytest.raises(BadInput, match="nothing to learn from"):
        WholeBatches(write_store(tmp_path / "b", [], VOCABULARY), context=8, batch_size=1, seed=0)


def a_task(n: int, seed: int = 0) -> Document:
    rng = np.random.default_rng([seed, n])
    read = Segment("b", rng.integers(100, size=n), loss=0, both_ways=True)
    return Document((read, Segment("a", rng.integers(50, size=3))), str(n))


def test_tasks_are_never_cut_in_evaluation_either(tmp_path: Path) -> None:
    store = write_store(tmp_path, [a_task(n) for n in (30, 4, 9)], VOCABULARY)
    found = list(windows(store, 12, 2, objective=Prefix()))
    assert [batch.ids.shape[1] for batch in found] == [38, 12]
    for batch in found:
        assert batch.span is not None and (batch.span[:, 1] == 1).all()


def test_padding_changes_no_loss(tmp_path: Path) -> None:
    """A batch of ragged rows, spans included, has the loss of its documents each alone."""
    vocabulary_size, store = VOCABULARY.size, write_store(tmp_path, [a_task(n) for n in (9, 4, 1, 7)], VOCABULARY)
    decoder = random_decoder(replace(BASE, vocab_size=vocabulary_size, num_layers=2))
    (batch,) = epoch_of(whole(store, batch_size=8, objective=Prefix()), 0)
    total, weight, _ = loss_and_memory(decoder, as_tensors(batch))
    alone = 0.0
    for number in range(len(store)):
        c = compose(store[number], VOCABULARY)
        ids, span = (torch.from_numpy(part[None, :-1].astype(np.int64)) for part in (c.ids, c.span))
        logits = decoder.logits(decoder(ids, mask=Mask(span=span)).hidden[0])
        nats = torch.nn.functional.cross_entropy(logits, torch.from_numpy(c.ids[1:]).long(), reduction="none")
        alone += float((nats.detach() * torch.from_numpy(c.weight[:-1])).sum())
    assert float(total) == pytest.approx(alone, rel=1e-6) and float(weight) == 4 * (3 + 3)


def test_a_row_of_one_document_needs_no_mask() -> None:
    document = torch.tensor([[0, 0, 0, -1], [0, 0, 0, 0]])
    assert Mask(document).simplified() is None
    for kept in (torch.tensor([[0, 0, 1, 1]]), torch.tensor([[-1, 0, 0, 0]]), torch.tensor([[1, 1, 0, 0]])):
        assert Mask(kept).simplified() is not None
    order = torch.arange(4).expand(2, -1)
    assert Mask(document, order=order, reveal=order).simplified().document is not None  # type: ignore[union-attr]


def test_sizes_hold_the_longest_of_both_parts(tmp_path: Path) -> None:
    train = write_store(tmp_path / "train", [a_task(n) for n in (30, 4, 9)], VOCABULARY)
    valid = write_store(tmp_path / "valid", [a_task(40)], VOCABULARY)
    config = replace(RecipeConfig(), objective=Prefix())
    found = adapt(config, train, valid, whole=True).model
    assert (found.max_seq_len, found.window) == (int(valid.lengths.max()) - 1, 0)
    corrupted = adapt(replace(config, objective=SpanCorruption()), train, None, whole=True).model
    assert corrupted.max_seq_len == needed(SpanCorruption(), int(train.lengths.max()) - 1) > 37


def test_smoothing_is_torch_s_and_no_part_of_what_is_shown(tmp_path: Path) -> None:
    store = write_store(tmp_path, [a_task(n) for n in (9, 4)], VOCABULARY)
    decoder = random_decoder(replace(BASE, vocab_size=VOCABULARY.size))
    batch = as_tensors(whole(store, objective=Prefix()).batch(0))
    plain, smooth = (float(loss_and_memory(decoder, batch, None, share)[0]) for share in (0.0, 0.1))
    counts = batch["weight"] > 0
    hidden = decoder(batch["ids"], mask=Mask(batch["document"], batch["span"])).hidden[counts]
    scores = decoder.logits(hidden).log_softmax(-1)
    picked = scores.gather(-1, batch["targets"][counts].unsqueeze(-1)).sum()
    assert plain == pytest.approx(-float(picked), rel=1e-5)
    assert smooth == pytest.approx(-float(0.9 * picked + 0.1 * scores.mean(-1).sum()), rel=1e-5)
    with pytest.raises(ConfigError, match="label_smoothing"):
        replace(RecipeConfig().training, label_smoothing=1.0)


def test_cut_batches_stay_as_they_are_for_documents_of_one_segment(tmp_path: Path) -> None:
    one = a_store(tmp_path, [30, 5], tasks=False)
    assert not one.tasks and Batches(one, context=8, batch_size=2, seed=0).per_epoch == 3
