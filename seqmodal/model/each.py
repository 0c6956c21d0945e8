"""What follows each of many things given, in batches of like length."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.repeat import NoRepeat
from seqmodal.generation.rows import ids_of, row_generators
from seqmodal.generation.strategy import Strategy
from seqmodal.model.made import Generated, Progress
from seqmodal.prompt import grammar_after
from seqmodal.sequence import Segment

if TYPE_CHECKING:
    from seqmodal.model.core import Model

POSITIONS = 1 << 14
"""Positions of a batch, beams and what is to come included."""
ROWS = 128
"""Rows of a batch on a CPU, beams included: more are multiplied hardly faster, and wait for the longest."""


def sample_each(
    model: Model, tokenizer: Any, given: Sequence[Sequence[Segment]], strategy: Strategy,
    max_new_tokens: int | Sequence[int] | None, seed: int, progress: Progress | None, no_repeat: int | None = None,
) -> list[Generated]:  # fmt: skip
    """See `Model.sample_each`."""
    if not all(given):
        raise ConfigError(f"nothing is given for item {[bool(one) for one in given].index(False)}; use sample")
    none = np.zeros(0, np.int32)
    starts = [model.start(tokenizer, none, one) for one in given]
    if isinstance(max_new_tokens, Sequence) and len(max_new_tokens) != len(given):
        raise ConfigError(f"{len(given)} things given and {len(max_new_tokens)} max_new_tokens; one for each, or one")
    if max_new_tokens is None:
        most = [model.bound(start) for start in starts]
    else:
        most = [max_new_tokens] * len(given) if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if min(most, default=1) < 1:
        raise ConfigError(f"max_new_tokens is {min(most)}; it must be at least 1")
    grammar = grammar_after(tokenizer, none)
    if no_repeat is not None:
        if grammar is not None:
            raise ConfigError(f"no_repeat means nothing to the tokenizer {tokenizer.name}, which has a grammar")
        grammar = NoRepeat(tokenizer.vocab_size, no_repeat)
    takes = [len(ids_of(start)) + new for start, new in zip(starts, most, strict=True)]
    made: list[Generated | None] = [None] * len(given)
    training = model.decoder.training
    model.decoder.eval()
    try:
        beams = strategy.beams or 1
        most_rows = max(1, ROWS // beams) if model.decoder.embedding.weight.device.type == "cpu" else len(given)
        for rows in _batches(takes, POSITIONS // beams, most_rows):
            before = time.perf_counter()
            first = BlockConstraint(model.vocabulary, tokenizer.name, grammar)
            constraints = [first.copy() for _ in rows]
            found = strategy.each(
                model.decoder, [starts[row] for row in rows], constraints, max_new_tokens=[most[row] for row in rows],
                stop_ids={constraints[0].end}, generators=[row_generators(seed, 1, row)[0] for row in rows],
            )  # fmt: skip
            taken = time.perf_counter() - before
            for row, one in zip(rows, found, strict=True):
                made[row] = model.made(tokenizer, none, one, seed, taken)
            if progress is not None:
                progress(sum(one is not None for one in made), len(made))
    finally:
        model.decoder.train(training)
    return [one for one in made if one is not None]


def _batches(takes: Sequence[int], room: int, most_rows: int) -> list[list[int]]:
    """Numbers of rows, the longest first, in batches of at most `room` positions and `most_rows`, or of one row."""
    batches: list[list[int]] = []
    for row in sorted(range(len(takes)), key=lambda row: (-takes[row], row)):
        if batches and len(batches[-1]) < most_rows and (len(batches[-1]) + 1) * takes[batches[-1][0]] <= room:
            batches[-1].append(row)
        else:
            batches.append([row])
    return batches
