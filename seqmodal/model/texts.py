"""Text while it is made, and what may come next in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmodal.generation.constraint import BlockConstraint
from seqmodal.generation.loop import next_probabilities, stream
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import row_generators
from seqmodal.model.made import Candidate
from seqmodal.prompt import grammar_after
from seqmodal.sequence import Composed

if TYPE_CHECKING:
    from seqmodal.model.core import Model


def text_pieces(
    model: Model, tokenizer: Any, ids: np.ndarray, start: np.ndarray | Composed, grammar: Any,
    sampler: Sampler, bound: int, seed: int,
) -> Iterator[str]:  # fmt: skip
    """What follows the ids of a prompt, as it comes; see `Model.stream`."""
    constraint = BlockConstraint(model.vocabulary, tokenizer.name, grammar)
    shown, training = tokenizer.stream(), model.decoder.training
    shown.push(ids)  # a prompt may end in half a character
    model.decoder.eval()
    try:
        for (id,) in stream(
            model.decoder, [start], sampler=sampler, max_new_tokens=bound, constraints=[constraint],
            stop_ids={constraint.end}, generators=row_generators(seed, 1),
        ):  # fmt: skip
            if id != constraint.end and (piece := shown.push(model.vocabulary.to_local(tokenizer.name, id[None]))):
                yield piece
        if rest := shown.end():
            yield rest
    finally:
        model.decoder.train(training)


def candidates(
    model: Model, tokenizer: Any, ids: np.ndarray, start: np.ndarray | Composed, count: int
) -> list[Candidate]:  # fmt: skip
    """The likeliest ids after those of a prompt; see `Model.next`."""
    constraint = BlockConstraint(model.vocabulary, tokenizer.name, grammar_after(tokenizer, ids))
    training = model.decoder.training
    model.decoder.eval()
    try:
        p = next_probabilities(model.decoder, start, constraint.allowed())
    finally:
        model.decoder.train(training)
    found = []
    for id in np.argsort(-p, kind="stable")[: min(count, int(constraint.allowed().sum()))].tolist():
        local = None if id == constraint.end else int(model.vocabulary.to_local(tokenizer.name, np.array([id]))[0])
        text = "" if local is None else tokenizer.decode(np.array([local]))
        found.append(Candidate(local, text, float(p[id])))
    return found
