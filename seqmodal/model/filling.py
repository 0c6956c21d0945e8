"""A stretch of an item made anew, for a model that learned the objective masked."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmodal.generation.masked import fill_masked
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import ids_of, row_generators
from seqmodal.model.made import Generated
from seqmodal.objective import MASK, mark
from seqmodal.start import Start, added_to
from seqmodal.tokenizers.protocol import Grammatical

if TYPE_CHECKING:
    from seqmodal.model.core import Model


def fill(
    model: Model, tokenizer: Any, given: np.ndarray, first: int, last: int, rounds: int, variations: int, seed: int,
    sampler: Sampler,
) -> list[Generated]:  # fmt: skip
    """The ids `first` to before `last` of an item made anew, `variations` times; see `Model.fill`.

    As much around the stretch is read as the context holds.
    """
    before, context = time.perf_counter(), model.decoder.config.max_seq_len // 2 * 2
    begun, mask_id = model.start(tokenizer, given), mark(model.vocabulary, MASK)
    whole, extra = np.array(ids_of(begun)), None
    if isinstance(begun, Start):
        extra = added_to([begun], [whole.tolist()], [len(whole)])
    hole = slice(len(whole) - len(given) + first, len(whole) - len(given) + last)
    whole[hole] = mask_id
    low = max(0, min((hole.start + hole.stop - context) // 2, len(whole) - context))
    row = whole[low : low + context]
    content = np.zeros((1, len(row), model.vocabulary.size), bool)
    block = model.vocabulary.block(tokenizer.name).content_slice
    content[..., block] = True
    for place, mask in _by_place(tokenizer, given, range(first, last)):
        content[0, hole.start - low + place - first, block] = mask
    made, training = [], model.decoder.training
    model.decoder.eval()
    try:
        for at in range(variations):
            ((found, logprobs),) = fill_masked(
                model.decoder, [row], mask_id=mask_id, rounds=rounds, sampler=sampler, allowed=content,
                generators=row_generators(seed, 1, at), extra=None if extra is None else extra[:, low : low + context],
            )  # fmt: skip
            new = model.vocabulary.to_local(tokenizer.name, found[row == mask_id])
            ids = np.concatenate([given[:first], new, given[last:]]).astype(np.int32)
            taken = time.perf_counter() - before
            item = tokenizer.decode(ids)
            made.append(Generated(ids, given[:first], item, logprobs[row == mask_id], True, seed, taken))
    finally:
        model.decoder.train(training)
    return made


def _by_place(tokenizer: Any, given: np.ndarray, places: range) -> Iterator[tuple[int, np.ndarray]]:
    """Which ids of the tokenizer may stand at each of the places of an item, where its grammar knows it without those
    that will stand before."""
    grammar = tokenizer.grammar() if isinstance(tokenizer, Grammatical) else None
    if grammar is None or not getattr(grammar, "by_place", False):
        return
    for place, id in enumerate(given[: places.stop].tolist()):
        mask = grammar.mask()[:-1]
        if place >= places.start and mask.any():
            yield place, mask
        grammar.advance(id)
