"""Files of any kind, read by any tokenizer that is installed: for a modality that has no recipe of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.files import Described, digest_of, find_usable
from seqmodal.data.store import Store
from seqmodal.errors import ConfigError
from seqmodal.sequence import Document, Segment
from seqmodal.tokenizers import tokenizer
from seqmodal.tokenizers.protocol import Fittable, Readable, Showable, Timed, Writable
from seqmodal.tokenizers.registry import entries, find, options_of

FITTED = 4000
"""Files that a tokenizer is fitted on, at most: evenly taken from the training part."""
SHOWN = 256
"""Tokens of a sample, where the tokenizer does not count seconds."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn from files of any kind, by the tokenizer that reads them: one that is there, or one that you wrote."""

    tokenizer: str = ""
    """Its name; `seqmodal tokenizers` lists those there are."""
    options: tuple[str, ...] = ()
    """What it is made with, such as bins=64."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.means_nothing("files of any kind, whose samples are compared with nothing", "sampling.count")
        options_of(self.options)


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to check them, drop copies, split, fit the tokenizer on the training part; encode on demand.

    `tokenizers` are those of a trained model. Where the files are there for it to be `evaluated` on, they are those of
    the folder's own test part where it has one, else all; none is dropped.
    """
    chosen = _tokenizer(config)
    if (held := shared(tokenizers, chosen.name)) is not None:
        if config.options and not evaluated:
            raise ConfigError(
                f"options mean nothing beside a model that has the tokenizer {chosen.name}; leave them out"
            )
        chosen = held
    if config.data is None:
        raise ConfigError("files has no corpus of its own; give a file or folder with --data")
    found = find_usable(config, chosen.suffixes, partial(_describe, chosen), f"{chosen.name} file", evaluated=evaluated)
    if held is None and isinstance(chosen, Fittable):
        chosen.fit(map(chosen.read, found.training(FITTED)))
    entry = find(config.tokenizer)
    facts = {"files": len(found.described), "tokenizer": f"{chosen.name}, {chosen.vocab_size:,} ids, {entry.summary}"}

    def documents() -> Iterator[Document]:
        for path, ids in found.each(partial(_encode, chosen)):
            yield Document((Segment(chosen.name, ids),), str(path), found.splits[path])

    return Corpus([chosen], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well the tokens of the held-out files are predicted, beside how often each occurs (a unigram).

    Of a model that was not trained to go from left to right, how well it predicts what its objective asks for.
    """
    # Here, so that worker processes need no torch.
    from seqmodal.evaluation.likelihood import likelihood_of, objective_metrics
    from seqmodal.evaluation.unigram import unigram_nats

    held = stores.get("valid")
    if held is None:
        return {}
    if not config.objective.left_to_right:
        return objective_metrics(model, held, config.objective)
    found = likelihood_of(model, held)
    tokens = sum(len(held[number].segments[0].ids) for number in range(len(held)))
    size = model.tokenizer(held[0].segments[0].block).vocab_size
    return {
        "nats_per_token": found.nats / max(1, tokens),
        "unigram_nats_per_token": unigram_nats(stores["train"], held, np.zeros(size, int)) / max(1, tokens),
        "next_token_accuracy": found.correct / found.count,
    }


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sample as a file, and what the tokenizer shows of it; none of a model that does not go from left to right."""
    if not config.objective.left_to_right:
        return []
    how, stem = config.sampling, folder / f"step_{step:06}"
    chosen = model.tokenizer(_tokenizer(config).name)
    long = {"seconds": how.seconds} if isinstance(chosen, Timed) else {"max_new_tokens": SHOWN}
    (made,) = model.sample(
        to=chosen.name, seed=config.training.seed, temperature=how.temperature, top_p=how.top_p, **long
    )  # fmt: skip
    shown = chosen.show(made.item, stem) if isinstance(chosen, Showable) else []
    path = stem.with_suffix(chosen.suffixes[0])
    if isinstance(chosen, Writable) and path not in shown:
        chosen.write(made.item, path)
        shown = [path, *shown]
    return shown


def _tokenizer(config: Config) -> Any:
    """As configured, not fitted."""
    if not config.tokenizer:
        known = sorted({entry.name for entry in entries()})
        raise ConfigError(f"give --tokenizer a name; there are: {', '.join(known)}")
    made = tokenizer(config.tokenizer, **options_of(config.options))
    if not isinstance(made, Readable):
        raise ConfigError(f"the tokenizer {config.tokenizer} reads no files; it needs `suffixes` and `read`")
    if not isinstance(made, Timed):
        config.means_nothing(f"the tokenizer {config.tokenizer}", "sampling.seconds")
    return made


def _describe(tokenizer: Any, path: Path) -> Described:
    """Runs in a worker process, as `_encode` does."""
    tokenizer.read(path)
    return Described(digest_of(path))


def _encode(tokenizer: Any, path: Path) -> np.ndarray:
    return np.asarray(tokenizer.encode(tokenizer.read(path)), np.int32)
