"""Likelihood beside plain arithmetic, and beyond the context beside reading everything at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqmodal.config import DecoderConfig
from seqmodal.data.loader import Batch
from seqmodal.data.store import write_store
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.evaluation.likelihood import likelihood, reread_likelihood, streaming_likelihood
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
