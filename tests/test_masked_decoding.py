"""Masked parallel decoding: how many places a round fills, which, and with what."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.loop import row_generators
from seqmodal.generation.masked import fill_masked, still_masked
from seqmodal.generation.probability import Sampler
from seqmodal.nn.mask import Mask

MASK, SIZE = 9, 10
EMPTY = np.full(16, MASK)


class Scripted(nn.Module):
    """Stands in for a decoder: logits that `say` makes of the ids it is shown; keeps those."""

    def __init__(self, say) -> None:
        super().__init__()
        self.config, self.embedding = SimpleNamespace(vocab_size=SIZE), nn.Embedding(1, 1)
        self.say, self.shown, self.masks = say, [], []

    def forward(self, ids, *, mask, extra=None):
        self.shown.append(ids.clone())
        self.masks.append(mask)
        return SimpleNamespace(hidden=self.say(ids))

    def logits(self, hidden):
        return hidden


def certain(ids: torch.Tensor) -> torch.Tensor:
    """Place t holds id t modulo 5, without a doubt."""
    logits = torch.full((*ids.shape, SIZE), -torch.inf)
    at = torch.arange(ids.shape[1]).expand_as(ids) % 5
    return logits.scatter(-1, at.unsqueeze(-1), 0.0)


def random(ids: torch.Tensor) -> torch.Tensor:
    return torch.randn(*ids.shape, SIZE, generator=torch.Generator().manual_seed(int(ids.sum())))


def test_the_schedule():
    for total in range(1, 40):
        for rounds in range(1, 50):
            remain = still_masked(total, rounds)
            assert remain[-1] == 0
            assert len(remain) <= min(total, rounds)
            for t, (before, after) in enumerate(zip([total, *remain], remain, strict=False), 1):
                wanted = math.floor(total * math.cos(math.pi / 2 * t / rounds)) if t < rounds else 0
                assert after == min(before - 1, wanted)
        assert still_masked(total, total) == list(range(total))[::-1]
    assert still_masked(16, 4) == [14, 11, 6, 0]
    assert still_masked(0, 4) == []
    with pytest.raises(ConfigError, match="rounds"):
        still_masked(3, 0)


@pytest.mark.parametrize("rounds", [1, 4, 16])
def test_so_many_places_a_round_as_the_schedule_says(rounds):
    decoder = Scripted(random)
    calls = []
    made = fill_masked(decoder, [EMPTY, EMPTY], mask_id=MASK, rounds=rounds, after_round=lambda: calls.append(1))
    left = [int((ids[0] == MASK).sum()) for ids in decoder.shown]
    assert left == [16, *still_masked(16, rounds)[:-1]]
    assert len(calls) == rounds
    for ids, logprobs in made:
        assert MASK not in ids
        assert (logprobs < 0).all()
    for before, after in zip(decoder.shown, decoder.shown[1:], strict=False):
        assert torch.equal(after[before != MASK], before[before != MASK])  # what is filled stays


def test_what_is_given_stays_and_rows_equal_themselves_alone():
    decoder = tiny()
    rows = [EMPTY, np.array([1, MASK, 2, MASK, MASK]), np.array([3, 4]), np.array([MASK, 0, MASK])]
    made = fill_masked(decoder, rows, mask_id=MASK, rounds=3, generators=row_generators(2, 4))
    for row, (given, (ids, logprobs)) in enumerate(zip(rows, made, strict=True)):
        assert len(ids) == len(given)
        assert (ids[given != MASK] == given[given != MASK]).all()
        assert (logprobs[given != MASK] == 0).all()
        assert MASK not in ids
        alone = fill_masked(decoder, [given], mask_id=MASK, rounds=3, generators=row_generators(2, 1, row))[0]
        assert ids.tolist() == alone[0].tolist()
        np.testing.assert_allclose(logprobs, alone[1], atol=1e-5)
    assert np.array_equal(rows[1], [1, MASK, 2, MASK, MASK])


def test_a_certain_model_is_believed():
    ids, logprobs = fill_masked(Scripted(certain), [EMPTY], mask_id=MASK, rounds=4)[0]
    assert ids.tolist() == [t % 5 for t in range(16)]
    assert (logprobs == 0).all()


def test_the_surest_places_come_first():
    def say(ids: torch.Tensor) -> torch.Tensor:
        sharp = torch.tensor([0.5, 4.0, 1.0, 3.0, 2.0])
        logits = torch.zeros(*ids.shape, SIZE)
        logits[..., 1] = sharp
        return logits

    decoder = Scripted(say)
    fill_masked(decoder, [EMPTY[:5]], mask_id=MASK, rounds=5, sampler=Sampler(0), choice_temperature=0)
    order = [int(((a != b)[0]).nonzero()) for a, b in zip(decoder.shown, decoder.shown[1:], strict=False)]
    assert order == [1, 3, 4, 2]
    orders = set()
    for seed in range(8):
        decoder = Scripted(say)
        fill_masked(
            decoder, [EMPTY[:5]], mask_id=MASK, rounds=5, sampler=Sampler(0), choice_temperature=50.0,
            generators=row_generators(seed, 1),
        )
        orders.add(tuple(int(((a != b)[0]).nonzero()) for a, b in zip(decoder.shown, decoder.shown[1:], strict=False)))
    assert len(orders) > 4


def test_only_what_is_allowed():
    allowed = np.zeros(SIZE, bool)
    allowed[[2, 5, MASK]] = True  # the mask is no answer, whoever allows it
    ids, _ = fill_masked(Scripted(random), [EMPTY], mask_id=MASK, rounds=4, allowed=allowed)[0]
    assert set(ids.tolist()) == {2, 5}
    places = np.zeros((1, 16, SIZE), bool)
    places[0, np.arange(16), np.arange(16) % 7] = True
    ids, logprobs = fill_masked(Scripted(random), [EMPTY], mask_id=MASK, rounds=4, allowed=places)[0]
    assert ids.tolist() == [t % 7 for t in range(16)]
    assert (logprobs == 0).all()
    penalised = Sampler(0, repetition_penalty=1e6)
    ids, _ = fill_masked(
        Scripted(lambda ids: torch.arange(SIZE).float().expand(*ids.shape, SIZE)), [EMPTY[:8]], mask_id=MASK, rounds=8,
        sampler=penalised,
    )[0]
    assert sorted(ids.tolist()) == list(range(1, 9))


def test_the_model_sees_all_of_a_row_and_nothing_of_padding():
    decoder = Scripted(random)
    fill_masked(decoder, [EMPTY[:3], EMPTY[:5]], mask_id=MASK, rounds=1)
    assert decoder.masks[0].span.tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert decoder.masks[0].document.tolist() == [[0, 0, 0, -1, -1], [0, 0, 0, 0, 0]]


def test_one_round_draws_from_the_model():
    """At temperature 0 each place takes the maximum of one both-ways call."""
    decoder = tiny()
    row = np.array([1, MASK, 2, MASK, 3])
    ids, logprobs = fill_masked(decoder, [row], mask_id=MASK, rounds=1, sampler=Sampler(0))[0]
    with torch.no_grad():
        whole = torch.from_numpy(row).unsqueeze(0)
        logits = decoder.logits(decoder(whole, mask=Mask(span=torch.ones_like(whole))).hidden)[0]
    logits[:, MASK] = -torch.inf
    for place in (1, 3):
        assert ids[place] == int(logits[place].argmax())
        assert logprobs[place] == pytest.approx(float(logits[place].log_softmax(-1).max()), abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"choice_temperature": -1}, "choice_temperature"), ({"mask_id": 10}, "mask_id"), ({"rounds": 0}, "rounds"),
     ({"allowed": np.ones(3, bool)}, "allowed"), ({"generators": []}, "generators")],
)
def test_what_cannot_be_asked(wrong, says):
    with pytest.raises(ConfigError, match=says):
        fill_masked(Scripted(random), [EMPTY], **{"mask_id": MASK, **wrong})


def tiny() -> Decoder:
    config = DecoderConfig(vocab_size=SIZE, d_model=16, num_layers=2, num_heads=2, max_seq_len=32)
    torch.manual_seed(3)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.3)
    return decoder
