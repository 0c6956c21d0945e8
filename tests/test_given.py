"""Going on from what is given: spans seen both ways in the cache, many inputs at once, each as if it were alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import Digits
from variants import BASE, POSITIONS, random_decoder

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.beam import beam_search
from seqmodal.generation.loop import generate, next_probabilities, stream
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import row_generators
from seqmodal.generation.speculative import Lookup, speculate
from seqmodal.model import Model, each
from seqmodal.nn.mask import Mask
from seqmodal.sequence import Composed, Document, Segment, compose
from seqmodal.tokenizers import Vocabulary

VOCABULARY = Vocabulary.of([Digits("a", 7), Digits("tag", 2)])
END = VOCABULARY.block("a").end
RING = {"window": 6, "max_seq_len": 64}
LEARNED = {"position": POSITIONS["learned"]}
SHAPES = pytest.mark.parametrize("shape", [{}, RING, LEARNED], ids=["whole", "ring", "learned"])


def given(n: int, both_ways: bool = True) -> list[Segment]:
    ids = np.random.default_rng(n).integers(7, size=n)
    return [Segment("a", ids, 0, both_ways), Segment("tag", np.array([n % 2]), 0)]


def start(n: int, both_ways: bool = True) -> Composed:
    whole = compose(Document((*given(n, both_ways), Segment("a", np.zeros(0, np.int32)))), VOCABULARY)
    return whole.part(0, len(whole.ids) - 2)


STARTS = [start(n) for n in (3, 11, 0, 6, 20)]


def a_decoder(seed: int = 1, **shape: object) -> Decoder:
    config: DecoderConfig = replace(BASE, vocab_size=VOCABULARY.size, num_layers=2, max_seq_len=64, tally=3)
    return random_decoder(replace(config, **shape), seed)  # type: ignore[arg-type]


@torch.inference_mode()
def scores_after(decoder: Decoder, prompt: Composed, new: list[int]) -> np.ndarray:
    """Log-probabilities of what comes next, without a cache."""
    ids = torch.tensor([[*prompt.ids.tolist(), *new]])
    span = torch.tensor([[*prompt.span.tolist(), *[0] * len(new)]])
    return decoder.logits(decoder(ids, mask=Mask(span=span)).hidden[0, -1]).double().log_softmax(-1).numpy()


@SHAPES
@pytest.mark.parametrize("both_ways", [True, False])
def test_many_together_are_each_alone_and_without_a_cache(shape: dict, both_ways: bool) -> None:
    decoder, starts = a_decoder(**shape), [start(n, both_ways) for n in (3, 11, 0, 6, 20)]
    most = [9, 12, 5, 0, 12]
    found = generate(decoder, starts, sampler=Sampler(0), max_new_tokens=most, stop_ids={END})
    for prompt, one, limit in zip(starts, found, most, strict=True):
        ids: list[int] = []
        while len(ids) < limit and END not in ids:
            scores = scores_after(decoder, prompt, ids)
            assert one.logprobs[len(ids)] == pytest.approx(scores.max(), abs=1e-4)
            ids.append(int(scores.argmax()))
        assert one.ids.tolist() == ids
    assert max(len(one.ids) for one in found) > 4


@SHAPES
def test_a_search_over_many_prompts_is_the_patient_one_of_each(shape: dict) -> None:
    decoder, most = a_decoder(seed=3, **shape), [9, 6, 12, 1, 8]
    found = beam_search(decoder, STARTS, beams=3, n_best=2, max_new_tokens=most, stop_ids={END, 8})
    for prompt, ours, limit in zip(STARTS, found, most, strict=True):
        live, ended = [(0.0, [])], []
        for length in range(1, limit + 1):
            grown = [
                (total + float(score), [*new, id])
                for total, new in live
                for id, score in enumerate(scores_after(decoder, prompt, new))
            ]
            live = []
            for total, new in sorted(grown, key=lambda one: -one[0]):
                if len(live) == 3:
                    break
                if new[-1] in (END, 8) or length == limit:
                    ended.append((total / ((5 + length) / 6) ** 0.6, new))
                else:
                    live.append((total, new))
        best = sorted(ended, key=lambda one: -one[0])[:2]
        assert [one.ids.tolist() for one in ours] == [new for _, new in best]
        np.testing.assert_allclose([one.score for one in ours], [score for score, _ in best], atol=1e-5)


def test_drawing_and_speculation_agree_with_the_row_alone() -> None:
    decoder = a_decoder()
    draw = {"sampler": Sampler(0.8, top_p=0.9), "max_new_tokens": 10, "stop_ids": {END}}
    together = generate(decoder, STARTS, generators=row_generators(5, 5), **draw)
    for row, prompt in enumerate(STARTS):
        (alone,) = generate(decoder, [prompt], generators=row_generators(5, 1, row), **draw)
        assert alone.ids.tolist() == together[row].ids.tolist()
    greedy = generate(decoder, STARTS, sampler=Sampler(0), max_new_tokens=14, stop_ids={END})
    guessed, _ = speculate(
        decoder, STARTS, draft=Lookup(3, 2, 1), sampler=Sampler(0), max_new_tokens=14, stop_ids={END}
    )
    assert [one.ids.tolist() for one in guessed] == [one.ids.tolist() for one in greedy]
    p = next_probabilities(decoder, STARTS[1])
    np.testing.assert_allclose(np.log(p), scores_after(decoder, STARTS[1], []), atol=1e-5)


def test_a_document_is_never_forgotten_half() -> None:
    decoder = a_decoder(max_seq_len=16)  # the state grows past the context where positions allow it
    (found,) = generate(decoder, STARTS[4:], sampler=Sampler(0), max_new_tokens=30)
    ids: list[int] = []
    for _ in range(30):
        ids.append(int(scores_after(decoder, STARTS[4], ids).argmax()))
    assert found.ids.tolist() == ids
    with pytest.raises(ConfigError, match="max_new_tokens"):
        next(stream(decoder, STARTS))
    with pytest.raises(ConfigError, match="more than max_seq_len 16"):
        generate(a_decoder(max_seq_len=16, position=POSITIONS["learned"]), STARTS, max_new_tokens=3)
    with pytest.raises(ConfigError, match="5 prompts and 2 max_new_tokens"):
        generate(decoder, STARTS, max_new_tokens=[1, 2])


@pytest.fixture(scope="module")
def model() -> Model:
    return Model(a_decoder(), VOCABULARY, [Digits("a", 7), Digits("tag", 2)], objective="prefix")


def test_a_model_goes_on_from_what_is_given(model: Model) -> None:
    how = {"to": "a", "max_new_tokens": 12, "seed": 4}
    (one,) = model.sample(given=given(6), **how)
    assert one.prompt_ids.size == 0 and one.item == one.ids.tolist()
    (rest,) = model.sample([3, 1], given=given(6), temperature=0, **how)
    ids = VOCABULARY.to_global("a", np.array([3, 1])).tolist()
    allowed = np.zeros(VOCABULARY.size, bool)
    allowed[VOCABULARY.block("a").content_slice] = allowed[END] = True
    for id in rest.ids[2:]:
        scores = np.where(allowed, scores_after(model.decoder, start(6), ids), -np.inf)
        ids.append(int(scores.argmax()))
        assert VOCABULARY.to_global("a", np.array([id]))[0] == ids[-1]
    assert rest.ids[:2].tolist() == [3, 1] and len(rest.ids) > 2
    other = model.sample(given=[replace(segment, loss=1.0, both_ways=False) for segment in given(6)], **how)
    assert other[0].logprobs[0] != pytest.approx(one.logprobs[0])  # what is given has no loss, and is seen as it says


def test_each_of_many_is_the_one_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(each, "POSITIONS", 100)
    things, told = [given(n) for n in (5, 0, 17, 9, 9, 2, 12)], []
    for how in ({"temperature": 0.9}, {"beams": 3, "length_penalty": 1.0}):
        found = model.sample_each(
            things, to="a", max_new_tokens=11, seed=3, progress=lambda *at: told.append(at), **how
        )
        for row, one in enumerate(found):
            limits = [11 if at == row else 1 for at in range(7)]
            again = model.sample_each(things, to="a", max_new_tokens=limits, seed=3, **how)[row]
            assert again.ids.tolist() == one.ids.tolist()
        (alone,) = model.sample(given=things[0], to="a", max_new_tokens=11, seed=3, **how)
        assert alone.ids.tolist() == found[0].ids.tolist()
    assert told[-1] == (7, 7) and len(told) > 4
    assert model.sample_each([], to="a") == []


def test_without_a_number_the_context_says_how_many(model: Model) -> None:
    assert model.bound(STARTS[4]) == 64 - 27 == len(STARTS[4].ids) + 10
    assert model.bound(start(50)) == 32
    learned = replace(model, decoder=a_decoder(position=POSITIONS["learned"]))
    assert learned.bound(start(50)) == 64 - 57
    with pytest.raises(ConfigError, match="takes 67 positions, and this model knows 64"):
        learned.sample(given=given(60), to="a")
    with pytest.raises(ConfigError, match="nothing is given for item 1"):
        model.sample_each([given(2), []], to="a")
    with pytest.raises(ConfigError, match="2 things given and 1 max_new_tokens"):
        model.sample_each([given(2), given(3)], to="a", max_new_tokens=[3])
