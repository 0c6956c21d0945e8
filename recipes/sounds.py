"""Sounds from a folder of them, or made tones where none is given."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import RecipeConfig, SamplingConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.files import Described, find_usable
from seqmodal.data.store import Store
from seqmodal.data.tones import tones
from seqmodal.errors import ConfigError
from seqmodal.sequence import Document, Segment
from tokenizers_ext.sound import Sound, SoundTokenizer

SLOWEST = 2500
"""Samples a second at least: a frame has to see more of them than there are bands."""
MADE = 600
"""Sounds of the built-in corpus."""
FITTED = 2000
"""Files that the codebook is fitted on, at most: evenly taken from the training part."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn to make sounds from a folder of them: patches of a spectrogram, each a code of a codebook fitted on it."""

    longest: float = 10.0
    """Seconds; a longer file becomes several sounds of equal length, none of them longer than this."""
    sample_rate: int = 8000
    """A second: what is above half of it in Hertz is not heard. A second has 25 tokens a level at any rate."""
    codes: int = 512
    """Of the codebook, a level."""
    levels: int = 1
    """Tokens of a patch. Each more brings the sound nearer to its original and makes the sequence longer."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(seconds=3.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.1 <= self.longest < float("inf"):
            raise ConfigError(f"longest is {self.longest}; it is in seconds, at least 0.1")
        if self.sample_rate < SLOWEST:
            raise ConfigError(f"sample_rate is {self.sample_rate}; it must be at least {SLOWEST}, for 40 bands")
        self.means_nothing("sounds", "sampling.count")
        self.tokenizer()

    def tokenizer(self) -> SoundTokenizer:
        """As configured, not fitted: frames of 10 ms that see 32. Raises ConfigError for what is out of range."""
        rate = self.sample_rate
        return SoundTokenizer(rate, rate // 100, window=2 * round(0.016 * rate), codes=self.codes, levels=self.levels)


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to check them, drop copies, split, fit the codebook on the training part; encode on demand.

    Whole files are held out; of a single one, its last tenth. `tokenizers` are those of a trained model. Where the
    sounds are there for it to be `evaluated` on, they are those of the folder's own test part where it has one, else
    all; none is dropped.
    """
    held = _held(config, tokenizers)
    if config.data is None:
        return _built_in(config, held)
    describe = partial(_describe, config.tokenizer())
    found = find_usable(config, SoundTokenizer.suffixes, describe, "sound", evaluated=evaluated, others=True)
    chosen = held or config.tokenizer()
    if held is None:
        chosen.fit(found.training(FITTED))  # paths, so that it holds one sound at a time
    seconds = sum(one.weight for one in found.described.values())
    facts, error = _facts(chosen, len(found.described), seconds), _Error()
    alone = len(found.described) == 1 and not evaluated

    def documents() -> Iterator[Document]:
        for path, (ids, numbers, squares) in found.each(partial(_encode, chosen)):
            parts = _windows(chosen, ids, config.longest)
            first = len(parts) - math.ceil((config.valid_share or 0.1) * len(parts)) if alone and parts[1:] else None
            for at, part in enumerate(parts):
                split = found.splits[path] if first is None else "train" if at < first else "valid"
                name = str(path) if len(parts) == 1 else f"{path}, part {at + 1} of {len(parts)}"
                yield Document((Segment(chosen.name, part),), name, split)
            if found.splits[path] == "valid" or first is not None:
                facts["distortion_db"] = error.add(numbers, squares)

    return Corpus([chosen], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well the tokens of the held-out sounds are predicted, beside how often each occurs (a unigram of each level),
    and how far the spectrogram that the tokens keep is from the sounds' own, in decibels.

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
    chosen: SoundTokenizer = model.tokenizer("sound")
    found = likelihood_of(model, held)
    alone = unigram_nats(stores["train"], held, np.repeat(np.arange(chosen.levels), chosen.codes))
    sounds = [held[number].segments[0].ids for number in range(len(held))]
    tokens, seconds = sum(map(len, sounds)), sum(map(chosen.duration, sounds))
    facts = json.loads((held.folder.parent / "corpus.json").read_text(encoding="utf-8"))
    return {
        "nats_per_token": found.nats / tokens,
        "nats_per_second": found.nats / seconds,
        "unigram_nats_per_token": alone / tokens,
        "unigram_nats_per_second": alone / seconds,
        "next_token_accuracy": found.correct / found.count,
        "distortion_db": facts["distortion_db"],
    }


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sample as a sound and its spectrogram; none of a model that was not trained to go from left to right."""
    if not config.objective.left_to_right:
        return []
    how = config.sampling
    made = model.generate(
        to="sound", seconds=how.seconds, seed=config.training.seed, temperature=how.temperature, top_p=how.top_p
    )  # fmt: skip
    return list(model.tokenizer("sound").show(made, folder / f"step_{step:06}"))


def _held(config: Config, tokenizers: Sequence[Any]) -> SoundTokenizer | None:
    """The tokenizer for sounds that a trained model has. Raises ConfigError where settings say otherwise."""
    held: SoundTokenizer | None = shared(tokenizers, "sound")
    for name in ("sample_rate", "codes", "levels") if held is not None else ():
        ours, theirs = getattr(config, name), getattr(held, name)
        if ours != theirs:
            raise ConfigError(f"{name} is {ours}, and sounds of the model have {theirs}; set it so")
    return held


@dataclass
class _Error:
    """Of many sounds."""

    numbers: int = 0
    squares: float = 0.0

    def add(self, numbers: int, squares: float) -> float:
        """Root mean square in decibels of all so far: how many numbers, and the sum of their squared differences."""
        self.numbers, self.squares = self.numbers + numbers, self.squares + squares
        return round(math.sqrt(self.squares / max(1, self.numbers)), 2)


def _describe(tokenizer: SoundTokenizer, path: Path) -> Described:
    """Runs in a worker process, as `_encode` does."""
    sound = tokenizer.read(path)
    return Described(hashlib.sha256(sound.samples).hexdigest(), weight=sound.seconds)


def _encode(tokenizer: SoundTokenizer, item: Path | Sound) -> tuple[np.ndarray, int, float]:
    """Ids, how many numbers the spectrogram of a sound has, and the sum of their squared differences, in decibels, from
    what the ids keep. Beside the sound itself, a part of it at a time is in memory."""
    sound = tokenizer.read(item) if isinstance(item, Path) else item
    ids, numbers, squares = tokenizer.encode(sound), 0, 0.0
    rest = ids
    for patches in tokenizer.patches(sound):
        part, rest = np.split(rest, [len(patches) * tokenizer.levels])
        apart = 10 * (patches.reshape(-1, tokenizer.bands) - tokenizer.decode_spectrogram(part))
        numbers, squares = numbers + apart.size, squares + float(np.square(apart, dtype=np.float64).sum())
    return ids, numbers, squares


def _windows(tokenizer: SoundTokenizer, ids: np.ndarray, longest: float) -> list[np.ndarray]:
    """The ids of a sound in parts of equal length, each of whole patches and at most `longest` seconds."""
    patches = ids.reshape(-1, tokenizer.levels)
    most = max(1, int(longest / tokenizer.duration(patches[:1].ravel()) + 1e-6))
    return [part.ravel() for part in np.array_split(patches, -(-len(patches) // most))]


def _facts(tokenizer: SoundTokenizer, count: int, seconds: float) -> dict[str, Any]:
    codes = f"{tokenizer.codes} codes" if tokenizer.levels == 1 else f"{tokenizer.levels} levels of {tokenizer.codes}"
    rate = tokenizer.levels / (tokenizer.patch * tokenizer.hop / tokenizer.sample_rate)
    told = f"sound, {tokenizer.sample_rate:,} samples and {rate:g} tokens a second, {codes}"
    return {"sounds": count, "minutes": round(seconds / 60, 2), "tokenizer": told}


def _built_in(config: Config, held: SoundTokenizer | None) -> Corpus:
    """Tones, glides and rhythms."""
    config.without_files("sounds")
    sounds = [Sound(samples, config.sample_rate) for samples in tones(MADE, config.sample_rate)]
    cut = MADE * 9 // 10
    chosen = held or config.tokenizer()
    if held is None:
        chosen.fit(sounds[:cut])
    facts = {**_facts(chosen, MADE, sum(sound.seconds for sound in sounds)), "source": "made tones"}
    error = _Error()

    def documents() -> Iterator[Document]:
        for number, sound in enumerate(sounds):
            ids, numbers, squares = _encode(chosen, sound)
            if number >= cut:
                facts["distortion_db"] = error.add(numbers, squares)
            for part in _windows(chosen, ids, config.longest):
                yield Document((Segment(chosen.name, part),), str(number), "train" if number < cut else "valid")

    return Corpus([chosen], documents(), [], facts)
