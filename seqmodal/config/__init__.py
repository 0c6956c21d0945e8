"""Every setting, as frozen dataclasses. Unknown keys and combinations without meaning raise `ConfigError`.

A size of 0 means "chosen for the corpus"; `seqmodal.training.scale` fills it in before a model is built.
"""

from seqmodal.config.decoder import (
    Alibi,
    Bucketed,
    DecoderConfig,
    Learned,
    NoPosition,
    Plain,
    Position,
    Relative,
    Rotary,
    Sinusoidal,
    Stack,
    TransformerXL,
    Universal,
)
from seqmodal.config.objective import (
    Causal,
    FillInTheMiddle,
    Masked,
    Objective,
    Permutation,
    Prefix,
    SpanCorruption,
)
from seqmodal.config.presets import PRESETS, Preset, preset
from seqmodal.config.recipe import RecipeConfig, SamplingConfig, TrainingConfig
from seqmodal.config.values import from_dict, to_dict

__all__ = [
    "PRESETS",
    "Alibi",
    "Bucketed",
    "Causal",
    "DecoderConfig",
    "FillInTheMiddle",
    "Learned",
    "Masked",
    "NoPosition",
    "Objective",
    "Permutation",
    "Plain",
    "Position",
    "Prefix",
    "Preset",
    "RecipeConfig",
    "Relative",
    "Rotary",
    "SamplingConfig",
    "Sinusoidal",
    "SpanCorruption",
    "Stack",
    "TrainingConfig",
    "TransformerXL",
    "Universal",
    "from_dict",
    "preset",
    "to_dict",
]
