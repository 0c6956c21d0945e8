"""A stretch of an item made anew, for a model that learned the objective masked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from seqmodal.generation.masked import fill_masked
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import ids_of, row_generators
from seqmodal.model.made import Generated
from seqmodal.objective import MASK, mark
from seqmodal.start import Start, added_to

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
    content = np.zeros(model.vocabulary.size, bool)
    content[model.vocabulary.block(tokenizer.name).content_slice] = True
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
