"""Every setting, as frozen dataclasses. Unknown keys and combinations without meaning raise `ConfigError`.

A size of 0 means "chosen for the corpus"; `seqmodal.training.scale` fills it in before a model is built.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder. A size of 0 is chosen for the corpus."""

    vocab_size: int = 0
    """Rows of the embedding; taken from the vocabulary."""
    d_model: int = 0
    """Width of the residual stream."""
    num_layers: int = 0
    """Blocks."""
    num_heads: int = 0
    """Query heads; d_model / num_heads is the width of a head."""
    num_kv_heads: int = 0
    """Key and value heads; 0: as many as query heads, 1: multi-query."""
    d_ff: int = 0
    """Width of the feed-forward; 0: four times d_model."""
    max_seq_len: int = 0
    """Positions of a training window: the context."""
    window: int = 0
    """How far attention looks back, itself included. 0: over everything, where a decoder is built; training chooses a
    quarter of the context instead, and max_seq_len gives all of it."""
    rotary_base: float = 10_000.0
    """Base of the rotary angles."""
    token_shift: int = 2
    """How many tokens before it are mixed into the embedding of each token; 0: none."""
    value_embeddings: bool = True
    """Add an embedding of the token to the values of the first and the last layer."""
    logit_softcap: float = 15.0
    """Squash logits into ±this by tanh; 0: off."""
    dropout: float = 0.0
    """Share of the residual updates dropped in training."""

    def __post_init__(self) -> None:
        for name in (
            "vocab_size",
            "d_model",
            "num_layers",
            "num_heads",
            "num_kv_heads",
            "d_ff",
            "max_seq_len",
            "window",
            "token_shift",
        ):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a count, or 0 to have it chosen")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.logit_softcap < 0:
            raise ConfigError(f"logit_softcap is {self.logit_softcap}; it must be positive, or 0 for none")
        if self.rotary_base <= 1:
            raise ConfigError(f"rotary_base is {self.rotary_base}; it must be above 1")
        if self.d_model and self.num_heads:
            if self.d_model % self.num_heads:
                raise ConfigError(f"d_model {self.d_model} does not divide by num_heads {self.num_heads}")
            if self.head_dim % 2:
                raise ConfigError(
                    f"rotary positions need heads of even width; d_model {self.d_model} over num_heads "
                    f"{self.num_heads} gives {self.head_dim}"
                )
        if self.num_heads and self.num_kv_heads and self.num_heads % self.num_kv_heads:
            raise ConfigError(f"num_heads {self.num_heads} does not divide by num_kv_heads {self.num_kv_heads}")
        if self.window and self.max_seq_len and self.window > self.max_seq_len:
            raise ConfigError(
                f"window {self.window} is wider than max_seq_len {self.max_seq_len}: no training position would ever "
                "look that far; lower it, or set it to 0"
            )

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.d_model // self.num_heads

    @property
    def kv_heads(self) -> int:
        """Key and value heads."""
        return self.num_kv_heads or self.num_heads

    @property
    def ff_width(self) -> int:
        """Width of the feed-forward."""
        return self.d_ff or 4 * self.d_model

    @property
    def num_parameters(self) -> int:
        """Trained numbers of a `Decoder` of this shape."""
        kv = self.kv_heads * self.head_dim
        block = 2 * self.d_model * (self.d_model + kv + self.ff_width)
        values = (min(2, self.num_layers) * (self.vocab_size * kv + 1)) if self.value_embeddings else 0
        return self.num_layers * block + (2 * self.vocab_size + self.token_shift) * self.d_model + values

    @property
    def flops_per_token(self) -> int:
        """Multiply-adds count twice; forward and backward of one training position, attention included."""
        kv = self.kv_heads * self.head_dim
        matrices = 2 * self.d_model * (self.d_model + kv + self.ff_width)
        reach = min(self.window or self.max_seq_len, self.max_seq_len) / 2
        return int(6 * (self.num_layers * (matrices + 2 * self.d_model * reach) + self.vocab_size * self.d_model))


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. A size of 0 is chosen for the corpus."""

    steps: int = 0
    """Optimizer steps."""
    minutes: float = 0.0
    """Train for about this long, whatever `steps` says: a few are measured, then their number is fixed."""
    batch_size: int = 0
    """Windows in a step."""
    matrix_lr: float = 0.025
    """Learning rate of Muon, for the matrices of the blocks."""
    embedding_lr: float = 0.012
    """Learning rate of AdamW, for everything else."""
    weight_decay: float = 0.0
    """Decoupled decay of the matrices."""
    warmup: float = 0.02
    """Share of the steps over which the learning rate rises."""
    decay: float = 0.6
    """Share of the steps, at the end, over which it falls."""
    final_lr: float = 0.02
    """What it falls to, as a share of the full rate."""
    augment: bool = True
    """Vary the training data where its tokenizer can (music: key and tempo)."""
    evaluations: int = 10
    """Times the validation loss is measured."""
    samples: int = 2
    """Times a sample is written during training."""
    seed: int = 0
    """Of the initial weights, the order of the data and its augmentation."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Format of the products; auto: the faster one here, measured once. Weights are float32 throughout."""
    threads: int = 0
    """CPU threads; 0: all cores."""

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "batch_size", "weight_decay", "evaluations", "samples", "threads"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a number, and not negative")
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(f"precision is {self.precision!r}; it is auto, float32 or bfloat16")
        if self.matrix_lr <= 0 or self.embedding_lr <= 0:
            raise ConfigError(f"learning rates must be positive, not {self.matrix_lr} and {self.embedding_lr}")
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise ConfigError(
                f"warmup {self.warmup} and decay {self.decay} are shares of the steps: together at most 1"
            )
        if not 0 <= self.final_lr <= 1:
            raise ConfigError(f"final_lr is {self.final_lr}; it is a share of the full rate, 0 to 1")


@dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn while training and by `judge`."""

    temperature: float = 1.0
    """1: as the model has it; lower is safer; 0: always the likeliest."""
    top_p: float = 0.98
    """Draw from the likeliest ids that hold this share of the probability; 1: from all."""
    seconds: float = 30.0
    """Length of a sample, where the tokenizer counts seconds."""
    count: int = 8
    """How many samples `judge` compares with the data."""

    def __post_init__(self) -> None:  # now, and not after hours of training
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest) or a positive number")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it is a share of the probability, above 0 and at most 1")
        if not 0 < self.seconds < float("inf"):
            raise ConfigError(f"sampling.seconds is {self.seconds}; it must be a positive number")
        if self.count < 1:
            raise ConfigError(f"sampling.count is {self.count}; it must be at least 1")


@dataclass(frozen=True)
class RecipeConfig:
    """What every recipe is asked for; a recipe adds its own fields to it."""

    data: str | None = None
    """File or folder to learn from; none: the corpus that comes with the recipe."""
    exclude: tuple[str, ...] = ()
    """Patterns of file names to leave out, such as '*score*'."""
    strict: bool = False
    """Stop at the first file that cannot be used, instead of listing it in skipped.csv."""
    valid_share: float = 0.0
    """Share of the pieces kept for validation; 0: chosen for the corpus."""
    model: DecoderConfig = field(default_factory=DecoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.valid_share <= 0.5:
            raise ConfigError(f"valid_share is {self.valid_share}; it must lie between 0 (chosen) and 0.5")


Config = TypeVar("Config")
PRESETS: dict[str, DecoderConfig] = {
    "tiny": DecoderConfig(d_model=128, num_layers=4, num_heads=4, max_seq_len=256, window=64),
    "small": DecoderConfig(d_model=256, num_layers=6, num_heads=4, max_seq_len=1024, window=256),
    "base": DecoderConfig(d_model=512, num_layers=8, num_heads=8, max_seq_len=2048, window=512),
}


def preset(name: str) -> DecoderConfig:
    """The decoder shape of that name.

    Raises:
        ConfigError: for a name that is none, with those there are.
    """
    if name not in PRESETS:
        raise ConfigError(f"no preset is called {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain values, for YAML or JSON."""
    plain = dataclasses.asdict(config)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def from_dict(cls: type[Config], values: dict[str, Any], *, base: Config | None = None, where: str = "") -> Config:
    """The configuration `cls` with `values` laid over `base` (or over its defaults).

    Raises:
        ConfigError: for a key that is no field, with the nearest ones, or a value of the wrong type.
    """
    start: Any = base if base is not None else cls()
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=3)
            guess = f"did you mean {' or '.join(near)}?" if near else f"it may be one of: {', '.join(sorted(names))}"
            raise ConfigError(f"unknown setting {where}{key}; {guess}")
        changes[key] = _fit(getattr(start, key), value, f"{where}{key}")
    return dataclasses.replace(start, **changes)


def _fit(current: Any, value: Any, where: str) -> Any:
    """Bring a value from YAML or JSON to the type that the setting has."""
    if dataclasses.is_dataclass(current):
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is a group of settings, not {value!r}")
        return from_dict(type(current), value, base=current, where=f"{where}.")
    if isinstance(current, tuple) and isinstance(value, list | tuple):
        return tuple(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if current is not None and value is not None and type(value) is not type(current):
        raise ConfigError(f"{where} is {value!r}; it must be of type {type(current).__name__}")
    return value
