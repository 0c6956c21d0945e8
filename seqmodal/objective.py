"""Objectives: what of a piece the decoder reads, what it must predict and where, and who sees whom.

Each is a pure function of a piece of a document and a random generator. One law holds for all: a position with loss
does not see the id that it must predict, except where BERT leaves a chosen id as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

import numpy as np

from seqmodal.config import (
    Causal,
    DecoderConfig,
    FillInTheMiddle,
    Masked,
    Objective,
    Permutation,
    Prefix,
    SpanCorruption,
)
from seqmodal.errors import ConfigError
from seqmodal.sequence import NOWHERE, Composed
from seqmodal.tokenizers.vocabulary import ADDED, Vocabulary

MASK, BEGINNING, ENDING, MIDDLE, SENTINELS = range(5)
"""Where each mark stands in the block of marks, the sentinels from the last number on."""
HIDDEN = np.iinfo(np.int32).max
"""`reveal` of what nobody sees."""
BY_MASK, BY_OTHER = 0.8, 0.1
"""Shares of the chosen ids that BERT hides behind a mask and replaces; the rest stays."""


@dataclass(frozen=True)
class Arranged:
    """A piece as an objective lays it out: arrays of length m.

    Attributes:
        ids, targets: int32.
        weight: float32, how much each target counts.
        span: int32, as in `Composed`; None: everything causal.
        order, reveal: int32, as in `seqmodal.nn.mask.Mask`; None: in the order of the ids.
        positions: int32, where each id stands; None: one after the other.
        block, features, coordinates: of what stands at each position, as in `Composed`; None: there is one block, and
            there are none.
    """

    ids: np.ndarray
    targets: np.ndarray
    weight: np.ndarray
    span: np.ndarray | None = None
    order: np.ndarray | None = None
    reveal: np.ndarray | None = None
    positions: np.ndarray | None = None
    block: np.ndarray | None = None
    features: np.ndarray | None = None
    coordinates: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)


def with_marks(vocabulary: Vocabulary, objective: Objective) -> Vocabulary:
    """The vocabulary with the marks that the objective needs, as a block of their own at its end; where it has such a
    block, as that of a model that goes on learning may, these are its first ones.

    Raises:
        ConfigError: where that block has too few: it stands before others and cannot grow.
    """
    needed = 0
    match objective:
        case Masked() | Permutation():
            needed = MASK + 1
        case FillInTheMiddle():
            needed = MIDDLE + 1
        case SpanCorruption(sentinels=sentinels):
            needed = SENTINELS + sentinels
    if not needed:
        return vocabulary
    if ADDED not in vocabulary.names:
        return vocabulary.append(ADDED, needed, marked=False)
    if (there := vocabulary.block(ADDED).num_content) < needed:
        raise ConfigError(
            f"the objective {objective.kind} needs {needed} marks, and the model that is gone on from has {there}; go "
            "on with the objective that it learned, or with one that needs no marks: causal, prefix"
        )
    return vocabulary


def mark(vocabulary: Vocabulary, number: int) -> int:
    """The id of a mark: MASK, BEGINNING, ENDING, MIDDLE, or SENTINELS and on.

    Raises:
        ConfigError: for a vocabulary without marks.
        Mismatch: for one without that mark.
    """
    return int(vocabulary.to_global(ADDED, np.array([number]))[0])


def must_go_together(objective: Objective, model: DecoderConfig) -> None:
    """Raises ConfigError for a setting of the decoder that means nothing to the objective."""
    kind = f"the objective {objective.kind}"
    if model.memory and not isinstance(objective, Causal):
        raise ConfigError(f"memory {model.memory} and {kind} do not go together: a memory goes on with the text before")
    wide = model.max_seq_len and model.window >= model.max_seq_len
    if model.window and not wide and isinstance(objective, Masked | Permutation):
        raise ConfigError(f"window {model.window} means nothing to {kind}, which sees the whole piece; set it to 0")
    if model.tally and not counts(objective):
        raise ConfigError(f"tally {model.tally} means nothing to {kind}: no counter is right beside a gap; set it to 0")


def counts(objective: Objective) -> bool:
    """Whether what is open can be counted from left to right: pieces are laid out as they are."""
    return isinstance(objective, Causal | Prefix)


def fit(objective: Objective, model: DecoderConfig, vocabulary: Vocabulary, window: int) -> DecoderConfig:
    """The decoder for an objective, from one whose sizes are chosen.

    Args:
        objective: what is to be learned.
        model: with a window chosen for generation from left to right without end.
        vocabulary: of the tokenizers.
        window: what was asked for. Without it only the causal objective keeps one: the others need the whole piece.
    """
    kept = model.window if isinstance(objective, Causal) else window
    return replace(model, vocab_size=with_marks(vocabulary, objective).size, window=kept)


def capacity(objective: Objective, room: int) -> int:
    """How many targets of a document surely fit `room` positions; below 1: none."""
    match objective:
        case FillInTheMiddle():
            return room - 4
        case SpanCorruption():
            fits = (n for n in range(room, 0, -1) if n + 2 * noise(objective, n)[1] <= room)
            return next(fits, 0)
        case Permutation(share=share):
            return next((n for n in range(room, 0, -1) if n + _count(share, n) <= room), 0)
    return room


def needed(objective: Objective, targets: int) -> int:
    """How many positions surely hold a document of so many targets: the least of which `capacity` is that many."""
    return next(n for n in count(targets) if capacity(objective, n) >= targets)


def must_suit(objective: Objective, context: int) -> None:
    """Raises ConfigError where windows of `context` positions hold no piece, or more spans than there are sentinels."""
    most = capacity(objective, context)
    if most < (1 if isinstance(objective, Causal | Prefix) else 2):
        raise ConfigError(f"a context of {context} is too short for the objective {objective.kind}")
    if isinstance(objective, SpanCorruption) and (spans := noise(objective, most)[1]) >= objective.sentinels:
        raise ConfigError(
            f"objective.sentinels is {objective.sentinels} and a window of {context} may have {spans} spans; set it to "
            f"{spans + 1} or more"
        )


def arrange(objective: Objective, piece: Composed, rng: np.random.Generator, vocabulary: Vocabulary) -> Arranged:
    """Lay out a piece.

    Args:
        objective: what is to be learned.
        piece: n + 1 ids with n targets, n from 1 on.
        rng: where chance is needed.
        vocabulary: the one with the objective's marks.
    """
    source = None
    match objective:
        case Prefix():
            arranged = _prefix(objective, piece, rng)
        case Masked():
            arranged = _masked(objective, piece, rng, vocabulary)
        case SpanCorruption():
            arranged, source = _span_corruption(objective, piece, rng, vocabulary)
        case FillInTheMiddle():
            arranged, source = _fill_in_the_middle(objective, piece, rng, vocabulary)
        case Permutation():
            arranged, source = _permutation(objective, piece, rng, vocabulary)
        case _:
            arranged = _causal(piece)
    return _with_inputs(arranged, piece, source, vocabulary)


def _with_inputs(arranged: Arranged, piece: Composed, source: np.ndarray | None, vocabulary: Vocabulary) -> Arranged:
    """With block, features and coordinates, where they say something: those of place `source` in the piece, of no place
    where that is -1; None: one after the other."""
    if len(vocabulary.content) == 1 and piece.features is None and piece.coordinates is None:
        return arranged
    source = np.arange(len(arranged)) if source is None else source

    def moved(array: np.ndarray | None, empty: float) -> np.ndarray | None:
        if array is None:
            return None
        return np.where((source >= 0).reshape(-1, *[1] * (array.ndim - 1)), array[source], array.dtype.type(empty))

    return replace(
        arranged, block=moved(piece.block, 0), features=moved(piece.features, 0),
        coordinates=moved(piece.coordinates, NOWHERE),
    )  # fmt: skip


def _causal(piece: Composed) -> Arranged:
    return Arranged(piece.ids[:-1], piece.targets[:-1], piece.weight[:-1])


def _prefix(objective: Prefix, piece: Composed, rng: np.random.Generator) -> Arranged:
    plain = _causal(piece)
    if piece.span.any():
        return replace(plain, span=piece.span[:-1])
    counts = np.flatnonzero(plain.weight)
    last = int(counts[-1]) + 1 if len(counts) else len(plain)
    given = min(last, max(1, round(rng.uniform(objective.least, objective.most) * len(plain))))
    span = (np.arange(len(plain)) < given).astype(np.int32)
    weight = plain.weight.copy()
    weight[: given - 1] = 0  # the last that is given predicts the first that is not
    return replace(plain, weight=weight, span=span)


def _masked(objective: Masked, piece: Composed, rng: np.random.Generator, vocabulary: Vocabulary) -> Arranged:
    ids, own, (first, past) = piece.ids[:-1].copy(), _own_weight(piece)[:-1], _content(piece, vocabulary)
    share = rng.uniform(objective.share, max(objective.share, objective.most))
    chosen = _some(np.flatnonzero(_is_content(piece, vocabulary)[:-1] & (own > 0)), share, rng)
    fate = rng.random(len(chosen))
    ids[chosen[fate < BY_MASK]] = mark(vocabulary, MASK)
    other = chosen[(fate >= BY_MASK) & (fate < BY_MASK + BY_OTHER)]
    ids[other] = rng.integers(first[other], past[other])
    weight = np.zeros(len(ids), np.float32)
    weight[chosen] = own[chosen]
    return Arranged(ids, piece.ids[:-1], weight, span=np.ones(len(ids), np.int32))


def noise(objective: SpanCorruption, length: int) -> tuple[int, int]:
    """How many of `length` ids are cut out, in how many spans; none where there are fewer than two."""
    if length < 2:
        return 0, 0
    out = min(_count(objective.share, length), length - 1)
    return out, min(max(1, round(out / objective.mean_length)), out, length - out)


def _span_corruption(
    objective: SpanCorruption, piece: Composed, rng: np.random.Generator, vocabulary: Vocabulary
) -> tuple[Arranged, np.ndarray]:
    ids, own = piece.ids[:-1], _own_weight(piece)[:-1]
    out, spans = noise(objective, len(ids))
    lengths = np.stack([_parts(len(ids) - out, spans, rng), _parts(out, spans, rng)], axis=1)  # kept, cut out, kept, …
    edges = np.cumsum(lengths.reshape(-1))[:-1]
    pieces, weights = np.split(ids, edges), np.split(own, edges)
    marks = vocabulary.to_global(ADDED, SENTINELS + np.arange(spans + 1))[:, None]
    counts = np.full(1, own.any(), np.float32)
    places, a_mark = np.split(np.arange(len(ids)), edges), np.full(1, -1)
    read, written, weight = [], [], []
    read_from, written_from = [], []
    for number in range(spans):
        read += [pieces[2 * number], marks[number]]
        read_from += [places[2 * number], a_mark]
        written += [marks[number], pieces[2 * number + 1]]
        written_from += [a_mark, places[2 * number + 1]]
        weight += [counts, weights[2 * number + 1]]
    if not spans:
        read, weight = [ids], [np.zeros(1, np.float32)]
        read_from = [np.arange(len(ids))]
    whole = np.concatenate([*read, *written, marks[spans]])
    given = sum(map(len, read))
    aimed = np.concatenate([np.zeros(given, np.float32), *weight, *([counts] if spans else [])])
    span = (np.arange(len(whole) - 1) < given).astype(np.int32)
    return Arranged(whole[:-1], whole[1:], aimed[1:], span=span), np.concatenate([*read_from, *written_from])


def _fill_in_the_middle(
    objective: FillInTheMiddle, piece: Composed, rng: np.random.Generator, vocabulary: Vocabulary
) -> tuple[Arranged, np.ndarray | None]:
    """Marks are no targets: whoever asks for a middle writes them. The eos after the middle is one."""
    content = np.flatnonzero(_is_content(piece, vocabulary))
    if rng.random() >= objective.rate or not len(content):
        return _causal(piece), None
    cuts = np.sort(rng.choice(np.arange(content[0], content[-1] + 2), 2, replace=False))
    begins, ends, fills = vocabulary.to_global(ADDED, np.array([BEGINNING, ENDING, MIDDLE]))[:, None]
    before, middle, after = np.split(piece.ids, cuts)
    whole = np.concatenate([begins, before, ends, after, fills, middle, [vocabulary.eos]]).astype(np.int32)
    before, middle, after = np.split(_own_weight(piece), cuts)
    weight = np.concatenate([[0], before, [0], after, [0], middle, [middle.any()]]).astype(np.float32)
    before, middle, after = np.split(np.arange(len(piece.ids)), cuts)
    source = np.concatenate([[-1], before, [-1], after, [-1], middle])
    return Arranged(whole[:-1], whole[1:], weight[1:]), source


def _permutation(
    objective: Permutation, piece: Composed, rng: np.random.Generator, vocabulary: Vocabulary
) -> tuple[Arranged, np.ndarray]:
    """All content, then a query for each id that is predicted. What is given has rank 0, as a piece's first id has."""
    ids, own = piece.ids[:-1], _own_weight(piece)[:-1]
    candidates = np.flatnonzero(_is_content(piece, vocabulary)[:-1] & (own > 0))
    chosen = _some(candidates, objective.share, rng)  # in the order of prediction
    rank = np.zeros(len(ids), np.int32)
    rank[chosen] = np.arange(1, len(chosen) + 1)
    queries = np.full(len(chosen), mark(vocabulary, MASK), np.int32)
    source = np.concatenate([np.arange(len(ids)), chosen])  # a query is told where it stands
    arranged = Arranged(
        np.concatenate([ids, queries]),
        np.concatenate([ids, ids[chosen]]),
        np.concatenate([np.zeros(len(ids), np.float32), own[chosen]]),
        order=np.concatenate([rank, rank[chosen] - 1]),
        reveal=np.concatenate([rank, np.full(len(chosen), HIDDEN, np.int32)]),
        positions=source.astype(np.int32),
    )
    return arranged, source


def _own_weight(piece: Composed) -> np.ndarray:
    """What each id counts as a target; the first is one of another piece, and counts nothing."""
    return np.concatenate([np.zeros(1, np.float32), piece.weight[:-1]])


def _content(piece: Composed, vocabulary: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    """First id of the content of each position's block, and the one past the last."""
    slices = [block.content_slice for block in vocabulary.blocks]
    ends = np.array([(part.start, part.stop) for part in slices])[piece.block]
    return ends[:, 0], ends[:, 1]


def _is_content(piece: Composed, vocabulary: Vocabulary) -> np.ndarray:
    """Whether each id is a tokenizer's, and no mark."""
    names = {block.name for block in vocabulary.content}
    tokenizers = np.array([block.name in names for block in vocabulary.blocks])[piece.block]
    return tokenizers & (piece.ids >= _content(piece, vocabulary)[0])


def _count(share: float, total: int) -> int:
    """That share of a number, and at least one."""
    return max(1, round(share * total))


def _some(candidates: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """That share of the candidates, at least one if there is one, in random order."""
    return rng.permutation(candidates)[: _count(share, len(candidates))]


def _parts(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Lengths of at least one that add up to `total`, every way of it as likely; none where no part is asked for."""
    if not parts:
        return np.zeros(0, np.int64)
    cuts = np.sort(rng.choice(np.arange(1, total), parts - 1, replace=False))
    return np.diff(np.concatenate([[0], cuts, [total]]))
