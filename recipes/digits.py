"""Any to any among words, pictures and sounds of digits, in one model."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import Objective, Prefix, RecipeConfig, SamplingConfig, TrainingConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.digits import SIDE, WORDS, Digits, made_digits, read_digits, varied_picture, varied_sound
from seqmodal.data.source import Skipped, given_paths, watch
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from seqmodal.show.sheet import sheet
from tokenizers_ext.image import ImageTokenizer
from tokenizers_ext.sound import Sound, SoundTokenizer
from tokenizers_ext.text import TextTokenizer

GIVEN: dict[str, Any] = {"loss": 0.0, "both_ways": True}
FITTED = 4000
"""Pictures that the codebook is fitted on."""
VALID = {"pictures": 60, "sounds": 20}
"""Of so many of the training part one is held back to choose the best weights by."""
EVERY = {"word to picture": 3, "picture to sound": 3, "sound to picture": 3, "word to picture, held back": 20}
"""Of so many pictures one is in a document of this kind; all are read, once as features and once as ids."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn digits as words, pictures and sounds, each made from each; `data` holds mnist/ and fsdd/."""

    copies: int = 6
    """Times that a sound of the training part is heard in each direction, each time a little different."""
    guidance: float = 1.5
    """How far samples go away from what comes without a condition; 1: not at all."""
    objective: Objective = field(default_factory=Prefix)
    training: TrainingConfig = field(default_factory=lambda: TrainingConfig(condition_dropout=0.1))
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(temperature=0.9, count=30))

    def __post_init__(self) -> None:
        super().__post_init__()
        self.means_nothing("digits", "exclude", "strict", "valid_share")
        if isinstance(self.data, tuple):
            raise ConfigError(f"data is {' '.join(self.data)}; digits take one folder, which holds mnist/ and fsdd/")
        if self.copies < 1:
            raise ConfigError(f"copies is {self.copies}; it must be at least 1")
        if not 0 <= self.guidance < float("inf"):
            raise ConfigError(f"guidance is {self.guidance}; it is 1, a number above it, or down to 0")
        if self.guidance != 1 and not self.training.condition_dropout:
            raise ConfigError(f"guidance {self.guidance} needs training.condition_dropout; or set it to 1")
        if not isinstance(self.objective, Prefix):
            raise ConfigError(f"the objective is {self.objective.kind}; digits are read both ways: leave it at prefix")


@dataclass(frozen=True)
class _Made:
    """The tokenizers, and segments made with them."""

    text: TextTokenizer
    image: ImageTokenizer
    sound: SoundTokenizer

    def word(self, digit: int, **how: Any) -> Segment:
        return Segment.of(self.text, WORDS[digit], **how)

    def picture(self, pixels: np.ndarray, **how: Any) -> Segment:
        from PIL import Image

        return Segment.of(self.image, Image.fromarray(pixels), **how)

    def said(self, sound: Any, **how: Any) -> Segment:
        return Segment.of(self.sound, sound, **how)


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read the digits, fit the codebooks on the training part, and write every task as documents.

    `tokenizers` are those of a trained model. Where the digits are there for it to be `evaluated` on, they are those of
    the official test part.
    """
    parts = _digits(config)
    made = _Made(
        shared(tokenizers, "text") or TextTokenizer(300), shared(tokenizers, "image") or
        ImageTokenizer(SIDE, color=False), shared(tokenizers, "sound") or SoundTokenizer(),
    )  # fmt: skip
    known = {tokenizer.name for tokenizer in tokenizers}
    if "text" not in known:
        made.text.fit(WORDS)
    if "image" in known:
        _must_suit(made.image)
    else:
        from PIL import Image

        made.image.fit(Image.fromarray(pixels) for pixels in parts["train"].pictures[:FITTED])
    parts, skipped = _heard(parts, made.sound)
    if "sound" not in known:
        made.sound.fit(parts["train"].sounds)
    facts = {f"{name}_{what}": len(getattr(part, what)) for name, part in parts.items() for what in VALID}

    def documents() -> Iterator[Document]:
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # an item is small, and where other processes run, threads wait for each other
        try:
            if not evaluated:
                yield from _learned(made, parts["train"], config)
            yield from _held(made, parts["test"], "valid" if evaluated else "test")
        finally:
            torch.set_num_threads(threads)

    return Corpus([made.text, made.image, made.sound], documents(), skipped, facts)


def _must_suit(image: ImageTokenizer) -> None:
    """Raises ConfigError for pictures of a model that are of another size or kind than those of digits."""
    theirs = image.to_dict()
    if theirs["size"] != [SIDE, SIDE] or theirs["color"] or not theirs["fixed"]:
        (high, wide), shade = theirs["size"], "colour" if theirs["color"] else "grey"
        kind = f"{'' if theirs['fixed'] else 'up to '}{wide} × {high} pixels, {shade}"
        raise ConfigError(
            f"pictures of the model are {kind}, and those of digits {SIDE} × {SIDE}, grey: train it with --size {SIDE} "
            "--color grey, or leave --init out"
        )


def _digits(config: Config) -> dict[str, Digits]:
    return made_digits() if config.data is None else read_digits(given_paths(config.data)[0])


def _heard(parts: Mapping[str, Digits], tokenizer: SoundTokenizer) -> tuple[dict[str, Digits], list[Skipped]]:
    """The parts with their sounds read, but for those that cannot be."""
    heard, skipped = {}, []
    for name, part in parts.items():
        sounds: dict[int, Sound] = {}
        for number, sound in enumerate(part.sounds):
            try:
                sounds[number] = tokenizer.read(sound) if isinstance(sound, Path) else Sound(*sound)
            except BadInput as error:
                skipped.append(Skipped(sound, error.reason))
        if not sounds:
            raise BadInput(skipped[-1].path.parent, f"no sound of {len(part.sounds)} can be read", skipped[-1].reason)
        heard[name] = replace(part, sounds=list(sounds.values()), said=part.said[list(sounds)])
    return heard, skipped


def _learned(made: _Made, part: Digits, config: Config) -> Iterator[Document]:
    """All tasks of the training part, and those of what is held back of it."""
    rng = np.random.default_rng(0)
    held_sounds, held_pictures = (np.arange(0, n, VALID[name]) for name, n in _sizes(part).items())
    yield from _held(made, _some(part, held_pictures, held_sounds), "valid")
    clips = np.setdiff1d(np.arange(len(part.sounds)), held_sounds)
    by_digit = {digit: clips[part.said[clips] == digit] for digit in range(10)}

    def again(number: int) -> tuple[np.ndarray, int]:
        return varied_sound(part.sounds[number].samples, part.sounds[number].rate, rng)

    pictures = np.setdiff1d(np.arange(len(part.pictures)), held_pictures).tolist()
    for number in watch(pictures, len(pictures), "writing pictures"):
        pixels, digit = part.pictures[number], int(part.drawn[number])
        for features in (True, False):
            read = made.picture(varied_picture(pixels, rng), features=features, **GIVEN)
            yield Document((read, made.word(digit)), f"picture {number}")
        if number % EVERY["word to picture"] == 0:
            yield Document((made.word(digit, **GIVEN), made.picture(pixels)), f"picture {number}")
        clip, features = int(rng.choice(by_digit[digit])), bool(rng.integers(2))
        if number % EVERY["picture to sound"] == 0:
            read = made.picture(varied_picture(pixels, rng), features=features, **GIVEN)
            yield Document((read, made.said(again(clip))), f"picture {number}")
        if number % EVERY["sound to picture"] == 1:
            read = made.said(again(clip), features=features, **GIVEN)
            yield Document((read, made.picture(pixels)), f"picture {number}")
    for number in watch(clips.tolist() * config.copies, len(clips) * config.copies, "writing sounds"):
        digit, name = int(part.said[number]), f"sound {number}"
        for features in (True, False):
            yield Document((made.said(again(number), features=features, **GIVEN), made.word(digit)), name)
        yield Document((made.word(digit, **GIVEN), made.said(again(number))), name)


def _held(made: _Made, part: Digits, split: str) -> Iterator[Document]:
    """What a model is judged on, as it is."""
    for number, (pixels, digit) in enumerate(zip(part.pictures, part.drawn.tolist(), strict=True)):
        for features in (True, False):
            read = made.picture(pixels, features=features, **GIVEN)
            yield Document((read, made.word(digit)), f"picture {number}", split)
        if number % EVERY["word to picture, held back"] == 0:
            yield Document((made.word(digit, **GIVEN), made.picture(pixels)), f"picture {number}", split)
    for number, (sound, digit) in enumerate(zip(part.sounds, part.said.tolist(), strict=True)):
        for features in (True, False):
            yield Document((made.said(sound, features=features, **GIVEN), made.word(digit)), f"sound {number}", split)
        yield Document((made.word(digit, **GIVEN), made.said(sound)), f"sound {number}", split)


def _sizes(part: Digits) -> dict[str, int]:
    return {"sounds": len(part.sounds), "pictures": len(part.pictures)}


def _some(part: Digits, pictures: np.ndarray, sounds: np.ndarray) -> Digits:
    some = [part.sounds[number] for number in sounds.tolist()]
    return Digits(part.pictures[pictures], part.drawn[pictures], some, part.said[sounds])


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """Shares of the test part whose word is found, from features and from ids; shares of pictures and sounds made from
    words, and from each other, that a small classifier, trained on the real training part alone, reads as that word,
    beside its own shares on the real test part as it is and after the tokenizer's round trip; nats a token of each
    modality.
    """
    from seqmodal.evaluation.likelihood import likelihood_of

    held = stores.get("test", stores["valid"])
    metrics, parts = _words_found(model, held), _heard(_digits(config), model.tokenizer("sound"))[0]
    for block, count in (("image", 4 * config.sampling.count), ("sound", config.sampling.count)):
        metrics |= _read_right(model, config, parts, block, count)
    found = likelihood_of(model, held, config.objective, 64)
    return metrics | {f"nats_per_token_{name}": part.nats / max(1, part.count) for name, part in found.parts.items()}


def _words_found(model: Any, held: Store) -> dict[str, float]:
    """Of each block, read as features and as ids, the share whose word is the likeliest answer."""
    asked: dict[str, list[tuple[Segment, list[int]]]] = defaultdict(list)
    for number in range(len(held)):
        source, target = held[number].segments
        if target.block == "text":
            asked[f"{source.block}_{'ids' if source.features is None else 'features'}"].append(
                (source, target.ids.tolist())
            )
    shares = {}
    for name, pairs in sorted(asked.items()):
        answers = model.sample_each([[source] for source, _ in pairs], to="text", temperature=0, max_new_tokens=8)
        right = [one.ids.tolist() == word for one, (_, word) in zip(answers, pairs, strict=True)]
        shares[f"word_from_{name}"] = float(np.mean(right))
    return shares


def _words(made: _Made, count: int) -> list[tuple[Segment, int]]:
    """Each word `count` times, and its digit."""
    return [(made.word(digit, **GIVEN), digit) for digit in range(10) for _ in range(count)]


def _others(made: _Made, part: Digits, block: str, most: int) -> list[tuple[Segment, int]]:
    """Real sounds where pictures are to be made, and pictures where sounds are, at most so many, evenly taken."""
    items, digits = (part.sounds, part.said) if block == "image" else (part.pictures, part.drawn)
    every, read = -(-len(items) // most), made.said if block == "image" else made.picture
    return [
        (read(item, features=True, **GIVEN), digit)
        for item, digit in zip(items[::every], digits[::every].tolist(), strict=True)
    ]


def _made_from(model: Any, config: Config, block: str, given: Sequence[Segment]) -> list[Any]:
    """An item of a block made from each of what is given."""
    how = {"temperature": config.sampling.temperature, "top_p": config.sampling.top_p, "seed": config.training.seed}
    guidance = None if config.guidance == 1 else config.guidance
    return [one.item for one in model.sample_each([[one] for one in given], to=block, guidance=guidance, **how)]


def _read_right(
    model: Any, config: Config, parts: Mapping[str, Digits], block: str, count: int
) -> dict[str, float]:  # fmt: skip
    """How often what is made from words and from real sounds or pictures is read right, beside how often real things
    are."""
    from seqmodal.evaluation.reading import Classifier, heard

    made, tokenizer = _tokenizers(model), model.tokenizer(block)

    def vectors(items: Sequence[Any]) -> np.ndarray:
        if block == "image":
            return np.stack([np.asarray(item, np.float32).ravel() / 255 for item in items])
        return np.stack([heard(tokenizer.spectrogram(item)) for item in items])

    def real(part: Digits) -> tuple[list[Any], np.ndarray]:
        if block == "sound":
            return part.sounds, part.said
        from PIL import Image

        return [Image.fromarray(pixels) for pixels in part.pictures], part.drawn

    def right(asked: Sequence[tuple[Segment, int]]) -> float:
        items = _made_from(model, config, block, [given for given, _ in asked])
        there = [number for number, item in enumerate(items) if block == "image" or len(item.samples)]
        if not there:
            return 0.0
        labels = np.array([asked[number][1] for number in there])
        return classifier.right(vectors([items[number] for number in there]), labels) * len(there) / len(items)

    (items, digits), (test, labels) = real(parts["train"]), real(parts["test"])
    classifier = Classifier(vectors(items), digits, epochs=6 if block == "image" else 30)
    back = [tokenizer.decode(tokenizer.encode(item)) for item in test]
    return {
        f"{block}_from_word": right(_words(made, count)),
        f"{block}_from_{'sound' if block == 'image' else 'image'}": right(
            _others(made, parts["test"], block, 10 * count)
        ),
        f"real_{block}": classifier.right(vectors(test), labels),
        f"real_{block}_after_round_trip": classifier.right(vectors(back), labels),
    }


def _tokenizers(model: Any) -> _Made:
    return _Made(*(model.tokenizer(name) for name in ("text", "image", "sound")))


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sheet of pictures, ten of each word in a row, and a sound that counts from zero to nine."""
    made, tokenizer = _tokenizers(model), model.tokenizer("sound")
    pictures, sounds = (
        _made_from(model, config, block, [given for given, _ in _words(made, count)])
        for block, count in (("image", 10), ("sound", 1))
    )
    pause = np.zeros(tokenizer.sample_rate // 5, np.float32)
    counted = np.concatenate([part for sound in sounds for part in (sound.samples, pause)])
    heard = folder / f"step_{step:06}.wav"
    tokenizer.write(Sound(counted, tokenizer.sample_rate), heard)
    return [sheet([np.asarray(each) for each in pictures], folder / f"step_{step:06}.png", columns=10), heard]
