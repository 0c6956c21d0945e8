"""Batches that go on from one another, and training with a memory that is carried along them."""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_loader import VOCABULARY, a_store, pairs, same, wanted
from test_training import RECIPE, weights

import seqmodal
from seqmodal.config import DecoderConfig, TrainingConfig, TransformerXL
from seqmodal.data.loader import Batch
from seqmodal.data.store import Store, write_store
from seqmodal.data.stream import StreamBatches, segments
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.nn.mask import Mask
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers import Vocabulary
from seqmodal.training.keep import DurableCheckpointIO, RandomState
from seqmodal.training.lit import LitDecoder, SequenceDataModule, as_tensors
from seqmodal.training.optimizer import MuonAdamW, make_schedule, parameter_groups
from seqmodal.training.record import read_metrics

LENGTHS = st.lists(st.integers(0, 60), min_size=1, max_size=12)
FIELDS = ("ids", "targets", "weight", "document")


def streams(batches: StreamBatches, count: int) -> list[dict[str, np.ndarray]]:
    """Each row of the first batches as one long row."""
    found = [batches.batch(i) for i in range(count)]
    rows = range(len(found[0].ids))
    return [{f: np.concatenate([getattr(b, f)[row] for b in found]) for f in FIELDS} for row in rows]


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 6), st.integers(0, 5))
def test_every_target_exactly_once_an_epoch(lengths: list[int], context: int, batch_size: int, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        batches = StreamBatches(store, context=context, batch_size=batch_size, seed=seed)
        parts = np.diff(batches.edges)
        rows = streams(batches, -(-3 * int(parts.max()) // context))
        for epoch in range(3):
            seen: Counter[tuple[int, int, float]] = Counter()
            for row, length in zip(rows, parts.tolist(), strict=True):
                part = slice(epoch * length, (epoch + 1) * length)
                assert (row["document"][part] >= 0).all()  # no padding
                seen.update(zip(*(row[f][part].tolist() for f in FIELDS[:3]), strict=True))
            assert seen == wanted(store)


@settings(deadline=None, max_examples=60)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 6), st.booleans())
def test_a_row_goes_on_where_it_stopped(lengths: list[int], context: int, batch_size: int, vary: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        augment = {"a": shaken} if vary else {}
        batches = StreamBatches(store, context=context, batch_size=batch_size, seed=2, augment=augment)
        for row, part in zip(streams(batches, 12), np.diff(batches.edges).tolist(), strict=True):
            if not part:
                assert (row["document"] == -1).all() and not row["weight"].any()  # fewer targets than rows
                continue
            goes_on = row["document"][1:] == row["document"][:-1]
            assert (row["ids"][1:][goes_on] == row["targets"][:-1][goes_on]).all()
            begins = row["ids"][1:] == VOCABULARY.bos
            assert not (goes_on & begins).any(), "two documents have one number"
            cut = (np.arange(1, len(row["ids"])) % part) == 0  # an epoch's part ends
            assert (goes_on | begins | cut).all(), "one document has two numbers"
            assert len(set(row["document"].tolist())) == 1 + np.sum(~goes_on)  # no number comes back


def shaken(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    start = int(rng.integers(10))
    return np.concatenate([ids, ids])[start : start + int(len(ids) * rng.uniform(0.8, 1.2))]


@pytest.fixture()
def store(tmp_path: Path) -> Store:
    return a_store(tmp_path / "store", [100, 3, 0, 45, 7, 260, 1])


@pytest.mark.parametrize("augment", [{}, {"a": shaken}, {"a": lambda ids, rng: ids[:0]}])
def test_batch_is_a_pure_function_of_seed_and_number(store: Store, augment: dict) -> None:
    def fresh(seed: int) -> StreamBatches:
        return StreamBatches(store, context=16, batch_size=3, seed=seed, augment=augment)

    forwards = fresh(1)
    first = [forwards.batch(i) for i in range(40)]
    backwards = fresh(1)
    for i in reversed(range(40)):
        assert same(backwards.batch(i), first[i])
    assert same(fresh(1).batch(39), first[39])
    assert not any(same(fresh(2).batch(i), first[i]) for i in range(5))


def test_a_document_is_varied_once_in_an_epoch_and_anew_in_the_next(tmp_path: Path) -> None:
    def raised(ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return ids + int(rng.integers(1, 1000)) * 40

    ids = np.arange(40)
    documents = [Document((Segment("a", ids),)) for _ in range(6)]
    store = write_store(tmp_path / "same", documents, VOCABULARY)
    batches = StreamBatches(store, context=7, batch_size=2, seed=0, augment={"a": raised})
    content = VOCABULARY.block("a").content_slice
    raises = []
    for row in streams(batches, 80):
        found: dict[int, set[int]] = {}
        for token, document in zip(row["ids"].tolist(), row["document"].tolist(), strict=True):
            if content.start <= token < content.stop:
                found.setdefault(document, set()).add((token - content.start) // 40)
        assert all(len(some) == 1 for some in found.values()), "a document was varied within"
        raises += [some.pop() for some in found.values()]
    assert len(set(raises)) >= 6 * 4, "four epochs vary six documents anew"
    assert max(Counter(raises).values()) == 2, "a document cut in two is one variation"


def test_augmentation_that_changes_lengths_leaves_whole_documents(store: Store) -> None:
    batches = StreamBatches(store, context=32, batch_size=1, seed=0, augment={"a": shaken})
    (row,) = streams(batches, 3 * batches.total // 32)
    edges = np.flatnonzero(np.diff(row["document"])) + 1
    whole = [part for part in np.split(row["targets"], edges)[1:-1]]
    cut = set((np.arange(1, 4) * batches.total).tolist())
    for end, targets in zip(edges[1:].tolist(), whole, strict=True):
        assert targets[-1] == VOCABULARY.eos or end in cut
    assert (row["document"] >= 0).all()


def test_orders_differ_between_epochs(store: Store) -> None:
    batches = StreamBatches(store, context=targets_of(store), batch_size=1, seed=0)
    assert len({batches.batch(epoch).ids.tobytes() for epoch in range(5)}) == 5


def targets_of(store: Store) -> int:
    return int((store.lengths - 1).sum())


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nothing to learn from"):
        StreamBatches(write_store(tmp_path / "empty", [], VOCABULARY), context=8, batch_size=1, seed=0)
    read = Segment("a", np.arange(3), loss=0, both_ways=True)
    store = write_store(tmp_path / "both", [Document((read, Segment("a", np.arange(4))))], VOCABULARY)
    with pytest.raises(ConfigError, match="both_ways"):
        StreamBatches(store, context=8, batch_size=1, seed=0)
    with pytest.raises(ConfigError, match="both_ways"):
        next(segments(store, 8))


# --- the walk over whole documents ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(LENGTHS, st.integers(1, 40), st.integers(1, 5))
def test_segments_take_every_target_once_and_rows_go_on(lengths: list[int], context: int, batch_size: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = a_store(folder, lengths)
        seen: Counter[tuple[int, int, float]] = Counter()
        done: Counter[int] = Counter()
        before: Batch | None = None
        for batch in segments(store, context, batch_size):
            assert batch.ids.shape[0] <= batch_size and batch.ids.shape[1] <= context
            seen += pairs(batch)
            for row, (ids, document) in enumerate(zip(batch.ids, batch.document, strict=True)):
                number, count = int(document[0]), int((document >= 0).sum())
                assert set(document[:count].tolist()) == {number} and count
                whole = compose(store[number], store.vocabulary).ids
                assert (ids[:count] == whole[done[number] :][:count]).all()
                if done[number]:  # what `memory_for` relies on
                    assert before is not None and len(before.ids) >= len(batch.ids)
                    assert before.document[row, 0] == number
                done[number] += count
            before = batch
        assert seen == wanted(store)


def test_a_share_of_the_segments_is_whole_documents(tmp_path: Path) -> None:
    store = a_store(tmp_path / "many", [60] * 20)
    documents = {int(d) for batch in segments(store, 8, 4, 0.25) for d in batch.document[:, 0]}
    assert len(documents) == 5 and min(documents) == 0 and max(documents) == 19
    held = sum(int((batch.document >= 0).sum()) for batch in segments(store, 8, 4, 0.25))
    assert held == 5 * (store.lengths[0] - 1)
    one = a_store(tmp_path / "one", [1000])
    held = sum(int((batch.document >= 0).sum()) for batch in segments(one, 8, 4, 0.1))
    assert held == round(0.1 * targets_of(one))


# --- training ---------------------------------------------------------------------------------------------------------

SMALL_VOCABULARY = Vocabulary.of([]).append("notes", 20)
MODEL = DecoderConfig(
    vocab_size=SMALL_VOCABULARY.size, d_model=16, num_layers=2, num_heads=2, max_seq_len=8, memory=12,
    position=TransformerXL(), dropout=0.1,
)  # fmt: skip
CERTAIN = replace(MODEL, dropout=0.0)
TRAINING = TrainingConfig(steps=10, matrix_lr=0.05, precision="float32")


@pytest.fixture()
def notes(tmp_path: Path) -> Store:
    rng = np.random.default_rng(0)
    documents = [Document((Segment("notes", rng.integers(0, 20, n)),)) for n in (30, 90, 2, 55)]
    return write_store(tmp_path / "notes", documents, SMALL_VOCABULARY)


def lit(config: DecoderConfig = MODEL) -> LitDecoder:
    torch.manual_seed(5)
    return LitDecoder(Decoder(config), TRAINING)


def fit(module: LitDecoder, store: Store, steps: int, validate: bool = False, resume: Path | None = None) -> pl.Trainer:
    trainer = pl.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, enable_checkpointing=False, callbacks=[RandomState()],
        plugins=[DurableCheckpointIO()], val_check_interval=3 if validate else None, check_val_every_n_epoch=None,
        num_sanity_val_steps=0, limit_val_batches=1.0 if validate else 0,
    )  # fmt: skip
    batches = StreamBatches(store, context=8, batch_size=2, seed=0)
    torch.manual_seed(7)  # of dropout
    validation = list(segments(store, 8, 2)) if validate else []
    trainer.fit(module, SequenceDataModule(batches, validation), ckpt_path=resume, weights_only=True)
    return trainer


def by_hand(store: Store, remember: bool) -> Decoder:
    decoder = lit(CERTAIN).decoder.train()
    optimizer = MuonAdamW(parameter_groups(decoder, TRAINING), product_dtype=torch.float32)
    schedule, batches = make_schedule(TRAINING), StreamBatches(store, context=8, batch_size=2, seed=0)
    memory = decoder.new_memory(2)
    for step in range(TRAINING.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * schedule(step)
        batch = as_tensors(batches.batch(step))
        out = decoder(batch["ids"], mask=Mask(batch["document"]), state=memory)
        memory = out.state if remember else memory
        counts = batch["weight"] == 1
        F.cross_entropy(decoder.logits(out.hidden[counts]), batch["targets"][counts]).backward()
        optimizer.step()
        optimizer.zero_grad()
    return decoder


def equal(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def close(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    return all(torch.allclose(p, q, atol=1e-5) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_training_carries_the_memory_as_a_loop_by_hand_does(notes: Store) -> None:
    module = lit(CERTAIN)
    fit(module, notes, TRAINING.steps)
    assert close(module.decoder, by_hand(notes, remember=True))
    assert not close(module.decoder, by_hand(notes, remember=False))


def test_validation_has_a_memory_of_its_own(notes: Store) -> None:
    quiet, watched = lit(CERTAIN), lit(CERTAIN)
    fit(quiet, notes, TRAINING.steps)
    found: list[float] = []
    watched.log = lambda name, value, **_: found.append(value)  # type: ignore[method-assign]
    fit(watched, notes, TRAINING.steps, validate=True)
    assert len(found) == 3 and equal(quiet.decoder, watched.decoder)
    # and what it finds is the same from whatever training has read
    again = lit(CERTAIN)
    again.decoder.load_state_dict(watched.decoder.state_dict())
    values = []
    for memory in (None, watched.memory):
        again.memory, again.log = memory, lambda name, value, **_: values.append(value)  # type: ignore[method-assign]
        again.eval().on_validation_epoch_start()
        with torch.inference_mode():
            for number, batch in enumerate(segments(notes, 8, 2)):
                again.validation_step(as_tensors(batch), number)
        again.on_validation_epoch_end()
    assert values[0] == values[1]


def test_a_resumed_training_is_exact(notes: Store, tmp_path: Path) -> None:
    whole, cut, resumed = lit(), lit(), lit()
    fit(whole, notes, TRAINING.steps)
    fit(cut, notes, 4).save_checkpoint(tmp_path / "last.ckpt")
    held = torch.load(tmp_path / "last.ckpt", weights_only=True)["memory"]
    assert held["hidden"][0].untyped_storage().nbytes() == 2 * MODEL.memory * MODEL.d_model * 4, "more than the memory"
    fit(resumed, notes, TRAINING.steps, resume=tmp_path / "last.ckpt")
    assert equal(whole.decoder, resumed.decoder)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    del checkpoint["memory"]
    torch.save(checkpoint, tmp_path / "forgetful.ckpt")
    forgetful = lit()
    fit(forgetful, notes, TRAINING.steps, resume=tmp_path / "forgetful.ckpt")
    assert not close(whole.decoder, forgetful.decoder)


def test_a_segment_without_targets_is_no_failure(tmp_path: Path) -> None:
    documents = [Document((Segment("notes", np.arange(20).repeat(9), loss=0), Segment("notes", np.arange(5))))]
    store = write_store(tmp_path / "source", documents, SMALL_VOCABULARY)
    module = lit()
    batches = StreamBatches(store, context=8, batch_size=1, seed=0)
    assert sum(not batches.batch(i).weight.any() for i in range(6)) >= 3
    for i in range(6):
        loss = module.training_step(as_tensors(batches.batch(i)), i)
        assert loss is not None and torch.isfinite(loss)
    assert module.bad_steps == 0 and module.memory is not None


def test_a_memory_that_is_not_finite_is_dropped(notes: Store) -> None:
    module = lit()
    batch = as_tensors(StreamBatches(notes, context=8, batch_size=2, seed=0).batch(0))
    module.training_step(batch, 0)
    with torch.no_grad():
        kept = module.decoder.embedding.weight.clone()
        module.decoder.embedding.weight.fill_(float("nan"))
        assert module.training_step(batch, 1) is None and module.memory is None
        module.decoder.embedding.weight.copy_(kept)
    assert torch.isfinite(module.training_step(batch, 2))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "counting.py"
    path.write_text(RECIPE)
    return path


def test_a_stopped_run_with_a_memory_goes_on_exactly(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 8, "memory": 12, "dropout": 0.1}
    training = {"steps": 30, "batch_size": 2, "evaluations": 3, "samples": 1, "threads": 1, "precision": "float32"}
    whole = seqmodal.train(recipe, out=tmp_path / "whole", model=model, training=training)
    before: Callable[..., None] = LitDecoder.on_train_batch_start

    def stopping(self: LitDecoder, batch: object, index: int) -> None:
        if self.global_step == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        before(self, batch, index)

    with monkeypatch.context() as patch:
        patch.setattr(LitDecoder, "on_train_batch_start", stopping)
        with pytest.raises(SystemExit):
            seqmodal.train(recipe, out=tmp_path / "cut", model=model, training=training)
    run = seqmodal.train(tmp_path / "cut", resume=True)
    expected, found = weights(whole.folder), weights(run.folder)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    losses = [
        [row["valid_loss"] for row in read_metrics(r.folder / "metrics.csv") if row["step"] in (10, 20, 30)]
        for r in (whole, run)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_generation_goes_on_past_memory_and_segment() -> None:
    torch.manual_seed(1)
    decoder = Decoder(CERTAIN).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    prompts = [np.array([3, 5, 7]), np.arange(4, 24)]
    found = generate(decoder, prompts, sampler=Sampler(temperature=0.0), max_new_tokens=200)
    reach = MODEL.memory + MODEL.max_seq_len
    whole = Decoder(replace(CERTAIN, memory=0, window=reach, max_seq_len=300)).double().eval()
    whole.load_state_dict(decoder.state_dict())
    for prompt, one in zip(prompts, found, strict=True):
        ids = torch.from_numpy(np.concatenate([prompt, one.ids]))
        best = whole.logits(whole(ids[None]).hidden[0]).argmax(-1)
        assert best[len(prompt) - 1 : -1].tolist() == ids[len(prompt) :].tolist()
