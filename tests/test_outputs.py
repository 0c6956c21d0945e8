"""Which ids compete, against a softmax written out, and losses told apart by modality."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits

from seqmodal.config import Causal, DecoderConfig, FillInTheMiddle, Masked, Objective, Prefix, SpanCorruption
from seqmodal.decoder import Decoder
from seqmodal.objective import with_marks
from seqmodal.outputs import Outputs
from seqmodal.tokenizers import Vocabulary

SEVERAL = Vocabulary.of([Digits("a", 6), Digits("b", 4)])


def decoder(vocabulary: Vocabulary) -> Decoder:
    torch.manual_seed(0)
    made = Decoder(DecoderConfig(vocab_size=vocabulary.size, d_model=16, num_layers=1, num_heads=2, max_seq_len=8))
    torch.nn.init.normal_(made.head.weight)
    return made.eval()


def slow(
    made: Decoder, vocabulary: Vocabulary, hidden: torch.Tensor, target: int, restricted: bool
) -> tuple[float, int]:  # fmt: skip
    """Nats of one target and the likeliest id, by a sum over what may compete with it."""
    competing = list(range(vocabulary.size))
    for block in vocabulary.content:
        if restricted and (target == block.end or block.content_slice.start <= target < block.content_slice.stop):
            competing = [block.end, *range(vocabulary.size)[block.content_slice]]
    logits = {id: float(made.logits(hidden[None])[0, id]) for id in competing}
    total = np.log(sum(np.exp(logit) for logit in logits.values()))
    return total - logits[target], max(competing, key=logits.__getitem__)


OBJECTIVES: list[tuple[Objective, bool]] = [
    (Causal(), True), (Prefix(), True), (Masked(), True), (SpanCorruption(), False), (FillInTheMiddle(), False),
]  # fmt: skip


@pytest.mark.parametrize(("objective", "restricted"), OBJECTIVES, ids=str)
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_as_a_sum_written_out(objective: Objective, restricted: bool, data: st.DataObject) -> None:
    vocabulary = with_marks(SEVERAL, objective)
    made, targets = decoder(vocabulary), data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=12))
    hidden = torch.randn(len(targets), 16, generator=torch.Generator().manual_seed(len(targets)))
    with torch.no_grad():
        ids = torch.tensor(targets, dtype=torch.int64)
        nats, best = Outputs(vocabulary, objective).nats_and_hits(made, hidden, ids)
        for at, target in enumerate(targets):
            expected, likeliest = slow(made, vocabulary, hidden[at], target, restricted)
            assert float(nats[at]) == pytest.approx(expected, abs=1e-4)
            assert bool(best[at]) == (likeliest == target)


@pytest.mark.parametrize("outputs", [Outputs(Vocabulary.of([Digits("a", 6)]), Causal()), Outputs.all()])
def test_of_one_modality_all_compete(outputs: Outputs) -> None:
    """So that what was published of one is what it was."""
    made = decoder(Vocabulary.of([Digits("a", 6)]))
    hidden, targets = torch.randn(20, 16), torch.randint(12, (20,))
    with torch.no_grad():
        nats = outputs.nats(made, hidden, targets)
        expected = torch.nn.functional.cross_entropy(made.logits(hidden), targets, reduction="none")
    np.testing.assert_array_equal(nats, expected)


def test_smoothing_is_shared_by_what_competes() -> None:
    made, outputs = decoder(SEVERAL), Outputs(SEVERAL, Causal())
    hidden, target = torch.randn(1, 16), SEVERAL.block("b").first_content
    found = outputs.nats(made, hidden, torch.tensor([target]), smoothing=0.3).detach()
    rows = range(SEVERAL.block("b").end, SEVERAL.size)  # the end, then the content
    each = [float(outputs.nats(made, hidden, torch.tensor([row])).detach()) for row in rows]
    assert float(found) == pytest.approx(0.7 * each[1] + 0.3 * np.mean(each), rel=1e-5)


def test_sums_of_each_modality() -> None:
    outputs, a, b = Outputs(SEVERAL, Causal()), SEVERAL.block("a"), SEVERAL.block("b")
    targets = torch.tensor([a.begin, a.first_content, a.end, b.first_content + 3, SEVERAL.eos, b.begin])
    values = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    assert outputs.names == ("a", "b") and outputs.sums(targets, values).tolist() == [6.0, 8.0]
    assert outputs.sums(targets[:0], values[:0]).tolist() == [0.0, 0.0]
