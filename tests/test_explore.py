"""The likeliest next tokens: as the decoder has them, as a table, and picked by a person."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from rich.console import Console

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.explore import END, explore
from seqmodal.model import Model
from seqmodal.tokenizers import Vocabulary
from tokenizers_ext.midi import MidiTokenizer
from tokenizers_ext.text import ByteTokenizer


def model_of(tokenizer: object, window: int = 8) -> Model:
    vocabulary = Vocabulary.of([tokenizer])
    torch.manual_seed(1)
    shape = DecoderConfig(
        vocab_size=vocabulary.size, d_model=16, num_layers=2, num_heads=1, max_seq_len=32, window=window
    )  # fmt: skip
    decoder = Decoder(shape).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    return Model(decoder, vocabulary, [tokenizer])


@pytest.fixture(scope="module")
def model() -> Model:
    return model_of(ByteTokenizer())


def expected(model: Model, text: str) -> list[tuple[int | None, float]]:
    """Ids and probabilities, all read anew: those of the bytes and of the end, which is put at None."""
    v = model.vocabulary
    block = v.block("bytes")
    assert block.begin is not None and block.end is not None
    ids = [v.bos, block.begin, *v.to_global("bytes", model.tokenizer().encode(text)).tolist()]
    with torch.inference_mode():
        logits = model.decoder.logits(model.decoder(torch.tensor([ids])).hidden)[0, -1].double()
    weights = {id: float(logits[id].exp()) for id in [block.end, *range(block.first_content, v.size)]}
    total = sum(weights.values())
    ranked = sorted(weights.items(), key=lambda pair: -pair[1])
    return [(None if id == block.end else id - block.first_content, w / total) for id, w in ranked]


@pytest.mark.parametrize("text", ["", "The sea", "é", "far and wide " * 6])
def test_they_are_what_the_decoder_has(model: Model, text: str) -> None:
    found = model.next(text)
    wanted = expected(model, text)[:10]
    assert [one.id for one in found] == [id for id, _ in wanted]
    assert [one.probability for one in found] == pytest.approx([p for _, p in wanted], rel=1e-4)
    assert all(one.text == ("" if one.id is None else bytes([one.id]).decode(errors="replace")) for one in found)


def test_all_of_them_sum_to_one(model: Model) -> None:
    found = model.next("a", 1000)
    assert len(found) == 257 and sum(one.probability for one in found) == pytest.approx(1, abs=1e-5)
    assert [one.id for one in found[:3]] == [one.id for one in model.next(np.array([97]), 3)]
    assert None in [one.id for one in found]


def test_what_has_no_next_tokens_to_show(model: Model) -> None:
    with pytest.raises(ConfigError, match="count is 0"):
        model.next("a", 0)
    with pytest.raises(ConfigError, match="midi makes no text"):
        model_of(MidiTokenizer()).next()
    with pytest.raises(ConfigError, match="objective masked"):
        Model(model.decoder, model.vocabulary, model.tokenizers, objective="masked").next("a")


def shown(model: Model, prompt: str, answers: Iterator[str] | None) -> list[str]:
    """The lines that a person sees."""

    def ask(question: str) -> str:
        assert "1 to 10" in question and answers is not None
        try:
            return next(answers)
        except StopIteration:
            raise EOFError from None

    out = io.StringIO()
    explore(model, prompt, Console(file=out, width=100, highlight=False), None if answers is None else ask)
    return out.getvalue().splitlines()


def test_without_a_person_it_is_shown_once(model: Model) -> None:
    lines = shown(model, "sea", None)
    assert lines[0] == "sea" and len(lines) == 12
    shares = [float(re.findall(r"([\d.]+)%", line)[0]) for line in lines[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.1)
    bars = [line.count("█") for line in lines[1:11]]
    assert bars == sorted(bars, reverse=True) and bars[0] == 40


def test_what_is_picked_is_read_on(model: Model) -> None:
    first = model.next("sea")
    assert first[0].id is not None and first[1].id is not None
    ids = np.append(model.tokenizer().encode("sea"), [first[1].id])
    second = model.next(ids)
    third = model.tokenizer().decode(np.append(ids, [second[0].id]))
    lines = shown(model, "sea", iter(["2", "0", "11", "two", " 1 ", ""]))
    text = "\n".join(lines)
    assert text.count("all others") == 3 and text.count("is no number from 1 to 10") == 3
    assert third in text.split("all others")[2]
    assert shown(model, "sea", iter(["2"]))[:12] == lines[:12]


def test_the_end_can_be_picked(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.no_grad():
        before: Callable[..., torch.Tensor] = model.decoder.logits

        def lifted(hidden: torch.Tensor) -> torch.Tensor:
            logits = before(hidden).clone()
            logits[..., model.vocabulary.block("bytes").end] = 30.0
            return logits

        monkeypatch.setattr(model.decoder, "logits", lifted)
        lines = shown(model, "sea", iter(["1", "1"]))
    assert END in lines[1] and lines[-1] == "sea" and len(lines) == 13
