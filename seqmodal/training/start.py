"""What a run begins with: what was asked for, and the model that it goes on from, if there is one."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from seqmodal.checkpoint import load_weights, weights_of
from seqmodal.config import RecipeConfig, from_dict
from seqmodal.data.corpus import Prepared
from seqmodal.data.store import BlockShape
from seqmodal.decoder import Decoder
from seqmodal.inputs import Inputs
from seqmodal.model import Model, load
from seqmodal.objective import with_marks
from seqmodal.outputs import Outputs
from seqmodal.tokenizers.tally import tally_effects
from seqmodal.training.lit import inputs_and_outputs
from seqmodal.training.recipe import configure
from seqmodal.transfer import carry_over, laid_over, shape_from

START = "start.safetensors"
"""Weights that a run began with, where they are not random: those of the model that it goes on from."""


def asked(
    module: ModuleType, preset: str | None, config: str | Path | RecipeConfig | None, settings: dict[str, Any]
) -> tuple[RecipeConfig, Model | None]:
    """The configuration, and the model to go on from, whose shape settings are laid over."""
    if isinstance(config, RecipeConfig):
        chosen = from_dict(type(config), settings, base=config)
    else:
        chosen = configure(module, preset_name=preset, file=config, settings=settings)
    if chosen.init is None:
        return chosen, None
    start = load(chosen.init, tokenizers=getattr(module, "TOKENIZERS", None))
    shape = shape_from(start.decoder.config, start.tokenizers)
    if not isinstance(config, RecipeConfig):
        return configure(module, preset_name=preset, file=config, settings=settings, shape=shape), start
    return replace(chosen, model=laid_over(shape, chosen.model)), start


def write_start(folder: Path, config: RecipeConfig, start: Model, prepared: Prepared) -> None:
    """The weights to begin with, so that the run can be resumed without the model that it goes on from."""
    torch.manual_seed(config.training.seed)
    decoder = Decoder(config.model)
    carry_over(start.decoder, start.vocabulary, decoder, with_marks(prepared.vocabulary, config.objective))
    known = {} if start.inputs is None else start.inputs.shapes
    inputs, _ = inputs_and_outputs(prepared.stores["train"], config, known)
    if inputs is not None and start.inputs is not None:
        inputs.load_state_dict(start.inputs.state_dict(), strict=False)  # what is new keeps its start
    weights = {name: tensor.contiguous() for name, tensor in weights_of(decoder, inputs).items()}
    shapes = {name: asdict(shape) for name, shape in known.items()}
    save_file(weights, folder / START, metadata={"shapes": json.dumps(shapes)})


def first_parts(folder: Path, config: RecipeConfig, prepared: Prepared) -> tuple[Decoder, Inputs | None, Outputs]:
    """Decoder, inputs and outputs of a run as they are before the first step."""
    torch.manual_seed(config.training.seed)
    decoder, known, path = Decoder(config.model), dict[str, BlockShape](), folder / START
    if path.is_file():
        with safe_open(path, "pt") as file:
            shapes = json.loads((file.metadata() or {}).get("shapes", "{}"))
        known = {name: BlockShape(**fields) for name, fields in shapes.items()}
    inputs, outputs = inputs_and_outputs(prepared.stores["train"], config, known)
    if path.is_file():
        load_weights(decoder, inputs, load_file(path))
    if decoder.tally is not None:
        effects = tally_effects(prepared.vocabulary, prepared.tokenizers)
        decoder.tally.effects[: len(effects)] = torch.from_numpy(effects)
    return decoder, inputs, outputs
