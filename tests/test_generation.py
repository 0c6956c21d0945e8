"""The loop beside an oracle without a cache, and rows beside themselves alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.loop import generate, row_generators, stream
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import Stops
from seqmodal.tokenizers.vocabulary import Vocabulary

GREEDY = Sampler(temperature=0)
WINDOWED = {"max_seq_len": 32, "window": 16}
WHOLE = {"max_seq_len": 64}


def tiny(**shape: int) -> Decoder:
    """A small decoder whose every matrix says something."""
    config = DecoderConfig(**{"vocab_size": 50, "d_model": 32, "num_layers": 2, "num_heads": 2, **shape})
    torch.manual_seed(3)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return decoder


@torch.inference_mode()
def oracle(decoder: Decoder, prompt: list[int], steps: int) -> list[int]:
    """Greedy, all of the sequence read again for every id."""
    ids = list(prompt)
    for _ in range(steps):
        ids.append(int(decoder.logits(decoder(torch.tensor([ids])).hidden[0, -1]).argmax()))
    return ids[len(prompt) :]


def ids_of(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(4, 50, length)


@pytest.mark.parametrize("length", [1, 10, 40])
def test_equal_to_the_oracle(length):
    decoder = tiny(**WHOLE)
    made = generate(decoder, [ids_of(length)], sampler=GREEDY, max_new_tokens=20)[0]
    assert made.ids.tolist() == oracle(decoder, ids_of(length).tolist(), 20)
    assert not made.finished


def test_far_beyond_the_window():
    decoder = tiny(**WINDOWED)
    made = generate(decoder, [ids_of(5)], sampler=GREEDY, max_new_tokens=3 * 32 + 80)[0]  # the ring wraps
    assert made.ids.tolist() == oracle(decoder, ids_of(5).tolist(), len(made.ids))
    assert len(set(made.ids.tolist())) > 3


def test_a_prompt_of_many_chunks():
    decoder = tiny(**WINDOWED)
    made = generate(decoder, [ids_of(300)], sampler=GREEDY, max_new_tokens=10)[0]
    assert made.ids.tolist() == oracle(decoder, ids_of(300).tolist(), 10)


@pytest.mark.parametrize("shape", [WINDOWED, WHOLE], ids=["windowed", "whole"])
@pytest.mark.parametrize("sampler", [GREEDY, Sampler(0.9, top_p=0.95)], ids=["greedy", "sampled"])
def test_rows_equal_themselves_alone(shape, sampler):
    decoder = tiny(**shape)
    prompts = [ids_of(n, n) for n in (3, 200, 1, 17)]
    stops = {7, 11, 30}
    together = generate(
        decoder, prompts, sampler=sampler, max_new_tokens=90, stop_ids=stops, generators=row_generators(5, 4)
    )
    for row, prompt in enumerate(prompts):
        alone = generate(
            decoder, [prompt], sampler=sampler, max_new_tokens=90, stop_ids=stops, generators=row_generators(5, 1, row)
        )[0]
        assert together[row].ids.tolist() == alone.ids.tolist()
        assert together[row].finished == alone.finished
        np.testing.assert_allclose(together[row].logprobs, alone.logprobs, atol=1e-5)


def test_without_a_window_the_last_half_of_the_context_is_read_again():
    decoder = tiny(max_seq_len=16)
    prompt = ids_of(6).tolist()
    made = generate(decoder, [np.array(prompt)], sampler=GREEDY, max_new_tokens=40)[0].ids.tolist()
    history, context = list(prompt), list(prompt)
    for _ in range(40):
        if len(context) > 16:
            context = history[-8:]
        step = oracle(decoder, context, 1)
        history += step
        context += step
    assert made == history[6:]


def test_logprobs_are_the_models_own():
    decoder = tiny(**WHOLE)
    made = generate(decoder, [ids_of(4)], sampler=Sampler(0.5, top_k=5), max_new_tokens=12)[0]
    whole = torch.tensor([[*ids_of(4), *made.ids]])
    with torch.inference_mode():
        expected = decoder.logits(decoder(whole).hidden[0, 3:-1]).log_softmax(-1)
    expected = expected[torch.arange(12), torch.from_numpy(made.ids)].numpy()
    np.testing.assert_allclose(made.logprobs, expected, atol=1e-5)


def test_stopping_and_streaming():
    decoder = tiny(**WHOLE)
    made = generate(decoder, [ids_of(4), ids_of(9)], max_new_tokens=60, stop_ids=range(4, 12))
    assert all(one.finished and one.ids[-1] in range(4, 12) for one in made)
    assert not any(id in range(4, 12) for one in made for id in one.ids[:-1])
    steps = list(stream(decoder, [ids_of(4), ids_of(9)], max_new_tokens=60, stop_ids=range(4, 12)))
    assert len(steps) == max(len(one.ids) for one in made)
    for row, one in enumerate(made):
        column = [int(step[row]) for step in steps]
        assert column == one.ids.tolist() + [-1] * (len(steps) - len(one.ids))
    assert not torch.is_inference_mode_enabled()


def test_a_stop_sequence_ends_a_row_and_is_told():
    decoder = tiny(**WHOLE)
    free = generate(decoder, [ids_of(4), ids_of(9)], max_new_tokens=40)
    ids = free[0].ids.tolist()
    sequence = tuple(ids[10:13])
    first = next(end for end in range(3, 41) if tuple(ids[end - 3 : end]) == sequence)
    made = generate(decoder, [ids_of(4), ids_of(9)], max_new_tokens=40, stop_sequences=[sequence, [3, 3, 3, 3]])
    assert made[0].ids.tolist() == ids[:first]
    assert made[0].stop == sequence
    assert made[0].finished
    assert len(made[0].logprobs) == first
    assert made[1].ids.tolist() == free[1].ids.tolist()
    assert made[1].stop is None
    steps = list(stream(decoder, [ids_of(4)], max_new_tokens=40, stop_sequences=[sequence]))
    assert [int(step[0]) for step in steps] == ids[:first]


def test_a_stop_sequence_does_not_begin_in_the_prompt():
    stops = Stops([7], [(1, 2, 3), (2, 3)])
    assert stops.met([1, 2, 3], 2) is None
    assert stops.met([1, 2, 3], 1) == (2, 3)
    assert stops.met([1, 2, 3], 0) == (1, 2, 3)
    assert stops.met([1, 7], 1) == (7,)
    with pytest.raises(ConfigError, match="without ids"):
        Stops((), [[]])


@pytest.mark.parametrize("shape", [WINDOWED, WHOLE, {"max_seq_len": 16}], ids=["windowed", "whole", "limited"])
def test_a_repetition_counts_the_whole_row(shape):
    """An oracle that keeps the set of ids itself; the rows stop at different times."""
    decoder, sampler = tiny(**shape), Sampler(0, repetition_penalty=1.5)
    prompts = [ids_of(3), ids_of(12), ids_of(7, 4)]
    made = generate(decoder, prompts, sampler=sampler, max_new_tokens=30, stop_ids={9})
    plain = generate(decoder, prompts, sampler=GREEDY, max_new_tokens=30, stop_ids={9})
    assert any(one.ids.tolist() != other.ids.tolist() for one, other in zip(made, plain, strict=True))
    for prompt, one in zip(prompts, made, strict=True):
        ids, context = prompt.tolist(), prompt.tolist()
        for _ in one.ids:
            if shape == {"max_seq_len": 16} and len(context) > 16:
                context = ids[-8:]
            with torch.no_grad():
                logits = decoder.logits(decoder(torch.tensor([context])).hidden[0, -1]).clone()
            for id in set(ids):
                logits[id] = logits[id] / 1.5 if logits[id] > 0 else logits[id] * 1.5
            ids.append(int(logits.argmax()))
            context.append(ids[-1])
        assert one.ids.tolist() == ids[len(prompt) :]


def test_a_windowed_state_takes_back_as_much_as_a_chunk():
    """The ring has overwritten nothing that is in reach: going back and reading on is as if one had never gone."""
    decoder = tiny(**WINDOWED)
    text = torch.from_numpy(ids_of(400)).unsqueeze(0)
    with torch.inference_mode():
        whole = decoder.logits(decoder(text).hidden)
        chunk = decoder.new_state(1).chunk
        for length in (5, 143, 200, 271):
            state = decoder.new_state(1)
            decoder(text[:, :length], state=state)
            false = torch.randint(4, 50, (1, chunk), generator=torch.Generator().manual_seed(length))
            decoder(false, state=state)
            state.truncate(torch.tensor([length]))
            again = decoder.logits(decoder(text[:, length : length + 100], state=state).hidden)
            torch.testing.assert_close(again, whole[:, length : length + 100], rtol=0, atol=1e-6)


def test_streaming_leaves_no_mode_behind():
    steps = stream(tiny(**WHOLE), [ids_of(4)], max_new_tokens=5)
    next(steps)
    assert not torch.is_inference_mode_enabled()


def test_what_cannot_be_asked():
    decoder = tiny(**WHOLE)
    with pytest.raises(ConfigError, match="at least one id"):
        generate(decoder, [np.zeros(0, int)], max_new_tokens=1)
    with pytest.raises(ConfigError, match="1 prompts and 2 generators"):
        generate(decoder, [ids_of(2)], max_new_tokens=1, generators=row_generators(0, 2))


class Alternate:
    """A grammar: 0, 1, 0, 1, …, which may end after a 1."""

    def __init__(self, last: int = 1) -> None:
        self.last = last

    def mask(self) -> np.ndarray:
        return np.array([self.last == 1, self.last == 0, False, self.last == 1])

    def clip(self, id: int) -> int:
        return id

    def advance(self, id: int) -> None:
        self.last = id

    def copy(self) -> Alternate:
        return Alternate(self.last)


def test_a_block_keeps_to_its_grammar():
    vocabulary = Vocabulary.of([]).append("other", 40).append("beat", 3)
    block = vocabulary.block("beat")
    decoder = tiny(vocab_size=vocabulary.size, **WHOLE)
    constraints = [BlockConstraint(vocabulary, "beat", Alternate()) for _ in range(3)]
    assert np.flatnonzero(constraints[0].allowed()).tolist() == [block.end, block.first_content]
    made = generate(
        decoder, [np.array([1, block.begin])] * 3, max_new_tokens=200, constraints=constraints, stop_ids={block.end}
    )
    for one in made:
        local = vocabulary.to_local("beat", one.ids[:-1] if one.finished else one.ids)
        assert local.tolist() == [i % 2 for i in range(len(local))]
        assert len(local) % 2 == 0
    assert any(one.finished for one in made)


def test_a_block_without_grammar_and_one_without_marks():
    vocabulary = Vocabulary.of([]).append("beat", 3)
    assert np.flatnonzero(BlockConstraint(vocabulary, "beat").allowed()).tolist() == [5, 6, 7, 8]
    single = BlockConstraint(Vocabulary.single("text", 4, bos=3, eos=3), "text")
    assert single.end == 3
    assert single.allowed().all()
    with pytest.raises(ConfigError, match="3 ids"):
        BlockConstraint(vocabulary.append("two", 2), "two", Alternate())
