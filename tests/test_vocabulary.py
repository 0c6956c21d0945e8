"""The vocabulary: ids go to their block and back, and nothing is ever renumbered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Digits

from seqmodal.errors import ConfigError, Mismatch
from seqmodal.tokenizers import Vocabulary
from seqmodal.tokenizers.vocabulary import ADDED

SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=6)


def build(sizes: list[int]) -> Vocabulary:
    return Vocabulary.of([Digits(f"block{i}", size) for i, size in enumerate(sizes)])


@given(SIZES, st.data())
def test_local_global_local(sizes: list[int], data: st.DataObject) -> None:
    vocabulary = build(sizes)
    which = data.draw(st.integers(0, len(sizes) - 1))
    ids = np.array(data.draw(st.lists(st.integers(0, sizes[which] - 1), max_size=30)), np.int32)
    name = f"block{which}"
    there = vocabulary.to_global(name, ids)
    assert there.dtype == np.int32
    assert np.array_equal(vocabulary.to_local(name, there), ids)
    assert (vocabulary.block_of(there) == vocabulary.names.index(name)).all()


@given(SIZES)
def test_every_id_has_exactly_one_meaning(sizes: list[int]) -> None:
    vocabulary = build(sizes)
    meanings = [vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.null]
    for i in range(len(sizes)):
        block = vocabulary.block(f"block{i}")
        meanings += [block.begin, block.end, *range(block.content_slice.start, block.content_slice.stop)]
        assert block.num_content == sizes[i]
    assert meanings == list(range(vocabulary.size)) == list(range(4 + sum(sizes) + 2 * len(sizes)))


@given(SIZES)
def test_appending_renumbers_nothing(sizes: list[int]) -> None:
    vocabulary = build(sizes)
    more = vocabulary.append("later", 17)
    assert more.blocks[:-1] == vocabulary.blocks
    assert more.block("later").start == vocabulary.size
    assert more.size == vocabulary.size + 19


def test_marks_are_appended_and_are_no_content() -> None:
    vocabulary = build([5, 7])
    more = vocabulary.append(ADDED, 3, marked=False)
    assert more.size == vocabulary.size + 3 and more.block(ADDED).begin is None
    assert more.to_global(ADDED, np.arange(3)).tolist() == [vocabulary.size + i for i in range(3)]
    assert more.content == vocabulary.content and Vocabulary.from_dict(more.to_dict()) == more


@given(SIZES)
def test_json_brings_it_back(sizes: list[int]) -> None:
    vocabulary = build(sizes)
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary


def test_the_marks_are_the_first_four_ids() -> None:
    vocabulary = build([3])
    assert (vocabulary.pad, vocabulary.bos, vocabulary.eos, vocabulary.null) == (0, 1, 2, 3)
    assert vocabulary.names == ("special", "block0")


def test_gpt2_is_one_block_at_zero() -> None:
    vocabulary = Vocabulary.single("text", 50257, bos=50256, eos=50256)
    block = vocabulary.block("text")
    assert vocabulary.size == 50257 and vocabulary.bos == vocabulary.eos == 50256 and vocabulary.null is None
    assert (block.begin, block.end, block.first_content) == (None, None, 0)
    assert vocabulary.to_global("text", np.array([0, 50256])).tolist() == [0, 50256]
    assert Vocabulary.from_dict(json.loads(json.dumps(vocabulary.to_dict()))) == vocabulary
    assert vocabulary.append("midi", 388).block("midi").begin == 50257


@pytest.mark.parametrize("ids", [[-1], [10], [3, 99]])
def test_ids_outside_their_block_are_refused(ids: list[int]) -> None:
    with pytest.raises(Mismatch, match="0 to 9"):
        build([10]).to_global("block0", np.array(ids))


def test_the_marks_of_a_block_are_not_its_content() -> None:
    vocabulary = build([10, 10])
    for mark in (vocabulary.block("block1").begin, vocabulary.block("block1").end, vocabulary.eos):
        with pytest.raises(Mismatch):
            vocabulary.to_local("block1", np.array([mark]))


def test_unknown_and_double_names_say_so() -> None:
    vocabulary = build([4])
    with pytest.raises(ConfigError, match="no block 'sound'.*special, block0"):
        vocabulary.block("sound")
    with pytest.raises(ConfigError, match="two blocks .* block0"):
        vocabulary.append("block0", 5)
    with pytest.raises(ConfigError, match="at least one"):
        vocabulary.append("empty", 0)
