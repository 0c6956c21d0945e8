"""GPT-2 in Hugging Face's files: what is read computes GPT-2, what is written is read again, the rest is refused."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file, save_file

from seqmodal.config import PRESETS, Plain, Rotary, Universal
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError
from seqmodal.gpt2 import load_gpt2, save_gpt2

WIDTH, LAYERS, HEADS, INNER, VOCAB, POSITIONS = 12, 3, 3, 20, 17, 9
SETTINGS = {
    "model_type": "gpt2", "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "n_ctx": POSITIONS,
    "n_embd": WIDTH, "n_head": HEADS, "n_inner": INNER, "n_layer": LAYERS, "n_positions": POSITIONS, "resid_pdrop": 0.1,
    "vocab_size": VOCAB,
}  # fmt: skip
SHAPED = replace(
    PRESETS["gpt2"].model, vocab_size=VOCAB, d_model=WIDTH, num_layers=LAYERS, num_heads=HEADS, d_ff=INNER,
    max_seq_len=POSITIONS,
)  # fmt: skip
Tensors = dict[str, np.ndarray]


def stored(layers: int = LAYERS, width: int = WIDTH, inner: int = INNER, kind: type = np.float64) -> Tensors:
    """Random weights as Hugging Face lays them out: queries, keys and values side by side, (in, out)."""
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.4).astype(kind)

    tensors = {"wte.weight": normal(VOCAB, width), "wpe.weight": normal(POSITIONS, width)}
    for norm in ["ln_f", *(f"h.{layer}.{name}" for layer in range(layers) for name in ("ln_1", "ln_2"))]:
        tensors |= {f"{norm}.weight": normal(width), f"{norm}.bias": normal(width)}
    for layer in range(layers):
        p = f"h.{layer}."
        tensors[f"{p}attn.c_attn.weight"] = np.concatenate([normal(width, width) for _ in "qkv"], axis=1)
        tensors[f"{p}attn.c_attn.bias"] = np.concatenate([normal(width) for _ in "qkv"])
        for name, rows, columns in (("attn", width, width), ("mlp", inner, width)):
            tensors |= {f"{p}{name}.c_proj.weight": normal(rows, columns), f"{p}{name}.c_proj.bias": normal(columns)}
        tensors |= {f"{p}mlp.c_fc.weight": normal(width, inner), f"{p}mlp.c_fc.bias": normal(inner)}
    return tensors


def write(folder: Path, tensors: Tensors, **settings: object) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(SETTINGS | settings))
    return folder


def gpt2(w: Tensors, ids: list[int]) -> np.ndarray:
    """Logits (T, V) by the paper and OpenAI's own names: one position, one head at a time."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean()
        return centred / np.sqrt((centred**2).mean() + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def project(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    rows = [w["wte.weight"][i] + w["wpe.weight"][at] for at, i in enumerate(ids)]
    size = WIDTH // HEADS
    for layer in range(LAYERS):
        p = f"h.{layer}."
        asked = [project(norm(x, f"{p}ln_1"), f"{p}attn.c_attn") for x in rows]
        for t in range(len(rows)):
            heads = []
            for at in range(0, WIDTH, size):
                q, k, v = (slice(part * WIDTH + at, part * WIDTH + at + size) for part in range(3))
                scores = np.exp([asked[t][q] @ asked[s][k] / np.sqrt(size) for s in range(t + 1)])
                heads.append(sum(score * asked[s][v] for s, score in enumerate(scores)) / scores.sum())
            rows[t] = rows[t] + project(np.concatenate(heads), f"{p}attn.c_proj")
        for t, x in enumerate(rows):
            up = project(norm(x, f"{p}ln_2"), f"{p}mlp.c_fc")
            up = 0.5 * up * (1 + np.tanh(np.sqrt(2 / np.pi) * (up + 0.044715 * up**3)))
            rows[t] = x + project(up, f"{p}mlp.c_proj")
    return np.stack([norm(x, "ln_f") @ w["wte.weight"].T for x in rows])


def logits(decoder: Decoder, ids: list[int]) -> np.ndarray:
    """In the decoder's own precision; `Decoder.logits` gives float32."""
    with torch.no_grad():
        return F.linear(decoder(torch.tensor([ids])).hidden, decoder.embedding.weight)[0].numpy()


IDS = [3, 16, 0, 7, 7, 11, 2, 5, 9]


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh"])
def test_computes_what_gpt2_computes(tmp_path, activation):
    tensors = stored()
    decoder = load_gpt2(write(tmp_path, tensors, activation_function=activation))
    assert decoder.config == SHAPED
    assert not decoder.training
    np.testing.assert_allclose(logits(decoder, IDS), gpt2(tensors, IDS), rtol=0, atol=1e-10)


def test_prefix_head_and_old_buffers_change_nothing(tmp_path):
    plain = load_gpt2(write(tmp_path / "plain", stored())).state_dict()
    tensors = {f"transformer.{name}": tensor for name, tensor in stored().items()}
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"]
    for layer in range(LAYERS):
        tensors[f"transformer.h.{layer}.attn.bias"] = np.tri(POSITIONS)[None, None]
        tensors[f"transformer.h.{layer}.attn.masked_bias"] = np.array(-1e4)
    found = load_gpt2(write(tmp_path / "old", tensors)).state_dict()
    assert found.keys() == plain.keys()
    assert all(torch.equal(found[name], plain[name]) for name in plain)


def sharded(folder: Path) -> Path:
    """The weights in two files with an index, one block torn apart."""
    folder.mkdir()
    names = sorted(stored())
    files = {name: f"model-0000{1 + (at > 10)}-of-00002.safetensors" for at, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: stored()[name] for name in names if files[name] == file}, folder / file)
    index = {"metadata": {}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(SETTINGS))
    return folder


@pytest.mark.parametrize("name", ["", "model.safetensors.index.json"])
def test_shards(tmp_path, name):
    whole = load_gpt2(write(tmp_path / "whole", stored())).state_dict()
    found = load_gpt2(sharded(tmp_path / "shards") / name).state_dict()
    assert all(torch.equal(found[key], whole[key]) for key in whole)


def test_a_file_alone_is_one_of_openai_s_by_its_width(tmp_path):
    tensors = stored(layers=1, width=768, inner=3072, kind=np.float16)
    save_file(tensors, tmp_path / "any.safetensors")
    decoder = load_gpt2(tmp_path / "any.safetensors")
    assert decoder.config == replace(PRESETS["gpt2"].model, vocab_size=VOCAB, max_seq_len=POSITIONS, num_layers=1)
    block = decoder.stack.blocks[0]
    assert block.attention.k_proj.weight.dtype == torch.float32
    fused = torch.from_numpy(tensors["h.0.attn.c_attn.weight"]).float()
    assert torch.equal(block.attention.k_proj.weight, fused[:, 768:1536].T)
    save_file(stored(layers=1), tmp_path / "narrow.safetensors")
    with pytest.raises(BadInput, match=r"12 wide, none of 768, 1024, 1280, 1600 .*config\.json"):
        load_gpt2(tmp_path / "narrow.safetensors")


def test_a_file_obeys_the_config_beside_it(tmp_path):
    assert load_gpt2(write(tmp_path, stored()) / "model.safetensors").config.num_heads == HEADS


def test_loading_does_not_wait_for_the_compiler(tmp_path):
    code = f"import sys, seqmodal.gpt2 as g; g.load_gpt2({str(write(tmp_path, stored()))!r}); "
    code += "sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("inner", [0, INNER])
def test_what_is_saved_is_loaded(tmp_path, inner):
    torch.manual_seed(0)
    decoder = Decoder(replace(SHAPED, d_ff=inner))
    for weight in decoder.parameters():
        torch.nn.init.normal_(weight)
    save_gpt2(decoder, tmp_path / "new" / "folder")
    found = load_gpt2(tmp_path / "new" / "folder")
    assert found.config == decoder.config
    state = found.state_dict()
    assert state.keys() == decoder.state_dict().keys()
    for name, weight in decoder.state_dict().items():
        assert torch.equal(state[name], weight) and state[name].dtype == weight.dtype
    assert all(weight.requires_grad and weight.is_contiguous() for weight in found.parameters())


def test_what_is_loaded_is_saved_as_it_was(tmp_path):
    tensors = stored(kind=np.float32)
    save_gpt2(load_gpt2(write(tmp_path, tensors)), tmp_path)  # over itself
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == {f"transformer.{name}" for name in tensors}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[f"transformer.{name}"], tensor)
    described = json.loads((tmp_path / "config.json").read_text())
    kept = {key: value for key, value in SETTINGS.items() if key not in ("n_ctx", "resid_pdrop")}
    assert described.items() >= kept.items()
    assert described["architectures"] == ["GPT2LMHeadModel"]
    assert described["eos_token_id"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
    ],
)
def test_openai_s_parameters(name, count):
    config = PRESETS[name].model
    assert config.num_parameters == count
    with torch.device("meta"):
        decoder = Decoder(config)
    assert sum(weight.numel() for weight in decoder.parameters()) == count


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model_type": "gpt_neo"}, "model_type is 'gpt_neo', expected 'gpt2'"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06, expected 1e-05"),
        ({"activation_function": "gelu"}, "activation_function is 'gelu', expected 'gelu_new' or 'gelu_pytorch_tanh'"),
        ({"scale_attn_weights": False}, "scale_attn_weights is False, expected True"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is False"),
        ({"pruned_heads": {"0": [1]}}, "pruned_heads is"),
        ({"quantization_config": {"bits": 4}}, "quantization_config is"),
        ({"n_head": 5}, "does not divide by num_heads 5"),
        ({"n_head": None}, "n_head is None; expected a positive number"),
        ({"n_layer": "12"}, "n_layer is '12'"),
        ({"n_inner": 0}, "n_inner is 0"),
        ({"n_layer": LAYERS + 1}, r"has no h\.3\.attn\.c_attn\.bias, .* and 8 more, expected all 52 weights"),
        ({"n_layer": LAYERS - 1}, r"has h\.2\.attn\.c_attn\.bias, .* and 8 more beside the 28 weights"),
        ({"n_inner": None}, r"h\.0\.mlp\.c_fc\.weight has the shape \(12, 20\), expected \(12, 48\)"),
        ({"vocab_size": 18}, r"wte\.weight has the shape \(17, 12\), expected \(18, 12\)"),
    ],
)
def test_refuses_a_config_that_is_not_gpt2_s(tmp_path, settings, says):
    with pytest.raises(BadInput, match=says) as error:
        load_gpt2(write(tmp_path, stored(), **settings))
    assert error.value.hint and error.value.where.startswith(str(tmp_path))


def test_refuses_a_config_without_a_size(tmp_path):
    write(tmp_path, stored())
    (tmp_path / "config.json").write_text(json.dumps({k: v for k, v in SETTINGS.items() if k != "n_head"}))
    with pytest.raises(BadInput, match="has no n_head"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"ln_f.bias": None}, r"has no ln_f\.bias, expected all 40 weights"),
        ({"lm_head.weight": np.zeros((VOCAB, WIDTH))}, r"lm_head\.weight differs from wte\.weight"),
        ({"score.weight": np.zeros((2, WIDTH))}, r"has score\.weight beside the 40 weights"),
        ({"transformer.ln_f.bias": np.zeros(WIDTH)}, r"ln_f\.bias is there twice"),
        ({"h.1.attn.c_attn.weight": np.zeros((3 * WIDTH, WIDTH))}, r"h\.1.*shape \(36, 12\), expected \(12, 36\)"),
        ({"wpe.weight": np.zeros((POSITIONS, WIDTH), np.int8)}, r"wpe\.weight holds torch\.int8"),
    ],
)
def test_refuses_weights_that_are_not_gpt2_s(tmp_path, changed, says):
    tensors = {name: tensor for name, tensor in (stored() | changed).items() if tensor is not None}
    with pytest.raises(BadInput, match=says):
        load_gpt2(write(tmp_path, tensors))


@pytest.mark.parametrize("content", [b"", b"version https://git-lfs.github.com/spec/v1\n", "cut", "short header"])
def test_refuses_a_damaged_file(tmp_path, content):
    file = write(tmp_path, stored()) / "model.safetensors"
    whole = file.read_bytes()
    cut = {"cut": whole[:-100], "short header": struct.pack("<Q", 10) + whole[8:]}
    file.write_bytes(cut.get(content, content))
    with pytest.raises(BadInput, match=r"model\.safetensors: is no safetensors file, or a damaged one .*Git LFS"):
        load_gpt2(tmp_path)


def test_refuses_what_is_missing(tmp_path):
    with pytest.raises(BadInput, match="neither a file nor a folder.*nothing is downloaded"):
        load_gpt2(tmp_path / "gpt2")
    with pytest.raises(BadInput, match=r"has no model\.safetensors and no model\.safetensors\.index\.json"):
        load_gpt2(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(BadInput, match="is a pickle"):
        load_gpt2(tmp_path)


def test_refuses_an_index_that_does_not_hold(tmp_path):
    folder = sharded(tmp_path / "shards")
    index = folder / "model.safetensors.index.json"
    (folder / "model-00002-of-00002.safetensors").rename(tmp_path / "elsewhere.safetensors")
    with pytest.raises(BadInput, match="model-00002-of-00002.safetensors: is missing"):
        load_gpt2(folder)
    for content, says in (
        ('{"weight_map": {"wte.weight": "../elsewhere.safetensors"}}', "not beside"),
        ('{"weight_map": ["wte.weight"]}', "has no weight_map"),
        ('{"weight_map": ', "is damaged"),
        ("[]", "holds list"),
    ):
        index.write_text(content)
        with pytest.raises(BadInput, match=says):
            load_gpt2(folder)


def test_says_what_a_folder_of_seqmodal_is(tmp_path):
    write(tmp_path, stored())
    (tmp_path / "config.json").write_text('{"seqmodal": "0.1.0"}')
    with pytest.raises(BadInput, match=r"model_type is None.*seqmodal\.load"):
        load_gpt2(tmp_path)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("position", Rotary(), "position is 'rotary', and GPT-2 has 'learned'"),
        ("stack", Universal(), "stack is 'universal', and GPT-2 has 'plain'"),
        ("norm", "rmsnorm", "norm is 'rmsnorm'"),
        ("norm_place", "post", "norm_place is 'post'"),
        ("embedding_norm", True, "embedding_norm is True"),
        ("qk_norm", True, "qk_norm is True"),
        ("activation", "gelu", "activation is 'gelu', and GPT-2 has 'gelu_tanh'"),
        ("bias", False, "bias is False"),
        ("tied_head", False, "tied_head is False"),
        ("token_shift", 1, "token_shift is 1"),
        ("value_embeddings", True, "value_embeddings is True"),
        ("logit_softcap", 15.0, "logit_softcap is 15.0"),
        ("num_kv_heads", 1, "num_kv_heads is 1, and GPT-2 has 3"),
        ("window", 4, "window is 4, and GPT-2 has 0"),
    ],
)
def test_refuses_to_save_another_decoder(tmp_path, field, value, says):
    with pytest.raises(ConfigError, match=says):
        save_gpt2(Decoder(replace(SHAPED, **{field: value})), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "same", [{"num_kv_heads": HEADS}, {"window": POSITIONS}, {"zero_init": True}, {"dropout": 0.1}]
)
def test_saves_what_is_gpt2_by_another_name(tmp_path, same):
    assert SHAPED.stack == Plain()
    decoder = Decoder(replace(SHAPED, **same)).eval()
    save_gpt2(decoder, tmp_path)
    assert load_gpt2(tmp_path).config == SHAPED
    np.testing.assert_array_equal(logits(load_gpt2(tmp_path), IDS), logits(decoder, IDS))
