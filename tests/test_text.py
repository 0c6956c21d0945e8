"""Text and back: byte-pair encoding, bytes, characters; held against slow ways and against Hugging Face's ids."""

from __future__ import annotations

import pickle
import random
import re
from itertools import pairwise
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers import Vocabulary, fingerprint, load_tokenizers, save_tokenizers, tokenizer
from tokenizers_ext import _text_bpe as bpe
from tokenizers_ext.text import ByteTokenizer, CharacterTokenizer, TextTokenizer

CORPUS = "\n".join(sorted(topics.values()))[:200_000] + "Zwölf Boxkämpfer jagen Viktor 日本語 日本語 👩‍👩‍👧\n" * 9
SPECIAL = (
    "<|endoftext|>", "<pad>", "<bos>", "<eos>", "<null>", "<s>", "</s>", "<unk>", "[MASK]", "<|im_start|>",
    "<extra_id_0>",
)  # fmt: skip
PARTS = [*SPECIAL, " ", "\n", "  ", "a", "the", "é", "日", "'s", "12"]
TEXT = st.text() | st.lists(st.sampled_from(PARTS)).map("".join)


@pytest.fixture(scope="module")
def fitted() -> TextTokenizer:
    own = TextTokenizer(vocab_size=600)
    own.fit([CORPUS[:90_000], CORPUS[90_000:]])
    return own


@pytest.fixture(scope="module")
def every(fitted: TextTokenizer) -> list[Any]:
    letters = CharacterTokenizer()
    letters.fit([CORPUS])
    return [fitted, ByteTokenizer(), letters]


def lowest(ranks: dict[bytes, int], parts: list[bytes]) -> tuple[int | None, int]:
    """The lowest rank of two neighbours, and where it is first."""
    found = [(ranks[a + b], at) for at, (a, b) in enumerate(pairwise(parts)) if a + b in ranks]
    return min(found, default=(None, 0))


def slow_ids(tokens: list[bytes], text: str) -> list[int]:
    """Byte-pair encoding of ASCII, one merge at a time: GPT-2's pattern in Python's re, the lowest id first."""
    ranks = {token: id for id, token in enumerate(tokens)}
    ids = []
    for word in re.findall(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", text):
        parts = [bytes([byte]) for byte in word.encode()]
        while True:
            rank, at = lowest(ranks, parts)
            if rank is None:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        ids += [ranks[part] for part in parts]
    return ids


def test_ids_are_those_of_merging_one_pair_at_a_time(fitted: TextTokenizer) -> None:
    sample = CORPUS[50_000:60_000].encode("ascii", "ignore").decode()
    ids = fitted.encode(sample)
    assert ids.dtype == np.int32 and len(ids) < 0.6 * len(sample)
    assert ids.tolist() == slow_ids(fitted._fitted.tokens, sample)


def hugging(tokens: list[bytes]) -> Any:
    """Hugging Face's tokenizer with the same tokens; each merge is the split that the ones before it lead to."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = {byte: name for name, byte in bpe.BYTES.items()}
    vocab = {"".join(names[byte] for byte in token): id for id, token in enumerate(tokens)}
    ranks = {token: id for id, token in enumerate(tokens)}
    merges = []
    for token in tokens[256:]:
        parts = [bytes([byte]) for byte in token]
        while len(parts) > 2:
            _, at = lowest(ranks, parts)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        merges.append(tuple("".join(names[byte] for byte in part) for part in parts))
    other = Tokenizer(models.BPE(vocab, merges))
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return other


def test_ids_are_hugging_faces(fitted: TextTokenizer) -> None:
    other = hugging(fitted._fitted.tokens)

    @settings(max_examples=300, deadline=None)
    @given(TEXT)
    def same(text: str) -> None:
        assert fitted.encode(text).tolist() == other.encode(text).ids

    same()
    assert fitted.encode(CORPUS).tolist() == other.encode(CORPUS).ids


def test_learning_is_hugging_faces_and_repeats_itself(fitted: TextTokenizer) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    other.train_from_iterator([CORPUS[:90_000], CORPUS[90_000:]], trainer)
    ids = other.get_vocab()
    assert [bpe.spelled(token) for token in sorted(ids, key=ids.__getitem__)] == fitted._fitted.tokens
    again = TextTokenizer(vocab_size=600)
    again.fit(iter([CORPUS[:90_000], CORPUS[90_000:]]))
    assert fingerprint(again) == fingerprint(fitted)
    assert sorted(fitted._fitted.tokens[:256]) == [bytes([byte]) for byte in range(256)]


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_any_text_comes_back(text: str) -> None:
    for own in (SMALL, ByteTokenizer()):
        ids = own.encode(text)
        assert ids.dtype == np.int32 and own.decode(ids) == text and own.decode_bytes(ids) == text.encode()
    assert ByteTokenizer().encode(text).tolist() == list(text.encode())
    letters = CharacterTokenizer(text + "x")
    assert letters.decode(letters.encode(text)) == text
    assert letters.encode(text).tolist() == [sorted({*text, "x"}).index(character) for character in text]


SMALL = TextTokenizer(vocab_size=300)
SMALL.fit([CORPUS[:20_000]])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_ids_are_a_text_and_a_stream_gives_the_same(data: st.DataObject) -> None:
    for own in (SMALL, ByteTokenizer(), CharacterTokenizer("aé日😀")):
        ids = np.array(data.draw(st.lists(st.integers(0, own.vocab_size - 1))), np.int32)
        text = own.decode(ids)
        assert text == own.decode_bytes(ids).decode("utf-8", "replace")
        own.encode(text if not isinstance(own, CharacterTokenizer) else "")
        cut = data.draw(st.integers(0, len(ids)))
        stream = own.stream()
        parts = [*(stream.push([id]) for id in ids[:cut]), stream.push(ids[cut:]), stream.end()]
        assert "".join(parts) == text


def test_a_stream_shows_no_half_character() -> None:
    own, shown = ByteTokenizer(), []
    stream = own.stream()
    for id in own.encode("né 日😀!"):
        shown.append(stream.push([int(id)]))
    assert shown == ["n", "", "é", " ", "", "", "日", "", "", "", "😀", "!"] and stream.end() == ""
    stream = own.stream()
    assert [stream.push([0xE6]), stream.push([0x97]), stream.end()] == ["", "", "\ufffd"]


def test_what_looks_like_a_special_token_is_text(fitted: TextTokenizer) -> None:
    """10,000 strings: no control id comes out, and every one comes back."""
    own = TextTokenizer.from_dict(fitted.to_dict() | {"special": {name: 700 + n for n, name in enumerate(SPECIAL)}})
    own._bpe.tokens += [b""] * 200  # type: ignore[union-attr]
    control = set(own.special.values())
    rng = random.Random(0)
    texts = ["".join(rng.choices([*SPECIAL, " ", "a", "\n", "<", "|>"], k=rng.randint(1, 6))) for _ in range(10_000)]
    for text, ids in zip(texts, own.encode_batch(texts), strict=True):
        assert not control.intersection(ids.tolist()) and own.decode(ids) == text
    assert own.decode(np.array(sorted(control))) == ""  # and a control token is no text


@pytest.mark.parametrize("own", [TextTokenizer(), CharacterTokenizer()], ids=["text", "characters"])
def test_before_fit(own: Any) -> None:
    for call in (lambda: own.vocab_size, lambda: own.encode("a"), lambda: own.decode(np.array([0]))):
        with pytest.raises(NotFitted, match="fit"):
            call()
    same = type(own).from_dict(own.to_dict())
    assert same.to_dict() == own.to_dict()
    with pytest.raises(BadInput, match="not one character"):
        own.fit(["", ""])
    with pytest.raises(NotFitted):
        own.encode("a")
    with pytest.raises(BadInput, match=r"U\+D800 at 1"):
        own.fit(["a\ud800"])
    with pytest.raises(BadInput, match="is a list"):
        own.fit([["a"]])


def test_few_texts_give_few_tokens() -> None:
    own = TextTokenizer(vocab_size=1000)
    own.fit(["low lower lowest"])
    assert 256 < own.vocab_size < 300
    assert own.decode_bytes(own.encode("lower")) == b"lower" and len(own.encode("low")) == 1


def test_an_unseen_character_is_named_with_its_place() -> None:
    own = CharacterTokenizer("abc \n")
    assert own.vocab_size == 5 and own.alphabet == "\n abc"
    with pytest.raises(BadInput, match=r"'é' \(U\+00E9\) at 3 is none of the 5"):
        own.encode("ab é c é")
    with pytest.raises(BadInput, match=r"U\+1F600.* at 0"):
        own.encode("😀")


def test_half_a_surrogate_pair_is_no_text(every: list[Any]) -> None:
    for own in every:
        with pytest.raises(BadInput, match=r"U\+DC80 at 2"):
            own.encode("ab\udc80")
        with pytest.raises(BadInput, match="is a int, expected str"):
            own.encode(5)


def test_ids_out_of_range_are_refused(every: list[Any]) -> None:
    for own in every:
        for id in (-1, own.vocab_size):
            with pytest.raises(BadInput, match="are not all from 0"):
                own.decode(np.array([0, id]))


def test_settings_are_checked() -> None:
    for name in ("text", "bytes", "characters"):
        assert tokenizer(name, errors="replace").to_dict()["errors"] == "replace"
        with pytest.raises(ConfigError, match="'strict' or 'replace'"):
            tokenizer(name, errors="ignore")
    with pytest.raises(ConfigError, match="at least 256"):
        tokenizer("text", vocab_size=255)
    with pytest.raises(ConfigError, match="vocabulary_size"):
        tokenizer("text", vocabulary_size=500)


def test_they_are_kept_with_a_model(every: list[Any], tmp_path: Any) -> None:
    save_tokenizers(every, tmp_path)
    for own, back in zip(every, load_tokenizers(tmp_path), strict=True):
        assert type(back) is type(own) and back.vocab_size == own.vocab_size
        assert back.encode(CORPUS[:5000]).tolist() == own.encode(CORPUS[:5000]).tolist()
        assert pickle.loads(pickle.dumps(own)).encode("the").tolist() == own.encode("the").tolist()
    assert Vocabulary.of(every).names == ("special", "text", "bytes", "characters")


MILLION = 1_000_001


@pytest.mark.parametrize(
    "text",
    [
        "a" * MILLION, " " * MILLION, " " * MILLION + "a", "\n" * MILLION + "b\n", "é" * MILLION,
        ("a" + " " * 99_999) * 9,
    ],
    ids=["a", "spaces", "spaces-a", "newlines-b", "accents", "just-short"],
)  # fmt: skip
def test_long_runs(every: list[Any], text: str) -> None:
    """Without care, tiktoken's matcher overflows its stack on the third and the fourth."""
    for own in every[:2]:
        assert own.decode(own.encode(text)) == text


def test_a_pattern_that_cannot_be_matched_is_named() -> None:
    own = bpe.Bpe([bytes([byte]) for byte in range(256)], bpe.CL100K_PATTERN)
    with pytest.raises(BadInput, match="text: the pattern .* cannot be matched"):
        own.encode(" " * MILLION + "a")


def test_long_runs_are_cut_where_the_pattern_cuts(fitted: TextTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    parts = ["a", "1", "!", "'s", "\t", "\x1c", "\x85", "é", " ", " " * 3, " " * 9, " " * 30, "\n" * 11, "\u3000" * 12]
    texts = ["".join(rng.choices(parts, k=6)) for _ in range(3000)]
    whole = [fitted.encode(text).tolist() for text in texts]
    monkeypatch.setattr(bpe, "RUN", 8)
    assert sum(len(list(fitted._fitted._parts(text))) > 1 for text in texts) > 1000
    assert [fitted.encode(text).tolist() for text in texts] == whole


def test_learning_from_a_million_equal_characters() -> None:
    own = TextTokenizer(vocab_size=300)
    own.fit(["a" * 1_000_000, " " * 1_000_000 + "b"])
    assert own.decode(own.encode("a" * 999)) == "a" * 999
    assert max(map(len, own._fitted.tokens)) <= bpe.LONGEST_WORD


def test_threads_give_the_same(fitted: TextTokenizer) -> None:
    texts = [CORPUS[at : at + 7_001] for at in range(0, len(CORPUS), 7_001)]
    alone = [fitted.encode(text).tolist() for text in texts]
    assert [ids.tolist() for ids in fitted.encode_batch(texts, threads=3)] == alone
    with pytest.raises(ConfigError, match="threads is 0"):
        fitted.encode_batch(texts, threads=0)
