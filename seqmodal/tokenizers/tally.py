"""What ids open and close, over a whole vocabulary: the counters of a decoder's tally."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from seqmodal.errors import ConfigError
from seqmodal.tokenizers.protocol import Tallied
from seqmodal.tokenizers.vocabulary import Vocabulary


def num_counters(tokenizers: Sequence[Any]) -> int:
    """Counters of all tokenizers together."""
    return sum(tokenizer.effects().shape[1] for tokenizer in tokenizers if isinstance(tokenizer, Tallied))


def tally_effects(vocabulary: Vocabulary, tokenizers: Sequence[Any]) -> np.ndarray:
    """What each id of the vocabulary adds to each counter, int8 (V, F): the tokenizers' counters side by side.

    Raises:
        ConfigError: for a tokenizer whose table does not fit it.
    """
    table, at = np.zeros((vocabulary.size, num_counters(tokenizers)), np.int8), 0
    for tokenizer in tokenizers:
        name, size = tokenizer.name, tokenizer.vocab_size
        if not isinstance(tokenizer, Tallied):
            continue
        effects = np.asarray(tokenizer.effects())
        if len(effects) != size:
            raise ConfigError(f"effects of {name} has {len(effects)} rows for {size} ids")
        table[vocabulary.block(name).content_slice, at : at + effects.shape[1]] = effects
        at += effects.shape[1]
    return table
