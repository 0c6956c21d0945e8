"""Text from files of any size, or from the reference that comes with Python where none is given."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.source import Skipped, watch
from seqmodal.data.split import copies, input_files, left_out, need_some, split_files
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from tokenizers_ext.text import (
    ByteTokenizer,
    CharacterTokenizer,
    TextTokenizer,
    is_records,
    pieces,
    suitable_size,
    texts,
)

SUFFIXES = (*TextTokenizer.suffixes, ".jsonl", ".ndjson")
KINDS = ("text", "characters", "bytes")
LONGEST = 16 << 20
"""Characters of a document; a longer file becomes several, one after the other."""
LEARNED_FROM = 64 << 20
"""Characters that merges are learned from, at most: pieces evenly taken from the training texts."""
TOGETHER = 4 << 20
"""Characters of texts that are encoded side by side, at least."""
SHOWN = 256
"""Tokens of a sample."""
_Text = tuple[list[str], str, str]
"""A document's text in pieces, its name and its split."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn a language from plain text or from a field of .jsonl, either also as .gz."""

    tokenizer: str = "text"
    """text: byte-pair encoding learned from the data; characters; bytes; or a folder with GPT-2's files."""
    vocab_size: int = 0
    """Tokens that byte-pair encoding learns; 0: about the square root of the bytes of the data, 512 to 32,768."""
    field: str = "text"
    """Where the text of a .jsonl stands."""
    errors: Literal["strict", "replace"] = "strict"
    """What becomes of bytes that are no UTF-8. strict: the file is left out, the reason names them; replace: U+FFFD."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.vocab_size and (self.tokenizer != "text" or self.vocab_size < 256):
            raise ConfigError(
                f"vocab_size is {self.vocab_size} with the tokenizer {self.tokenizer}; it is what the tokenizer text "
                "learns, at least 256"
            )
        if self.errors not in ("strict", "replace"):
            raise ConfigError(f"errors is {self.errors!r}; it is strict or replace")
        self.means_nothing("text", "sampling.seconds", "sampling.count")


@dataclass(frozen=True)
class _File:
    """What is kept of a file after the first reading."""

    units: int  # by which it is cut: characters, or texts of a .jsonl
    characters: int
    bytes: int
    digest: str
    cut: int = sys.maxsize  # units that come before the part held out


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to check them, drop copies, split, learn the tokenizer; encode on demand.

    Of a single file the last tenth is held out, of several, whole files. `tokenizers` are those of a trained model.
    Where the texts are there for it to be `evaluated` on, they are those of the folder's own test part where it has
    one, else all; none is dropped.
    """
    held = _held(config, tokenizers)
    if held is not None and not evaluated and config.tokenizer not in KINDS:
        raise ConfigError(f"tokenizer is {config.tokenizer}, and the model has its own; leave it out")
    if config.data is None:
        return _built_in(config, held)
    roots, found = input_files(config.data, SUFFIXES, config.exclude, "text", evaluated=evaluated)
    files, skipped = _describe(found, config)
    need_some(files, found, skipped, roots, "file")
    if evaluated:
        splits = dict.fromkeys(files, "valid")
    else:
        again = copies({path: file.digest for path, file in files.items()}, "text")
        skipped += again
        for copy in again:
            del files[copy.path]
        splits = split_files(roots, {path: float(file.bytes) for path, file in files.items()}, config.valid_share)
        if len(files) == 1:
            files = {path: _cut(file, config.valid_share or 0.1) for path, file in files.items()}
    chosen = held or _tokenizer(config, files, splits)
    facts: dict[str, Any] = {
        "files": len(files),
        "characters": sum(file.characters for file in files.values()),
        "tokenizer": f"{chosen.name}, {chosen.vocab_size:,} tokens",
    }

    def documents() -> Iterator[Document]:
        enough = TOGETHER if hasattr(chosen, "encode_batch") else 0
        waiting, size = list[_Text](), 0
        for path in watch(files, len(files), "tokenizing"):
            try:
                for parts, held in _parts(path, config, files[path].cut):
                    waiting.append((parts, str(path), "valid" if held else splits[path]))
                    size += sum(map(len, parts))
                    if size > enough:
                        some, waiting, size = waiting, [], 0
                        yield from _documents(chosen, some)
            except BadInput as error:  # a character that the model's tokenizer never saw; a file that has changed
                skipped.append(left_out(path, error.reason, config.strict))
        yield from _documents(chosen, waiting)

    return Corpus([chosen], documents(), skipped, facts)


def read_beside(config: Config) -> list[Path]:
    """The folder of the tokenizer."""
    place = Path(config.tokenizer).expanduser()
    return [place] if config.tokenizer not in KINDS and place.exists() else []


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well the whole held-out text is predicted: nats and perplexity of a token, bits of a byte of its UTF-8.

    Of a model that was not trained to go from left to right, how well it predicts what its objective asks for.
    """
    from seqmodal.evaluation.likelihood import likelihood_of, objective_metrics

    held = stores.get("valid")
    if held is None:
        return {}
    if not config.objective.left_to_right:
        return objective_metrics(model, held, config.objective)
    found = likelihood_of(model, held)
    decode = _held(config, model.tokenizers).decode_bytes
    size = sum(len(decode(held[number].segments[0].ids)) for number in range(len(held)))
    loss = found.nats / found.count
    return {
        "nats_per_token": loss,
        "perplexity": math.exp(loss),
        "bits_per_byte": found.nats / math.log(2) / max(1, size),
        "next_token_accuracy": found.correct / found.count,
    }


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sample as a text file; none of a model that was not trained to go from left to right."""
    if not config.objective.left_to_right:
        return []
    how, path, chosen = config.sampling, folder / f"step_{step:06}.txt", _held(config, model.tokenizers)
    text = model.generate(
        to=chosen.name, max_new_tokens=SHOWN, seed=config.training.seed, temperature=how.temperature, top_p=how.top_p
    )  # fmt: skip
    chosen.write(text, path)
    return [path]


def _held(config: Config, tokenizers: Sequence[Any]) -> Any:
    """The tokenizer that a trained model has for text, None where it has none. Raises ConfigError for another size."""
    name = config.tokenizer if config.tokenizer in ("characters", "bytes") else "text"
    held = shared(tokenizers, name)
    if held is not None and config.vocab_size and config.vocab_size != (wanted := held.to_dict()["vocab_size"]):
        raise ConfigError(f"vocab_size is {config.vocab_size}, and that of the model {wanted}; leave it out")
    return held


def _texts(path: Path, config: Config) -> Iterator[str | BadInput]:
    """The text of a file in pieces, or the texts of a .jsonl with the reasons where there is none."""
    return texts(path, config.field, config.errors) if is_records(path) else pieces(path, config.errors)


def _describe(found: list[Path], config: Config) -> tuple[dict[Path, _File], list[Skipped]]:
    """The files that can be used, and the others, and those that can be used in part, with their reasons."""
    files: dict[Path, _File] = {}
    skipped = []
    for path in watch(found, len(found), "reading"):
        units = characters = size = bad = 0
        first, digest = "the file is empty", hashlib.sha256()
        try:
            for text in _texts(path, config):
                if isinstance(text, BadInput):
                    first, bad = text.reason if not bad else first, bad + 1
                    continue
                data = text.encode()
                digest.update(data)
                characters, size = characters + len(text), size + len(data)
                units += 1 if is_records(path) else len(text)
        except BadInput as error:
            told = f"{error.reason} ({error.hint})" if error.hint else error.reason
            skipped.append(left_out(path, told, config.strict))
            continue
        if bad or not units:
            more = f"; in all {bad:,} lines are left out, {units:,} are used" if units else ""
            skipped.append(left_out(path, first + more, config.strict))
        if units:
            files[path] = _File(units, characters, size, digest.hexdigest())
    return files, skipped


def _cut(file: _File, share: float) -> _File:
    """The only file: its end is held out, as that of tiny Shakespeare is; of a single unit, nothing."""
    cut = min(file.units - 1, int((1 - share) * file.units)) or sys.maxsize
    return _File(file.units, file.characters, file.bytes, file.digest, cut)


def _parts(path: Path, config: Config, cut: int = sys.maxsize) -> Iterator[tuple[list[str], bool]]:
    """Documents of a file as pieces of text, and whether they lie behind the first `cut` units."""
    alone, at, start = is_records(path), 0, 0
    parts: list[str] = []
    for text in _texts(path, config):
        if isinstance(text, BadInput):  # told before
            continue
        before = len(text) if alone else max(0, cut - at)
        for piece in filter(None, (text[:before], text[before:])):
            if parts and (alone or at == cut or at - start + len(piece) > LONGEST):
                yield parts, start >= cut
                parts, start = [], at
            parts.append(piece)
            at += 1 if alone else len(piece)
    if parts:
        yield parts, start >= cut


def _tokenizer(config: Config, files: Mapping[Path, _File], splits: Mapping[Path, str]) -> Any:
    """As configured; merges are learned from the training texts alone, the characters are those of all."""
    if config.tokenizer == "characters":
        learned: Any = CharacterTokenizer(errors=config.errors)
        learned.fit(text for path in files for parts, _ in _parts(path, config) for text in parts)
        return learned
    if config.tokenizer != "text":
        return _ready(config)
    trained = {path: file for path, file in files.items() if splits[path] == "train"}
    learned = TextTokenizer(
        config.vocab_size or suitable_size(sum(file.bytes for file in trained.values())), config.errors
    )
    each = -(-sum(file.characters for file in trained.values()) // LEARNED_FROM)
    parts = (parts for path, f in trained.items() for parts, held in _parts(path, config, f.cut) if not held)
    learned.fit(islice(chain.from_iterable(parts), 0, None, max(1, each)))
    return learned


def _ready(config: Config) -> Any:
    """A tokenizer that learns nothing from the data."""
    if config.tokenizer == "bytes":
        return ByteTokenizer(config.errors)
    place = Path(config.tokenizer).expanduser()
    if not place.exists():
        raise ConfigError(
            f"tokenizer is {config.tokenizer!r}; it is text, characters, bytes, or a folder with GPT-2's files"
        )
    return TextTokenizer.load(place, errors=config.errors)


def _documents(tokenizer: Any, some: Sequence[_Text]) -> Iterator[Document]:
    """Those of some texts, encoded on all cores where the tokenizer can."""
    many, pieces = getattr(tokenizer, "encode_batch", None), [part for parts, _, _ in some for part in parts]
    ids = iter(many(pieces, threads=os.cpu_count() or 1) if many else map(tokenizer.encode, pieces))
    for parts, name, split in some:
        yield Document((Segment(tokenizer.name, np.concatenate([next(ids) for _ in parts])),), name, split)


def _built_in(config: Config, held: Any) -> Corpus:
    """Python's own reference, in English; a topic that mostly stands inside others is left out."""
    from pydoc_data.topics import topics

    config.without_files("text", "field", "errors")
    kept: dict[str, str] = {}
    seen: set[str] = set()
    for name in sorted(topics, key=lambda name: (-len(topics[name]), name)):
        paragraphs = topics[name].split("\n\n")
        if sum(len(p) for p in paragraphs if p in seen) < 0.1 * len(topics[name]):
            kept[name] = topics[name]
        seen.update(paragraphs)
    names = sorted(kept)
    splits = {name: "valid" if number % 10 == 9 else "train" for number, name in enumerate(names)}
    learned = [kept[name] for name in names if splits[name] == "train"]
    chosen = held
    if held is None and config.tokenizer in ("text", "characters"):
        wanted = config.vocab_size or suitable_size(sum(map(len, learned)))
        chosen = TextTokenizer(wanted) if config.tokenizer == "text" else CharacterTokenizer()
        chosen.fit(learned if config.tokenizer == "text" else kept.values())
    elif held is None:
        chosen = _ready(config)
    facts = {
        "topics": len(kept),
        "characters": sum(map(len, kept.values())),
        "tokenizer": f"{chosen.name}, {chosen.vocab_size:,} tokens",
        "source": "the reference that comes with Python",
    }
    return Corpus([chosen], _documents(chosen, [([kept[name]], name, splits[name]) for name in names]), [], facts)
