"""GPT-2 in Hugging Face's files, without `transformers`: OpenAI's weights come in, a decoder of that shape goes out.

There a projection is stored as (in, out), and those of queries, keys and values are one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from seqmodal.config import PRESETS, DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
GPT2 = PRESETS["gpt2"].model
OPENAI = [PRESETS[name].model for name in ("gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl")]

SIZES = {
    "vocab_size": "vocab_size", "n_positions": "max_seq_len", "n_embd": "d_model", "n_layer": "num_layers",
    "n_head": "num_heads",
}  # fmt: skip
"""Sizes by their names there and here."""
FREE = {*SIZES.values(), "num_kv_heads", "d_ff", "window", "zero_init", "dropout"}
"""Fields of a decoder in which one GPT-2 may differ from another, or that are checked by what they mean."""
STANDARD: dict[str, tuple[Any, ...]] = {
    "layer_norm_epsilon": (1e-5,),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
    "pruned_heads": ({}, None),
    "quantization_config": (None,),
}
"""What else decides which function is computed, and the values that give OpenAI's; a missing key means the first."""
PARTS = {
    "ln_1": ("attn_norm",),
    "attn.c_attn": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attn.c_proj": ("attention.out_proj",),
    "ln_2": ("ffn_norm",),
    "mlp.c_fc": ("feed_forward.up",),
    "mlp.c_proj": ("feed_forward.down",),
}
"""The parts of a block: one name there, one or several here."""
BUFFERS = (".attn.bias", ".attn.masked_bias")
"""Old files hold the causal mask of each block as well."""


def load_gpt2(path: str | Path) -> Decoder:
    """A decoder with the weights of a GPT-2, in evaluation mode, without dropout.

    Args:
        path: a folder with `config.json` and `model.safetensors` (or its shards and their index), or one of those
            files of weights. Without a `config.json` beside them, the shapes of the weights say which of OpenAI's four
            it is; a number of heads is not among them, so other widths need the file.

    Raises:
        BadInput: for what is missing, damaged, or computes another function than GPT-2.
    """
    path = Path(path)
    with ExitStack() as stack:
        stored = _Stored(path, stack)
        beside = stored.path.parent / CONFIG
        config = _config_of_file(beside) if beside.is_file() else _config_of_shapes(stored)
        with torch.device("meta"), _NoStart():
            decoder = Decoder(config)
        decoder.load_state_dict(_weights(stored, decoder), assign=True)
    return decoder.eval()


def save_gpt2(decoder: Decoder, folder: str | Path) -> None:
    """Write `config.json` and `model.safetensors` for `transformers.GPT2LMHeadModel.from_pretrained`.

    With OpenAI's 50,257 ids, the last of them is named as the end of a text, as OpenAI does; otherwise no id is.

    Args:
        folder: is made.

    Raises:
        ConfigError: names what makes the decoder no GPT-2.
    """
    config = decoder.config
    _check_shape(config)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    ours, weights = decoder.state_dict(), {}
    for name, parts in _names(config).items():
        whole = torch.cat([ours[part].detach().cpu() for part in parts])
        weights[f"transformer.{name}"] = (whole.T if _turned(name, whole.shape) else whole).contiguous()
    end = config.vocab_size - 1 if config.vocab_size == GPT2.vocab_size else None
    described = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, here) for theirs, here in SIZES.items()},
        "n_inner": config.d_ff or None,
        **{key: allowed[0] for key, allowed in STANDARD.items() if key not in ("pruned_heads", "quantization_config")},
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": 0.0,
        "bos_token_id": end,
        "eos_token_id": end,
    }
    _replace(folder / WEIGHTS, lambda part: save_file(weights, part, {"format": "pt"}))
    _replace(folder / CONFIG, lambda part: part.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8"))


class _NoStart(TorchFunctionMode):
    """Leaves out random starts: on tensors without content they do nothing but load PyTorch's compiler, for seconds."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "kaiming_uniform_"):
            return args[0] if args else given["tensor"]
        return func(*args, **given)


class _Stored:
    """Tensors by their names without `transformer.`, in one file or several; each is read when it is asked for."""

    def __init__(self, path: Path, stack: ExitStack) -> None:
        self.path = _file_of(path)
        self.handles: dict[str, tuple[Any, str]] = {}
        for file in _shards(self.path) if self.path.name.endswith(".index.json") else [self.path]:
            try:
                handle = stack.enter_context(safe_open(file, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise BadInput(
                    file,
                    f"is no safetensors file, or a damaged one ({error}); it has {file.stat().st_size:,} bytes",
                    "copy or download it again; a few hundred bytes are a pointer of Git LFS in place of the file",
                ) from error
            for key in handle.keys():  # noqa: SIM118  # not a mapping
                name = key.removeprefix("transformer.")
                if name in self.handles:
                    raise BadInput(file, f"{name} is there twice, as {self.handles[name][1]} and as {key}")
                self.handles[name] = handle, key

    def shape(self, name: str) -> tuple[int, ...]:
        handle, key = self.handles[name]
        return tuple(handle.get_slice(key).get_shape())

    def read(self, name: str) -> Tensor:
        handle, key = self.handles[name]
        try:
            tensor: Tensor = handle.get_tensor(key)
        except SafetensorError as error:
            raise BadInput(self.path, f"{key} cannot be read: {error}", "copy or download it again") from error
        if not tensor.is_floating_point():
            raise BadInput(self.path, f"{key} holds {tensor.dtype}", "give the weights before they were quantised")
        return tensor


def _file_of(path: Path) -> Path:
    """The file of weights, or the index of its shards."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise BadInput(
            path,
            "is neither a file nor a folder",
            f"nothing is downloaded: give a folder with {CONFIG} and {WEIGHTS} of GPT-2, such as a copy of "
            "huggingface.co/openai-community/gpt2",
        )
    for name in (WEIGHTS, INDEX):
        if (path / name).is_file():
            return path / name
    other = "; pytorch_model.bin is a pickle, which may run code" if (path / "pytorch_model.bin").is_file() else ""
    raise BadInput(path, f"has no {WEIGHTS} and no {INDEX}{other}", "copy the whole folder, with its safetensors files")


def _shards(index: Path) -> list[Path]:
    """The files that an index names, all beside it."""
    found = _json(index).get("weight_map")
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found.values()):
        raise BadInput(index, "has no weight_map from names to files", "copy or download it again")
    files = [index.parent / name for name in sorted(set(found.values()))]
    for file in files:
        if file.parent != index.parent or not file.is_file():
            raise BadInput(file, f"is missing, or not beside {index.name}, which names it", "copy the whole folder")
    return files


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(path, f"is damaged: {error}", "copy or download it again") from error
    if not isinstance(found, dict):
        raise BadInput(path, f"holds {type(found).__name__}, expected an object", "copy or download it again")
    return found


def _config_of_file(path: Path) -> DecoderConfig:
    """The shape that a `config.json` gives."""
    found = _json(path)
    if found.get("model_type") != "gpt2":
        hint = "it is a model of seqmodal: open it with seqmodal.load" if "seqmodal" in found else "give a GPT-2"
        raise BadInput(path, f"model_type is {found.get('model_type')!r}, expected 'gpt2'", hint)
    for key, allowed in STANDARD.items():
        if found.get(key, allowed[0]) not in allowed:
            raise BadInput(
                path,
                f"{key} is {found[key]!r}, expected {' or '.join(map(repr, allowed))}",
                "with another value the same weights compute another function, which no decoder here has",
            )
    sizes: dict[str, Any] = {here: _size(path, found, theirs) for theirs, here in SIZES.items()}
    inner = 0 if found.get("n_inner") is None else _size(path, found, "n_inner")
    try:
        return replace(GPT2, **sizes, d_ff=inner)
    except ConfigError as error:
        raise BadInput(path, f"{error}", "here d_model is n_embd and num_heads is n_head; copy it again") from error


def _size(path: Path, found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        has = f"{key} is {value!r}" if key in found else f"has no {key}"
        raise BadInput(path, f"{has}; expected a positive number", "copy or download it again")
    return value


def _config_of_shapes(stored: _Stored) -> DecoderConfig:
    """The shape that the weights alone give, for the widths of OpenAI's models."""
    needed = {"wte.weight": 2, "wpe.weight": 2, "h.0.mlp.c_fc.weight": 2}
    missing = [name for name, axes in needed.items() if name not in stored.handles or len(stored.shape(name)) != axes]
    if missing:
        raise BadInput(stored.path, f"has no matrix {missing[0]}, expected the weights of a GPT-2", "give a GPT-2")
    (vocab, width), (positions, _), (_, inner) = (stored.shape(name) for name in needed)
    heads = {model.d_model: model.num_heads for model in OPENAI}
    if width not in heads:
        raise BadInput(
            stored.path,
            f"is {width} wide, none of {', '.join(map(str, heads))} (OpenAI's), and weights do not tell how many heads",
            f"put the {CONFIG} of this model beside it",
        )
    layers = {name.split(".")[1] for name in stored.handles if name.startswith("h.")}
    return replace(
        GPT2, vocab_size=vocab, max_seq_len=positions, d_model=width, num_layers=len(layers), num_heads=heads[width],
        d_ff=0 if inner == 4 * width else inner,
    )  # fmt: skip


def _names(config: DecoderConfig) -> dict[str, tuple[str, ...]]:
    """Every weight: its name there, and those of its parts here, in order."""
    names: dict[str, tuple[str, ...]] = {"wte.weight": ("embedding.weight",), "wpe.weight": ("position.weight",)}
    for layer in range(config.num_layers):
        for theirs, ours in PARTS.items():
            for kind in ("weight", "bias"):
                names[f"h.{layer}.{theirs}.{kind}"] = tuple(f"stack.blocks.{layer}.{part}.{kind}" for part in ours)
    return names | {f"ln_f.{kind}": (f"final_norm.{kind}",) for kind in ("weight", "bias")}


def _turned(name: str, shape: Sequence[int]) -> bool:
    """Whether that weight lies there as (in, out): the matrices of blocks do, the embeddings do not."""
    return name.startswith("h.") and len(shape) == 2


def _weights(stored: _Stored, decoder: Decoder) -> dict[str, Tensor]:
    """The state of `decoder`, whose own weights have shapes only: float64 where all stored ones are, else float32."""
    names, wanted = _names(decoder.config), decoder.state_dict()
    _check_names(stored, set(names))
    state = {name: torch.zeros(tensor.shape) for name, tensor in wanted.items() if not tensor.numel()}
    for name, parts in names.items():
        shape = (sum(wanted[part].shape[0] for part in parts), *wanted[parts[0]].shape[1:])
        shape = shape[::-1] if _turned(name, shape) else shape
        if stored.shape(name) != shape:
            raise BadInput(
                stored.path,
                f"{stored.handles[name][1]} has the shape {stored.shape(name)}, expected {shape}",
                f"{CONFIG} and the weights must be of one model; a matrix is stored as (in, out)",
            )
        tensor = stored.read(name)
        pieces = (tensor.T if _turned(name, shape) else tensor).chunk(len(parts))
        kept = torch.float64 if tensor.dtype == torch.float64 else torch.float32
        state |= {
            part: piece.to(kept, copy=True, memory_format=torch.contiguous_format)
            for part, piece in zip(parts, pieces, strict=True)
        }
    if "lm_head.weight" in stored.handles and not torch.equal(stored.read("lm_head.weight"), stored.read("wte.weight")):
        raise BadInput(
            stored.path, "lm_head.weight differs from wte.weight, expected one matrix for both",
            "GPT-2 reads and writes with the same embedding; this model was trained otherwise",
        )  # fmt: skip
    kinds = {tensor.dtype for tensor in state.values() if tensor.numel()}
    kind = torch.float64 if kinds == {torch.float64} else torch.float32
    return {name: tensor.to(kind) for name, tensor in state.items()}


def _check_names(stored: _Stored, wanted: set[str]) -> None:
    """All weights of a GPT-2 and no others, but for the head, which is the embedding, and the buffers of old files."""
    missing = sorted(wanted - set(stored.handles))
    if missing:
        raise BadInput(
            stored.path,
            f"has no {_few(missing)}, expected all {len(wanted)} weights of this GPT-2",
            f"copy the whole folder again, and see that {CONFIG} belongs to it",
        )
    others = {name for name in stored.handles if not (name.startswith("h.") and name.endswith(BUFFERS))}
    unknown = sorted(others - wanted - {"lm_head.weight"})
    if unknown:
        raise BadInput(
            stored.path, f"has {_few(unknown)} beside the {len(wanted)} weights of this GPT-2",
            f"it is another model, or {CONFIG} that of another; nothing is left out silently",
        )  # fmt: skip


def _few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _check_shape(config: DecoderConfig) -> None:
    """What makes a decoder one that GPT-2's files can hold."""
    for f in fields(config):
        found, expected = getattr(config, f.name), getattr(GPT2, f.name)
        if f.name not in FREE and found != expected:
            found, expected = (getattr(value, "kind", value) for value in (found, expected))
            _refuse(f.name, found, expected)
    if config.kv_heads != config.num_heads:
        _refuse("num_kv_heads", config.num_kv_heads, config.num_heads)
    if 0 < config.window < config.max_seq_len:
        _refuse("window", config.window, 0)


def _refuse(name: str, found: Any, expected: Any) -> None:
    raise ConfigError(
        f"{name} is {found!r}, and GPT-2 has {expected!r}: its files cannot hold this decoder; train with the preset "
        "gpt2 to write them, or keep this one with seqmodal.checkpoint.save_model"
    )


def _replace(path: Path, write: Callable[[Path], Any]) -> None:
    """A reader finds the old file or the new one, whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        write(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
