"""A model of text: GPT-2's folder opens with its ids, text comes a piece at a time, a prompt is a file or itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import numpy as np
import pytest
import torch

import seqmodal
from seqmodal.checkpoint import save_model
from seqmodal.cli import main
from seqmodal.config import PRESETS, DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError, Mismatch
from seqmodal.gpt2 import save_gpt2
from seqmodal.model import Model
from seqmodal.tokenizers import Vocabulary
from tokenizers_ext.text import ByteTokenizer, TextTokenizer

SIZE = 301
END = SIZE - 1


def write_gpt2(folder: Path, rows: int = SIZE, end: int | None = END) -> Path:
    """A tiny GPT-2 in Hugging Face's files, its weights and its tokens."""
    torch.manual_seed(3)
    shape = replace(PRESETS["gpt2"].model, vocab_size=rows, d_model=16, num_layers=1, num_heads=2, max_seq_len=32)
    decoder = Decoder(shape)
    with torch.no_grad():
        decoder.embedding.weight.mul_(20)
    save_gpt2(decoder, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"bos_token_id": end, "eos_token_id": end}))
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

    other = Tokenizer(models.BPE())
    other.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE - 1, initial_alphabet=alphabet, show_progress=False)
    other.train_from_iterator([topics["assert"]], trainer)
    other.add_special_tokens([AddedToken("<|endoftext|>", special=True)])
    other.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gpt2(tmp_path_factory.mktemp("gpt2"))


@pytest.fixture(scope="module")
def gpt2(folder: Path) -> Model:
    return seqmodal.load(folder)


@pytest.fixture(scope="module")
def of_bytes() -> Model:
    held = ByteTokenizer()
    vocabulary = Vocabulary.of([held])
    torch.manual_seed(0)
    shape = DecoderConfig(vocab_size=vocabulary.size, d_model=32, num_layers=1, num_heads=2, max_seq_len=64, window=32)
    return Model(Decoder(shape).eval(), vocabulary, [held])


def test_a_folder_of_gpt2_opens(gpt2: Model, folder: Path) -> None:
    (held,) = gpt2.tokenizers
    assert isinstance(held, TextTokenizer) and held.vocab_size == SIZE and held.end_of_text == END
    assert gpt2.vocabulary == Vocabulary.single("text", SIZE, bos=END, eos=END)
    ids = held.encode("The assert")
    assert gpt2.vocabulary.to_global("text", ids).tolist() == ids.tolist()
    assert seqmodal.load(folder, tokenizers={"text": TextTokenizer}).vocabulary == gpt2.vocabulary


def test_it_goes_on_greedily_as_its_decoder_does(gpt2: Model) -> None:
    """By hand: the end of a text, the prompt, then the likeliest id each time, all read anew."""
    held = gpt2.tokenizers[0]
    ids = [END, *held.encode("The assert").tolist()]
    start = len(ids)
    for _ in range(10):
        hidden = gpt2.decoder(torch.tensor([ids])).hidden
        ids.append(int(gpt2.decoder.logits(hidden)[0, -1].argmax()))
    ids = ids[: ids.index(END, 1)] if END in ids[1:] else ids
    one = gpt2.sample("The assert", max_new_tokens=10, temperature=0)[0]
    assert len(ids) > start and one.ids.tolist() == ids[1:] and one.item == held.decode(np.array(ids[1:]))


@pytest.mark.parametrize("which", ["gpt2", "of_bytes"])
def test_a_stream_is_what_sample_adds(which: str, request: pytest.FixtureRequest) -> None:
    """Also where the prompt ends in half a character, and beyond the context."""
    model = request.getfixturevalue(which)
    ends = 0
    for seed, prompt in enumerate([None, "The é", "<|endoftext|>", [0xE6, 0x97], *["x"] * 8]):
        how: dict[str, Any] = {"seed": seed, "max_new_tokens": 90, "top_k": 50}
        made = model.sample(prompt, **how)[0]
        shown = model.tokenizer().stream()
        given = shown.push(made.prompt_ids)
        assert given + "".join(model.stream(prompt, **how)) == made.item
        assert END not in made.ids.tolist() or which == "of_bytes"
        ends += made.finished
    assert 0 < ends < 12
    assert not model.decoder.training


def test_pieces_come_before_the_end(of_bytes: Model) -> None:
    pieces = of_bytes.stream("a", seed=1)
    first = next(pieces)
    assert len(first) == 1
    pieces.close()
    with pytest.raises(TypeError, match="heat"):
        of_bytes.stream("a", heat=1)
    with pytest.raises(ConfigError, match="max_new_tokens is 0"):
        of_bytes.stream("a", max_new_tokens=0)
    with pytest.raises(ConfigError, match="temperature"):
        of_bytes.stream("a", temperature=-1)


NO_FILES = ["a", "x.txt", "~nobody/x", "~", "/", ".", "n\0ul", "word " * 5000, "none/there.md", ""]


@pytest.mark.parametrize("text", NO_FILES)
def test_what_names_no_file_is_text(
    of_bytes: Model, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert bytes(of_bytes.sample(text, max_new_tokens=1, seed=0)[0].prompt_ids.tolist()) == text.encode()


def test_what_names_a_file_of_text_is_read(of_bytes: Model, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfone\r\n")
    (tmp_path / "x.bin").write_bytes(b"one")
    for path in (tmp_path / "x.txt", str(tmp_path / "x.txt")):
        assert bytes(of_bytes.sample(path, max_new_tokens=1, seed=0)[0].prompt_ids.tolist()) == b"one\n"
    for path in (tmp_path / "none.txt", tmp_path / "x.bin", str(tmp_path / "x.bin")):
        with pytest.raises(BadInput, match="a prompt is a file that ends in .txt or"):
            of_bytes.sample(path)


def test_rows_that_have_no_token_are_never_drawn(tmp_path: Path) -> None:
    model = seqmodal.load(write_gpt2(tmp_path, rows=SIZE + 200))
    assert model.decoder.config.vocab_size == SIZE + 200 == model.vocabulary.size
    made = model.sample("a", max_new_tokens=200, seed=0, variations=3)
    assert max(one.ids.max() for one in made) < SIZE
    save_model(tmp_path / "kept", model.decoder, model.vocabulary, model.tokenizers, {})
    again = seqmodal.load(tmp_path / "kept").sample("a", max_new_tokens=200, seed=0, variations=3)
    assert [one.item for one in again] == [one.item for one in made]


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))

    return edit


@pytest.mark.parametrize(("rows", "edit", "error", "message"), [
    (SIZE - 1, edited(), Mismatch, "the tokenizer has 301 ids, the weights 300 rows"),
    (SIZE, edited(eos_token_id=SIZE), BadInput, "eos_token_id 301, not from 0 to 300"),
    (SIZE, edited(eos_token_id=[1, 2]), BadInput, r"eos_token_id \[1, 2\]"),
    (SIZE, edited(model_type="llama"), BadInput, "model_type is 'llama', expected 'gpt2'"),
    (SIZE, lambda folder: (folder / "tokenizer.json").unlink(), BadInput, "has no byte-level BPE .it needs vocab.json"),
    (SIZE, lambda folder: (folder / "model.safetensors").unlink(), BadInput, "has no model.safetensors"),
])  # fmt: skip
def test_a_folder_that_is_not_whole(
    tmp_path: Path, rows: int, edit: Callable[[Path], None], error: type[Exception], message: str
) -> None:
    edit(write_gpt2(tmp_path, rows))
    with pytest.raises(error, match=message):
        seqmodal.load(tmp_path)


def test_the_end_may_be_the_tokenizers(tmp_path: Path) -> None:
    assert seqmodal.load(write_gpt2(tmp_path, end=None)).vocabulary.eos == END


def test_the_command_line_prints_text(
    folder: Path, gpt2: Model, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    before = sorted(folder.rglob("*"))
    how = ["--temperature", "1", "--top-p", "None", "--seed", "5", "--max-new-tokens", "40"]
    one, two = gpt2.sample("The <|endoftext|>", seed=5, max_new_tokens=40, variations=2)
    assert main(["generate", str(folder), "--prompt", "The <|endoftext|>", *how]) == 0
    out, err = capfd.readouterr()
    assert out == one.item + "\n" and err == "seed 5\n"
    assert main(["generate", str(folder), "--prompt", "The <|endoftext|>", *how, "--variations", "2"]) == 0
    out, err = capfd.readouterr()
    assert out == f"{one.item}\n{two.item}\n" and "1 of 2:" in err
    file = tmp_path / "made.txt"
    assert main(["generate", str(folder), "--prompt", "The <|endoftext|>", *how, "--out", str(file)]) == 0
    assert file.read_bytes().decode() == one.item and str(file) in capfd.readouterr().out
    assert main(["generate", str(folder), "--seconds", "5"]) == 2
    assert "seconds means nothing to the tokenizer text" in capfd.readouterr().err
    assert main(["generate", str(folder), "--prompt", str(file), "--max-new-tokens", "1"]) == 0
    assert capfd.readouterr().out.startswith(one.item.replace("\r\n", "\n").replace("\r", "\n"))
    search = ["generate", str(folder), "--prompt", "The ", "--max-new-tokens", "9", "--beams", "3"]
    found = gpt2.generate("The ", beams=3, max_new_tokens=9)
    assert main(search) == 0 and capfd.readouterr().out == found + "\n"
    assert main([*search, "--temperature", "0.5"]) == 2
    assert "beams and temperature 0.5 do not go together" in capfd.readouterr().err
    assert sorted(folder.rglob("*")) == before
