"""Text to text: translation between any of several languages in one model, and tasks such as classifying or rewriting,
from texts side by side; number words where none are given."""

from __future__ import annotations

import csv
import re
import sys
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import permutations
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqmodal.config import DecoderConfig, Objective, Prefix, RecipeConfig, SamplingConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.parallel import Part, find_parts, hold_back
from seqmodal.data.source import Skipped, given_paths, watch
from seqmodal.data.split import left_out, need_some
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from tokenizers_ext.tags import TagTokenizer
from tokenizers_ext.text import TABLES, TextTokenizer, aligned, column_names, table

NEXT = "translate"
"""The verb that uses a run."""
TASK, SOURCE, TARGET = "task", "source", "target"
"""Columns of a table of tasks."""
TO = ">"
"""Between two languages, in the name of what is asked."""
LEARNED_FROM = 64 << 20
"""Characters that merges are learned from, at most."""
JUDGED = 5000
"""Held-out texts of each direction and task that are answered by `judge`, at most: evenly taken, which is told."""
SHOWN = 8
"""Texts in a sample."""
SMALL, NUMBERS, BELOW, TOKENS = 1000, 11_000, 100_000, 500
"""The built-in example: all numbers below `SMALL`, which people try first, and so many of those from there to `BELOW`;
and tokens for their words, so few that they are parts of words which many numbers share."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn to translate, or to answer any text with a text, from pairs: a table whose first line names its columns
    (languages, or task, source and target), or files whose lines belong together, such as train.en and train.de."""

    languages: tuple[str, ...] = ()
    """Which, where there are more; they name the columns of a table that has no names."""
    directions: tuple[str, ...] = ()
    """Such as en-de; none: every language into every other."""
    example: Literal["numbers", "tasks"] = "numbers"
    """Without --data: number words in English and German; or tasks: the digits of such words, and if they are odd."""
    vocab_size: int = 0
    """Tokens that byte-pair encoding learns, one set for all languages; 0: chosen for the data, 500 to 16,000."""
    longest: int = 128
    """Pairs with more tokens on a side are left out."""
    errors: Literal["strict", "replace"] = "strict"
    """What becomes of bytes that are no UTF-8. strict: the file is left out, the reason names them; replace: U+FFFD."""
    beams: int = 4
    """Of the search that answers are judged by."""
    length_penalty: float = 0.6
    """Of that search: above 0, longer answers cost less."""
    objective: Objective = field(default_factory=Prefix)
    model: DecoderConfig = field(default_factory=lambda: DecoderConfig(dropout=0.1, tied_head=True))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.objective, Prefix):
            raise ConfigError(
                f"the objective is {self.objective.kind}; what is given is seen both ways here, which takes prefix"
            )
        if self.vocab_size and self.vocab_size < 256:
            raise ConfigError(f"vocab_size is {self.vocab_size}; it must be at least 256, or 0 to have it chosen")
        if self.longest < 1 or self.beams < 1:
            raise ConfigError(f"longest is {self.longest} and beams {self.beams}; both must be at least 1")
        if not 0 <= self.length_penalty < float("inf"):
            raise ConfigError(f"length_penalty is {self.length_penalty}; it must be 0 or a positive number")
        if self.data is not None:
            self.means_nothing("data of one's own", "example")
        if self.errors not in ("strict", "replace") or self.example not in ("numbers", "tasks"):
            raise ConfigError(
                f"errors is {self.errors!r} and example {self.example!r}; they are strict or replace, numbers or tasks"
            )
        if self.sampling != SamplingConfig():
            raise ConfigError("sampling means nothing here: answers are searched for; see beams and length_penalty")
        for direction in self.directions:
            ends = direction.split("-")
            if len(ends) != 2 or not all(ends) or ends[0] == ends[1]:
                raise ConfigError(f"a direction is {direction!r}; it is two languages such as en-de")
            if self.languages and not set(ends) <= set(self.languages):
                raise ConfigError(f"the direction {direction} is not between the languages {', '.join(self.languages)}")

    def wanted(self, there: Sequence[str]) -> list[tuple[str, str]]:
        """Which of the languages that are there to translate from and into."""
        if self.directions:
            pairs = [tuple(direction.split("-")) for direction in self.directions]
            return [(a, b) for a, b in pairs if a in there and b in there]
        return list(permutations([name for name in there if not self.languages or name in self.languages], 2))


@dataclass(frozen=True)
class _Pair:
    """A text, what is asked of it, and the answer."""

    kind: str  # en>de, or the task
    tag: str  # de, or the task
    source: str
    target: str
    row: int  # pairs of one row stay on one side of the split
    split: str
    where: str

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """Pairs that share one are too near to stand on both sides."""
        source = (self.kind.partition(TO)[0], _plain(self.source))
        return (self.row, source, (self.tag, _plain(self.target))) if TO in self.kind else (self.row, source)


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all pairs, drop copies, split, learn one byte-pair encoding from the training texts of all languages.

    `tokenizers` are those of a trained model. Where the pairs are there for it to be `evaluated` on, they are the test
    part where there is one, else all; none is dropped.
    """
    pairs, skipped = _built_in(config) if config.data is None else _read(config, evaluated)
    found = len(pairs)
    if not evaluated:
        pairs = _split(_without_copies(pairs), config)
    text = shared(tokenizers, "text")
    if text is not None and config.vocab_size not in (0, text.to_dict()["vocab_size"]):
        raise ConfigError(
            f"vocab_size is {config.vocab_size}, and that of the model {text.to_dict()['vocab_size']}; leave it out"
        )
    text = text or _fitted(config, pairs)
    tags = _tags(pairs, tokenizers, evaluated)
    facts: dict[str, Any] = {
        **{f"pairs {kind}": count for kind, count in sorted(Counter(pair.kind for pair in pairs).items())},
        "copies": found - len(pairs),
        "tokenizer": f"{text.name}, {text.vocab_size:,} tokens",
    }
    encode = lru_cache(maxsize=64)(text.encode)  # of the directions of one row

    def documents() -> Iterator[Document]:
        long = 0
        for pair in watch(pairs, len(pairs), "tokenizing"):
            source, target = encode(pair.source), encode(pair.target)
            if max(len(source), len(target)) > config.longest:
                long += 1
                if long == 1:
                    skipped.append(Skipped(Path(pair.where), ""))
                    place = len(skipped) - 1
                reason = f"{long:,} pairs have more than {config.longest} tokens on a side, this the first"
                skipped[place] = Skipped(skipped[place].path, f"{reason}; --longest takes longer ones")
                continue
            yield _document(text, tags, pair, source, target)

    return Corpus([text, *tags], documents(), skipped, facts)


def read_beside(config: Config) -> list[Path]:
    """Files that the corpus is made of and that `data` does not name: those which belong to a single one."""
    roots = given_paths(config.data) if config.data is not None else []
    return [path for root in roots if len(roots) == 1 and root.is_file() for path in root.parent.glob(f"{root.stem}.*")]


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well held-out targets are predicted; BLEU and chrF of the translations of each direction, and how many are
    word for word the reference, which is the one measure of a task and of numbers. Writes `answers_KIND.tsv`."""
    from seqmodal.evaluation.likelihood import likelihood_of
    from seqmodal.evaluation.translation import exact_share, translation_scores
    from seqmodal.model.answers import answers

    held = stores.get("valid")
    if held is None:
        return {}
    found = likelihood_of(model, held, config.objective, 32)
    metrics = {"nats_per_token": found.nats / found.count}
    for kind, sources, targets, tag, there in _held_out(model, held, JUDGED):
        if len(sources) < there:
            print(f"{kind}: judged on {len(sources):,} of {there:,} texts, evenly taken", file=sys.stderr)
        how = {"beams": config.beams, "length_penalty": config.length_penalty}
        made = answers(model, sources, tag, progress=_progress(kind), **how)
        name = re.sub(r"[^\w.-]+", "_", kind)
        if TO in kind and config.data is not None:  # a number is too short for BLEU
            scores = translation_scores(made, targets)
            metrics |= {f"bleu_{name}": scores.bleu, f"chrf_{name}": scores.chrf}
            for measure, value, signature in zip(
                ("BLEU", "chrF2"), (scores.bleu, scores.chrf), scores.signatures, strict=True
            ):
                print(f"{kind}: {measure} {value:.2f} ({signature})", file=sys.stderr)
        metrics[f"{'exact' if TO in kind else 'accuracy'}_{name}"] = exact_share(made, targets)
        with open(folder / f"answers_{name}.tsv", "w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, "excel-tab", lineterminator="\n")
            rows.writerow(("source", "reference", "answer"))
            rows.writerows(zip(sources, targets, made, strict=True))
    return metrics


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A few held-out texts with their references and answers."""
    from seqmodal.model.answers import answers

    place = folder.parent / "data" / "valid"
    if not place.is_dir():
        return []
    told = []
    for kind, sources, targets, tag, _ in _held_out(model, Store(place), SHOWN):
        made = answers(model, sources, tag, beams=config.beams, length_penalty=config.length_penalty)
        for source, target, answer in zip(sources, targets, made, strict=True):
            told.append(f"{kind}\n  source     {source}\n  reference  {target}\n  answer     {answer}\n")
    path = folder / f"step_{step:06}.txt"
    path.write_text("\n".join(told), encoding="utf-8")
    return [path]


def _read(config: Config, evaluated: bool) -> tuple[list[_Pair], list[Skipped]]:
    """All pairs that can be used, and the files that cannot, or in part, with their reasons."""
    assert config.data is not None
    roots = given_paths(config.data)
    languages = config.languages or tuple(dict.fromkeys(name for d in config.directions for name in d.split("-")))
    parts = find_parts(roots, languages, config.exclude, TABLES)
    if evaluated and any(part.split == "test" for part in parts):
        parts = [part for part in parts if part.split == "test"]
    pairs: list[_Pair] = []
    skipped: list[Skipped] = []
    for part in parts:
        split, bad, before = "valid" if evaluated else part.split, 0, len(pairs)
        first = "there is not one pair in it"
        try:
            for found in _pairs_of(part, config, languages):
                if isinstance(found, str):
                    first, bad = first if bad else found, bad + 1
                else:
                    pairs.append(replace(found, row=len(parts) * found.row + parts.index(part), split=split))
        except BadInput as error:
            del pairs[before:]
            told = f"{error.reason} ({error.hint})" if error.hint else error.reason
            skipped.append(left_out(Path(error.where), told, config.strict))
            continue
        if bad or len(pairs) == before:
            more = f"; in all {bad:,} lines are left out, {len(pairs) - before:,} pairs are used" if bad else ""
            skipped.append(left_out(part.path, first + more, config.strict))
    files = [path for part in parts for path in part.files.values() or [part.path]]
    need_some(pairs, files, skipped, roots, "file")
    missing = [] if evaluated else sorted({d.replace("-", TO) for d in config.directions} - {p.kind for p in pairs})
    if missing:
        raise ConfigError(
            f"of the direction {missing[0].replace(TO, '-')} there is not one pair; there are "
            f"{', '.join(sorted({pair.kind.replace(TO, '-') for pair in pairs}))}"
        )
    return pairs, skipped


def _pairs_of(part: Part, config: Config, languages: Sequence[str]) -> Iterator[_Pair | str]:
    """The pairs of a part, and why lines have none."""
    if part.files:
        names, tasks = tuple(part.files), False
        rows = aligned(part.files, config.errors)
    else:
        names = column_names(part.path, config.errors, config.languages)
        tasks = SOURCE in names and TARGET in names
        rows = table(part.path, names, config.errors)
    wanted = [] if tasks else config.wanted(names)
    if not tasks and not wanted:
        raise BadInput(
            part.path, f"its columns are {', '.join(names)}, of which nothing is to be translated into another",
            f"name columns after two languages, or {TASK}, {SOURCE} and {TARGET}; see --languages and --directions",
        )  # fmt: skip
    for number, texts in rows:
        where = f"{part.path}:{number}"
        if isinstance(texts, BadInput):
            yield texts.reason
            continue
        asked = [(f"{a}{TO}{b}", a, b) for a, b in wanted]
        if tasks:
            asked = [(" ".join((texts.get(TASK, "") if TASK in names else TARGET).split()), SOURCE, TARGET)]
        for kind, a, b in asked:
            if texts.get(a) and texts.get(b) and kind:
                yield _Pair(kind, kind.partition(TO)[2] or kind, texts[a], texts[b], number, "", where)
            elif any(texts.values()):
                empty = next(name for name in (a, b, TASK) if not texts.get(name))
                if empty in texts:
                    yield f"line {number:,} has nothing in {empty}"
                else:
                    yield f"line {number:,} has no field {empty!r}; its fields are: {', '.join(map(repr, texts))}"


def _without_copies(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Each pair once, and no training pair that is held out as well."""
    def key(pair: _Pair) -> Hashable:
        return pair.kind, _plain(pair.source), _plain(pair.target)

    seen = {key(pair) for pair in pairs if pair.split != "train"}
    kept = []
    for pair in pairs:
        if pair.split == "train" and key(pair) in seen:
            continue
        seen.add(key(pair))
        kept.append(pair)
    return kept


def _split(pairs: list[_Pair], config: Config) -> list[_Pair]:
    """With some held back where no part is there for it."""
    if any(pair.split == "valid" for pair in pairs):
        return pairs
    at = [number for number, pair in enumerate(pairs) if pair.split == "train"]
    held = hold_back([pairs[number].keys for number in at], config.valid_share)
    for number, out in zip(at, held, strict=True):
        if out:
            pairs[number] = replace(pairs[number], split="valid")
    return pairs


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _fitted(config: Config, pairs: Sequence[_Pair]) -> TextTokenizer:
    """Merges of the training texts, each text once."""
    texts = list(dict.fromkeys(text for p in pairs if p.split == "train" for text in (p.source, p.target)))
    size = sum(len(text.encode("utf-8", "replace")) for text in texts)
    wanted = TOKENS if config.data is None else min(16_000, max(500, size // 650))
    learned = TextTokenizer(config.vocab_size or wanted, config.errors)
    learned.fit(texts[:: max(1, -(-size // LEARNED_FROM))])
    return learned


def _document(text: Any, tags: Any, pair: _Pair, source: np.ndarray, target: np.ndarray) -> Document:
    from seqmodal.model.answers import asked

    given = asked(source, pair.tag, tags)
    return Document((*given, Segment(text.name, target)), f"{pair.kind}\t{pair.where}", pair.split)


def _tags(pairs: Sequence[_Pair], tokenizers: Sequence[Any], evaluated: bool) -> list[Any]:
    """Those of a model, and one of what it is never asked yet."""
    from seqmodal.model.answers import TAGS, tokenizers_of_tags

    held = tokenizers_of_tags(tokenizers)
    known = [name for one in held for name in one.names]
    new = sorted({pair.tag for pair in pairs} - set(known))
    if not new:
        return held
    if evaluated and known:
        first = next(pair for pair in pairs if pair.tag == new[0])
        raise BadInput(
            first.where, f"{new[0]!r} is asked for, and the model learned {', '.join(known)}",
            "leave such pairs out, or train on them: seqmodal train translation --init RUN --data …",
        )  # fmt: skip
    return [*held, TagTokenizer(new, f"{TAGS}{len(held) + 1}" if held else TAGS)]


def _held_out(model: Any, store: Store, most: int) -> Iterator[tuple[str, list[str], list[str], str, int]]:
    """Of each direction and task: its name, the sources and targets of at most so many documents, the tag, and how many
    documents there are."""
    kinds: dict[str, list[int]] = {}
    for number, name in enumerate(store.names):
        kinds.setdefault(name.partition("\t")[0], []).append(number)
    decode = model.tokenizer("text").decode
    for kind, numbers in kinds.items():
        documents = [store[number].segments for number in numbers[:: -(-len(numbers) // most)]]
        (tag,) = model.tokenizer(documents[0][1].block).decode(documents[0][1].ids)
        sources, targets = ([decode(one[at].ids) for one in documents] for at in (0, 2))
        yield kind, sources, targets, tag, len(numbers)


def _progress(what: str) -> Any:
    """Tells on standard error how far a search has come, where that is a terminal."""
    if not sys.stderr.isatty():
        return None
    return partial(_tell, what)


def _tell(what: str, done: float, total: float) -> None:
    end = "\n" if done == total else ""
    print(f"\r{what}: {done:,.0f} of {total:,.0f} answered", end=end, file=sys.stderr, flush=True)


def _built_in(config: Config) -> tuple[list[_Pair], list[Skipped]]:
    """Number words."""
    from num2words import num2words

    names = ("exclude", "strict", "languages", "directions", "errors")
    config.means_nothing("the built-in example", *names, do="give --data, or leave it out")
    others = np.random.default_rng(0).choice(np.arange(SMALL, BELOW), NUMBERS, replace=False).tolist()
    pairs = []
    for number in (*range(SMALL), *others):
        english, german = (num2words(number, lang=language) for language in ("en", "de"))
        if config.example == "numbers":
            said = [(f"en{TO}de", english, german), (f"de{TO}en", german, english)]
        else:
            said = [("digits", english, str(number)), ("parity", english, "odd" if number % 2 else "even")]
        for kind, source, target in said:
            pairs.append(_Pair(kind, kind.partition(TO)[2] or kind, source, target, number, "train", str(number)))
    return pairs, []
