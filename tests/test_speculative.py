"""Speculation is plain decoding, only quicker: the same ids, or the same distribution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, get_args

import numpy as np
import pytest
import torch

from seqmodal.config import DecoderConfig
from seqmodal.config.decoder import Position, Universal
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError, Mismatch
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.draft import DraftModel, Lookup
from seqmodal.generation.loop import generate
from seqmodal.generation.path import Path
from seqmodal.generation.probability import Sampler, probabilities
from seqmodal.generation.rows import row_generators
from seqmodal.generation.speculative import speculate
from seqmodal.tokenizers.vocabulary import Vocabulary

SHAPES = {"windowed": {"max_seq_len": 32, "window": 16}, "whole": {"max_seq_len": 256}, "limited": {"max_seq_len": 16}}


def tiny(seed: int = 3, scale: float = 0.2, **shape: Any) -> Decoder:
    """A small decoder whose every matrix says something."""
    config = DecoderConfig(
        **{"vocab_size": 50, "d_model": 32, "num_layers": 2, "num_heads": 2, "max_seq_len": 64, **shape}
    )
    torch.manual_seed(seed)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=scale)
    return decoder


def nearly(decoder: Decoder, **shape: int) -> Decoder:
    """One that mostly agrees."""
    other = tiny(**shape)
    noise = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for to, of in zip(other.parameters(), decoder.parameters(), strict=True):
            to.copy_(of + 0.03 * torch.randn(of.shape, generator=noise, dtype=of.dtype))
    return other


def drafts_for(decoder: Decoder, **shape: int) -> list[DraftModel | Lookup]:
    return [DraftModel(nearly(decoder, **shape), 4), Lookup(6, longest=3, shortest=1)]


PROMPTS = [np.random.default_rng(n).integers(4, 50, n) for n in (3, 200, 1, 17)]
PROMPTS.append(np.tile([5, 6, 7, 8, 9], 5))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("which", [0, 1], ids=["model", "lookup"])
@pytest.mark.parametrize("sampler", [Sampler(0), Sampler(0, repetition_penalty=1.3)], ids=["greedy", "penalised"])
def test_greedy_is_identical(shape, which, sampler):
    decoder = tiny(**SHAPES[shape])
    draft = drafts_for(decoder, **SHAPES[shape])[which]
    free = [one.ids.tolist() for one in generate(decoder, PROMPTS, sampler=sampler, max_new_tokens=90)]
    late = next((id for id in reversed(free[0]) if id not in free[4][:23]), 49)
    ends = {"max_new_tokens": 90, "stop_ids": {late}, "stop_sequences": [free[4][21:23], free[1][50:54]]}
    plain = generate(decoder, PROMPTS, sampler=sampler, **ends)
    steps = []
    made, statistics = speculate(
        decoder, PROMPTS, draft=draft, sampler=sampler, after_step=lambda: steps.append(1), **ends
    )
    for one, other in zip(made, plain, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        assert one.stop == other.stop
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
    assert any(len(one.stop or ()) > 1 for one in made)
    assert statistics.calls == len(steps) <= max(len(one.ids) for one in plain)
    assert (statistics.accepted <= statistics.proposed).all()
    if which == 0 or not sampler.remembers:
        assert 0 < statistics.rate < 1


@pytest.mark.parametrize("position", get_args(Position), ids=lambda kind: kind.kind)
@pytest.mark.parametrize("shape", [{}, {"window": 8}, {"stack": Universal()}], ids=["whole", "windowed", "universal"])
def test_every_kind_of_decoder_can_be_taken_back(position, shape):
    decoder = tiny(position=position(), max_seq_len=32, **shape)
    plain = generate(decoder, PROMPTS[2:], sampler=Sampler(0), max_new_tokens=30)
    made, _ = speculate(decoder, PROMPTS[2:], draft=Lookup(6, shortest=1), sampler=Sampler(0), max_new_tokens=30)
    assert [one.ids.tolist() for one in made] == [one.ids.tolist() for one in plain]


@pytest.mark.parametrize("length", [1, 5, 40])
def test_every_length_of_a_draft_that_always_agrees(length):
    decoder = tiny(**SHAPES["windowed"])
    plain = generate(decoder, PROMPTS[:2], sampler=Sampler(0), max_new_tokens=60)
    made, statistics = speculate(
        decoder, PROMPTS[:2], draft=DraftModel(decoder, length), sampler=Sampler(0), max_new_tokens=60
    )
    assert [one.ids.tolist() for one in made] == [one.ids.tolist() for one in plain]
    assert statistics.rate == 1
    assert statistics.calls == -(-60 // (length + 1))


@pytest.mark.parametrize("which", [0, 1], ids=["model", "lookup"])
@pytest.mark.parametrize("most", [1, 2, 7])
def test_no_more_ids_than_asked_for(which, most):
    decoder = tiny()
    made, _ = speculate(decoder, PROMPTS, draft=drafts_for(decoder)[which], max_new_tokens=most)
    assert [len(one.ids) for one in made] == [most] * len(PROMPTS)
    nothing, statistics = speculate(decoder, PROMPTS, draft=drafts_for(decoder)[which], max_new_tokens=0)
    assert [len(one.ids) for one in nothing] == [0] * len(PROMPTS)
    assert statistics.calls == 0


@pytest.mark.parametrize("which", [0, 1], ids=["model", "lookup"])
def test_rows_equal_themselves_alone(which):
    decoder = tiny(**SHAPES["windowed"])
    how = {"sampler": Sampler(0.8, top_p=0.95), "max_new_tokens": 40, "stop_ids": {7, 11}}
    draft = drafts_for(decoder, **SHAPES["windowed"])[which]
    together, _ = speculate(decoder, PROMPTS, draft=draft, generators=row_generators(5, len(PROMPTS)), **how)
    for row, prompt in enumerate(PROMPTS):
        alone, _ = speculate(decoder, [prompt], draft=draft, generators=row_generators(5, 1, row), **how)
        assert together[row].ids.tolist() == alone[0].ids.tolist()


class Steps:
    """A grammar over four ids: never the same twice in a row; id 3 stands for id 2."""

    def __init__(self, last: int = -1) -> None:
        self.last = last

    def mask(self) -> np.ndarray:
        return np.array([*(min(id, 2) != self.last for id in range(4)), self.last >= 0])

    def clip(self, id: int) -> int:
        return min(id, 2)

    def advance(self, id: int) -> None:
        self.last = id

    def copy(self) -> Steps:
        return Steps(self.last)


VOCABULARY = Vocabulary.of([]).append("step", 4)
SIZE, END = VOCABULARY.size, VOCABULARY.block("step").end
ROWS, LENGTH = 3000, 3
SMALL = {"vocab_size": SIZE, "d_model": 16, "num_layers": 1, "max_seq_len": 12}
PROMPT = np.array([1, 6, 7, 8, 6, 7, 8, 6])


def exact(decoder: Decoder, sampler: Sampler, grammar: bool) -> dict[tuple[int, ...], float]:
    """The probability of every continuation, each read on its own."""
    found: dict[tuple[int, ...], float] = {}

    def go(new: tuple[int, ...], p: float, constraint: BlockConstraint | None) -> None:
        if len(new) == LENGTH or END in new:
            found[new] = found.get(new, 0.0) + p
            return
        ids = [*PROMPT.tolist(), *new]
        with torch.inference_mode():
            logits = decoder.logits(decoder(torch.tensor([ids])).hidden[0, -1])
        history = torch.zeros(SIZE, dtype=torch.bool)
        history[ids] = True
        allowed = None if constraint is None else torch.from_numpy(constraint.allowed().copy())
        for id, q in enumerate(probabilities(logits, sampler, allowed, history).tolist()):
            if q > 0:
                branch = None if constraint is None else constraint.copy()
                go((*new, id if branch is None else branch.advance(id)), p * q, branch)

    go((), 1.0, BlockConstraint(VOCABULARY, "step", Steps()) if grammar else None)
    return found


def surprise(made: Sequence[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """Chi-square as a number of standard deviations; cells that expect fewer than five are one."""
    counts, cells = Counter(made), []
    assert not counts.keys() - expected.keys()
    rare = [0.0, 0.0]
    for ids, p in expected.items():
        if p * len(made) >= 5:
            cells.append((counts[ids], p * len(made)))
        else:
            rare = [rare[0] + counts[ids], rare[1] + p * len(made)]
    if rare[1] >= 5:
        cells.append((int(rare[0]), rare[1]))
    assert len(cells) > 5
    free = len(cells) - 1
    square = sum((n - e) ** 2 / e for n, e in cells)
    return float(((square / free) ** (1 / 3) - (1 - 2 / (9 * free))) / (2 / (9 * free)) ** 0.5)  # Wilson and Hilferty


SAMPLERS = {
    "own": Sampler(), "cool": Sampler(0.6), "nucleus": Sampler(1.2, top_p=0.7), "cut": Sampler(top_k=4, min_p=0.1),
    "typical": Sampler(typical=0.9), "penalised": Sampler(repetition_penalty=1.6),
}


@pytest.mark.parametrize("which", ["model", "lookup"])
@pytest.mark.parametrize("name", [*SAMPLERS, "grammar"])
def test_the_distribution_is_that_of_plain_sampling(which, name):
    decoder, sampler = tiny(10, 0.5, **SMALL), SAMPLERS.get(name, Sampler(1.6, top_p=0.98))
    draft = DraftModel(tiny(4, 0.5, **SMALL), 2) if which == "model" else Lookup(2, longest=2, shortest=1)
    expected = exact(decoder, sampler, name == "grammar")
    assert sum(expected.values()) == pytest.approx(1, abs=1e-4)
    held = [BlockConstraint(VOCABULARY, "step", Steps()) for _ in range(ROWS)] if name == "grammar" else None
    made, statistics = speculate(
        decoder, [PROMPT] * ROWS, draft=draft, sampler=sampler, max_new_tokens=LENGTH, stop_ids={END},
        constraints=held, generators=row_generators(1, ROWS),
    )
    assert abs(surprise([tuple(one.ids.tolist()) for one in made], expected)) < 3.5
    assert 0 < statistics.rate < 1


def test_the_test_sees_a_wrong_distribution():
    decoder = tiny(10, 0.5, **SMALL)
    made = generate(
        decoder, [PROMPT] * ROWS, sampler=Sampler(1.2), max_new_tokens=LENGTH, stop_ids={END},
        generators=row_generators(1, ROWS),
    )
    ids = [tuple(one.ids.tolist()) for one in made]
    assert surprise(ids, exact(decoder, Sampler(), False)) > 3.5
    assert abs(surprise(ids, exact(decoder, Sampler(1.2), False))) < 3.5


@pytest.mark.parametrize("which", ["model", "lookup"])
def test_a_constraint_has_the_last_word(which):
    decoder = tiny(vocab_size=SIZE)
    draft = DraftModel(nearly(decoder, vocab_size=SIZE), 3) if which == "model" else Lookup(4, shortest=1)
    prompts = [PROMPT, PROMPT[:1]]

    def held() -> list[BlockConstraint]:
        return [BlockConstraint(VOCABULARY, "step", Steps()) for _ in prompts]

    plain = generate(decoder, prompts, sampler=Sampler(0), max_new_tokens=40, stop_ids={END}, constraints=held())
    constraints = held()
    made, _ = speculate(
        decoder, prompts, draft=draft, sampler=Sampler(0), max_new_tokens=40, stop_ids={END}, constraints=constraints
    )
    for one, other, constraint in zip(made, plain, constraints, strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-5)
        new = one.ids[:-1] if one.finished else one.ids
        assert constraint.grammar.last == VOCABULARY.to_local("step", new)[-1]


def test_a_look_up_finds_the_longest_and_the_latest():
    def guess(history: list[int], room: int = 4, **how: int) -> list[int]:
        drafter, path = Lookup(room, **how).drafter(1, Sampler(), ()), Path(room, None, frozenset({99}))
        drafter.propose([history], [path])
        return path.ids

    assert guess([1, 2, 3, 9, 2, 3]) == [9, 2, 3, 9]  # beyond the end it repeats itself
    assert guess([1, 2, 3, 7, 2, 3, 8, 1, 2, 3], 1) == [7]
    assert guess([2, 3, 7, 2, 3, 8, 5, 2, 3], 1) == [8]
    assert guess([1, 2, 3]) == []
    assert guess([1, 2, 1], 2) == []
    assert guess([1, 2, 1], 2, shortest=1) == [2, 1]
    assert guess([1, 2, 99, 4, 1, 2]) == [99]


def test_what_cannot_be_asked():
    decoder = tiny(**SHAPES["windowed"])
    with pytest.raises(Mismatch, match="49 ids and the decoder 50"):
        speculate(decoder, PROMPTS, draft=DraftModel(tiny(vocab_size=49)), max_new_tokens=1)
    with pytest.raises(ConfigError, match="at most 127"):
        speculate(decoder, PROMPTS, draft=Lookup(128), max_new_tokens=1)
    with pytest.raises(ConfigError, match="half the context of its decoder, 16"):
        speculate(decoder, PROMPTS, draft=DraftModel(tiny(max_seq_len=16), 9), max_new_tokens=1)
    for wrong in ({"length": 0}, {"shortest": 0}, {"longest": 1}):
        with pytest.raises(ConfigError, match="look-up"):
            Lookup(**wrong)
    with pytest.raises(ConfigError, match="length of a draft"):
        DraftModel(decoder, 0)
