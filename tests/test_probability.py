"""From logits to probabilities: what holds for any logits, settings and allowed ids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import ConfigError, SeqmodalError
from seqmodal.generation.probability import Sampler, choose, draw, probabilities

SAMPLERS = st.builds(
    Sampler,
    temperature=st.sampled_from([0.0, 1e-30, 0.3, 1.0, 2.5]),
    top_k=st.sampled_from([None, 1, 3, 100]),
    top_p=st.sampled_from([None, 1e-9, 0.5, 0.9, 1.0]),
    min_p=st.sampled_from([None, 0.0, 0.2, 1.0]),
    typical=st.sampled_from([None, 1e-9, 0.5, 1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3]),
)
LOGITS = st.lists(st.sampled_from([-1e30, -50.0, -1.0, 0.0, 0.5, 3.0, 80.0, 1e30]), min_size=6, max_size=6)
ALLOWED = st.lists(st.booleans(), min_size=6, max_size=6).filter(any)


@settings(max_examples=300, deadline=None)
@given(LOGITS, SAMPLERS, ALLOWED, st.lists(st.booleans(), min_size=6, max_size=6))
def test_a_distribution_over_what_is_allowed(logits, sampler, allowed, history):
    p = probabilities(torch.tensor(logits), sampler, torch.tensor(allowed), torch.tensor(history))
    assert p.dtype == torch.float32
    assert bool((p >= 0).all())
    assert float(p.sum()) == pytest.approx(1, abs=1e-5)
    assert not p[~torch.tensor(allowed)].any()
    if sampler.top_k is not None:
        assert int((p > 0).sum()) <= sampler.top_k
    if sampler.repetition_penalty == 1 and (sampler.typical is None or sampler.temperature == 0):
        best = torch.tensor(logits).masked_fill(~torch.tensor(allowed), -torch.inf).argmax()
        assert p[best] == p.max()
    if sampler.temperature == 0:
        assert sorted(p.tolist()) == [0, 0, 0, 0, 0, 1]


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


def slow(logits: list[float], sampler: Sampler, allowed: list[bool], history: list[bool]) -> list[float]:
    """The definitions, id by id."""
    at = [i for i in range(len(logits)) if allowed[i]]
    r = sampler.repetition_penalty
    x = {i: logits[i] * (1 if not history[i] else 1 / r if logits[i] > 0 else r) for i in at}
    p = {i: math.exp((x[i] - max(x.values())) / sampler.temperature) for i in at}

    def kept(order: list[int], share: float) -> set[int]:
        whole, held, keep = sum(p.values()), 0.0, set()
        for i in order:
            if held >= share * whole:
                break
            keep.add(i)
            held += p[i]
        return keep

    def by_rank() -> list[int]:
        return sorted(p, key=lambda i: (-p[i], i))

    if sampler.top_k is not None:
        p = {i: p[i] for i in by_rank()[: sampler.top_k]}
    if sampler.top_p is not None:
        p = {i: p[i] for i in kept(by_rank(), sampler.top_p)}
    if sampler.min_p is not None:
        p = {i: q for i, q in p.items() if q >= sampler.min_p * max(p.values())}
    p = {i: q / sum(p.values()) for i, q in p.items()}
    if sampler.typical is not None:
        entropy = -sum(q * math.log(q) for q in p.values())
        p = {i: p[i] for i in kept(sorted(p, key=lambda i: abs(-math.log(p[i]) - entropy)), sampler.typical)}
    return [p.get(i, 0.0) / sum(p.values()) for i in range(len(logits))]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_equal_to_the_definitions(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000)))
    logits = (3 * rng.standard_normal(12)).tolist()
    allowed, history = (rng.random(12) < 0.8).tolist(), (rng.random(12) < 0.4).tolist()
    allowed[3] = True
    sampler = Sampler(
        data.draw(st.sampled_from([0.5, 1.0, 1.7])), data.draw(st.sampled_from([None, 4, 50])),
        data.draw(st.sampled_from([None, 0.6, 0.93])), data.draw(st.sampled_from([None, 0.07])),
        data.draw(st.sampled_from([None, 0.4, 0.85])), data.draw(st.sampled_from([1.0, 1.4, 0.8])),
    )
    p = probabilities(torch.tensor(logits), sampler, torch.tensor(allowed), torch.tensor(history))
    np.testing.assert_allclose(p.numpy(), slow(logits, sampler, allowed, history), atol=2e-5)


@pytest.mark.parametrize("flatness", [0.01, 3.0], ids=["flat", "peaked"])
def test_many_ids_are_cut_as_few_are(flatness):
    """Beyond `CANDIDATES` ids only the likeliest are looked at, unless they hold too little."""
    logits = flatness * torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    p = probabilities(logits, Sampler(top_p=0.9))
    ranked, order = logits.double().softmax(-1).sort(descending=True, stable=True)
    for row in range(3):
        count = int((ranked[row].cumsum(0) < 0.9).sum()) + 1
        kept = set(p[row].nonzero()[:, 0].tolist())
        assert abs(len(kept) - count) <= 1
        assert kept == set(order[row, : len(kept)].tolist())


def test_ties_go_to_the_smaller_id():
    for sampler in (Sampler(top_k=2), Sampler(top_p=0.4), Sampler(typical=0.4)):
        assert probabilities(torch.zeros(2, 5), sampler).tolist() == [[0.5, 0.5, 0, 0, 0]] * 2
    assert probabilities(torch.zeros(5), Sampler(0)).tolist() == [1, 0, 0, 0, 0]


def test_typical_leaves_out_the_likeliest_where_that_says_too_little():
    p = torch.tensor([0.5, *[0.5 / 64] * 64])
    kept = probabilities(p.log(), Sampler(typical=0.3)) > 0  # entropy 2.8 nats; surprises of 0.7 and 4.9
    assert not kept[0]
    assert int(kept.sum()) == 39


def test_a_repetition_is_penalised_at_every_temperature():
    logits, history = torch.tensor([2.0, 1.8, -1.0]), torch.tensor([True, False, True])
    assert probabilities(logits, Sampler(0, repetition_penalty=1.2), history=history).tolist() == [0, 1, 0]
    p = probabilities(logits, Sampler(repetition_penalty=2.0), history=history)
    torch.testing.assert_close(p, torch.tensor([1.0, 1.8, -2.0]).softmax(-1))
    with pytest.raises(ConfigError, match="history"):
        probabilities(logits, Sampler(repetition_penalty=1.2))


def test_choosing_is_drawing_from_the_probabilities():
    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    for sampler in (Sampler(0), Sampler(0.7, top_p=0.8)):
        seeds = [torch.Generator().manual_seed(row) for row in range(4)]
        numbers = torch.stack([torch.rand((), generator=torch.Generator().manual_seed(row)) for row in range(4)])
        assert choose(logits, sampler, seeds).tolist() == draw(probabilities(logits, sampler), numbers).tolist()
    unused = torch.Generator().manual_seed(5)
    choose(logits[:1], Sampler(0), [unused])
    assert float(torch.rand((), generator=unused)) == float(torch.rand((), generator=torch.Generator().manual_seed(5)))


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
        {"typical": 0.0}, {"typical": 1.2}, {"repetition_penalty": 0.0}, {"repetition_penalty": float("nan")},
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
