"""From logits to probabilities: what holds for any logits, settings and allowed ids."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import ConfigError, SeqmodalError
from seqmodal.generation.probability import Sampler, draw, probabilities

SAMPLERS = st.builds(
    Sampler,
    temperature=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 3, 100]),
    top_p=st.sampled_from([None, 1e-9, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.2, 1.0]),
)
LOGITS = st.lists(st.sampled_from([-1e30, -50.0, -1.0, 0.0, 0.5, 3.0, 80.0, 1e30]), min_size=6, max_size=6)
ALLOWED = st.lists(st.booleans(), min_size=6, max_size=6).filter(any)


@settings(max_examples=300, deadline=None)
@given(LOGITS, SAMPLERS, ALLOWED)
def test_a_distribution_over_what_is_allowed(logits, sampler, allowed):
    p = probabilities(torch.tensor(logits), sampler, torch.tensor(allowed))
    assert p.dtype == torch.float32
    assert bool((p >= 0).all())
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert not p[~torch.tensor(allowed)].any()
    if sampler.top_k is not None:
        assert int((p > 0).sum()) <= sampler.top_k
    best = torch.tensor(logits).masked_fill(~torch.tensor(allowed), -torch.inf).argmax()
    assert p[best] == p.max()


def test_the_defaults_are_the_softmax():
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(probabilities(logits, Sampler()), logits.softmax(-1))


def test_temperature_0_is_the_one_hot_of_the_allowed_maximum():
    logits = torch.tensor([[1.0, 5.0, 4.0, 4.0]])
    p = probabilities(logits, Sampler(temperature=0), torch.tensor([[True, False, True, True]]))
    assert p.tolist() == [[0, 0, 1, 0]]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20), st.floats(0.01, 0.99))
def test_top_p_keeps_the_smallest_set(logits, top_p):
    whole = torch.tensor(logits).softmax(-1)
    kept = probabilities(torch.tensor(logits), Sampler(top_p=top_p)) > 0
    mass = float(whole[kept].sum())
    assert mass >= top_p - 1e-5
    assert mass - float(whole[kept].min()) < top_p + 1e-5
    assert not kept.all() or mass == pytest.approx(1, abs=1e-5)
    assert float(whole[kept].min()) >= float(whole[~kept].max()) if not kept.all() else True


def test_order_of_the_steps():
    logits = torch.tensor([0.4, 0.3, 0.2, 0.1]).log()
    assert (probabilities(logits, Sampler(top_k=2, top_p=0.55)) > 0).tolist() == [True, False, False, False]  # 4/7
    assert (probabilities(logits, Sampler(top_p=0.65, min_p=0.8)) > 0).tolist() == [True, False, False, False]
    assert (probabilities(logits, Sampler(min_p=0.45)) > 0).tolist() == [True, True, True, False]
    allowed = torch.tensor([False, True, True, True])
    assert (probabilities(logits, Sampler(top_k=1), allowed) > 0).tolist() == [False, True, False, False]
    flat = probabilities(logits, Sampler(temperature=2))
    torch.testing.assert_close(flat, logits.exp().sqrt() / logits.exp().sqrt().sum())


def test_draws_follow_the_distribution_and_the_seed():
    p = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])

    def sample(seed: int) -> torch.Tensor:
        return draw(p.expand(20_000, 6), torch.rand(20_000, generator=torch.Generator().manual_seed(seed)))

    counts = np.bincount(sample(1).numpy(), minlength=6)
    expected = 20_000 * p.numpy()
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    live = expected > 0
    assert float(((counts - expected)[live] ** 2 / expected[live]).sum()) < 13.8  # chi-square, 2 degrees, 0.1 %
    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))


def test_the_ends_of_the_unit_interval_stay_inside():
    p = torch.tensor([[0.0, 0.1, 0.9, 0.0]]).expand(2, 4)
    assert draw(p, torch.tensor([0.0, 1 - 2**-24])).tolist() == [1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1}, {"temperature": float("nan")}, {"temperature": float("inf")}, {"top_k": 0},
        {"top_p": 0.0}, {"top_p": 1.1}, {"top_p": float("nan")}, {"min_p": -0.1}, {"min_p": 1.5},
    ],
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Sampler(**wrong)


def test_no_way_on_is_an_error():
    with pytest.raises(SeqmodalError, match="nothing is allowed"):
        probabilities(torch.zeros(2, 3), Sampler(), torch.tensor([[True, True, True], [False, False, False]]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error(bad, temperature):
    with pytest.raises(SeqmodalError, match="finite"):
        probabilities(torch.tensor([0.0, bad, 1.0]), Sampler(temperature))
