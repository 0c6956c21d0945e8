"""Likelihood beside plain arithmetic, and beyond the context beside reading everything at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmodal.config import (
    Alibi,
    Bucketed,
    DecoderConfig,
    Learned,
    NoPosition,
    Relative,
    Rotary,
    Sinusoidal,
    TransformerXL,
)
from seqmodal.data.loader import Batch, windows
from seqmodal.data.store import Store, write_store
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.evaluation.likelihood import likelihood, reread_likelihood, streaming_likelihood
from seqmodal.generation.reader import Reader
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers.vocabulary import Vocabulary

VOCABULARY = Vocabulary.of([]).append("notes", 30)


def tiny(**shape: int) -> Decoder:
    config = DecoderConfig(vocab_size=VOCABULARY.size, d_model=32, num_layers=2, num_heads=2, **shape)
    torch.manual_seed(3)
    decoder = Decoder(config).eval()
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder


def documents() -> list[Document]:
    rng = np.random.default_rng(0)
    return [Document((Segment("notes", rng.integers(0, 30, n).astype(np.int32)),), str(n)) for n in (5, 70, 33, 12)]


@torch.inference_mode()
def plain(decoder: Decoder, ids: np.ndarray, context: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Nats of ids[1:] and whether each was the likeliest, by segments of `context` that do not overlap."""
    nll, best = [], []
    context = context or len(ids)
    for at in range(0, len(ids) - 1, context):
        part = torch.from_numpy(ids[at : at + context + 1].astype(np.int64))
        logits = decoder.logits(decoder(part[None, :-1]).hidden[0])
        nll.append(-logits.log_softmax(-1)[torch.arange(len(part) - 1), part[1:]].double().numpy())
        best.append((logits.argmax(-1) == part[1:]).numpy())
    return np.concatenate(nll), np.concatenate(best)


def test_whole_documents_in_segments(tmp_path):
    decoder = tiny(max_seq_len=32, window=16)
    store = write_store(tmp_path / "store", documents(), VOCABULARY)
    nats, correct, count = 0.0, 0, 0
    for document in documents():
        composed = compose(document, VOCABULARY)
        nll, best = plain(decoder, composed.ids, 32)
        counts = composed.weight[:-1] > 0
        nats, correct, count = nats + nll[counts].sum(), correct + best[counts].sum(), count + counts.sum()
    seen: list[tuple[int, int]] = []
    decoder.train()
    found = likelihood(decoder, store, 32, progress=lambda done, total: seen.append((done, total)))
    assert decoder.training
    assert found.count == count == sum(len(d.segments[0].ids) + 1 for d in documents())  # content and the end
    assert found.nats == pytest.approx(nats, rel=1e-5)
    assert found.correct == correct
    assert seen[-1][0] == seen[-1][1]
    with pytest.raises(ConfigError, match="context"):
        likelihood(decoder, store)


def test_documents_that_share_a_row_do_not_see_each_other():
    decoder = tiny(max_seq_len=32)
    first, second = (compose(d, VOCABULARY) for d in documents()[::3])
    row = [np.concatenate([c.ids[:-1] for c in (first, second)]), np.concatenate([c.ids[1:] for c in (first, second)])]
    weight = np.concatenate([c.weight[:-1] for c in (first, second)])
    number = np.repeat([0, 1], [len(first.ids) - 1, len(second.ids) - 1])
    ids, targets = (part[None].astype(np.int64) for part in row)
    batch = Batch(ids, targets, weight[None], number[None].astype(np.int32))
    expected = sum(plain(decoder, c.ids)[0][c.weight[:-1] > 0].sum() for c in (first, second))
    assert likelihood(decoder, [batch]).nats == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("chunk", [7, 2048])
def test_streaming_far_beyond_the_context_is_reading_all_at_once(chunk):
    decoder = tiny(max_seq_len=32, window=16)
    ids = np.random.default_rng(1).integers(4, 30, 400)
    found = streaming_likelihood(decoder, ids, chunk)
    assert len(found) == 399
    np.testing.assert_allclose(found, plain(decoder, ids)[0], atol=1e-4)


def test_rereading_half_a_context():
    decoder = tiny(max_seq_len=16)
    ids = np.random.default_rng(1).integers(4, 30, 45)
    found = reread_likelihood(decoder, ids, 16)
    expected = [plain(decoder, ids[:17])[0]]
    for start in range(8, 44, 8):
        expected.append(plain(decoder, ids[start : start + 17])[0][8:])
    np.testing.assert_allclose(found, np.concatenate(expected)[:44], atol=1e-4)
    assert len(found) == 44
    np.testing.assert_allclose(reread_likelihood(decoder, ids[:10], 16), plain(decoder, ids[:10])[0], atol=1e-5)


# --- decoders with a memory, and others -------------------------------------------------------------------------------


class Exact(Decoder):
    """Logits in float64, where `Decoder` gives float32."""

    def logits(self, hidden: torch.Tensor, rows: slice | None = None) -> torch.Tensor:
        return hidden @ self.head.weight[slice(None) if rows is None else rows].T


SHAPE = DecoderConfig(vocab_size=VOCABULARY.size, d_model=16, num_layers=2, num_heads=2, max_seq_len=12)
RELATIVE = [NoPosition(), Rotary(), Alibi(), Relative(max_distance=20), Bucketed(), TransformerXL()]


def exact(config: DecoderConfig) -> Decoder:
    torch.manual_seed(3)
    decoder = Exact(config).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder


@pytest.fixture()
def store(tmp_path: Path) -> Store:
    return write_store(tmp_path / "store", documents(), VOCABULARY)


@pytest.mark.parametrize("position", RELATIVE, ids=lambda p: p.kind)
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_a_memory_that_holds_all_history_is_reading_all_at_once(store: Store, position, batch_size: int) -> None:
    decoder = exact(replace(SHAPE, memory=80, position=position))
    nats, correct = 0.0, 0
    for document in documents():
        composed = compose(document, VOCABULARY)
        nll, best = plain(decoder, composed.ids)
        counts = composed.weight[:-1] > 0
        nats, correct = nats + nll[counts].sum(), correct + int(best[counts].sum())
    found = likelihood(decoder, store, 12, batch_size=batch_size)
    assert found.nats == pytest.approx(nats, abs=1e-10 * found.count) and found.correct == correct
    forgetful = exact(replace(SHAPE, memory=10, position=position))
    assert abs(likelihood(forgetful, store, 12, batch_size=batch_size).nats - nats) > 1e-3


def test_a_short_memory_is_carried_through_each_document_alone(store: Store) -> None:
    decoder, nats, count = exact(replace(SHAPE, memory=5, position=TransformerXL())), 0.0, 0
    for document in documents():
        composed, memory = compose(document, VOCABULARY), decoder.new_memory(1)
        ids = torch.from_numpy(composed.ids.astype(np.int64))
        for at in range(0, len(ids) - 1, 12):
            part = ids[at : at + 13]
            with torch.inference_mode():
                out = decoder(part[None, :-1], state=memory)
                nll = -decoder.logits(out.hidden[0]).log_softmax(-1)[torch.arange(len(part) - 1), part[1:]].numpy()
            memory, counts = out.state, composed.weight[at : at + len(part) - 1] > 0
            nats, count = nats + nll[counts].sum(), count + counts.sum()
    for batch_size in (1, 3, 4):
        found = likelihood(decoder, store, 12, batch_size=batch_size)
        assert found.nats == pytest.approx(nats, abs=1e-10 * count) and found.count == count
    seen: list[tuple[int, int]] = []
    likelihood(decoder, store, 12, batch_size=3, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == int((store.lengths - 1).sum())


def test_batches_are_read_without_a_memory(store: Store) -> None:
    decoder = exact(replace(SHAPE, memory=80, position=TransformerXL()))
    expected = 0.0
    for document in documents():
        composed = compose(document, VOCABULARY)
        expected += plain(decoder, composed.ids, 12)[0][composed.weight[:-1] > 0].sum()
    found = likelihood(decoder, windows(store, 12))
    assert found.nats == pytest.approx(expected, abs=1e-10 * found.count)


@pytest.mark.parametrize("chunk", [7, 150, 2048])
@pytest.mark.parametrize("position", RELATIVE, ids=lambda p: p.kind)
def test_streaming_with_a_memory_reaches_over_memory_and_segment(position, chunk: int) -> None:
    decoder = exact(replace(SHAPE, memory=20, position=position))
    windowed = exact(replace(SHAPE, window=32, max_seq_len=32, position=position))
    ids = np.random.default_rng(1).integers(4, 30, 300)
    np.testing.assert_allclose(streaming_likelihood(decoder, ids, chunk), plain(windowed, ids)[0], atol=1e-10)


@pytest.mark.parametrize("context", [1, 2, 11, 12])
@pytest.mark.parametrize("position", [Learned(), Sinusoidal(), Rotary()], ids=lambda p: p.kind)
def test_streaming_without_a_window_reads_again_as_generation_does(position, context: int) -> None:
    decoder = exact(replace(SHAPE, max_seq_len=context, position=position))
    ids = np.random.default_rng(1).integers(4, 30, 60).tolist()
    reader, expected = Reader(decoder, [np.zeros(1, np.int64)], [None]), []
    with torch.inference_mode():
        hidden = reader.last([ids[:1]])
        for at in range(1, len(ids)):
            expected.append(-float(decoder.logits(hidden)[0].log_softmax(-1)[ids[at]]))
            hidden = reader.next(torch.tensor(ids[at : at + 1]), [ids[: at + 1]])
    np.testing.assert_allclose(streaming_likelihood(decoder, np.array(ids)), expected, atol=1e-10)


@pytest.mark.parametrize("memory", [0, 20])
def test_rereading_takes_every_kind_of_decoder(memory: int) -> None:
    decoder = exact(replace(SHAPE, memory=memory, position=TransformerXL()))
    ids = np.random.default_rng(1).integers(4, 30, 45)
    expected = [plain(decoder, ids[:17])[0]] + [plain(decoder, ids[at : at + 17])[0][8:] for at in range(8, 44, 8)]
    np.testing.assert_allclose(reread_likelihood(decoder, ids, 16), np.concatenate(expected)[:44], atol=1e-10)
    learned = exact(replace(SHAPE, position=Learned()))
    assert len(reread_likelihood(learned, ids, 12)) == 44
    with pytest.raises(ConfigError, match="max_seq_len 12"):
        reread_likelihood(learned, ids, 13)
    with pytest.raises(ConfigError, match="second half"):
        reread_likelihood(learned, ids, 1)
