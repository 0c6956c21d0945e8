"""What a model learns to predict, as small dataclasses: which ids of a piece, and what it sees of the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class Causal:
    """Every id from those before it."""

    kind: ClassVar[str] = "causal"
    left_to_right: ClassVar[bool] = True


@dataclass(frozen=True)
class Prefix:
    """Every id of the second part of a piece, the first part being seen both ways (prefix LM, Raffel et al. 2020).

    Where a document has segments seen both ways, these are what is given. Elsewhere each piece is cut at random, once.
    """

    least: float = 0.0
    """Share of a piece that is given at least; one id always is."""
    most: float = 1.0
    """Share that is given at most; one id is always left."""
    kind: ClassVar[str] = "prefix"
    left_to_right: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.least <= self.most <= 1:
            raise ConfigError(f"objective.least {self.least} and most {self.most} must be shares with least <= most")


@dataclass(frozen=True)
class Masked:
    """Ids from all around them (BERT, Devlin et al. 2019): of those chosen, 8 of 10 are hidden behind a mask, one of 10
    is replaced by another id of its block, one of 10 stays as it is."""

    share: float = 0.15
    """Share of the content that is chosen."""
    most: float = 0.0
    """0: always that share. Above `share`: each piece has its own, evenly between the two, so that the model can fill
    in what has many gaps, as masked parallel decoding asks of it."""
    kind: ClassVar[str] = "masked"
    left_to_right: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _must_be_share(self)
        if self.most and not self.share <= self.most <= 1:
            raise ConfigError(f"objective.most is {self.most}; it is 0, or a share of at least {self.share}")


@dataclass(frozen=True)
class SpanCorruption:
    """Spans of ids, after reading the piece with a sentinel in place of each (T5, Raffel et al. 2020)."""

    share: float = 0.15
    """Share of the ids that are cut out."""
    mean_length: float = 3.0
    """Mean length of a span."""
    sentinels: int = 100
    """How many there are: one more than a window ever has spans, at least."""
    kind: ClassVar[str] = "span-corruption"
    left_to_right: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _must_be_share(self)
        if not 1 <= self.mean_length < float("inf"):
            raise ConfigError(f"objective.mean_length is {self.mean_length}; a span has at least one id")
        if self.sentinels < 2:
            raise ConfigError(f"objective.sentinels is {self.sentinels}; one span needs two")


@dataclass(frozen=True)
class FillInTheMiddle:
    """Every id from those before it, some pieces being laid out as beginning, end, middle (Bavarian et al. 2022).

    A mark comes before each of the three parts and the vocabulary's eos after the middle.
    """

    rate: float = 0.5
    """Share of the pieces that are laid out so."""
    kind: ClassVar[str] = "fill-in-the-middle"
    left_to_right: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1:
            raise ConfigError(f"objective.rate is {self.rate}; it is a share of the pieces, above 0 and at most 1")


@dataclass(frozen=True)
class Permutation:
    """Ids in a random order, each from those before it in that order and from its place (XLNet, Yang et al. 2019).

    What is predicted asks from a position of its own, which holds a mask and is seen by nobody: two streams in one
    sequence.
    """

    share: float = 1 / 6
    """Share of the content that comes last in the order and is predicted; the rest is given."""
    kind: ClassVar[str] = "permutation"
    left_to_right: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _must_be_share(self)


Objective = Causal | Prefix | Masked | SpanCorruption | FillInTheMiddle | Permutation


def _must_be_share(objective: Masked | SpanCorruption | Permutation) -> None:
    if not 0 < objective.share < 1:
        raise ConfigError(f"objective.share is {objective.share}; it is a share of the ids, above 0 and below 1")
