"""A model folder gives back what went in, and refuses what does not belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import seqmodal.checkpoint
from seqmodal.checkpoint import load_model, save_model
from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, Mismatch
from seqmodal.tokenizers.registry import tokenizer
from seqmodal.tokenizers.vocabulary import Vocabulary

KEYS = [
    "embedding.weight", "head.weight", "shift_scales", "stack.blocks.0.attention.k_proj.weight",
    "stack.blocks.0.attention.out_proj.weight", "stack.blocks.0.attention.q_proj.weight",
    "stack.blocks.0.attention.v_proj.weight", "stack.blocks.0.feed_forward.down.weight",
    "stack.blocks.0.feed_forward.up.weight", "value_embeddings.0.weight", "value_scales",
]


def small(seed: int = 0, layers: int = 1) -> tuple[Decoder, Vocabulary, list]:
    held = [tokenizer("midi")]
    vocabulary = Vocabulary.of(held)
    torch.manual_seed(seed)
    config = DecoderConfig(
        vocab_size=vocabulary.size, d_model=16, num_layers=layers, num_heads=2, max_seq_len=32, window=16
    )
    return Decoder(config), vocabulary, held


@pytest.fixture
def folder(tmp_path) -> Path:
    save_model(tmp_path / "model", *small(), {"data": "a | b", "nats_per_event": 2.5, "notes": 12345})
    return tmp_path / "model"


def test_what_went_in_comes_out(folder):
    decoder, vocabulary, held = small()
    found, same_vocabulary, tokenizers, facts, inputs = load_model(folder)
    assert inputs is None
    assert same_vocabulary == vocabulary
    assert [t.to_dict() for t in tokenizers] == [t.to_dict() for t in held]
    assert facts == {"data": "a | b", "nats_per_event": 2.5, "notes": 12345}
    assert found.config == decoder.config
    assert not found.training
    for name, value in decoder.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_names_of_the_weights_stay(folder):
    assert sorted(small()[0].state_dict()) == KEYS


def test_what_lies_in_the_folder(folder):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors", "tokenizers.json",
    ]
    card = (folder / "README.md").read_text()
    assert "| notes | 12,345 |" in card
    assert "| nats per event | 2.500 |" in card
    assert "a \\| b" in card


def test_weights_of_another_model_are_refused(folder, tmp_path):
    save_model(tmp_path / "other", *small(1), {})
    (folder / "model.safetensors").write_bytes((tmp_path / "other" / "model.safetensors").read_bytes())
    with pytest.raises(Mismatch, match="SHA-256 is .* expected"):
        load_model(folder)


def test_a_changed_shape_is_refused(folder):
    change(folder, lambda config: config["decoder"].update(num_layers=2))
    with pytest.raises(Mismatch, match="does not fit the decoder"):
        load_model(folder)


def test_unknown_settings_are_refused(folder):
    change(folder, lambda config: config["decoder"].update(num_layer=2))
    with pytest.raises(Mismatch, match="num_layer; did you mean num_layers"):
        load_model(folder)
    change(folder, lambda config: config.update(extra=1))
    with pytest.raises(Mismatch, match="extra"):
        load_model(folder)


def test_other_tokenizers_are_refused(folder, tmp_path):
    decoder, vocabulary, _ = small()
    with pytest.raises(Mismatch, match=r"midi \(388 ids\).*band \(644 ids\)"):
        save_model(tmp_path / "new", decoder, vocabulary, [tokenizer("band")], {})
    assert not (tmp_path / "new").exists()
    with pytest.raises(Mismatch, match="rows"):
        save_model(tmp_path / "new", decoder, vocabulary.append("more", 3), [tokenizer("midi")], {})
    band = tokenizer("band")
    seqmodal.checkpoint.save_tokenizers([band], folder)
    with pytest.raises(Mismatch, match="band"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizers.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadInput, match=name):
        load_model(folder)


def test_a_damaged_configuration_is_named(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(BadInput, match="damaged"):
        load_model(folder)


def test_a_write_that_fails_leaves_the_old_file(folder, monkeypatch):
    before = (folder / "model.safetensors").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(seqmodal.checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_model(folder, *small(7), {})
    assert (folder / "model.safetensors").read_bytes() == before
    assert not list(folder.glob(".*"))
    load_model(folder)


def test_facts_that_are_not_json_leave_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_model(tmp_path, *small(), {"x": object()})
    assert not list(tmp_path.iterdir())


def change(folder: Path, how) -> None:
    config = json.loads((folder / "config.json").read_text())
    how(config)
    (folder / "config.json").write_text(json.dumps(config))
