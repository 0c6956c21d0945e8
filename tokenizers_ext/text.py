"""Text as tokens: "text" by byte-level byte-pair encoding, "bytes" by its UTF-8, "characters" by a learned alphabet.

Text is str. Any comes back exactly, and what is spelled like a special token is text like any other: no text becomes a
control token. Ids that a model makes up may end in half a character, or hold bytes that are no UTF-8: `decode` puts
U+FFFD there, so that what it gives can be printed, stored and encoded; `decode_bytes` gives the bytes themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from os import PathLike
from typing import Any, BinaryIO, ClassVar, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted
from tokenizers_ext import _text_bpe, _text_files, _text_read
from tokenizers_ext._text_bpe import CONTROL, GPT2_PATTERN, Bpe, suitable_size
from tokenizers_ext._text_pairs import TABLES, aligned, column_names, table
from tokenizers_ext._text_read import lines, pieces
from tokenizers_ext._text_records import is_records, records, texts
from tokenizers_ext._text_stream import TextStream

__all__ = [
    "GPT2_PATTERN", "TABLES", "ByteTokenizer", "CharacterTokenizer", "TextStream", "TextTokenizer", "aligned",
    "column_names", "is_records", "lines", "pieces", "records", "suitable_size", "table", "texts",
]  # fmt: skip

EXAMPLES = (
    "", "a", "One decoder, any modality.\n", "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich.\r\n",
    "\t  spaces \u00a0 and\n\n\nlines  ", "日本語 русский עברית \U0001f469\u200d\U0001f467 e\u0301 \x00\x7f\ufeff",
    "<|endoftext|> <pad> [MASK] </s>", "aaaa" * 20,
)  # fmt: skip
"""For the conformance kit, and for the fingerprint of a tokenizer that is kept with a model."""


class _Text:
    """What all three have: files, `decode` from bytes, a stream."""

    suffixes: ClassVar[tuple[str, ...]] = _text_read.SUFFIXES

    def __init__(self, errors: str = "strict") -> None:
        if errors not in _text_read.ERRORS:
            raise ConfigError(f"errors is {errors!r}; it is {' or '.join(map(repr, _text_read.ERRORS))}")
        self.errors = errors

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        raise NotImplementedError

    def read(self, path: str | PathLike[str]) -> str:
        """The text of a UTF-8 file, plain or gzip: no byte-order mark, line ends are newlines. Raises BadInput."""
        return _text_read.read(path, self.errors)

    def lines(self, source: str | PathLike[str] | BinaryIO, errors: str | None = None) -> Iterator[str]:
        """The lines of a file, or of an open binary one, without their ends; `errors` in place of the tokenizer's own.

        Raises BadInput with line and byte."""
        return lines(source, errors or self.errors)

    def write(self, item: str, path: str | PathLike[str]) -> None:
        """Write a text as UTF-8, with gzip where the name ends in .gz."""
        _text_read.write(_checked(item), path)

    def decode(self, ids: np.ndarray) -> str:
        """The text of any ids in range; U+FFFD where their bytes are no UTF-8."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: np.ndarray) -> bytes:
        """The bytes of any ids in range. Raises BadInput for others."""
        ids = np.asarray(ids)
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise BadInput("ids", f"{ids.min()} to {ids.max()} are not all from 0 to {self.vocab_size - 1}")
        return self._bytes(ids)

    def stream(self) -> TextStream:
        """Turns ids into text while they come, a character when it is whole."""
        return TextStream(self.decode_bytes)

    def examples(self, rng: np.random.Generator) -> list[str]:
        """A few texts in several scripts, the empty one among them."""
        return list(EXAMPLES)

    def _bytes(self, ids: np.ndarray) -> bytes:
        raise NotImplementedError


class TextTokenizer(_Text):
    """Any text by byte-level BPE, as GPT-2: learned from texts (`fit`), or from files (`TextTokenizer.load`).

    vocab_size: how many ids `fit` may make, the 256 bytes among them.
    errors: what `read` does with bytes that are no UTF-8: "strict" raises, "replace" puts U+FFFD in their place.
    """

    name: ClassVar[str] = "text"

    def __init__(self, vocab_size: int = 4096, errors: str = "strict") -> None:
        super().__init__(errors)
        if vocab_size < 256:
            raise ConfigError(f"vocab_size={vocab_size}: at least 256, one for each byte")
        self._wanted = vocab_size
        self._bpe: Bpe | None = None

    @classmethod
    def load(cls, path: str | PathLike[str], pattern: str | None = None, errors: str = "strict") -> Self:
        """From files of GPT-2 or of its kind; the ids are theirs. Nothing is downloaded.

        A control token such as GPT-2's `<|endoftext|>` (50256) has its id, but no text becomes it and it stands for no
        text: lay a vocabulary's bos and eos on it (`Vocabulary.single`, with `end_of_text`). An added token that a
        tokenizer.json does not call special is text, and encoded as Hugging Face's library does.

        Args:
            path: a folder or a file: encoder.json and vocab.bpe, vocab.json and merges.txt, a .tiktoken file of ranks,
                or a tokenizer.json.
            pattern: regular expression of words, for a .tiktoken file whose name says none that is known.
            errors: as above.

        Raises:
            BadInput: names the file that is missing, damaged, or no byte-level BPE; for a pattern that is none.
        """
        new = cls(errors=errors)
        new._bpe = _text_files.load(path, pattern)
        _ = new._bpe.encoding  # raises for a pattern that is none
        new._wanted = new.vocab_size
        return new

    @property
    def vocab_size(self) -> int:
        """How many ids there are; fewer than were wanted where the texts gave no more. Raises NotFitted."""
        return len(self._fitted.tokens)

    @property
    def end_of_text(self) -> int | None:
        """The id of `<|endoftext|>`, where the files had one."""
        return self._fitted.special.get(CONTROL)

    @property
    def special(self) -> dict[str, int]:
        """Control tokens of the files, by their spelling."""
        return dict(self._fitted.special)

    def fit(self, items: Iterable[str]) -> None:
        """Learn merges from texts, which are read once. Raises BadInput where there are none."""
        counted = _Counted(items)
        bpe = _text_bpe.learn(counted, self._wanted)
        if counted.characters == 0:
            raise BadInput("texts to fit on", "there is not one character", "give texts")
        self._bpe = bpe

    def encode(self, item: str) -> np.ndarray:
        """Ids int32 (n,). Raises BadInput for what is no text."""
        return self._fitted.encode(_checked(item))

    def encode_batch(self, items: Sequence[str], threads: int = 1) -> list[np.ndarray]:
        """Ids of each text; tiktoken lets threads run side by side."""
        if threads < 1:
            raise ConfigError(f"threads is {threads}; it must be at least 1")
        self._fitted.encoding  # noqa: B018  # made once, before there are threads
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.encode, items))

    def _bytes(self, ids: np.ndarray) -> bytes:
        return self._fitted.decode(ids)

    @property
    def _fitted(self) -> Bpe:
        if self._bpe is None:
            raise NotFitted("the tokenizer text has no merges yet: call fit(texts), or make it by TextTokenizer.load")
        return self._bpe

    def to_dict(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"vocab_size": self._wanted, "errors": self.errors}
        if self._bpe is None:
            return plain
        tokens, order = self._bpe.tokens, self._bpe.order
        plain |= ({"added": self._bpe.added} if self._bpe.added else {}) | ({} if order is None else {"order": order})
        return plain | {
            "pattern": self._bpe.pattern,
            "special": self._bpe.special,
            "tokens": np.frombuffer(b"".join(tokens), np.uint8),
            "lengths": np.array([len(token) for token in tokens], np.int32),
        }

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        new = cls(d["vocab_size"], d["errors"])
        if "tokens" in d:
            ends = np.cumsum(d["lengths"]).tolist()
            whole = np.asarray(d["tokens"], np.uint8).tobytes()
            tokens = [whole[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            new._bpe = Bpe(tokens, d["pattern"], d["special"], d.get("added", ()), d.get("order"))
        return new


class ByteTokenizer(_Text):
    """Any text by the bytes of its UTF-8: 256 ids, nothing to learn.

    errors: what `read` does with bytes that are no UTF-8: "strict" raises, "replace" puts U+FFFD in their place.
    """

    name: ClassVar[str] = "bytes"

    @property
    def vocab_size(self) -> int:
        """256."""
        return 256

    def encode(self, item: str) -> np.ndarray:
        """Ids int32 (n,), one a byte. Raises BadInput for what is no text."""
        try:
            return np.frombuffer(_checked(item).encode("utf-8"), np.uint8).astype(np.int32)
        except UnicodeEncodeError as error:
            raise _text_read.surrogate(error) from error

    def _bytes(self, ids: np.ndarray) -> bytes:
        return ids.astype(np.uint8).tobytes()

    def to_dict(self) -> dict[str, Any]:
        return {"errors": self.errors}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(**d)


class CharacterTokenizer(_Text):
    """Text by its characters, an id for each that was seen (`fit`); another one raises.

    alphabet: the characters, where they are known before.
    errors: what `read` does with bytes that are no UTF-8: "strict" raises, "replace" puts U+FFFD in their place.
    """

    name: ClassVar[str] = "characters"

    def __init__(self, alphabet: str = "", errors: str = "strict") -> None:
        super().__init__(errors)
        self._codes = np.unique(_codes(alphabet))

    @property
    def vocab_size(self) -> int:
        """How many characters there are. Raises NotFitted."""
        return len(self._fitted)

    @property
    def alphabet(self) -> str:
        """All characters in order of their ids, which is that of their code points."""
        return self._fitted.astype("<u4").tobytes().decode("utf-32-le")

    def fit(self, items: Iterable[str]) -> None:
        """Learn which characters there are. Raises BadInput where there are none."""
        seen: set[str] = set()
        for item in _Counted(items):
            seen.update(item)
        if not seen:
            raise BadInput("texts to fit on", "there is not one character", "give texts")
        self._codes = np.unique(_codes("".join(seen)))

    def encode(self, item: str) -> np.ndarray:
        """Ids int32 (n,), one a character. Raises BadInput with the first one that was never seen, and where it is."""
        known, codes = self._fitted, _codes(_checked(item))
        ids = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        strange = np.flatnonzero(known[ids] != codes)
        if len(strange):
            at = int(strange[0])
            raise BadInput(
                "text", f"{item[at]!r} (U+{ord(item[at]):04X}) at {at:,} is none of the {len(known)} characters seen",
                'fit on texts that have it, or take the tokenizer "bytes" or "text", which know every character',
            )  # fmt: skip
        return ids.astype(np.int32)

    def _bytes(self, ids: np.ndarray) -> bytes:
        return self._fitted[ids.astype(np.int64)].astype("<u4").tobytes().decode("utf-32-le").encode("utf-8")

    def examples(self, rng: np.random.Generator) -> list[str]:
        """A few texts; of its own characters, once it has some."""
        if not len(self._codes):
            return list(EXAMPLES)
        return [self.decode(rng.integers(len(self._codes), size=n)) for n in (0, 1, 40)] + [self.alphabet]

    @property
    def _fitted(self) -> np.ndarray:
        if not len(self._codes):
            raise NotFitted("the tokenizer characters has seen none yet: call fit(texts), or give it an alphabet")
        return self._codes

    def to_dict(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet if len(self._codes) else "", "errors": self.errors}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        return cls(**d)


class _Counted:
    """Texts, checked as they pass; how many characters there were."""

    def __init__(self, items: Iterable[str]) -> None:
        self.items, self.characters = items, 0

    def __iter__(self) -> Iterator[str]:
        for item in self.items:
            if not _checked(item).isascii():
                _codes(item)
            self.characters += len(item)
            yield item


def _checked(item: Any) -> str:
    if not isinstance(item, str):
        raise BadInput("text", f"is a {type(item).__name__}, expected str", "read a file with the tokenizer's read")
    return item


def _codes(text: str) -> np.ndarray:
    """Code points uint32 (n,). Raises BadInput for half of a surrogate pair."""
    try:
        return np.frombuffer(text.encode("utf-32-le"), "<u4")
    except UnicodeEncodeError as error:
        raise _text_read.surrogate(error) from error


TOKENIZERS = {"text": TextTokenizer, "bytes": ByteTokenizer, "characters": CharacterTokenizer}
