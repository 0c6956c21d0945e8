"""From what a recipe offers to token stores in a cache that the next run finds again."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from seqmodal import __version__
from seqmodal.config import RecipeConfig
from seqmodal.data.cache import cache_folder, made_once
from seqmodal.data.source import Skipped, all_files, given_paths, write_skipped
from seqmodal.data.store import Store, StoreWriter
from seqmodal.errors import BadInput, Mismatch
from seqmodal.sequence import Document, located
from seqmodal.tokenizers import Tokenizer, Vocabulary, fingerprint, load_tokenizers, save_tokenizers

SPLITS = ("train", "valid", "test")
NO_DATA = ("init", "model", "training", "sampling", "objective")
"""Settings of a recipe that its corpus does not depend on."""


@dataclass
class Corpus:
    """What a recipe's `corpus` returns.

    Attributes:
        tokenizers: fitted, one a block of the vocabulary, in order.
        documents: each says which split it belongs to. Read once, never held together.
        skipped: input that was not used, and why; may grow while `documents` is read.
        facts: what a person wants to know of the corpus, by name; may grow likewise.
    """

    tokenizers: Sequence[Tokenizer[Any]]
    documents: Iterable[Document]
    skipped: list[Skipped] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def shared(tokenizers: Sequence[Any], *names: str) -> Any | None:
    """The one of a model's tokenizers that a corpus is to use: of the first of these names that it has."""
    held = {tokenizer.name: tokenizer for tokenizer in tokenizers}
    return next((held[name] for name in names if name in held), None)


@dataclass(frozen=True)
class Prepared:
    """A corpus as token stores in `folder`: `stores[split]`, their vocabulary, the tokenizers of its blocks in order,
    and facts for people. Where a model was given, all its blocks and tokenizers are among them."""

    folder: Path
    tokenizers: Sequence[Tokenizer[Any]]
    vocabulary: Vocabulary
    stores: dict[str, Store]
    facts: dict[str, Any]

    @classmethod
    def open(cls, folder: Path, *, tokenizers: dict[str, type] | None = None) -> Prepared:
        """Open a folder that `prepare` wrote, in the cache or in a run."""
        held = load_tokenizers(folder, tokenizers)
        facts = json.loads((folder / "corpus.json").read_text(encoding="utf-8"))
        stores = {split: Store(folder / split) for split in SPLITS if (folder / split).is_dir()}
        vocabulary = next(iter(stores.values())).vocabulary if stores else Vocabulary.of(held)
        return cls(folder, held, vocabulary, stores, facts)


def prepare(
    recipe: Any, config: RecipeConfig, tokenizers: Sequence[Tokenizer[Any]] = (), vocabulary: Vocabulary | None = None,
    *, evaluated: bool = False,
) -> Prepared:  # fmt: skip
    """The stores of a recipe's corpus, made once and kept in the cache; made again where they are damaged there.

    Args:
        recipe: a module with `corpus(config, tokenizers, evaluated)`, and `read_beside(config)` where the corpus
            depends on files or folders other than `data`.
        config: all but its `init`, `model`, `training`, `sampling` and `objective` bears on the corpus.
        tokenizers, vocabulary: those of a trained model. Its tokenizers are used where the corpus needs them; blocks
            are appended to its vocabulary for those it lacks, and none is renumbered.
        evaluated: make a corpus to judge that model on: everything is held out.

    Raises:
        BadInput: where nothing usable was found.
        Mismatch: where the corpus brings another tokenizer of a name that the model has.
    """
    folder = cache_folder() / "corpora" / _key(recipe, config, tokenizers, vocabulary, evaluated)
    own = getattr(recipe, "TOKENIZERS", None)
    if folder.is_dir():
        try:
            return Prepared.open(folder, tokenizers=own)
        except (BadInput, Mismatch, OSError, ValueError):  # damaged since
            shutil.rmtree(folder)

    def make(place: Path) -> None:
        given = ({"tokenizers": tokenizers} if tokenizers else {}) | ({"evaluated": True} if evaluated else {})
        corpus = recipe.corpus(config, **given)
        where = ", ".join(map(str, given_paths(config.data))) if config.data else recipe.__name__
        held, grown = _joined(tokenizers, vocabulary, corpus.tokenizers)
        _make(corpus, held, grown, place, where, "valid" if evaluated else "train")

    return Prepared.open(made_once(folder, make), tokenizers=own)


def _joined(
    held: Sequence[Tokenizer[Any]], vocabulary: Vocabulary | None, brought: Sequence[Tokenizer[Any]]
) -> tuple[list[Tokenizer[Any]], Vocabulary]:
    """A model's tokenizers and those that a corpus brings beside them, and the vocabulary with a block for each."""
    vocabulary = Vocabulary.of(held) if vocabulary is None else vocabulary
    known = {tokenizer.name: tokenizer for tokenizer in held}
    for new in brought:
        if (same := known.get(new.name)) is None:
            known[new.name], vocabulary = new, vocabulary.append(new.name, new.vocab_size)
        elif same is not new and fingerprint(same) != fingerprint(new):
            raise Mismatch(
                f"the corpus needs a tokenizer {new.name} of {new.vocab_size} ids, and the model has another of that "
                f"name, of {same.vocab_size}; a model works only with the tokenizers it was trained with"
            )
    return list(known.values()), vocabulary


def _make(
    corpus: Corpus, tokenizers: Sequence[Tokenizer[Any]], vocabulary: Vocabulary, folder: Path, where: str, needed: str
) -> None:  # fmt: skip
    """Write the stores of a corpus. The documents are read once and go to their splits' stores as they come.

    Raises:
        BadInput: when no document belongs to the split that is `needed`.
    """
    folder.mkdir(parents=True)
    writers = {split: StoreWriter(folder / split, vocabulary) for split in SPLITS}
    counts = dict.fromkeys(SPLITS, 0)
    for document in corpus.documents:
        writers[document.split].add(located(document, tokenizers))
        counts[document.split] += 1
    for split, writer in writers.items():
        writer.close()
        if not counts[split]:
            shutil.rmtree(folder / split)
    if not counts[needed]:
        use = "learned from" if needed == "train" else "evaluated on"
        shown = "".join(f"\n  {s.path}: {s.reason}" for s in corpus.skipped[:5])
        raise BadInput(where, f"nothing here can be {use}; {len(corpus.skipped)} files were skipped{shown}")
    write_skipped(folder / "skipped.csv", corpus.skipped)
    save_tokenizers(tokenizers, folder)
    facts = {**corpus.facts, "skipped": len(corpus.skipped)}
    (folder / "corpus.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _key(
    recipe: Any, config: RecipeConfig, tokenizers: Sequence[Tokenizer[Any]], vocabulary: Vocabulary | None,
    evaluated: bool,
) -> str:  # fmt: skip
    """Changes with every file, setting and line of code that the stores depend on."""
    settings = {k: v for k, v in asdict(config).items() if k not in NO_DATA}
    model = [[fingerprint(t) for t in tokenizers], vocabulary and vocabulary.to_dict()]
    made_by = [__version__, settings, model, evaluated]
    digest = hashlib.sha256(json.dumps(made_by, default=str).encode())
    for path in _sources(recipe):
        digest.update(path.read_bytes())
    beside = recipe.read_beside(config) if hasattr(recipe, "read_beside") else []
    for root in (*(given_paths(config.data) if config.data is not None else ()), *beside):
        for path in sorted(all_files(root)):
            if path.is_file():  # and no link to nowhere
                stat = path.stat()
                digest.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()[:20]


def _sources(recipe: Any) -> Iterator[Path]:
    """The code that makes tokens: the recipe, the tokenizers, and this package."""
    yield Path(recipe.__file__)
    yield from [*sorted(Path(__file__).parent.glob("*.py")), Path(__file__).parent.parent / "sequence.py"]
    for name in ("tokenizers_ext", "seqmodal.tokenizers"):
        spec = importlib.util.find_spec(name)
        for place in spec.submodule_search_locations or () if spec else ():
            yield from sorted(Path(place).glob("*.py"))
