"""What a recipe is asked for: data, model, training and sampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from seqmodal.config.decoder import DecoderConfig
from seqmodal.config.objective import Causal, Objective
from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class TrainingConfig:
    """How a model is trained. A size of 0 is chosen for the corpus."""

    steps: int = 0
    """Optimizer steps."""
    minutes: float = 0.0
    """Train for about this long, whatever `steps` says: a few are measured, then their number is fixed."""
    batch_size: int = 0
    """Windows in a step; where documents are learned whole, as many as fit into so many of the longest."""
    optimizer: Literal["muon", "adamw"] = "muon"
    """muon: Muon for the matrices of the blocks and AdamW for the rest; adamw: AdamW for everything."""
    matrix_lr: float = 0.025
    """Learning rate of Muon."""
    embedding_lr: float = 0.012
    """Learning rate of AdamW."""
    weight_decay: float = 0.0
    """Decoupled decay of the matrices."""
    label_smoothing: float = 0.0
    """Share of each target that goes to all ids alike (Szegedy et al. 2016); the losses that are shown are without."""
    condition_dropout: float = 0.0
    """How often a null stands in place of what is given, so that generation can be guided (Ho and Salimans 2022)."""
    schedule: Literal["wsd", "cosine", "inverse_sqrt"] = "wsd"
    """How the learning rate falls after its warm-up. wsd: not at first, then linearly; cosine: at once, along a half
    wave; inverse_sqrt: with the root of the steps (2017)."""
    warmup: float = 0.02
    """Share of the steps over which the learning rate rises."""
    decay: float = 0.6
    """Share of the steps, at the end, over which it falls by wsd."""
    final_lr: float = 0.02
    """What it falls to by wsd and cosine, as a share of the full rate."""
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
    """CPU threads; 0: all cores, or as many as OMP_NUM_THREADS says."""

    def __post_init__(self) -> None:
        for name in ("steps", "minutes", "batch_size", "weight_decay", "evaluations", "samples", "threads"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be a number, and not negative")
        for name, allowed in (
            ("precision", ("auto", "float32", "bfloat16")),
            ("optimizer", ("muon", "adamw")),
            ("schedule", ("wsd", "cosine", "inverse_sqrt")),
        ):
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it is one of {', '.join(allowed)}")
        for name, belongs in (
            ("decay", self.schedule == "wsd"),
            ("final_lr", self.schedule != "inverse_sqrt"),
            ("matrix_lr", self.optimizer == "muon"),
        ):
            if not belongs and getattr(self, name) != type(self).__dataclass_fields__[name].default:
                other = self.optimizer if name == "matrix_lr" else self.schedule
                raise ConfigError(f"{name} means nothing to {other}; leave it out")
        if self.matrix_lr <= 0 or self.embedding_lr <= 0:
            raise ConfigError(f"learning rates must be positive, not {self.matrix_lr} and {self.embedding_lr}")
        if self.warmup < 0 or self.decay < 0 or self.warmup + (self.schedule == "wsd") * self.decay > 1:
            raise ConfigError(
                f"warmup {self.warmup} and decay {self.decay} are shares of the steps: together at most 1"
            )
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {self.label_smoothing}; it is a share, from 0 to below 1")
        if not 0 <= self.condition_dropout < 1:
            raise ConfigError(f"condition_dropout is {self.condition_dropout}; it is a share, from 0 to below 1")
        if not 0 <= self.final_lr <= 1:
            raise ConfigError(f"final_lr is {self.final_lr}; it is a share of the full rate, 0 to 1")


@dataclass(frozen=True)
class SamplingConfig:
    """How samples are drawn while training and by `judge`."""

    temperature: float = 0.95
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

    data: str | tuple[str, ...] | None = None
    """Files or folders to learn from; none: the corpus that comes with the recipe."""
    exclude: tuple[str, ...] = ()
    """Patterns of file names to leave out, such as '*score*'."""
    strict: bool = False
    """Stop at the first file that cannot be used, instead of listing it in skipped.csv."""
    valid_share: float = 0.0
    """Share of the pieces kept for validation; 0: chosen for the corpus."""
    init: str | None = None
    """Run or model to go on from, GPT-2's folder too: its weights, shape and tokenizers; none: from nothing."""
    objective: Objective = field(default_factory=Causal)
    """What is predicted from what; causal: every id from those before it."""
    model: DecoderConfig = field(default_factory=DecoderConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if not 0 <= self.valid_share <= 0.5:
            raise ConfigError(f"valid_share is {self.valid_share}; it must lie between 0 (chosen) and 0.5")

    def means_nothing(self, to: str, *names: str, do: str = "leave it out") -> None:
        """Raises ConfigError for any of these settings, such as `sampling.seconds`, that is not as by default."""
        for name in names:
            group, _, own = name.rpartition(".")
            held = getattr(self, group) if group else self
            if getattr(held, own) != type(held).__dataclass_fields__[own].default:
                raise ConfigError(f"{name} means nothing to {to}; {do}")

    def without_files(self, corpus: str, *names: str) -> None:
        """Raises ConfigError for settings about files, and others of these `names`, where the corpus is built in."""
        about = ("exclude", "strict", "valid_share", *names)
        self.means_nothing(f"the built-in {corpus}", *about, do="give --data, or leave it out")
