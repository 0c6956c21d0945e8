"""Pictures from a folder of them, or drawn shapes where none is given."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmodal.config import RecipeConfig, SamplingConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.files import Described, Files, find_usable
from seqmodal.data.shapes import shapes
from seqmodal.data.store import Store
from seqmodal.errors import ConfigError
from seqmodal.sequence import Document, Segment
from seqmodal.show.sheet import sheet
from tokenizers_ext.image import ImageTokenizer

if TYPE_CHECKING:
    from PIL.Image import Image

DRAWN = 2000
"""Pictures of the built-in corpus."""
FITTED = 4000
"""Pictures that the codebook is fitted on, at most: evenly taken from the training part."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn to make pictures from a folder of them: patches, each a code or several of a codebook fitted on them."""

    size: int = 32
    """Pixels of a side, in whole patches: every picture is scaled to it, and cut at its edges."""
    fixed: bool = True
    """False: a picture is only scaled down to lie within `size`, keeps its proportions, and its size is learned."""
    patch: int = 4
    """Pixels of a side of a patch."""
    codes: int = 512
    """Of the codebook, a level."""
    levels: int = 1
    """Tokens of a patch. Each more brings the picture nearer to its original and makes the sequence longer."""
    color: Literal["auto", "grey", "color"] = "auto"
    """auto: color where any picture has some."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(count=36))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.color not in ("auto", "grey", "color"):
            raise ConfigError(f"color is {self.color!r}; it is auto, grey or color")
        self.means_nothing("pictures", "sampling.seconds")
        self.tokenizer(color=True)

    def tokenizer(self, color: bool) -> ImageTokenizer:
        """As configured, not fitted. Raises ConfigError for what does not go together."""
        return ImageTokenizer(self.size, self.patch, self.codes, self.levels, color, self.fixed)


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to check them, drop copies, split, fit the codebook on the training part; encode on demand.

    `tokenizers` are those of a trained model. Where the pictures are there for it to be `evaluated` on, they are those
    of the folder's own test part where it has one, else all; none is dropped.
    """
    held = _held(config, tokenizers)
    if config.data is None:
        return _built_in(config, held)
    describe = partial(_describe, config.tokenizer(color=True))
    found = find_usable(config, ImageTokenizer.suffixes, describe, "picture", evaluated=evaluated, others=True)
    chosen = held or _fitted(config, found)
    facts, error = _facts(chosen, len(found.described)), _Error()

    def documents() -> Iterator[Document]:
        for path, (ids, pixels, squares) in found.each(partial(_encode, chosen)):
            if found.splits[path] == "valid":
                facts["psnr_db"] = error.add(pixels, squares)
            yield Document((Segment(chosen.name, ids),), str(path), found.splits[path])

    return Corpus([chosen], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well the tokens of the held-out pictures are predicted, beside how often each occurs (a unigram of each
    level), and the PSNR of what the tokens keep of these pictures: of all their pixels together, at the size they are
    encoded in.

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
    alone = unigram_nats(stores["train"], held, _kinds(model.tokenizer("image")))
    tokens = sum(len(held[number].segments[0].ids) for number in range(len(held)))
    facts = json.loads((held.folder.parent / "corpus.json").read_text(encoding="utf-8"))
    return {
        "nats_per_token": found.nats / tokens,
        "nats_per_picture": found.nats / len(held),
        "unigram_nats_per_token": alone / tokens,
        "unigram_nats_per_picture": alone / len(held),
        "tokens_per_picture": tokens / len(held),
        "next_token_accuracy": found.correct / found.count,
        "psnr_db": facts["psnr_db"],
    }


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sheet of samples; none of a model that was not trained to go from left to right."""
    if not config.objective.left_to_right:
        return []
    how = config.sampling
    made = model.generate(
        to="image", variations=how.count, seed=config.training.seed, temperature=how.temperature, top_p=how.top_p
    )  # fmt: skip
    return [sheet([np.asarray(picture) for picture in made], folder / f"step_{step:06}.png")]


def _held(config: Config, tokenizers: Sequence[Any]) -> ImageTokenizer | None:
    """The tokenizer for pictures that a trained model has. Raises ConfigError where settings say otherwise."""
    held: ImageTokenizer | None = shared(tokenizers, "image")
    if held is not None:
        ours = {
            "size": [config.size] * 2, "patch": config.patch, "codes": config.codes, "levels": config.levels,
            "fixed": config.fixed, "color": config.color == "color",
        }  # fmt: skip
        theirs = held.to_dict()
        for name in ("size", "patch", "codes", "levels", "fixed", *(["color"] if config.color != "auto" else [])):
            if ours[name] != theirs[name]:
                raise ConfigError(f"{name} is {ours[name]}, and pictures of the model have {theirs[name]}; set it so")
    return held


def _fitted(config: Config, found: Files) -> ImageTokenizer:
    """A new tokenizer, learned from the training part."""
    colored = any(one.more for one in found.described.values())
    new = config.tokenizer(config.color == "color" or (config.color == "auto" and colored))
    new.fit(found.training(FITTED))
    return new


@dataclass
class _Error:
    """Of many pictures."""

    pixels: int = 0
    squares: float = 0.0

    def add(self, pixels: int, squares: float) -> float:
        """PSNR in decibels of all so far: their pixels, and the sum of squared differences from 0 to 1."""
        self.pixels, self.squares = self.pixels + pixels, self.squares + squares
        return round(-10 * math.log10(max(1e-10, self.squares / self.pixels)), 2)


def _describe(tokenizer: ImageTokenizer, path: Path) -> Described:
    """A picture by its pixels at the size they are encoded in, and whether it has color. Runs in a worker process, as
    `_encode` does."""
    pixels = np.asarray(tokenizer.read(path))
    digest = hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()
    return Described(digest, more=bool((pixels != pixels[:, :, :1]).any()))


def _encode(tokenizer: ImageTokenizer, item: Path | Image) -> tuple[np.ndarray, int, float]:
    """Ids, how many pixels a picture has, and the sum of their squared differences from what the ids keep."""
    picture = tokenizer.read(item) if isinstance(item, Path) else item
    ids = tokenizer.encode(picture)
    back = tokenizer.decode(ids)
    pixels = back.width * back.height
    return ids, pixels, pixels * tokenizer.distortion(picture, back) ** 2


def _facts(tokenizer: ImageTokenizer, count: int) -> dict[str, Any]:
    d = tokenizer.to_dict()
    kind = "color" if d["color"] else "grey"
    size = " x ".join(map(str, d["size"])) + ("" if d["fixed"] else " at most")
    codes = f"{d['codes']} codes" if d["levels"] == 1 else f"{d['levels']} levels of {d['codes']} codes"
    return {"pictures": count, "tokenizer": f"image, {kind}, {size}, patches of {d['patch']}, {codes}"}


def _kinds(tokenizer: ImageTokenizer) -> np.ndarray:
    """Which ids may stand at one place: int (vocab_size,), the codes of a level, the numbers of rows or of columns."""
    d = tokenizer.to_dict()
    sides = [] if d["fixed"] else [side // d["patch"] for side in d["size"]]
    return np.repeat(np.arange(d["levels"] + len(sides)), [d["codes"]] * d["levels"] + sides)


def _built_in(config: Config, held: ImageTokenizer | None) -> Corpus:
    """Drawn shapes in five colours."""
    config.without_files("pictures")
    pictures = shapes(DRAWN, config.size)
    cut = DRAWN * 9 // 10
    chosen = held or config.tokenizer(color=config.color != "grey")
    if held is None:
        chosen.fit(pictures[:cut])
    facts, error = {**_facts(chosen, DRAWN), "source": "drawn shapes"}, _Error()

    def documents() -> Iterator[Document]:
        for number, picture in enumerate(pictures):
            ids, pixels, squares = _encode(chosen, picture)
            if number >= cut:
                facts["psnr_db"] = error.add(pixels, squares)
            yield Document((Segment(chosen.name, ids),), str(number), "train" if number < cut else "valid")

    return Corpus([chosen], documents(), [], facts)
