"""Counters of what is open: by id, by position, and over a vocabulary."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from midi_pieces import BOTH, some_notes

from seqmodal.errors import ConfigError
from seqmodal.nn.tally import Tally
from seqmodal.tokenizers.tally import num_counters, tally_effects
from seqmodal.tokenizers.vocabulary import Vocabulary
from tokenizers_ext.midi import BandTokenizer, MidiTokenizer, Notes


def counted(effects: np.ndarray, ids: list[int], document: list[int]) -> np.ndarray:
    """One id after the other."""
    rows: list[np.ndarray] = []
    for at, id in enumerate(ids):
        goes_on = at > 0 and document[at] == document[at - 1]
        rows.append(np.maximum((rows[-1] if goes_on else np.zeros(effects.shape[1], int)) + effects[id], 0))
    return np.array(rows)


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    cuts=st.lists(st.booleans(), min_size=40, max_size=40),
    seed=st.integers(0, 99),
    at=st.integers(0, 40),
)
def test_counts_are_those_of_a_loop(ids: list[int], cuts: list[bool], seed: int, at: int) -> None:
    tally = Tally(6, 3, 4)
    tally.effects.random_(-1, 2, generator=torch.Generator().manual_seed(seed))
    effects, given_ids = tally.effects.numpy().astype(int), torch.tensor([ids])
    whole = counted(effects, ids, [0] * len(ids))
    assert np.array_equal(tally.counts(given_ids)[0], whole)
    document = np.cumsum(cuts[: len(ids)]).tolist()
    found = tally.counts(given_ids, document=torch.tensor([document]))
    assert np.array_equal(found[0], counted(effects, ids, document))
    if 0 < at < len(ids):
        rest = tally.counts(given_ids[:, at:], carry=torch.from_numpy(whole[at - 1]).int().unsqueeze(0))
        assert np.array_equal(rest[0], whole[at:])


@BOTH
@settings(max_examples=40, deadline=None)
@given(notes=some_notes(), share=st.floats(0, 1))
def test_what_sounds_is_what_is_counted(tokenizer: MidiTokenizer, notes: Notes, share: float) -> None:
    ids = tokenizer.encode(notes)
    ids = ids[: int(share * len(ids))]
    counts = tokenizer.effects()[ids].astype(int).sum(0)
    _, repairs = tokenizer.decode_report(ids)
    assert counts.min(initial=0) >= 0 and counts.sum() == repairs.hanging


def test_counters_lie_side_by_side() -> None:
    class Plain:
        name, vocab_size = "plain", 4

    class Wrong(Plain):
        def effects(self) -> np.ndarray:
            return np.zeros((3, 2), np.int8)

    tokenizers = [MidiTokenizer(), Plain(), BandTokenizer()]
    vocabulary = Vocabulary.of(tokenizers)
    table = tally_effects(vocabulary, tokenizers)
    assert table.shape == (vocabulary.size, 256) and num_counters(tokenizers) == 256
    assert not table[: vocabulary.block("midi").first_content].any()
    assert table[vocabulary.block("band").first_content + 60, 128 + 60] == 1
    assert table[vocabulary.block("midi").first_content + 128 + 60, 60] == -1
    with pytest.raises(ConfigError, match="3 rows for 4 ids"):
        tally_effects(Vocabulary.of([Wrong()]), [Wrong()])
