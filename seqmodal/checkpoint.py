"""A model folder: weights, configuration, tokenizers, a card. What does not belong together is refused."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from seqmodal import __version__
from seqmodal.config import DecoderConfig, from_dict, to_dict
from seqmodal.data.store import BlockShape
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError, Mismatch
from seqmodal.inputs import Inputs
from seqmodal.tokenizers.saved import load_tokenizers, save_tokenizers
from seqmodal.tokenizers.vocabulary import Vocabulary

WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
KEYS = {"seqmodal", "decoder", "vocabulary", "sha256", "facts"}
INPUTS = "inputs"
"""Key of the shapes of what is added to embeddings, where something is, and the start of the names of its weights."""


def save_model(
    folder: str | Path, decoder: Decoder, vocabulary: Vocabulary, tokenizers: Sequence[Any], card: Mapping[str, Any],
    inputs: Inputs | None = None,
) -> None:  # fmt: skip
    """Write a model folder, over an older one if there is one.

    Args:
        folder: is made.
        decoder, vocabulary, tokenizers: the parts.
        card: facts for people and for `load_model`: the data, the measures. JSON values.
        inputs: what is added to the embeddings, if something is.

    Raises:
        Mismatch: when the parts do not belong together.
    """
    folder = Path(folder)
    _check(folder, decoder.config, vocabulary, tokenizers)
    folder.mkdir(parents=True, exist_ok=True)
    weights = save({name: tensor.contiguous().cpu() for name, tensor in weights_of(decoder, inputs).items()})
    config: dict[str, Any] = {
        "seqmodal": __version__,
        "decoder": to_dict(decoder.config),
        "vocabulary": vocabulary.to_dict(),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "facts": dict(card),
    }
    if inputs is not None:
        config[INPUTS] = {name: asdict(shape) for name, shape in inputs.shapes.items()}
    text = json.dumps(config, indent=1)  # first of all: facts that are not JSON must not leave half a folder
    _write(folder / WEIGHTS, weights)
    save_tokenizers(tokenizers, folder)
    _write(folder / CARD, _card(decoder, tokenizers, card).encode())
    _write(folder / CONFIG, text.encode())


def load_model(
    folder: str | Path, tokenizers: Mapping[str, type] | None = None
) -> tuple[Decoder, Vocabulary, list[Any], dict[str, Any], Inputs | None]:
    """The decoder (in evaluation mode), vocabulary, tokenizers and facts of a model folder, and what is added to the
    embeddings.

    Args:
        folder: what `save_model` wrote.
        tokenizers: classes by name that no plug-in registers.

    Raises:
        BadInput: for a file that is missing or damaged.
        Mismatch: for parts that do not belong together, or of another version of the format.
    """
    folder = Path(folder)
    config = _read_config(folder)
    weights = folder / WEIGHTS
    if not weights.is_file():
        raise BadInput(weights, "is missing", "copy the whole model folder")
    found = _sha256(weights)
    if found != config["sha256"]:
        raise Mismatch(
            f"{weights} is not the file that {folder / CONFIG} describes: its SHA-256 is {found[:12]}…, expected "
            f"{config['sha256'][:12]}…; copy the whole model folder again"
        )
    try:
        shape = from_dict(DecoderConfig, config["decoder"])
        vocabulary = Vocabulary.from_dict(config["vocabulary"])
        shapes = {name: BlockShape(**fields) for name, fields in config.get(INPUTS, {}).items()}
        inputs = Inputs(vocabulary, shapes, shape.d_model) if shapes else None
    except (ConfigError, KeyError, TypeError, ValueError) as error:
        raise Mismatch(
            f"{folder / CONFIG} was written by seqmodal {config['seqmodal']}, this is {__version__}, which does not "
            f"understand it: {error}; use that version"
        ) from error
    held = load_tokenizers(folder, tokenizers)
    _check(folder, shape, vocabulary, held)
    decoder = Decoder(shape)
    try:
        state = load_file(weights)
        kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
        decoder.to(torch.float64 if kinds == {torch.float64} else torch.float32)
        load_weights(decoder, inputs, state)
    except (SafetensorError, RuntimeError) as error:
        raise Mismatch(f"{weights} does not fit the decoder of {folder / CONFIG}: {error}") from error
    return decoder.eval(), vocabulary, held, config["facts"], inputs


def weights_of(decoder: Decoder, inputs: Inputs | None) -> dict[str, torch.Tensor]:
    """All weights of a model by name; those of its inputs begin with theirs."""
    more = {} if inputs is None else inputs.state_dict()
    return {**decoder.state_dict(), **{f"{INPUTS}.{name}": tensor for name, tensor in more.items()}}


def load_weights(decoder: Decoder, inputs: Inputs | None, weights: Mapping[str, torch.Tensor]) -> None:
    """Take what `weights_of` gave. Raises RuntimeError where it does not fit."""
    start = f"{INPUTS}."
    more = {name.removeprefix(start): tensor for name, tensor in weights.items() if name.startswith(start)}
    decoder.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith(start)})
    if inputs is not None:
        inputs.load_state_dict(more)
    elif more:
        raise RuntimeError(f"there is nothing for {', '.join(sorted(more))}")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    if not path.is_file():
        raise BadInput(folder, f"is no model folder: it has no {CONFIG}", "give a run folder or the model folder in it")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadInput(path, f"is damaged: {error}", "copy the whole model folder again") from error
    if not isinstance(config, dict) or set(config) - {INPUTS} != KEYS:
        keys = sorted(config) if isinstance(config, dict) else type(config).__name__
        raise Mismatch(f"{path} has {keys}, expected {sorted(KEYS)}; it is not from seqmodal {__version__}")
    return config


def _check(folder: Path, config: DecoderConfig, vocabulary: Vocabulary, tokenizers: Sequence[Any]) -> None:
    """The decoder's rows are the vocabulary's, and its blocks are the tokenizers, in order."""
    if config.vocab_size != vocabulary.size:
        raise Mismatch(f"{folder}: the decoder has {config.vocab_size} rows, the vocabulary {vocabulary.size} ids")
    blocks = [(block.name, block.num_content) for block in vocabulary.content]
    given = [(tokenizer.name, tokenizer.vocab_size) for tokenizer in tokenizers]
    if blocks != given:
        raise Mismatch(
            f"{folder}: the vocabulary is made of {_listed(blocks)}, the tokenizers are {_listed(given)}; a model "
            "works only with the tokenizers it was trained with"
        )


def _listed(blocks: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name} ({size} ids)" for name, size in blocks) or "none"


def _write(path: Path, content: bytes) -> None:
    """A reader finds the old file or the new one, whole."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _card(decoder: Decoder, tokenizers: Sequence[Any], facts: Mapping[str, Any]) -> str:
    """The model card, in Markdown."""
    config, names = decoder.config, ", ".join(tokenizer.name for tokenizer in tokenizers)
    reach = f"attention over the last {config.window}" if config.window else "attention over everything"
    rows = "\n".join(f"| {key.replace('_', ' ')} | {_value(value)} |" for key, value in facts.items())
    return f"""# A seqmodal model: {names}

A decoder of {config.num_layers} layers, {config.d_model} wide, {config.num_parameters:,} parameters, trained on windows
of {config.max_seq_len} ids, with {reach}. Made with seqmodal {__version__}.

## Data and measures

| | |
|---|---|
{rows}

It makes what resembles its data, and may repeat some of it. It was judged on the data above and on nothing else.

## How to use

```python
import seqmodal

model = seqmodal.load("this/folder")
item = model.generate(seed=1)
```
"""


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    return f"{value:,.3f}" if isinstance(value, float) else f"{value:,}"
