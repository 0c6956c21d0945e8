"""Files of text and of byte-pair encodings: what is whole is read, what is not is named with its place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput, ConfigError
from seqmodal.tokenizers import fingerprint, load_tokenizers, save_tokenizers
from tokenizers_ext import _text_read
from tokenizers_ext._text_bpe import BYTES, OPENAI
from tokenizers_ext.text import ByteTokenizer, TextTokenizer, lines, pieces

CORPUS = "\n".join(sorted(topics.values()))[:60_000]
SAMPLE = CORPUS[:3000] + " naïve 日本語 <|endoftext|> 12345  \n\n x"
PUBLISHED = Path(__file__).parents[2] / "shared" / "data" / "gpt2_bpe"
"""OpenAI's own files, where they are."""


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-2 in all its files, by Hugging Face's library: first the bytes, then merges, then the end."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    folder = tmp_path_factory.mktemp("gpt")
    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    other.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    other.train_from_iterator([CORPUS], trainer)
    other.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    other.save(str(folder / "tokenizer.json"))
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    vocab = model["vocab"] | {"<|endoftext|>": 500}
    merges = "\n".join(["#version: 0.2", *(" ".join(pair) for pair in model["merges"]), ""])
    for names in (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")):
        part = folder / names[0].split(".")[0]
        part.mkdir()
        (part / names[0]).write_text(json.dumps(vocab), encoding="utf-8")
        (part / names[1]).write_text(merges, encoding="utf-8")
    own = TextTokenizer.load(folder / "tokenizer.json")
    ranks = [f"{base64.b64encode(token).decode()} {id}" for id, token in enumerate(own._fitted.tokens) if token]
    (folder / "ranks").mkdir()
    (folder / "ranks" / "own.tiktoken").write_text("\n".join([*ranks, ""]))
    return folder


def test_all_files_give_hugging_faces_ids(gpt: Path) -> None:
    from tokenizers import Tokenizer

    ids = Tokenizer.from_file(str(gpt / "tokenizer.json")).encode(SAMPLE.replace("<|endoftext|>", "")).ids
    for path in ("", "tokenizer.json", "encoder", "vocab", "encoder/vocab.bpe", "vocab/vocab.json", "vocab/merges.txt"):
        own = TextTokenizer.load(gpt / path)
        assert own.vocab_size == 501 and own.end_of_text == 500 and own.special == {"<|endoftext|>": 500}, path
        assert own.encode(SAMPLE.replace("<|endoftext|>", "")).tolist() == ids
        assert own.decode(own.encode(SAMPLE)) == SAMPLE and own.encode(SAMPLE).max() < 500
        assert own.decode(np.array([*ids, 500])) == SAMPLE.replace("<|endoftext|>", "")
        assert TextTokenizer.from_dict(own.to_dict()).special == own.special
        assert not {"added", "order"} & own.to_dict().keys()  # so that its fingerprint stays what it was


def test_a_file_of_ranks(gpt: Path, tmp_path: Path) -> None:
    file = gpt / "ranks" / "own.tiktoken"
    with pytest.raises(BadInput, match=r"of ranks, .*give the pattern .*load..own.tiktoken., pattern=.*cl100k"):
        TextTokenizer.load(file)
    whole = TextTokenizer.load(gpt)
    own = TextTokenizer.load(gpt / "ranks", pattern=r"\w+|\W")
    assert own.vocab_size == 500 and own.end_of_text is None and own.decode(own.encode(SAMPLE)) == SAMPLE
    assert TextTokenizer.from_dict(own.to_dict()).encode(SAMPLE).tolist() == own.encode(SAMPLE).tolist()
    named = tmp_path / "gpt2.tiktoken"
    named.write_text(file.read_text())
    known = TextTokenizer.load(named)
    assert known.encode(SAMPLE).tolist() == whole.encode(SAMPLE).tolist()
    assert known.vocab_size == 50257 and known.end_of_text == 50256 and known.decode(np.array([30000, 50256])) == ""
    # what was read before under this name does not come back
    named.write_text("".join(f"{base64.b64encode(bytes([byte])).decode()} {255 - byte}\n" for byte in range(256)))
    assert TextTokenizer.load(named).encode("a").tolist() == [255 - 97]
    with pytest.raises(BadInput, match="no regular expression"):
        TextTokenizer.load(file, pattern="(")
    with pytest.raises(BadInput, match="says itself how text is cut"):
        TextTokenizer.load(gpt, pattern="a")


def test_another_pattern_from_tokenizer_json(gpt: Path, tmp_path: Path) -> None:
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    other = Tokenizer.from_file(str(gpt / "tokenizer.json"))
    split = r"'(?:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+(?!\S)|\s+"
    bytes_only = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    other.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(split), "isolated"), bytes_only])
    other.save(str(tmp_path / "tokenizer.json"))
    own, plain = TextTokenizer.load(tmp_path), SAMPLE.replace("<|endoftext|>", "")
    assert own.encode(plain).tolist() == other.encode(plain).ids != TextTokenizer.load(gpt).encode(plain).tolist()


NAMES = {name: id for id, name in enumerate(BYTES)}  # as GPT-2 has them: "a" is 64, a space 220


def added(content: str, id: int, special: bool = False, normalized: bool = True) -> dict[str, Any]:
    no = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    return {"id": id, "content": content, **no, "normalized": normalized, "special": special}


def both(folder: Path, vocab: Any, merges: Any, listed: Any = (), **model: Any) -> tuple[TextTokenizer, Any]:
    """A tokenizer.json, loaded here and by Hugging Face's library, to which special tokens are text as well."""
    from tokenizers import Tokenizer

    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    model = {"type": "BPE", "vocab": dict(vocab), "merges": list(merges), **model}
    whole = {"version": "1.0", "added_tokens": list(listed), "pre_tokenizer": byte_level, "decoder": byte_level}
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(whole | {"model": model}), encoding="utf-8")
    other = Tokenizer.from_file(str(file))
    other.encode_special_tokens = True
    return TextTokenizer.load(file), other


def test_an_added_token_that_is_not_special_is_text(tmp_path: Path) -> None:
    own, other = both(tmp_path, NAMES, [], [added("    ", 256), added("<|im_start|>", 257, special=True)])
    assert own.encode("a    b").tolist() == other.encode("a    b").ids == [64, 256, 65]
    assert own.decode(np.array([64, 256, 257, 65])) == "a    b" and own.special == {"<|im_start|>": 257}
    text = "    <|im_start|>\n" + " " * 9 + "x"
    assert 257 not in own.encode(text) and own.decode(own.encode(text)) == text
    stream = own.stream()
    assert "".join(stream.push([id]) for id in own.encode(text).tolist()) + stream.end() == text
    for back in (TextTokenizer.from_dict(own.to_dict()), pickle.loads(pickle.dumps(own))):
        assert back.encode(text).tolist() == own.encode(text).tolist() and fingerprint(back) == fingerprint(own)
    save_tokenizers([own], tmp_path)
    assert load_tokenizers(tmp_path)[0].encode(text).tolist() == own.encode(text).tolist()  # type: ignore[attr-defined]
    prints = {fingerprint(own)}
    for listed in ([], [added("   ", 256)], [added("\t\t", 256)], [added("\t\t", 256, normalized=False)]):
        prints.add(fingerprint(both(tmp_path, NAMES, [], listed)[0]))
    assert len(prints) >= 4  # of the two with "\t\t" nobody can tell one from the other
    with pytest.raises(BadInput, match=r"U\+DC80 at 6"):
        own.encode("a    b\udc80")


def test_the_end_of_a_text_is_control_whatever_the_file_says(tmp_path: Path) -> None:
    ids = NAMES | {"<|endoftext|>": 256}
    for vocab, listed in ((NAMES, [added("<|endoftext|>", 256)]), (ids, [])):
        own, _ = both(tmp_path, vocab, [], listed, ignore_merges=True)
        assert own.end_of_text == 256 and own.encode("<|endoftext|>").max() < 256
        assert own.decode(np.array([64, 256])) == "a"


def test_of_added_tokens_the_longest_is_found(tmp_path: Path) -> None:
    own, other = both(tmp_path, NAMES, [], [added("<x", 256), added("<x>", 257)])
    assert own.encode("<x><xy").tolist() == other.encode("<x><xy").ids == [257, 256, NAMES["y"]]


PIECES = (" ", "  ", "    ", "\t\t", "\n", "a", "ab", "b a", "<", "<x>", "x>a", "日é", "é日", "é", "'s", "<x><x>")


def test_added_tokens_are_found_as_hugging_face_finds_them(tmp_path: Path) -> None:
    vocab = NAMES | {"ĠĠ": 256, "ab": 257, "ĠĠab": 258}
    merges = [("Ġ", "Ġ"), ("a", "b"), ("ĠĠ", "ab")]
    token = st.tuples(st.sampled_from([piece for piece in PIECES if piece != "é"]), st.booleans(), st.booleans())

    @settings(max_examples=400, deadline=None)
    @given(st.lists(token, unique_by=lambda one: one[0], max_size=6), st.data())
    def same(tokens: list[tuple[str, bool, bool]], data: st.DataObject) -> None:
        fresh = iter(range(259, 300))
        listed = [
            added(name, vocab[name] if name in vocab else next(fresh), special, normalized)
            for name, special, normalized in tokens
        ]
        own, other = both(tmp_path, vocab, merges, listed)
        saved = TextTokenizer.from_dict(own.to_dict())
        pieces = st.sampled_from([name for name, _, _ in tokens] * 2 + list(PIECES))
        for text in data.draw(st.lists(st.lists(pieces, max_size=8).map("".join) | st.text(max_size=8), max_size=4)):
            ids = own.encode(text).tolist()
            assert ids == other.encode(text).ids == saved.encode(text).tolist()
            control = {one["id"] for one in listed if one["special"]} - set(vocab.values())
            assert own.decode(np.array(ids, np.int32)) == text and not control.intersection(ids)
            if "é" not in "".join(name for name, _, _ in tokens):  # Hugging Face decodes that as a byte
                assert other.decode(ids, skip_special_tokens=False) == text

    same()


WORDS = st.lists(st.text("abc ", max_size=14), max_size=6)


@settings(max_examples=150, deadline=None)
@given(st.text("abc ", min_size=4, max_size=60), st.randoms(use_true_random=False), WORDS)
def test_ids_in_another_order_than_the_merges(learned: str, rng: random.Random, texts: list[str]) -> None:
    """RoBERTa's and BART's are sorted by how often they occur."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    plain = Tokenizer(models.BPE())
    plain.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    plain.train_from_iterator(
        [learned], trainers.BpeTrainer(vocab_size=290, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(plain.to_str())["model"]
    ids = rng.sample(range(4, len(model["vocab"]) + 4), len(model["vocab"]))
    vocab = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3} | dict(zip(model["vocab"], ids, strict=True))
    listed = [added(name, vocab[name], special=True) for name in ("<s>", "<pad>", "</s>", "<unk>")]
    with TemporaryDirectory() as folder:
        own, other = both(Path(folder), vocab, model["merges"], listed)
        (Path(folder) / "vocab.json").write_text(json.dumps(vocab))
        (Path(folder) / "merges.txt").write_text("\n".join(map(" ".join, model["merges"])))
        pair = TextTokenizer.load(Path(folder) / "vocab.json")
    saved = TextTokenizer.from_dict(own.to_dict())
    assert fingerprint(saved) == fingerprint(own) == fingerprint(pair)
    for text in [learned, *texts]:
        ids = own.encode(text).tolist()
        assert ids == other.encode(text).ids == saved.encode(text).tolist() == pair.encode(text).tolist()
        assert own.decode(np.array(ids, np.int32)) == text and own.encode("<s>").min() > 3


def converted(ranks: dict[str, int]) -> list[tuple[str, str]]:
    """Merges as `transformers` makes them of a .tiktoken file: all pairs of each token, in its rank."""
    merges = []
    for token in ranks:
        halves = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [pair for pair in halves if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


LONG = st.lists(st.text("abc", min_size=2, max_size=7), unique=True, max_size=14)


@settings(max_examples=400, deadline=None)
@given(LONG, WORDS)
def test_several_merges_make_one_token(words: list[str], texts: list[str]) -> None:
    """Llama 3 has them; a word that is a token is one, even where its merges lead elsewhere or are not there."""
    ranks = NAMES | {word: 256 + at for at, word in enumerate(sorted(words, key=len))}
    with TemporaryDirectory() as folder:
        own, other = both(Path(folder), ranks, converted(ranks), ignore_merges=True)
    saved = TextTokenizer.from_dict(own.to_dict())
    for text in [*texts, *words, " ".join(words), "".join(words)]:
        ids = own.encode(text).tolist()
        assert ids == other.encode(text).ids == saved.encode(text).tolist()
        assert own.decode(np.array(ids, np.int32)) == text


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=9), st.booleans(), LONG, WORDS)
def test_what_is_taken_has_hugging_faces_ids(
    pairs: list[tuple[int, int]], whole: bool, more: list[str], texts: list[str]
) -> None:  # fmt: skip
    """Merges of anything, in any order."""
    tokens, merges = list("abc"), []
    for left, right in pairs:
        merges.append((tokens[left % len(tokens)], tokens[right % len(tokens)]))
        tokens.append("".join(merges[-1]))
    vocab = NAMES | {token: 256 + at for at, token in enumerate(dict.fromkeys([*reversed(tokens[3:]), *more[:2]]))}
    with TemporaryDirectory() as folder:
        try:
            own, other = both(Path(folder), vocab, merges, ignore_merges=whole)
        except BadInput:
            reject()  # more than a third are taken
    for text in [*texts, *vocab]:
        assert own.encode(text).tolist() == other.encode(text).ids


def test_where_ranks_cannot_say_what_merges_do(tmp_path: Path) -> None:
    vocab = NAMES | {"ab": 256, "bc": 257, "abc": 258}
    merges = [("a", "b"), ("ab", "c"), ("a", "bc"), ("b", "c")]
    own, other = both(tmp_path, vocab, merges)
    assert own.encode("abcbc bc").tolist() == other.encode("abcbc bc").ids == [258, 257, 220, 257]
    own, other = both(tmp_path, vocab, [("a", "b"), ("ab", "c"), ("b", "c"), ("a", "bc")])
    assert own.encode("abcbc bc").tolist() == other.encode("abcbc bc").ids == [258, 257, 220, 257]
    with pytest.raises(BadInput, match=r"'abc' is never reached by its first merges, but is ab \+ c"):
        both(tmp_path, vocab, [("a", "bc"), ("a", "b"), ("b", "c"), ("ab", "c")])
    with pytest.raises(BadInput, match="no merge of 'ab' and 'c' makes 'abc', which is a token .*would merge them"):
        both(tmp_path, vocab, [("a", "b"), ("b", "c")], ignore_merges=True)
    own, other = both(tmp_path, vocab, [("a", "b"), ("b", "c")])  # a token that no text becomes harms nothing
    assert own.encode("abc").tolist() == other.encode("abc").ids == [256, 66]


@pytest.mark.parametrize("name", sorted(OPENAI))
def test_openais_files_are_known_by_name(gpt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    import tiktoken
    from tiktoken_ext import openai_public

    for loader in ("load_tiktoken_bpe", "data_gym_to_mergeable_bpe_ranks"):
        monkeypatch.setattr(openai_public, loader, lambda *args, **named: {})
    published = openai_public.ENCODING_CONSTRUCTORS[name]()
    (tmp_path / f"{name}.tiktoken").write_bytes((gpt / "ranks" / "own.tiktoken").read_bytes())
    own = TextTokenizer.load(tmp_path)
    assert own.special == published["special_tokens"] and own.vocab_size == max(own.special.values()) + 1
    ranks = {token: id for id, token in enumerate(own._fitted.tokens) if token}
    other = tiktoken.Encoding("other", pat_str=published["pat_str"], mergeable_ranks=ranks, special_tokens={})
    for text in (SAMPLE, "HELLO'S ᾼΩ don't  \r\n\n  12345 a/b//\n é!?\n x"):
        assert own.encode(text).tolist() == other.encode(text, disallowed_special=())
        assert own.decode(own.encode(text)) == text


def damaged(file: str, change: Callable[[Any], Any]) -> Callable[[Path, Path], Path]:
    """A copy of a file of the small GPT-2, changed; its parsed content where it is JSON, else its lines."""

    def make(gpt: Path, folder: Path) -> Path:
        source = gpt / file
        for other in source.parent.iterdir():
            if other.is_file():
                (folder / other.name).write_bytes(other.read_bytes())
        text, target = source.read_text(encoding="utf-8"), folder / source.name
        if source.suffix == ".json":
            target.write_text(json.dumps(change(json.loads(text))), encoding="utf-8")
        else:
            target.write_text("\n".join(change(text.split("\n"))), encoding="utf-8")
        return target

    return make


def without(found: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != key}


def model_with(**changes: Any) -> Callable[[Path, Path], Path]:
    return damaged("tokenizer.json", lambda found: found | {"model": found["model"] | changes})


def cut_with(pre_tokenizer: Any) -> Callable[[Path, Path], Path]:
    return damaged("tokenizer.json", lambda found: found | {"pre_tokenizer": pre_tokenizer})


def added_with(*others: Any, **changes: Any) -> Callable[[Path, Path], Path]:
    return damaged("tokenizer.json", lambda found: found | {"added_tokens": [added("    ", 500) | changes, *others]})


@pytest.mark.parametrize(("make", "message"), [
    (damaged("vocab/vocab.json", lambda v: without(v, "Ġ")), "merge 2 is of"),
    (damaged("vocab/vocab.json", lambda v: without(v, "~")), r"no token for 1 of the 256 bytes \(0x7E\)"),
    (damaged("vocab/vocab.json", lambda v: v | {"a": "one"}), "the id of 'a' is 'one'"),
    (damaged("vocab/vocab.json", lambda v: v | {"a": 1 << 40}), "the id of 'a' is 1099511627776"),
    (damaged("vocab/vocab.json", lambda v: v | {"<extra>": 65}), "the id 65 is given to"),
    (damaged("vocab/vocab.json", lambda v: [v]), "holds list, expected an object"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], m[4], *m[9:]]), "merge 10 of 'h' and 'e' is there a second time"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], "a ", *m[9:]]), "merge 10 is of 'a' and ''"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], "one", *m[9:]]), "merge 10 is .*'one'.*expected two tokens"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], "q q", *m[9:]]), "merge 10 makes 'qq', no token of vocab.json"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], "日 q", *m[9:]]), "merge 10 makes '日q'"),
    (damaged("vocab/merges.txt", lambda m: m[:3] + m[4:]), "never reached"),
    (damaged("ranks/own.tiktoken", lambda r: r[1:]), r"no token for 1 of the 256 bytes \(0x21\)"),
    (damaged("ranks/own.tiktoken", lambda r: ["!! 1", *r]), "line 1 is '!! 1', expected base64"),
    (damaged("ranks/own.tiktoken", lambda r: [*r[:-1], "QQ"]), "line 501 is 'QQ'"),
    (damaged("ranks/own.tiktoken", lambda r: [*r[:-1], r[0]]), "line 501 gives b'!' a second time"),
    (damaged("ranks/own.tiktoken", lambda r: [*r[:-1], " 7"]), "line 501 gives no bytes"),
    (damaged("ranks/own.tiktoken", lambda r: [*r[:-1], "cXFx 3"]), "the id 3 is given to b'[$]' and to b'qqq'"),
    (damaged("ranks/own.tiktoken", lambda r: [*r[:-1], "cXFx -3"]), "the id of b'qqq' is -3"),
    (model_with(type="Unigram"), "holds Unigram, expected a byte-level BPE"),
    (model_with(byte_fallback=True), "byte_fallback is True"),
    (model_with(dropout=0.1), "dropout is 0.1"),
    (model_with(end_of_word_suffix="</w>"), "end_of_word_suffix is '</w>'"),
    (model_with(vocab=[]), "its model has no vocab"),
    (model_with(merges=[[1, 2]]), "merge 1 is"),
    (damaged("tokenizer.json", lambda t: t | {"normalizer": {"type": "NFC"}}), "normalizer NFC changes the text"),
    (cut_with({"type": "Whitespace"}), "Whitespace, which is not byte-level"),
    (cut_with(None), "NoneType, which is not byte-level"),
    (cut_with({"type": "ByteLevel", "add_prefix_space": True}), "puts a space before each text"),
    (cut_with({"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}), "none of those that are known"),
    (model_with(ignore_merges="no"), "ignore_merges is 'no'"),
    (added_with(content=5), "an added token is 5, expected text"),
    (added_with(content="\ud800"), r"an added token is '\\ud800', expected text"),
    (added_with(id=None), "the id of '    ' is None"),
    (added_with(id=900), "'    ' has the id 900; Hugging Face's library gives 500"),
    (added_with(lstrip=True), "the added token '    ' has lstrip"),
    (added_with(rstrip=True), "the added token '    ' has rstrip"),
    (added_with(single_word=True), "the added token '    ' has single_word"),
    (added_with({"content": "    ", "id": 500, "special": True}), "'    ' is there a second time"),
    (added_with(content="é", id=NAMES["é"]), r"id 165 is given to b'\\xe9' and to b'\\xc3\\xa9'"),
    (damaged("tokenizer.json", lambda t: t | {"added_tokens": 3}), "added_tokens is no list"),
    (damaged("tokenizer.json", lambda t: {}), "holds no model of tokens"),
])  # fmt: skip
def test_a_damaged_file_is_named(
    gpt: Path, tmp_path: Path, make: Callable[[Path, Path], Path], message: str
) -> None:  # fmt: skip
    path = make(gpt, tmp_path)
    with pytest.raises(BadInput, match=message) as caught:
        TextTokenizer.load(path, pattern=r"\w+|\W" if path.suffix == ".tiktoken" else None)
    assert str(tmp_path) in str(caught.value)


def test_rubbish_and_missing_files_are_named(gpt: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="has no byte-level BPE .it needs vocab.json . merges.txt"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "vocab.json").write_bytes((gpt / "vocab" / "vocab.json").read_bytes())
    with pytest.raises(BadInput, match="merges.txt: is missing beside vocab.json"):
        TextTokenizer.load(tmp_path)
    rng = np.random.default_rng(0)
    for name in ("tokenizer.json", "vocab.json", "merges.txt", "x.tiktoken", "other.json"):
        for data in (b"", b"\xff\x00", rng.bytes(500), b"[" * 100_000, b'{"a": ' * 10, b"null"):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(BadInput, match=str(tmp_path)):
                TextTokenizer.load(tmp_path / name, pattern="." if name.endswith("n") and "tik" in name else None)
    with pytest.raises(BadInput, match="No such file"):
        TextTokenizer.load(tmp_path / "none.json")


BODY = "First line.\nZweite, mit Umläuten: äöü\n\n日本語 and 😀\nlast"


@pytest.mark.parametrize(("data", "text"), [
    (BODY.encode(), BODY),
    (BODY.encode("utf-8-sig"), BODY),
    (BODY.replace("\n", "\r\n").encode(), BODY),
    (BODY.replace("\n", "\r").encode(), BODY),
    (gzip.compress(BODY.encode("utf-8-sig")), BODY),
    (b"\xef\xbb\xbf\xef\xbb\xbfa", "\ufeffa"),
    (b"\n", "\n"),
    (b"\r\r\n\n\r", "\n\n\n\n"),
    ("a\u2028b\x0cc\x85d\x00".encode(), "a\u2028b\x0cc\x85d\x00"),
], ids=["plain", "bom", "windows", "old-mac", "gzip", "two-boms", "newline", "mixed", "odd"])  # fmt: skip
def test_reading(tmp_path: Path, data: bytes, text: str) -> None:
    own = ByteTokenizer()
    for name in ("a.txt", "b.md", "c.txt.gz"):  # what a file is, its content says
        (tmp_path / name).write_bytes(data)
        assert own.read(tmp_path / name) == text
        assert list(lines(tmp_path / name)) == io.StringIO(text).read().removesuffix("\n").split("\n")
        assert list(lines(io.BytesIO(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data))) == list(
            lines(tmp_path / name)
        )
    for name in ("a.txt", "b.txt.gz"):
        own.write(text, tmp_path / name)
        assert own.read(tmp_path / name) == text.removeprefix("\ufeff")
    assert (tmp_path / "b.txt.gz").read_bytes()[:2] == b"\x1f\x8b"


@settings(max_examples=400, deadline=None)
@given(st.binary(max_size=40) | st.text(alphabet="a\r\né日😀\ufeff", max_size=30).map(str.encode), st.integers(1, 9))
def test_pieces_are_the_whole(data: bytes, size: int) -> None:
    """Whatever the size of a piece: what `open` gives, or the byte that it stumbles at."""
    if data[:2] == b"\x1f\x8b":
        return
    without_mark = data.removeprefix(b"\xef\xbb\xbf")  # Python's own utf-8-sig loses the start of half a mark
    whole = io.TextIOWrapper(io.BytesIO(without_mark), encoding="utf-8", errors="replace").read()
    assert "".join(pieces(io.BytesIO(data), "replace", size)) == whole
    try:
        data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        with pytest.raises(BadInput, match=rf"byte 0x{data[error.start]:02X} at {error.start} \(line {line}\)"):
            list(pieces(io.BytesIO(data), "strict", size))
    else:
        assert "".join(pieces(io.BytesIO(data), "strict", size)) == whole


def test_what_is_no_text_is_named_with_its_place(tmp_path: Path) -> None:
    path, own = tmp_path / "bad.txt", ByteTokenizer()
    path.write_bytes(b"good\n" * 300_000 + b"so so \xe9t\xe9\n")
    with pytest.raises(BadInput, match=r"bad.txt: byte 0xE9 at 1,500,006 \(line 300,001\) is no UTF-8 .*replace"):
        own.read(path)
    assert ByteTokenizer(errors="replace").read(path).endswith("so so \ufffdt\ufffd\n")
    path.write_bytes("text".encode("utf-16"))
    with pytest.raises(BadInput, match="looks like UTF-16; convert it"):
        own.read(path)
    cut = gzip.compress(b"a" * 9999)[:-9]
    for data, message in ((b"", "the file is empty"), (cut, "end-of-stream"), (b"\x1f\x8bxx", "")):
        path.write_bytes(data)
        with pytest.raises(BadInput, match=f"bad.txt: .*{message}"):
            own.read(path)
    for missing in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(BadInput, match=str(missing)):
            own.read(missing)
    with pytest.raises(ConfigError, match="errors is 'ignore'"):
        list(lines(path, errors="ignore"))


def test_a_large_file_is_read_in_constant_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb of gzip, 64 MB without a line end, in 64 kB: nothing holds it whole, and `read` stops at its limit."""
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"x" * (64 << 20), 1))
    monkeypatch.setattr(_text_read, "MAX_CHARACTERS", 8 << 20)
    tracemalloc.start()
    assert sum(map(len, pieces(path))) == 64 << 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20
    with pytest.raises(BadInput, match="the text has more than 8,388,608 characters"):
        ByteTokenizer().read(path)
    with pytest.raises(BadInput, match="a line has more than 8,388,608"):
        list(lines(path))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason="GPT-2's published files are not here")
def test_the_published_files_of_gpt2() -> None:
    published = TextTokenizer.load(PUBLISHED)
    assert published.vocab_size == 50257
    assert published.encode("Hello, world").tolist() == [15496, 11, 995]
    assert published.decode(published.encode(SAMPLE)) == SAMPLE
