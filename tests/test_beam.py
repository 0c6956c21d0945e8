"""Beam search beside the enumeration of everything."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from seqmodal.config import DecoderConfig, Learned, Rotary
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.beam import _staying, beam_search, penalty
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.generation.reader import Reader
from seqmodal.tokenizers.vocabulary import Vocabulary

PROMPTS = [np.array([1]), np.array([3, 2, 0, 4, 1, 1, 2]), np.array([2, 2])]


def tiny(seed: int = 3, **shape: Any) -> Decoder:
    """A small decoder whose every matrix says something, over five ids."""
    config = DecoderConfig(
        **{"vocab_size": 5, "d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 64, **shape}
    )
    torch.manual_seed(seed)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.4)
    return decoder


@torch.inference_mode()
def logprobs_of(decoder: Decoder, prompt: np.ndarray, new: list[int]) -> list[float]:
    whole = torch.tensor([[*prompt.tolist(), *new]])
    scores = decoder.logits(decoder(whole).hidden[0, len(prompt) - 1 : -1]).double().log_softmax(-1)
    return scores[torch.arange(len(new)), torch.tensor(new)].tolist()


def everything(
    decoder: Decoder, prompt: np.ndarray, length: int, stop: int, alpha: float
) -> list[tuple[float, list[int]]]:
    """All that can be said in so many ids, best first."""
    found = {}
    for ids in itertools.product(range(5), repeat=length):
        new = list(ids[: ids.index(stop) + 1] if stop in ids else ids)
        if tuple(new) not in found:
            found[tuple(new)] = sum(logprobs_of(decoder, prompt, new)) / ((5 + len(new)) / 6) ** alpha
    return sorted(((score, list(new)) for new, score in found.items()), reverse=True)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_a_beam_wide_enough_finds_the_best_of_everything(alpha):
    decoder = tiny()
    made = beam_search(
        decoder, PROMPTS, beams=4**3, n_best=6, max_new_tokens=4, length_penalty=alpha, stop_ids={0}
    )
    for prompt, found in zip(PROMPTS, made, strict=True):
        best = everything(decoder, prompt, 4, 0, alpha)
        assert [one.ids.tolist() for one in found] == [new for _, new in best[:6]]
        np.testing.assert_allclose([one.score for one in found], [score for score, _ in best[:6]], atol=1e-6)
        assert all(one.finished == (one.ids[-1] == 0) for one in found)


@pytest.mark.parametrize("shape", [{}, {"window": 4, "max_seq_len": 16}], ids=["whole", "windowed"])
def test_prompts_together_equal_each_alone_and_scores_are_the_models(shape):
    decoder = tiny(vocab_size=9, **shape)
    how = {"beams": 3, "n_best": 3, "max_new_tokens": 12, "stop_ids": {0, 5}, "stop_sequences": [[2, 3]]}
    together = beam_search(decoder, PROMPTS, **how)
    for prompt, found in zip(PROMPTS, together, strict=True):
        alone = beam_search(decoder, [prompt], **how)[0]
        assert [one.ids.tolist() for one in found] == [one.ids.tolist() for one in alone]
        for one in found:
            np.testing.assert_allclose(one.logprobs, logprobs_of(decoder, prompt, one.ids.tolist()), atol=1e-5)
            assert one.score == pytest.approx(float(one.logprobs.sum()) / penalty(len(one.ids), 0.6), abs=1e-4)
            assert one.stop in (None, (0,), (5,), (2, 3))
            assert one.finished or len(one.ids) == 12
        assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)


def test_one_beam_is_greedy():
    decoder = tiny(max_seq_len=8)  # the context is read again on the way
    made = beam_search(decoder, PROMPTS[:1], beams=1, max_new_tokens=20)[0][0]
    plain = generate(decoder, PROMPTS[:1], sampler=Sampler(0), max_new_tokens=20)[0]
    assert made.ids.tolist() == plain.ids.tolist()
    np.testing.assert_allclose(made.logprobs, plain.logprobs, atol=1e-5)


@pytest.mark.parametrize("position", [Learned(), Rotary()], ids=["learned", "rotary"])
@pytest.mark.parametrize(("given", "new"), [(6, 4), (6, 30), (14, 20), (20, 12), (40, 5)])
def test_beams_past_the_context_have_the_log_probabilities_of_their_own_text(
    position: Any, given: int, new: int
) -> None:
    """A beam never reads what another wrote, however often the context is read again."""
    decoder = tiny(max_seq_len=16, position=position, window=0)
    prompt = np.arange(given) * 7 % 5
    for one in beam_search(decoder, [prompt], beams=4, n_best=4, max_new_tokens=new)[0]:
        reader, text = Reader(decoder, [prompt], [new]), prompt.tolist()
        with torch.inference_mode():
            hidden = reader.last([reader.recent(text)])
            for id, logprob in zip(one.ids.tolist(), one.logprobs, strict=True):
                expected = reader.logits(hidden).log_softmax(-1)[0, id]
                assert float(logprob) == pytest.approx(float(expected), abs=1e-6)
                text.append(id)
                hidden = reader.next(torch.tensor([id]), [text])


def test_the_search_ends_early_only_where_nothing_can_change():
    """The same beams with a bound that never stops them early."""
    decoder = tiny(seed=5)
    steps = []
    for alpha in (0.0, 0.6, 1.5):
        calls = []
        made = beam_search(
            decoder, PROMPTS, beams=4, n_best=2, max_new_tokens=25, length_penalty=alpha, stop_ids={0, 3},
            after_step=lambda held, calls=calls: calls.append(held),
        )
        steps.append(len(calls))
        for prompt, found in zip(PROMPTS, made, strict=True):
            assert [(one.ids.tolist(), one.stop) for one in found] == patient(decoder, prompt, 4, 2, 25, alpha, {0, 3})
    assert steps[0] < 25


def patient(
    decoder: Decoder, prompt: np.ndarray, beams: int, n_best: int, most: int, alpha: float, stops: set[int]
) -> list[tuple[list[int], tuple[int] | None]]:
    """Beam search without a cache, by lists, to the very end."""
    live, ended = [([], 0.0)], []
    for length in range(1, most + 1):
        grown = []
        for new, total in live:
            with torch.inference_mode():
                hidden = decoder(torch.tensor([[*prompt.tolist(), *new]])).hidden[0, -1]
                scores = decoder.logits(hidden).double().log_softmax(-1).tolist()
            grown += [([*new, id], total + score) for id, score in enumerate(scores)]
        grown.sort(key=lambda one: -one[1])
        live = []
        for new, total in grown:
            if len(live) == beams:
                break
            if new[-1] in stops or length == most:
                ended.append((total / ((5 + length) / 6) ** alpha, new))
            else:
                live.append((new, total))
    ended.sort(key=lambda one: -one[0])
    return [(new, (new[-1],) if new[-1] in stops else None) for _, new in ended[:n_best]]


class NoRepeat:
    """A grammar over four ids: never the same twice in a row; id 3 stands for id 2."""

    def __init__(self, last: int = -1) -> None:
        self.last = last

    def mask(self) -> np.ndarray:
        return np.array([*(min(id, 2) != self.last for id in range(4)), self.last >= 0])

    def clip(self, id: int) -> int:
        return min(id, 2)

    def advance(self, id: int) -> None:
        self.last = id

    def copy(self) -> NoRepeat:
        return NoRepeat(self.last)


def test_beams_follow_copies_of_the_constraint():
    vocabulary = Vocabulary.of([]).append("step", 4)
    block = vocabulary.block("step")
    decoder = tiny(vocab_size=vocabulary.size)
    constraint = BlockConstraint(vocabulary, "step", NoRepeat())
    made = beam_search(
        decoder, [np.array([1, block.begin])], beams=5, n_best=5, max_new_tokens=6, constraints=[constraint],
        stop_ids={block.end},
    )[0]
    assert len({tuple(one.ids) for one in made}) == 5
    for one in made:
        local = vocabulary.to_local("step", one.ids[:-1] if one.finished else one.ids).tolist()
        assert all(a != b for a, b in itertools.pairwise(local))
        assert 3 not in local
    assert constraint.grammar.last == -1


def test_fewer_hypotheses_than_asked_for_where_there_are_no_more():
    vocabulary = Vocabulary.single("one", 5, bos=0, eos=0)
    only = BlockConstraint(vocabulary, "one")
    only._row[:] = [False, True, False, False, False]
    made = beam_search(tiny(), PROMPTS[:1], beams=3, n_best=3, max_new_tokens=4, constraints=[only])[0]
    assert [one.ids.tolist() for one in made] == [[1, 1, 1, 1]]
    np.testing.assert_allclose(made[0].logprobs, 0, atol=1e-6)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [({"n_best": 3}, "n_best"), ({"beams": 0}, "beams"), ({"max_new_tokens": 0}, "max_new_tokens"),
     ({"length_penalty": -1.0}, "length_penalty")],
)
def test_what_cannot_be_asked(wrong, says):
    with pytest.raises(ConfigError, match=says):
        beam_search(tiny(), PROMPTS, **{"beams": 2, "max_new_tokens": 3, **wrong})


@given(st.lists(st.integers(0, 7), min_size=1, max_size=8))
def test_rows_stay_where_they_were(origins: list[int]) -> None:
    order = _staying(origins)
    assert sorted(order) == list(range(len(origins)))
    there = sum(origins[at] == place for place, at in enumerate(order))
    assert there == len({origin for origin in origins if origin < len(origins)})


class Told:
    """A constraint that allows everything and remembers what it was told."""

    def __init__(self, ids: tuple[int, ...] = ()) -> None:
        self.ids = ids

    def allowed(self) -> np.ndarray:
        return np.ones(5, dtype=bool)

    def advance(self, id: int) -> int:
        self.ids = (*self.ids, id)
        return id

    def copy(self) -> Told:
        return Told(self.ids)


def test_each_step_tells_of_the_likeliest_beam_wherever_it_lies():
    decoder, told = tiny(), []
    beam_search(
        decoder, PROMPTS, beams=25, max_new_tokens=4, constraints=[Told() for _ in PROMPTS],
        after_step=lambda best: told.append([one.ids for one in best]),
    )  # fmt: skip
    for length in (1, 2, 3):  # so wide that nothing is lost
        for prompt, ids in zip(PROMPTS, told[length - 1], strict=True):
            assert list(ids) == everything(decoder, prompt, length, -1, 0.0)[0][1]
