"""Byte-level byte-pair encoding: tiktoken encodes, Hugging Face's `tokenizers` learns the merges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmodal.errors import BadInput
from tokenizers_ext._text_read import surrogate

if TYPE_CHECKING:
    from tiktoken import Encoding

GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
"""How GPT-2 cuts text into words, within which bytes are merged; tiktoken's quick spelling of OpenAI's pattern."""
CONTROL = "<|endoftext|>"
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)
O200K_PATTERN = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)
OPENAI: dict[str, tuple[str, dict[str, int]]] = {
    **dict.fromkeys(("gpt2", "r50k_base", "p50k_base"), (GPT2_PATTERN, {CONTROL: 50256})),
    "cl100k_base": (
        CL100K_PATTERN,
        {
            CONTROL: 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
            "<|endofprompt|>": 100276,
        },
    ),
    "o200k_base": (O200K_PATTERN, {CONTROL: 199999, "<|endofprompt|>": 200018}),
}  # fmt: skip
"""Files of ranks that are known by name: the pattern and the control tokens that OpenAI publishes beside them."""
LONGEST_WORD = 256
"""Bytes of a word that merges are learned from; learning takes the square of it, and no token is longer."""
RUN = 100_000
"""White space this long is cut by hand: from about a million on, tiktoken's matcher overflows its stack."""
_SPACE = r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # \s as the matcher has it
_RUNS = re.compile(f"{_SPACE}+")


class Bpe:
    """Tokens, and how text becomes their ids.

    Attributes:
        tokens: bytes of each id; b"" for an id that stands for no text.
        pattern: regular expression of the words that are encoded one by one.
        special: control tokens by their spelling, such as "<|endoftext|>"; no text becomes one.
        added: ids by the spelling that text is cut at before it is cut into words, the longest first, in one pass after
            the other; None for a control token, which is found and left text.
        order: ids in order of their merges, int32; None where that is the order of all ids that stand for text.
    """

    def __init__(
        self, tokens: list[bytes], pattern: str = GPT2_PATTERN, special: Mapping[str, int] | None = None,
        added: Sequence[Mapping[str, int | None]] = (), order: np.ndarray | None = None,
    ):  # fmt: skip
        self.tokens, self.pattern, self.special = tokens, pattern, dict(special or {})
        self.added, self.order = [dict(names) for names in added], order

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.tokens, self.pattern, self.special, self.added, self.order)

    @cached_property
    def encoding(self) -> Encoding:
        """tiktoken's, which gives ranks. The one special token it is given is never asked for."""
        from tiktoken import Encoding

        ranks = {self.tokens[id]: rank for rank, id in enumerate(self._by_rank.tolist())}
        try:
            return Encoding("seqmodal", pat_str=self.pattern, mergeable_ranks=ranks, special_tokens={CONTROL: 1 << 30})
        except ValueError as error:
            raise BadInput("pattern", f"{self.pattern!r} is no regular expression for tiktoken: {error}") from error

    def encode(self, text: str) -> np.ndarray:
        """Ids int32 (n,). Raises BadInput for half of a surrogate pair, or where the pattern cannot be matched."""
        try:
            ids = [
                self._encode(part) if isinstance(part, str) else np.array([part], np.int32)
                for part in self._cut(text, self._passes)
            ]
        except UnicodeEncodeError as error:
            at = text.index(error.object[error.start])  # the first there is; the error tells where in its part
            raise surrogate(UnicodeEncodeError(error.encoding, text, at, at + 1, error.reason)) from error
        return ids[0] if len(ids) == 1 else np.concatenate(ids)

    def decode(self, ids: np.ndarray) -> bytes:
        """The bytes of ids in range."""
        return b"".join(map(self.tokens.__getitem__, ids.tolist()))

    @cached_property
    def _by_rank(self) -> np.ndarray:
        """The id of each rank."""
        ids = [id for id, token in enumerate(self.tokens) if token] if self.order is None else self.order
        return np.asarray(ids, np.int32)

    @cached_property
    def _passes(self) -> list[tuple[re.Pattern[str], dict[str, int | None]]]:
        ordered = (sorted(names, key=len, reverse=True) for names in self.added)
        return [(re.compile("|".join(map(re.escape, each))), self.added[at]) for at, each in enumerate(ordered)]

    def _cut(self, text: str, passes: list[tuple[re.Pattern[str], dict[str, int | None]]]) -> Iterator[str | int]:
        """The ids of added tokens, and the text before, between and after them."""
        if not passes:
            yield from self._parts(text)
            return
        (pattern, names), start = passes[0], 0
        for found in pattern.finditer(text):
            if (id := names[found[0]]) is not None:
                yield from self._cut(text[start : found.start()], passes[1:])
                yield id
                start = found.end()
        yield from self._cut(text[start:], passes[1:])

    def _encode(self, text: str) -> np.ndarray:
        try:
            return self._by_rank[self.encoding.encode_to_numpy(text, disallowed_special=())]
        except UnicodeEncodeError:
            raise
        except BaseException as error:
            if not isinstance(error, ValueError) and type(error).__name__ != "PanicException":
                raise  # what a panic in Rust becomes is no Exception
            raise BadInput("text", f"the pattern {self.pattern!r} cannot be matched: {error}") from error

    def _parts(self, text: str) -> Iterator[str]:
        """The text, cut before the last character of each long run of white space: there GPT-2's pattern cuts anyway.

        A run holds half of itself without a break, so looking at every half decides whether there may be one.
        """
        half, start = RUN // 2, 0
        if self.pattern == GPT2_PATTERN and any(
            text[at].isspace() and text[at : at + half].isspace() for at in range(0, len(text) - half, half)
        ):
            for run in _RUNS.finditer(text):
                if run.end() - run.start() >= RUN and run.end() < len(text):
                    yield text[start : run.end() - 1]
                    start = run.end() - 1
        yield text[start:]


def learn(texts: Iterable[str], vocab_size: int) -> Bpe:
    """Learn merges (Sennrich, Haddow and Birch 2016, on bytes as GPT-2); fewer tokens where the texts give fewer.

    Args:
        texts: read once, not kept.
        vocab_size: at least 256.

    Raises:
        BadInput: for a text that is none.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    hugging = Tokenizer(models.BPE())
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    hugging.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.FixedLength(LONGEST_WORD)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    hugging.train_from_iterator(texts, trainer)
    ids = hugging.get_vocab()
    return Bpe([spelled(token) for token in sorted(ids, key=ids.__getitem__)])


def _byte_names() -> dict[str, int]:
    """GPT-2's printable character for each byte: itself where it is printable in Latin-1, else the next from 256 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTES = _byte_names()


def spelled(token: str) -> bytes:
    """The bytes of a token as the files of GPT-2 spell it. Raises KeyError for a character that stands for no byte."""
    return bytes([BYTES[character] for character in token])


def suitable_size(data: int) -> int:
    """Tokens to learn from so many bytes: the power of two nearest to their square root, from 512 to 32,768."""
    return int(min(1 << 15, max(512, 2 ** round(math.log2(max(1, data)) / 2))))
