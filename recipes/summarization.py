"""Summaries of articles, or the first lines of docstrings from what they explain where no data is given."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqmodal.config import Objective, Prefix, RecipeConfig, SamplingConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.docstrings import docstrings
from seqmodal.data.source import Skipped, watch
from seqmodal.data.split import input_files, left_out, need_some, split_files
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.rouge import leads, rouge, sentences, signature
from seqmodal.sequence import Document, Segment
from tokenizers_ext.text import TextTokenizer, is_records, records, suitable_size

NEXT = "summarize"
"""The verb for its runs."""
SUFFIXES = (".jsonl", ".ndjson", ".gz")
CUE = "\nTL;DR:"
"""Text behind an article, as GPT-2 was asked for summaries: not every vocabulary has marks between two texts."""
SHOWN = 5
"""Articles of a sample."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn to summarize from .jsonl, also as .gz: an article and its summary, or several, a line."""

    text: str = "text"
    """Where the article stands: a text, or a list of its sentences."""
    summary: str = "summary"
    """Where its summary stands, or a list of several, each of which is learned and judged against."""
    article: int = 512
    """Tokens of an article that are read, from its start; what lies behind them is cut off."""
    tokenizer: str = "text"
    """text: byte-pair encoding learned from the data; or a folder with GPT-2's files."""
    vocab_size: int = 0
    """Tokens that byte-pair encoding learns; 0: about the square root of the bytes of the data, 512 to 32,768."""
    errors: Literal["strict", "replace"] = "strict"
    """What becomes of bytes that are no UTF-8. strict: the file is left out, the reason names them; replace: U+FFFD."""
    beams: int = 4
    """Summaries are searched for with so many beams; 1: the likeliest token at each step."""
    length_penalty: float = 0.6
    """Exponent of the search; higher makes longer summaries."""
    no_repeat: int = 4
    """No run of so many tokens is made twice in a summary (Paulus et al. 2018)."""
    summary_tokens: int = 96
    """Tokens that a summary which is made may have."""
    objective: Objective = field(default_factory=Prefix)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(count=500))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.objective, Prefix):
            raise ConfigError(f"objective is {self.objective.kind}; an article is read both ways, which prefix is for")
        if self.vocab_size and (self.tokenizer != "text" or self.vocab_size < 256):
            raise ConfigError(
                f"vocab_size is {self.vocab_size} with the tokenizer {self.tokenizer}; it is what the tokenizer text "
                "learns, at least 256"
            )
        if self.errors not in ("strict", "replace"):
            raise ConfigError(f"errors is {self.errors!r}; it is strict or replace")
        for name in ("article", "beams", "no_repeat", "summary_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if not 0 <= self.length_penalty < float("inf"):
            raise ConfigError(f"length_penalty is {self.length_penalty}; it must be 0 or a positive number")
        self.means_nothing(
            "summaries, which are searched for", "sampling.seconds", "sampling.temperature", "sampling.top_p"
        )


@dataclass(frozen=True)
class Article:
    """A text, its sentences on lines of their own, and its summaries."""

    text: str
    summaries: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        """Of the text, by which copies are found."""
        return hashlib.sha256(self.text.encode()).digest()


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to check them, drop copies, split, learn the tokenizer; encode on demand.

    Of a single file every tenth article is held out, of several, whole files. An article that is held out as well is
    not learned from. `tokenizers` are those of a trained model. Where the articles are there for it to be `evaluated`
    on, they are those of the folder's own test part where it has one, else all; none is dropped.
    """
    held = _held(config, tokenizers)
    if held is not None and not evaluated and config.tokenizer != "text":
        raise ConfigError(f"tokenizer is {config.tokenizer}, and the model has its own; leave it out")
    if config.data is None:
        return _built_in(config, held)
    roots, found = input_files(config.data, SUFFIXES, config.exclude, "file of articles", evaluated=evaluated)
    found = [path for path in found if path in roots or is_records(path)]
    files, skipped = _check(found, config)
    need_some(files, found, skipped, roots, "file")
    if evaluated:
        splits = dict.fromkeys(files, "valid")
    else:
        splits = split_files(roots, {path: float(file.characters) for path, file in files.items()}, config.valid_share)
    share = 0.0 if evaluated or len(files) > 1 else config.valid_share or 0.1  # of each run of articles

    def articles(split: str | None = None) -> Iterator[tuple[str, str, Article]]:
        """Name, split and article, of one split or of all."""
        for path in files:
            usable = (found for found in read_articles(path, config) if not isinstance(found, BadInput))
            for number, article in enumerate(usable):
                part = "valid" if int((number + 1) * share) > int(number * share) else splits[path]
                if split in (None, part):
                    yield f"{path}:{number + 1}", part, article

    leave = set() if evaluated else {a.digest for part in ("valid", "test") for _, _, a in articles(part)}
    size, total = (sum(getattr(file, name) for file in files.values()) for name in ("characters", "articles"))
    chosen = held or _tokenizer(config, lambda: (a for _, _, a in articles("train")), size)
    facts: dict[str, Any] = {"files": len(files), "articles": 0, "cut": 0, "copies": 0, "tokenizer": _told(chosen)}

    def documents() -> Iterator[Document]:
        seen: set[bytes] = set()
        for name, split, article in watch(articles(), total, "tokenizing"):
            if not evaluated and (article.digest in seen or (split == "train" and article.digest in leave)):
                facts["copies"] += 1
                continue
            seen.add(article.digest)
            yield from _documents(chosen, config, article, name, split, facts)

    return Corpus([chosen], documents(), skipped, facts)


def read_beside(config: Config) -> list[Path]:
    """The folder of the tokenizer."""
    place = Path(config.tokenizer).expanduser()
    return [place] if config.tokenizer != "text" and place.exists() else []


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well held-out summaries are predicted; ROUGE of those that are made, of `sampling.count` articles at most,
    and of the first sentence and the first three of the same articles, as far as they are read.

    All of them are written to `summaries.jsonl` in `folder`.
    """
    import json

    from seqmodal.evaluation.likelihood import likelihood_of

    held = stores.get("valid")
    if held is None:
        return {}
    found = likelihood_of(model, held, config.objective)
    articles = _kept(held, _held(config, model.tokenizers), config.sampling.count)
    made = summarize(model, config, [article.text for article in articles])
    references = [article.summaries for article in articles]
    with open(folder / "summaries.jsonl", "w", encoding="utf-8") as file:
        for article, summary in zip(articles, made, strict=True):
            line = {"text": article.text, "references": article.summaries, "summary": summary}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    print(signature(), file=sys.stderr)
    return {
        "nats_per_token": found.nats / found.count,
        **rouge(made, references),
        **leads([article.text for article in articles], references),
    }


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A few held-out articles with their summaries and what the model makes of them."""
    place = folder.parent / "data" / "valid"
    if not place.is_dir():
        return []
    articles = _kept(Store(place), _held(config, model.tokenizers), SHOWN)
    made = summarize(model, config, [article.text for article in articles])
    path = folder / f"step_{step:06}.txt"
    path.write_text(
        "\n\n".join(
            "\n".join([a.text, "", *(f"reference: {s}" for s in a.summaries), f"summary: {summary}"])
            for a, summary in zip(articles, made, strict=True)
        )
        + "\n",
        encoding="utf-8",
    )
    return [path]


def summarize(
    model: Any, config: Config, texts: Sequence[str], progress: Callable[[float, float], None] | None = None,
    **how: Any,
) -> list[str]:  # fmt: skip
    """A summary of each text, in order. `how` changes `beams`, `length_penalty` or `max_new_tokens`."""
    chosen = _held(config, model.tokenizers)
    given = [[_read(chosen, config, "\n".join(sentences(text)))[0]] for text in texts]
    settings = {
        "beams": config.beams, "length_penalty": config.length_penalty, "no_repeat": config.no_repeat,
        "max_new_tokens": config.summary_tokens,
    }  # fmt: skip
    made = model.sample_each(given, to=chosen.name, seed=0, progress=progress, **(settings | how))
    return [" ".join(one.item.split()) for one in made]


def how_many_are_cut(model: Any, config: Config, texts: Sequence[str]) -> int:
    """Of texts that are to be summarized: how many have more tokens than are read of an article."""
    chosen = _held(config, model.tokenizers)
    return sum(_read(chosen, config, "\n".join(sentences(text)))[1] for text in texts)


def read_articles(path: Path, config: Config, *, with_summary: bool = True) -> Iterator[Article | BadInput]:
    """The articles of a .jsonl in order; in place of one that cannot be used, what it lacks. Raises BadInput for a file
    that cannot be read on."""
    fields = [config.text, *([config.summary] if with_summary else [])]
    for number, record in records(path, fields, config.errors):
        if isinstance(record, BadInput):
            yield record
            continue
        try:
            text = "\n".join(part for piece in _texts(record, config.text) for part in sentences(piece))
            summaries = tuple(" ".join(s.split()) for s in _texts(record, config.summary)) if with_summary else ()
            ("\n".join([text, *summaries])).encode()
        except (TypeError, UnicodeEncodeError) as error:
            half = "a field holds half of a surrogate pair"
            yield BadInput(path, f"line {number:,}: {half if isinstance(error, UnicodeEncodeError) else error}")
            continue
        empty = config.text if not text else config.summary if with_summary and not all(summaries or [""]) else None
        if empty is not None:
            yield BadInput(path, f"line {number:,}: the field {empty!r} is empty")
        else:
            yield Article(text, summaries)


def _texts(record: Mapping[str, Any], name: str) -> list[str]:
    """The text or the texts in a field. Raises TypeError for what is neither."""
    value = record[name]
    some = [value] if isinstance(value, str) else value
    if not isinstance(some, list) or not all(isinstance(text, str) for text in some):
        raise TypeError(f"the field {name!r} is neither a text nor a list of texts")
    return some


@dataclass(frozen=True)
class _File:
    """What is kept of a file after the first reading."""

    articles: int
    characters: int


def _check(found: Sequence[Path], config: Config) -> tuple[dict[Path, _File], list[Skipped]]:
    """The files that can be used; and the others, and those that can be used in part, with their reasons."""
    files: dict[Path, _File] = {}
    skipped = []
    for path in watch(found, len(found), "reading"):
        usable = size = bad = 0
        first = "the file is empty"
        try:
            for article in read_articles(path, config):
                if isinstance(article, BadInput):
                    first, bad = article.reason if not bad else first, bad + 1
                else:
                    usable, size = usable + 1, size + len(article.text) + sum(map(len, article.summaries))
        except BadInput as error:
            told = f"{error.reason} ({error.hint})" if error.hint else error.reason
            skipped.append(left_out(path, told, config.strict))
            continue
        if bad or not usable:
            more = f"; in all {bad:,} lines are left out, {usable:,} are used" if usable else ""
            skipped.append(left_out(path, first + more, config.strict))
        if usable:
            files[path] = _File(usable, size)
    return files, skipped


def _held(config: Config, tokenizers: Sequence[Any]) -> Any:
    """The tokenizer that a trained model has for text, None where it has none. Raises ConfigError for another size."""
    held = shared(tokenizers, TextTokenizer.name)
    if held is not None and config.vocab_size and config.vocab_size != (wanted := held.to_dict()["vocab_size"]):
        raise ConfigError(f"vocab_size is {config.vocab_size}, and that of the model {wanted}; leave it out")
    return held


def _tokenizer(config: Config, articles: Callable[[], Iterator[Article]], characters: int) -> TextTokenizer:
    """As configured, learned from the training articles and their summaries."""
    if config.tokenizer != "text":
        if not (place := Path(config.tokenizer).expanduser()).exists():
            raise ConfigError(f"tokenizer is {config.tokenizer!r}; it is text, or a folder with GPT-2's files")
        return TextTokenizer.load(place, errors=config.errors)
    wanted = config.vocab_size or suitable_size(characters)
    learned = TextTokenizer(wanted, config.errors)
    learned.fit(text for article in articles() for text in (article.text + CUE, *article.summaries))
    return learned


def _told(tokenizer: Any) -> str:
    return f"{tokenizer.name}, {tokenizer.vocab_size:,} tokens"


def _read(tokenizer: Any, config: Config, text: str) -> tuple[Segment, bool]:
    """What is read before a summary, and whether the article was cut."""
    ids = tokenizer.encode(text)
    whole = np.concatenate([ids[: config.article], tokenizer.encode(CUE)])
    return Segment(tokenizer.name, whole, loss=0.0, both_ways=True), len(ids) > config.article


def _documents(
    tokenizer: Any, config: Config, article: Article, name: str, split: str, facts: dict[str, Any]
) -> Iterator[Document]:
    """One for each summary; they have the same name."""
    read, cut = _read(tokenizer, config, article.text)
    facts["articles"] += 1
    facts["cut"] += cut
    for summary in article.summaries:
        yield Document((read, Segment(tokenizer.name, tokenizer.encode(summary))), name, split)


def _kept(store: Store, tokenizer: Any, most: int) -> list[Article]:
    """Articles of a store as far as they are read, with their summaries; of so many at most, evenly taken."""
    found = []
    for documents in store.items(most):
        texts = [[tokenizer.decode(segment.ids) for segment in store[number].segments] for number in documents]
        found.append(Article(texts[0][0].removesuffix(CUE), tuple(summary for _, summary in texts)))
    return found


def _built_in(config: Config, held: Any) -> Corpus:
    """Docstrings of what is installed; whole modules are held out."""
    config.without_files("text", "text", "summary", "errors")
    found = [(one.module, Article("\n".join(sentences(one.rest)), (one.first,))) for one in docstrings()]
    splits = {module: "valid" if hashlib.sha256(module.encode()).digest()[0] < 20 else "train" for module, _ in found}
    learned = [article for module, article in found if splits[module] == "train"]
    size = sum(len(article.text) + len(article.summaries[0]) for article in learned)
    chosen = held or _tokenizer(config, lambda: iter(learned), size)
    facts = {"modules": len(splits), "articles": 0, "cut": 0, "tokenizer": _told(chosen)}
    facts["source"] = "docstrings of what is installed"

    def documents() -> Iterator[Document]:
        for number, (module, article) in enumerate(found):
            yield from _documents(chosen, config, article, f"{module}:{number}", splits[module], facts)

    return Corpus([chosen], documents(), [], facts)
