"""The ways a model goes on with a prompt, as a user names them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from toy import Digits

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError, Mismatch
from seqmodal.generation.draft import DraftModel, Lookup
from seqmodal.generation.probability import Sampler
from seqmodal.generation.strategy import Strategy
from seqmodal.model import Model
from seqmodal.tokenizers.registry import tokenizer
from seqmodal.tokenizers.vocabulary import Vocabulary


def model_of(held: list, width: int = 32) -> Model:
    vocabulary = Vocabulary.of(held)
    torch.manual_seed(0)
    decoder = Decoder(
        DecoderConfig(
            vocab_size=vocabulary.size, d_model=width, num_layers=2, num_heads=2, max_seq_len=64, window=32
        )
    ).double()  # fmt: skip
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(decoder.eval(), vocabulary, held)


@pytest.fixture(scope="module")
def music() -> Model:
    return model_of([tokenizer("midi")])


@pytest.fixture(scope="module")
def digits() -> Model:
    return model_of([Digits()])


def test_a_draft_changes_no_music(music):
    """At temperature 0, with the grammar and the limit of seconds along every guess."""
    plain = music.sample(seconds=3, temperature=0, max_new_tokens=150)[0]
    drafts = ("lookup", Lookup(5, shortest=1), music, music.decoder, DraftModel(model_of(music.tokenizers, 16).decoder))
    for draft in drafts:
        made = music.sample(seconds=3, temperature=0, max_new_tokens=150, draft=draft)[0]
        assert made.ids.tolist() == plain.ids.tolist()
        assert made.finished == plain.finished
        np.testing.assert_allclose(made.logprobs, plain.logprobs, atol=1e-5)


def test_drawn_with_a_draft_nothing_is_mended(music):
    seen: list[tuple[float, float]] = []
    made = music.sample(
        seconds=2, variations=3, seed=1, draft=Lookup(4, shortest=1), typical=0.9, repetition_penalty=1.1,
        progress=lambda *at: seen.append(at),
    )
    for one in made:
        assert one.finished
        assert music.tokenizers[0].decode_report(one.ids)[1].total == 0
        assert music.tokenizers[0].duration(one.ids) == pytest.approx(2, abs=0.2)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    assert seen[-1][0] == pytest.approx(2, abs=0.02)


def test_beams_are_the_best_found_best_first(digits):
    made = digits.sample([1, 2], beams=6, variations=4, max_new_tokens=7, length_penalty=0.0)
    assert len({tuple(one.ids) for one in made}) == 4
    totals = [float(one.logprobs.sum()) for one in made]
    assert totals == sorted(totals, reverse=True)
    assert all(one.item[:2] == [1, 2] for one in made)
    greedy = digits.sample([1, 2], temperature=0, max_new_tokens=7)[0]
    assert digits.sample([1, 2], beams=1, max_new_tokens=7)[0].ids.tolist() == greedy.ids.tolist()
    assert digits.generate([1, 2], beams=6, max_new_tokens=7, length_penalty=0.0) == made[0].item


def test_beams_keep_to_the_grammar(music):
    seen: list[tuple[float, float]] = []
    one = music.sample(seconds=0.5, beams=3, max_new_tokens=40, progress=lambda *at: seen.append(at))[0]
    assert music.tokenizers[0].decode_report(one.ids)[1].total == 0
    assert all(total == 0.5 for _, total in seen)
    assert [at for at, _ in seen] == sorted(at for at, _ in seen)
    assert seen


@pytest.mark.parametrize(
    "other",
    [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.9}, {"min_p": 0.1}, {"typical": 0.5},
     {"repetition_penalty": 1.2}, {"draft": "lookup"}, {"variations": 3}],
)  # fmt: skip
def test_beams_and_what_means_nothing_to_them(digits, other):
    with pytest.raises(ConfigError, match=rf"(?s)(?=.*beams)(?=.*{next(iter(other))})"):
        digits.sample(beams=2, max_new_tokens=3, **other)


def test_what_else_cannot_be_asked(digits, music):
    with pytest.raises(ConfigError, match="length_penalty 0.5 means nothing without beams"):
        digits.sample(length_penalty=0.5)
    with pytest.raises(ConfigError, match="draft is 'ngram'"):
        digits.sample(draft="ngram")
    with pytest.raises(Mismatch, match="another vocabulary"):
        digits.sample(draft=music)
    with pytest.raises(Mismatch, match="one vocabulary"):
        digits.sample(draft=music.decoder, max_new_tokens=3)
    for draft, beams in itertools.product((Lookup(), None), (None, 2)):
        if draft is None or beams is None:
            Strategy(Sampler(), beams, None, draft)
