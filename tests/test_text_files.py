"""Files of text and of byte-pair encodings: what is whole is read, what is not is named with its place."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput, ConfigError
from tokenizers_ext import _text_read
from tokenizers_ext.text import ByteTokenizer, TextTokenizer, lines, pieces

CORPUS = "\n".join(sorted(topics.values()))[:60_000]
SAMPLE = CORPUS[:3000] + " naïve 日本語 <|endoftext|> 12345  \n\n x"


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


def test_a_file_of_ranks(gpt: Path, tmp_path: Path) -> None:
    file = gpt / "ranks" / "own.tiktoken"
    with pytest.raises(BadInput, match="own.tiktoken: is a file of ranks, .*give the pattern"):
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


@pytest.mark.parametrize(("make", "message"), [
    (damaged("vocab/vocab.json", lambda v: without(v, "Ġ")), "merge 2 is of"),
    (damaged("vocab/vocab.json", lambda v: without(v, "~")), r"no token for 1 of the 256 bytes \(0x7E\)"),
    (damaged("vocab/vocab.json", lambda v: v | {"a": "one"}), "the id of 'a' is 'one'"),
    (damaged("vocab/vocab.json", lambda v: v | {"a": 1 << 40}), "the id of 'a' is 1099511627776"),
    (damaged("vocab/vocab.json", lambda v: v | {"<extra>": 65}), "the id 65 is given to"),
    (damaged("vocab/vocab.json", lambda v: [v]), "holds list, expected an object"),
    (damaged("vocab/merges.txt", lambda m: [*m[:9], m[-2], *m[9:-2]]), "merge 11 makes the id 264 after 499"),
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
    (damaged("tokenizer.json", lambda t: t | {"added_tokens": [{"content": 5, "id": 900}]}), "the id 900|of 5"),
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
