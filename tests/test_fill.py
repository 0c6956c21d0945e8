"""A stretch of an item made anew by a model that learned the masked objective."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from toy import Digits

from seqmodal.config import DecoderConfig, Masked
from seqmodal.data.loader import Batches
from seqmodal.data.store import write_store
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.model import Model
from seqmodal.objective import with_marks
from seqmodal.prompt import stretch
from seqmodal.sequence import Document, Segment
from seqmodal.tokenizers.registry import tokenizer
from seqmodal.tokenizers.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """It learned that digits count up."""
    from seqmodal.training.lit import as_tensors, loss_and_memory

    held = Digits()
    plain = Vocabulary.of([held])
    rng = np.random.default_rng(0)
    documents = [Document((Segment("digits", (np.arange(60) + rng.integers(10)) % 10),)) for _ in range(12)]
    store = write_store(tmp_path_factory.mktemp("store"), documents, plain)
    vocabulary = with_marks(plain, Masked())
    torch.manual_seed(0)
    decoder = Decoder(
        DecoderConfig(vocab_size=vocabulary.size, d_model=32, num_layers=2, num_heads=2, max_seq_len=64, token_shift=0)
    )
    batches = Batches(store, context=64, batch_size=8, seed=0, objective=Masked())
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    for number in range(150):
        total, weight, _ = loss_and_memory(decoder, as_tensors(batches.batch(number)))
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
    return Model(decoder.eval(), vocabulary, [held], objective="masked")


def test_what_is_filled_fits_what_stands_around_it(model: Model) -> None:
    counted = (np.arange(200) + 3) % 10  # longer than the context
    broken = counted.copy()
    broken[120:126] = 7
    (made,) = model.fill(broken, 120, 126, temperature=0.0, seed=1)
    assert made.ids.tolist() == counted.tolist() == list(made.item)
    assert len(made.prompt_ids) == 120 and len(made.logprobs) == 6 and (made.logprobs <= 0).all()


def test_the_rest_stays_and_variations_have_seeds_of_their_own(model: Model) -> None:
    given = np.zeros(40, np.int64)
    many = model.fill(given, 5, 25, variations=3, seed=2, temperature=2.0)
    for one in many:
        assert not one.ids[:5].any() and not one.ids[25:].any() and len(one.ids) == 40
    assert len({tuple(one.ids) for one in many}) == 3
    assert model.fill(given, 5, 25, variations=1, seed=2, temperature=2.0)[0].ids.tolist() == many[0].ids.tolist()


@pytest.mark.parametrize(("start", "stop"), [(3, 3), (5, 2), (-1, 4), (50, 60)])
def test_a_stretch_that_holds_nothing(model: Model, start: float, stop: float) -> None:
    with pytest.raises(ConfigError, match="40 ids"):
        model.fill([1] * 40, start, stop)


def test_what_cannot_be_filled_says_so(model: Model) -> None:
    with pytest.raises(ConfigError, match="more than 32"):
        model.fill([1] * 60, 0, 40)
    with pytest.raises(ConfigError, match="variations"):
        model.fill([1] * 40, 2, 4, variations=0)
    with pytest.raises(ConfigError, match="learned the objective causal"):
        replace(model, objective="causal").fill([1] * 40, 2, 4)


def test_notes_that_would_hang_are_not_filled(model: Model) -> None:
    music = replace(model, tokenizers=[tokenizer("midi")])
    with pytest.raises(ConfigError, match="opens and closes things"):
        music.fill([60, 61], 0, 1)


def test_seconds_of_music() -> None:
    midi = tokenizer("midi")
    ids = midi.encode(midi.examples(np.random.default_rng(0))[-1])
    length = midi.duration(ids)
    first, last = stretch(midi, ids, length / 3, length / 2)
    assert 0 < first < last < len(ids)
    assert midi.duration(ids[:first]) <= length / 3 + 0.01 and midi.duration(ids[:last]) <= length / 2 + 0.01
    assert stretch(midi, ids, 0, length + 5) == (0, len(ids))
    with pytest.raises(ConfigError, match="seconds"):
        stretch(midi, ids, length + 1, length + 2)


@pytest.mark.parametrize("name", ["image", "sound"])
def test_each_place_is_filled_with_a_code_of_its_level(name: str) -> None:
    coded = tokenizer(name, codes=4, levels=3, **({"size": 8} if name == "image" else {}))
    examples = coded.examples(np.random.default_rng(0))
    coded.fit(examples)
    given = coded.encode(examples[0])[:24]
    vocabulary = with_marks(Vocabulary.of([coded]), Masked())
    torch.manual_seed(0)
    decoder = Decoder(
        DecoderConfig(vocab_size=vocabulary.size, d_model=16, num_layers=1, num_heads=1, max_seq_len=32, token_shift=0)
    )
    untrained = Model(decoder.eval(), vocabulary, [coded], objective="masked")
    start, stop = (2, 10) if name == "image" else (0.05, 0.25)
    for made in untrained.fill(given, start, stop, variations=4, temperature=2.0):
        assert (made.ids // 4).tolist() == [place % 3 for place in range(len(given))]
