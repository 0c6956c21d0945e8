"""A document is a list of segments; composing it gives the arrays a decoder learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.vocabulary import Vocabulary


@dataclass(frozen=True)
class Segment:
    """A run of one tokenizer's ids.

    Attributes:
        block: the tokenizer's name.
        ids: (n,) its own ids, from 0.
        loss: weight of predicting these ids; 0 for what is given.
        both_ways: whether its positions all see each other; then it can have no next-token loss.
    """

    block: str
    ids: np.ndarray
    loss: float = 1.0
    both_ways: bool = False


@dataclass(frozen=True)
class Document:
    """Segments that belong together: a piece of music, a sentence and its translation."""

    segments: tuple[Segment, ...]
    name: str = ""
    split: str = "train"


@dataclass(frozen=True)
class Composed:
    """A document as aligned arrays of length n.

    Attributes:
        ids: int32, of the vocabulary: bos, then begin, content and end of each segment, then eos.
        targets: int32, the id to predict at each position; -1 at the last.
        weight: float32, how much each target counts.
        block: int8, index of the block each id belongs to.
        span: int32, 0 where positions see what came before, k in the k-th span seen both ways.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    block: np.ndarray
    span: np.ndarray

    def part(self, start: int, stop: int) -> Composed:
        """The stretch from `start` to before `stop`."""
        return Composed(*(getattr(self, f.name)[start:stop] for f in fields(self)))


Vary = Callable[[str, np.ndarray], np.ndarray]
"""Takes a block's name and a stretch of its ids and gives other ids for it."""


def compose(
    document: Document, vocabulary: Vocabulary, start: int = 0, stop: int | None = None, vary: Vary | None = None
) -> Composed:
    """Lay the segments of a document end to end; with `start` and `stop`, only those ids of the whole.

    A target counts as its segment does; with a single segment, the begin that must follow bos and the eos that must
    follow the end count nothing.

    Args:
        document: what to compose.
        vocabulary: has a block for each segment.
        start, stop: the stretch of the composed ids to make; the rest is not touched.
        vary: changes the content inside the stretch, which may then get longer or shorter.

    Raises:
        ConfigError: for next-token loss on a segment seen both ways: its targets stand in plain sight.
    """
    only, number, at = len(document.segments) == 1, 0, 0
    stop = np.iinfo(np.int64).max if stop is None else stop
    parts: list[tuple[np.ndarray, float, int]] = []  # ids, weight, span

    def put(ids: np.ndarray, weight: float, span: int, block: str | None = None) -> None:
        nonlocal at
        inside = ids[max(0, start - at):max(0, stop - at)]
        at += len(ids)
        if block is not None and len(inside):
            inside = vocabulary.to_global(block, inside if vary is None else vary(block, inside))
        parts.append((inside, weight, span))

    put(np.array([vocabulary.bos]), 0.0, 0)
    for segment in document.segments:
        if segment.both_ways and segment.loss:
            raise ConfigError(
                f"a segment of {segment.block} is seen both ways and has next-token loss {segment.loss}: its targets "
                "would be visible; set loss=0 or both_ways=False"
            )
        block = vocabulary.block(segment.block)
        number += segment.both_ways
        span = number if segment.both_ways else 0
        if block.marked:
            put(np.array([block.begin]), 0.0 if only else segment.loss, span)
        put(segment.ids, segment.loss, span, segment.block)
        if block.marked:
            put(np.array([block.end]), segment.loss, span)
    implied = only and vocabulary.block(document.segments[0].block).marked
    put(np.array([vocabulary.eos]), 0.0 if implied or not document.segments else document.segments[-1].loss, 0)

    lengths = [len(ids) for ids, _, _ in parts]
    whole = np.concatenate([ids for ids, _, _ in parts]).astype(np.int32)
    weights = np.repeat(np.array([weight for _, weight, _ in parts], np.float32), lengths)
    spans = np.repeat(np.array([span for _, _, span in parts], np.int32), lengths)
    targets, ahead = np.full(len(whole), -1, np.int32), np.zeros(len(whole), np.float32)
    targets[:-1], ahead[:-1] = whole[1:], weights[1:]
    return Composed(whole, targets, ahead, vocabulary.block_of(whole), spans)
