"""No run of ids comes twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits
from variants import random_decoder

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.repeat import NoRepeat
from seqmodal.model import Model
from seqmodal.sequence import Segment
from seqmodal.tokenizers import Vocabulary
from tokenizers_ext.text import ByteTokenizer


def barred(made: list[int], size: int, length: int) -> np.ndarray:
    """By trying each id: does some run of that length then stand there twice?"""
    mask = np.ones(size + 1, bool)
    for id in range(size):
        runs = [tuple((*made, id)[at : at + length]) for at in range(len(made) + 2 - length)]
        mask[id] = not runs or runs[-1] not in runs[:-1]
    return mask


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), max_size=14), st.integers(1, 4))
def test_what_would_repeat_a_run_is_barred(ids: list[int], length: int) -> None:
    one = NoRepeat(4, length)
    for at, id in enumerate(ids):
        np.testing.assert_array_equal(one.mask(), barred(ids[:at], 4, length))
        other = one.copy()
        other.advance((id + 1) % 4)  # a copy that goes its own way
        one.advance(one.clip(id))
    np.testing.assert_array_equal(one.mask(), barred(ids, 4, length))


def test_a_run_of_nothing_is_none() -> None:
    with pytest.raises(ConfigError, match="no_repeat is 0"):
        NoRepeat(4, 0)


@pytest.mark.parametrize("beams", [None, 3])
def test_items_that_are_made_repeat_no_run(beams: int | None) -> None:
    """With runs of one id, each id comes once."""
    held = ByteTokenizer()
    vocabulary = Vocabulary.of([held])
    shape = DecoderConfig(vocab_size=vocabulary.size, d_model=16, num_layers=1, num_heads=2, max_seq_len=64)
    model = Model(random_decoder(shape), vocabulary, [held])
    source = [Segment("bytes", held.encode("to be read"), loss=0.0, both_ways=True)]
    how: dict[str, Any] = {"max_new_tokens": 20, "seed": 0} | ({"beams": beams} if beams else {"temperature": 0.0})
    free, kept = (model.sample_each([source] * 2, no_repeat=n, **how)[1].ids.tolist() for n in (None, 1))
    assert len(set(free)) < len(free)  # else this says nothing
    assert len(set(kept)) == len(kept) > 5


def test_a_grammar_is_not_replaced() -> None:
    held = Digits()
    vocabulary = Vocabulary.of([held])
    shape = DecoderConfig(vocab_size=vocabulary.size, d_model=16, num_layers=1, num_heads=2, max_seq_len=64)
    model = Model(Decoder(shape), vocabulary, [held])
    with pytest.raises(ConfigError, match="which has a grammar"):
        model.sample_each([[Segment("digits", np.array([1], np.int32), loss=0.0)]], no_repeat=3)
