"""Decoders by name: sizes of the default, and the decoders of the literature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from seqmodal.config.decoder import DecoderConfig, Learned, Relative, Sinusoidal, TransformerXL, Universal
from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class Preset:
    """A decoder, and what its authors trained it with where that is part of it.

    Attributes:
        model: sizes of 0 are chosen for the corpus.
        training: fields of `TrainingConfig`.
    """

    model: DecoderConfig
    training: Mapping[str, Any] = field(default_factory=dict)


GPT2 = DecoderConfig(
    vocab_size=50257, d_model=768, num_layers=12, num_heads=12, max_seq_len=1024, position=Learned(), norm="layernorm",
    embedding_norm=False, qk_norm=False, activation="gelu_tanh", bias=True, tied_head=True, zero_init=False,
    token_shift=0, tally=0, value_embeddings=False, logit_softcap=0.0,
)  # fmt: skip
CLASSIC = replace(
    GPT2, vocab_size=0, d_model=0, num_layers=0, num_heads=0, max_seq_len=0, position=Sinusoidal(), activation="relu",
    norm_place="post",
)  # fmt: skip
MUSIC = replace(CLASSIC, position=Relative(max_distance=512), norm_place="pre", tied_head=False)
ADAMW = {"optimizer": "adamw", "embedding_lr": 1e-3}

PRESETS: dict[str, Preset] = {
    "tiny": Preset(DecoderConfig(d_model=128, num_layers=4, num_heads=4, max_seq_len=256, window=64)),
    "small": Preset(DecoderConfig(d_model=256, num_layers=6, num_heads=4, max_seq_len=1024, window=256)),
    "base": Preset(DecoderConfig(d_model=512, num_layers=8, num_heads=8, max_seq_len=2048, window=512)),
    "gpt2": Preset(GPT2, ADAMW | {"schedule": "cosine"}),
    "gpt2-medium": Preset(replace(GPT2, d_model=1024, num_layers=24, num_heads=16), ADAMW | {"schedule": "cosine"}),
    "gpt2-large": Preset(replace(GPT2, d_model=1280, num_layers=36, num_heads=20), ADAMW | {"schedule": "cosine"}),
    "gpt2-xl": Preset(replace(GPT2, d_model=1600, num_layers=48, num_heads=25), ADAMW | {"schedule": "cosine"}),
    "transformer": Preset(CLASSIC, ADAMW | {"schedule": "inverse_sqrt", "warmup": 0.1}),
    "music-transformer": Preset(MUSIC, ADAMW | {"schedule": "inverse_sqrt", "warmup": 0.1}),
    "transformer-xl": Preset(
        replace(CLASSIC, position=TransformerXL(), memory=256, max_seq_len=256), ADAMW | {"schedule": "cosine"}
    ),
    "universal": Preset(replace(CLASSIC, norm_place="pre", stack=Universal()), ADAMW | {"schedule": "cosine"}),
}


def preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ConfigError: for a name that is none, with those there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
