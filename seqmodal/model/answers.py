"""Text to text: what a model answers to many texts, each behind a tag that says what is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.model.core import Model
from seqmodal.model.made import Progress
from seqmodal.sequence import Segment

TEXT, TAGS = "text", "tags"
"""Blocks of such a model; tags that it learned later stand in tags2 and so on."""
BEAMS = 4
MORE, LEAST = 2, 16
"""An answer has at most `MORE` tokens for each of the source, and `LEAST` beside them."""


def asked(source: np.ndarray, tag: str, tags: Sequence[Any]) -> tuple[Segment, Segment]:
    """What stands before an answer: the source, ids of `text`, seen both ways, then the tag of what is asked, in the
    block of the tokenizer that knows it."""
    held = next(one for one in tags if tag in one.names)
    return Segment(TEXT, source, loss=0.0, both_ways=True), Segment(held.name, held.encode(tag), loss=0.0)


def tokenizers_of_tags(tokenizers: Sequence[Any]) -> list[Any]:
    """Those of a model that are tags."""
    return [one for one in tokenizers if one.name.rstrip("0123456789") == TAGS]


def tags_of(model: Model) -> tuple[str, ...]:
    """What can be asked of a model: languages to translate into, and tasks.

    Raises:
        ConfigError: for a model that did not learn text to text.
    """
    if held := tokenizers_of_tags(model.tokenizers):
        return tuple(name for tokenizer in held for name in tokenizer.names)
    names = ", ".join(tokenizer.name for tokenizer in model.tokenizers)
    raise ConfigError(f"this model makes {names} and was not trained by the recipe translation: it has no tags")


def chosen_tag(model: Model, tag: str | None) -> str:
    """The tag, or the only one.

    Raises:
        ConfigError: for one that the model has not learned, none where there are several, or a model without tags.
    """
    names = tags_of(model)
    if tag is None and len(names) == 1:
        return names[0]
    if tag is None or tag not in names:
        asked_for = "nothing is asked for" if tag is None else f"{tag!r} is not among what this model learned"
        raise ConfigError(f"{asked_for}; there are: {', '.join(names)}")
    return tag


def answers(
    model: Model, sources: Sequence[str], tag: str | None = None, *, beams: int = BEAMS,
    length_penalty: float | None = None, progress: Progress | None = None,
) -> list[str]:  # fmt: skip
    """An answer to each text, in their order; to nothing but spaces, nothing.

    A text of more than three quarters of the context (half, where positions are absolute) is cut into parts, at spaces
    where there are some, and their answers are joined by spaces.

    Args:
        model: trained by the recipe translation, or one that makes such documents.
        sources: the texts.
        tag: what is asked: a language or a task; may be left out where there is only one.
        beams, length_penalty: of the search, see `beam_search`.
        progress: called with how many parts are done and how many there are.

    Raises:
        ConfigError: for a tag that the model has not learned, or a model without tags.
    """
    tag = chosen_tag(model, tag)
    text, tags = model.tokenizer(TEXT), tokenizers_of_tags(model.tokenizers)
    context, fixed = model.decoder.config.max_seq_len, model.decoder.config.position.absolute
    most = max(8, context // 2 - 8 if fixed else 3 * context // 4)
    parts = [(number, ids) for number, source in enumerate(sources) for ids in _parts(text, source.strip(), most)]
    made = model.sample_each(
        [asked(ids, tag, tags) for _, ids in parts], to=TEXT, max_new_tokens=[_most(model, ids) for _, ids in parts],
        beams=beams, length_penalty=length_penalty, progress=progress,
    )  # fmt: skip
    found: list[list[str]] = [[] for _ in sources]
    for (number, _), one in zip(parts, made, strict=True):
        found[number].append(one.item)
    return [" ".join(items) for items in found]


def _most(model: Model, ids: np.ndarray) -> int:
    """How many tokens an answer may have; where positions are absolute, what they leave."""
    wanted, config = MORE * len(ids) + LEAST, model.decoder.config
    return max(1, min(wanted, config.max_seq_len - len(ids) - 7)) if config.position.absolute else wanted


def _parts(tokenizer: Any, text: str, most: int) -> list[np.ndarray]:
    """The ids of a text in parts of at most `most`: halved as long as need be, at the space nearest the middle."""
    if not text:
        return []
    ids = tokenizer.encode(text)
    if len(ids) <= most or len(text) < 2:
        return [ids]
    middle = len(text) // 2
    before, after = text.rfind(" ", 0, middle), text.find(" ", middle)
    at = min((place for place in (before, after) if place > 0), key=lambda place: abs(place - middle), default=middle)
    return _parts(tokenizer, text[:at].strip(), most) + _parts(tokenizer, text[at:].strip(), most)
