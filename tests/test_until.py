"""Text ends behind what is named, however it falls into ids; and what lasts, after some seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits

from seqmodal.checkpoint import save_model
from seqmodal.cli import main
from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.model import Model
from seqmodal.tokenizers import Vocabulary
from seqmodal.tokenizers.until import UntilText
from tokenizers_ext.text import ByteTokenizer, TextTokenizer

BPE = TextTokenizer(270)
BPE.fit(["ab abc \u00e9\u00e9 ba. cab\n\n"] * 5)


@settings(deadline=None)
@pytest.mark.parametrize("tokenizer", [ByteTokenizer(), BPE], ids=["bytes", "pairs"])
@given(st.text("abc .\n\u00e9", max_size=20), st.lists(st.text("ab\u00e9\n.", min_size=1, max_size=4), min_size=1))
def test_only_the_end_follows_a_stop(tokenizer: Any, text: str, stops: list[str]) -> None:
    ids = tokenizer.encode(text).tolist()
    one = UntilText(tokenizer, stops)
    for at in range(len(ids) + 1):
        met = any(stop in tokenizer.decode(np.array(ids[:at], np.int32)) for stop in stops)
        assert one.mask()[-1] and one.mask()[:-1].any() != met and one.mask()[:-1].all() != met
        other = one.copy()
        np.testing.assert_array_equal(other.mask(), one.mask())
        if at < len(ids):
            other.advance(ids[0])  # a copy that goes its own way
            one.advance(one.clip(ids[at]))
        if met:
            break


class Bytes:
    """Bytes, an id each."""

    name, vocab_size = "beats", 256

    def encode(self, item: bytes) -> np.ndarray:
        return np.frombuffer(item, np.uint8).astype(np.int32)

    def decode(self, ids: np.ndarray) -> bytes:
        return bytes(ids.tolist())


def model_of_bytes(tokenizer: Any = None) -> Model:
    held = tokenizer or ByteTokenizer()
    vocabulary = Vocabulary.of([held])
    torch.manual_seed(0)
    shape = DecoderConfig(vocab_size=vocabulary.size, d_model=32, num_layers=1, num_heads=2, max_seq_len=64, window=32)
    return Model(Decoder(shape).eval(), vocabulary, [held])


@pytest.mark.parametrize("how", [{}, {"draft": "lookup"}, {"beams": 3}], ids=["drawn", "guessed", "searched"])
def test_what_is_made_ends_behind_the_first_stop(how: dict[str, Any]) -> None:
    """Where a text goes on without a stop, it is the same up to there with one, which the prompt has as well."""
    model = model_of_bytes()
    common: dict[str, Any] = {"seed": 4, "max_new_tokens": 60} | how
    free = str(model.generate("e", **common))
    stops = (free[9], free[20:22])
    first = min(free.index(stop, 1) + len(stop) for stop in stops)
    (made,) = model.sample(free[9], stop=stops, **common) if not how else model.sample("e", stop=stops, **common)
    assert made.finished and sum(stop in made.item[1:] for stop in stops) >= 1
    assert all(stop not in made.item[1:-1] for stop in stops)
    if not how:
        (again,) = model.sample("e", stop=stops, **common)
        assert again.item == free[:first]
        assert "".join(model.stream("e", stop=stops, seed=4, max_new_tokens=60)) == again.item[1:]


def test_a_stop_without_meaning_is_refused() -> None:
    for stop in ("", (), ("a", "")):
        with pytest.raises(ConfigError, match="stop is empty"):
            model_of_bytes().sample(stop=stop)
    with pytest.raises(ConfigError, match="stop means nothing to the tokenizer digits"):
        UntilText(Digits(), "a")


class Beats(Bytes):
    """Half a second an id, and no grammar."""

    def duration(self, ids: np.ndarray) -> float:
        return len(ids) / 2

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        return ids[: int(2 * seconds)]


def test_what_lasts_ends_after_the_seconds_without_a_grammar() -> None:
    model = model_of_bytes(Beats())
    (made,) = model.sample(b"abcd", prompt_seconds=1.0, seconds=3.0, seed=1)
    assert made.finished and len(made.prompt_ids) == 2 and len(made.ids) == 8


def test_generate_stops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = model_of_bytes()
    save_model(tmp_path, model.decoder, model.vocabulary, model.tokenizers, {"objective": "causal"})
    given = ["generate", str(tmp_path), "--prompt", "e", "--seed", "4", "--max-new-tokens", "60"]
    assert main(given) == 0
    free = capsys.readouterr().out
    stop = next(letter for letter in free[5:] if letter.isalnum())
    assert main([*given, "--stop", stop]) == 0
    assert capsys.readouterr().out == free[: free.index(stop, 1) + 1] + "\n"
