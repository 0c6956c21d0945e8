"""A document is a list of segments; composing it gives the arrays a decoder learns from."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Featured, Located
from seqmodal.tokenizers.vocabulary import MARKS, SPECIAL, Vocabulary

NOWHERE = -1
"""Coordinate of what lies on no grid."""


def _no_ids() -> np.ndarray:
    return np.zeros(0, np.int32)


@dataclass(frozen=True)
class Segment:
    """A run of one tokenizer's ids, or of its features: continuous vectors, which are read and never written.

    Attributes:
        block: the tokenizer's name.
        ids: (n,) its own ids, from 0; none where there are features.
        loss: weight of predicting these ids; 0 for what is given.
        both_ways: whether its positions all see each other; then it can have no next-token loss.
        features: float (n, F).
        coordinates: int (n, axes), where each id or vector lies on a grid.

    Raises:
        ConfigError: for features with ids or with loss, and for coordinates of another length.
    """

    block: str
    ids: np.ndarray = field(default_factory=_no_ids)
    loss: float = 1.0
    both_ways: bool = False
    features: np.ndarray | None = None
    coordinates: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.features is not None and (self.loss or len(self.ids)):
            raise ConfigError(
                f"a segment of {self.block} has features with {len(self.ids)} ids and loss {self.loss}: features are "
                "only read; leave out the ids and set loss=0"
            )
        if self.coordinates is not None and len(self.coordinates) != len(self):
            raise ConfigError(
                f"a segment of {self.block} has {len(self)} places and {len(self.coordinates)} coordinates; there must "
                "be one for each"
            )

    def __len__(self) -> int:
        return len(self.ids) if self.features is None else len(self.features)

    @classmethod
    def of(
        cls, tokenizer: Any, item: Any, *, loss: float = 1.0, both_ways: bool = False, features: bool = False
    ) -> Self:
        """An item as a segment, with coordinates where the tokenizer gives some.

        Args:
            tokenizer: of the block.
            item: what it encodes.
            loss, both_ways: see above.
            features: take the item's features in place of its ids.

        Raises:
            ConfigError: for features of a tokenizer that gives none, or that do not lie where its ids do: a vector at
                each place, in the order in which the ids come to it.
        """
        name: str = tokenizer.name
        coordinates = None
        if not features or isinstance(tokenizer, Located):
            ids = tokenizer.encode(item)
        if isinstance(tokenizer, Located):
            coordinates = tokenizer.coordinates(ids)
        if not features:
            return cls(name, ids, loss, both_ways, coordinates=coordinates)
        if not isinstance(tokenizer, Featured):
            raise ConfigError(f"the tokenizer {name} has no features; read its ids")
        vectors = tokenizer.features(item)
        if coordinates is not None:
            moves = np.concatenate([[True], (coordinates[1:] != coordinates[:-1]).any(axis=1)])
            coordinates = coordinates[moves[: len(coordinates)]]
            if len(coordinates) != len(vectors):
                raise ConfigError(
                    f"{name} gives {len(vectors)} features for {len(coordinates)} places; read its ids"
                )
        return cls(name, loss=loss, both_ways=both_ways, features=vectors, coordinates=coordinates)


NOTHING = Segment(SPECIAL, np.array([MARKS.index("<null>")]), 0.0)
"""A null, which stands in place of what is given."""


@dataclass(frozen=True)
class Document:
    """Segments that belong together: a piece of music, a sentence and its translation."""

    segments: tuple[Segment, ...]
    name: str = ""
    split: str = "train"

    def without_condition(self) -> Document:
        """What is learned of it, after a null in place of all that is given: so a model learns to do without."""
        given = [segment for segment in self.segments if not segment.loss]
        if not given:
            return self
        null = replace(NOTHING, both_ways=any(segment.both_ways for segment in given))
        return replace(self, segments=(null, *(segment for segment in self.segments if segment.loss)))


def located(document: Document, tokenizers: Iterable[Any]) -> Document:
    """The document with the coordinates of all ids whose tokenizer gives some."""
    grids: dict[str, Any] = {each.name: each for each in tokenizers if isinstance(each, Located)}  # type: ignore[attr-defined]

    def one(segment: Segment) -> Segment:
        if segment.block not in grids or segment.features is not None or segment.coordinates is not None:
            return segment
        return replace(segment, coordinates=grids[segment.block].coordinates(segment.ids))

    return replace(document, segments=tuple(map(one, document.segments))) if grids else document


@dataclass(frozen=True)
class Composed:
    """A document as aligned arrays of length n.

    Attributes:
        ids: int32, of the vocabulary: bos, then begin, content and end of each segment, then eos. Features stand at
            nulls.
        targets: int32, the id to predict at each position; -1 at the last.
        weight: float32, how much each target counts.
        block: int8, index of the block each position belongs to.
        span: int32, 0 where positions see what came before, k in the k-th span seen both ways.
        features: float32 (n, F), zeros beside those of a segment and behind those of a block with fewer; None: none.
        coordinates: int32 (n, axes), NOWHERE for what lies on no grid; None: none does.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    block: np.ndarray
    span: np.ndarray
    features: np.ndarray | None = None
    coordinates: np.ndarray | None = None

    def part(self, start: int, stop: int) -> Composed:
        """The stretch from `start` to before `stop`."""
        held = {f.name: getattr(self, f.name) for f in fields(Composed)}
        return Composed(**{name: array[start:stop] for name, array in held.items() if array is not None})


Vary = Callable[[str, np.ndarray], np.ndarray]
"""Takes a block's name and a stretch of its ids and gives other ids for it."""


@dataclass(frozen=True)
class _Part:
    """A run of equals inside a document."""

    ids: np.ndarray
    weight: float
    span: int
    block: int
    features: np.ndarray | None = None
    coordinates: np.ndarray | None = None


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
        ConfigError: for next-token loss on a segment seen both ways: its targets stand in plain sight; for features
            where the vocabulary has no null; for ids on a grid that vary in number.
    """
    only, number, at = len(document.segments) == 1, 0, 0
    stop = np.iinfo(np.int64).max if stop is None else stop
    parts: list[_Part] = []

    def put(ids: np.ndarray, weight: float, span: int, block: int, segment: Segment | None = None) -> None:
        nonlocal at
        inside = slice(max(0, start - at), max(0, stop - at))
        at += len(ids)
        ids = ids[inside]
        if segment is None or not len(ids):
            parts.append(_Part(ids, weight, span, block))
            return
        features = None if segment.features is None else segment.features[inside]
        coordinates = None if segment.coordinates is None else segment.coordinates[inside]
        if features is None:
            ids = vocabulary.to_global(segment.block, ids if vary is None else vary(segment.block, ids))
            if coordinates is not None and len(ids) != len(coordinates):
                raise ConfigError(f"{segment.block} lies on a grid: varying it must keep the number of its ids")
        parts.append(_Part(ids, weight, span, block, features, coordinates))

    first, last = vocabulary.block_of(np.array([vocabulary.bos, vocabulary.eos])).tolist()
    put(np.array([vocabulary.bos]), 0.0, 0, first)
    for segment in document.segments:
        if segment.both_ways and segment.loss:
            raise ConfigError(
                f"a segment of {segment.block} is seen both ways and has next-token loss {segment.loss}: its targets "
                "would be visible; set loss=0 or both_ways=False"
            )
        block, index = vocabulary.block(segment.block), vocabulary.names.index(segment.block)
        number += segment.both_ways
        span = number if segment.both_ways else 0
        ids = segment.ids
        if segment.features is not None:
            if vocabulary.null is None:
                raise ConfigError(f"features of {segment.block} need a vocabulary with a null, which this has not")
            ids = np.full(len(segment), vocabulary.null)
        if block.marked:
            put(np.array([block.begin]), 0.0 if only else segment.loss, span, index)
        put(ids, segment.loss, span, index, segment)
        if block.marked:
            put(np.array([block.end]), segment.loss, span, index)
    implied = only and vocabulary.block(document.segments[0].block).marked
    weight = 0.0 if implied or not document.segments else document.segments[-1].loss
    put(np.array([vocabulary.eos]), weight, 0, last)

    lengths = [len(part.ids) for part in parts]
    whole = np.concatenate([part.ids for part in parts]).astype(np.int32)
    weights = np.repeat(np.array([part.weight for part in parts], np.float32), lengths)
    targets, ahead = np.full(len(whole), -1, np.int32), np.zeros(len(whole), np.float32)
    targets[:-1], ahead[:-1] = whole[1:], weights[1:]
    return Composed(
        whole, targets, ahead,
        block=np.repeat(np.array([part.block for part in parts], np.int8), lengths),
        span=np.repeat(np.array([part.span for part in parts], np.int32), lengths),
        features=_laid([part.features for part in parts], lengths, 0.0, np.float32),
        coordinates=_laid([part.coordinates for part in parts], lengths, NOWHERE, np.int32),
    )  # fmt: skip


def _laid(rows: list[np.ndarray | None], lengths: list[int], empty: float, dtype: Any) -> np.ndarray | None:
    """Arrays (n_i, F_i) one after the other as (n, F), F the widest, `empty` where there is none; None for none."""
    width = max((array.shape[1] for array in rows if array is not None), default=0)
    if not width:
        return None
    laid, at = np.full((sum(lengths), width), empty, dtype), 0
    for array, length in zip(rows, lengths, strict=True):
        if array is not None:
            laid[at : at + length, : array.shape[1]] = array
        at += length
    return laid
