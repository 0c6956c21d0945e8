"""What a decoder is made of: about twenty fields, with a small dataclass where a choice has parameters of its own."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import ClassVar, Literal, get_args, get_type_hints

from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class NoPosition:
    """None: a causal decoder can still tell order a little (Haviv et al. 2022)."""

    kind: ClassVar[str] = "none"
    absolute: ClassVar[bool] = False


@dataclass(frozen=True)
class Learned:
    """A trained vector for each of max_seq_len positions, added to the embedding (GPT-2)."""

    kind: ClassVar[str] = "learned"
    absolute: ClassVar[bool] = True


@dataclass(frozen=True)
class Sinusoidal:
    """Sines and cosines added to the embedding, which is scaled by sqrt(d_model) (Vaswani et al. 2017)."""

    base: float = 10_000.0
    """The slowest wave is about 2·pi·base positions long."""
    kind: ClassVar[str] = "sinusoidal"
    absolute: ClassVar[bool] = True


@dataclass(frozen=True)
class Rotary:
    """Queries and keys turned by angles proportional to the position (Su et al. 2021, RoFormer)."""

    base: float = 10_000.0
    """The slowest pair turns once in about 2·pi·base positions."""
    kind: ClassVar[str] = "rotary"
    absolute: ClassVar[bool] = False


@dataclass(frozen=True)
class Alibi:
    """Scores lowered in proportion to the distance, by a slope a head (Press et al. 2022)."""

    kind: ClassVar[str] = "alibi"
    absolute: ClassVar[bool] = False


@dataclass(frozen=True)
class Relative:
    """Trained vectors a head and distance, multiplied with the query (Shaw et al. 2018; Music Transformer, Huang et al.
    2018, whose skewing computes them in memory linear in the length)."""

    max_distance: int = 256
    """Distances beyond it, either way, count as it."""
    values: bool = False
    """Add vectors to the values as well, as Shaw et al. do."""
    kind: ClassVar[str] = "relative"
    absolute: ClassVar[bool] = False


@dataclass(frozen=True)
class Bucketed:
    """A trained number a head and bucket of distances, the same in all layers (T5, Raffel et al. 2020)."""

    buckets: int = 32
    """Half of them for the past, half for the future; half of each are single distances, the others log-spaced."""
    max_distance: int = 128
    """From here on all distances share the last bucket."""
    kind: ClassVar[str] = "t5"
    absolute: ClassVar[bool] = False


@dataclass(frozen=True)
class TransformerXL:
    """Four-term relative scores (Dai et al. 2019): content and sinusoids of the distance, each with a bias a head."""

    kind: ClassVar[str] = "transformer-xl"
    absolute: ClassVar[bool] = False


Position = NoPosition | Learned | Sinusoidal | Rotary | Alibi | Relative | Bucketed | TransformerXL


@dataclass(frozen=True)
class Plain:
    """num_layers blocks, each with weights of its own."""

    kind: ClassVar[str] = "plain"


@dataclass(frozen=True)
class Universal:
    """One block applied num_layers times, told which time it is (Universal Transformer, Dehghani et al. 2019)."""

    halting: bool = True
    """Let each position stop when it has thought enough (adaptive computation time, Graves 2016)."""
    ponder_cost: float = 0.01
    """Weight in the loss of the mean number of applications, remainder included."""
    threshold: float = 0.99
    """A position stops when its halting probabilities would pass this."""
    kind: ClassVar[str] = "universal"


Stack = Plain | Universal


@dataclass(frozen=True)
class DecoderConfig:
    """The shape of a decoder; the default is the modern one. A size of 0 is chosen for the corpus."""

    vocab_size: int = 0
    """Rows of the embedding; taken from the vocabulary."""
    d_model: int = 0
    """Width of the residual stream."""
    num_layers: int = 0
    """Applications of a block."""
    num_heads: int = 0
    """Query heads; d_model / num_heads is the width of a head."""
    num_kv_heads: int = 0
    """Key and value heads (Ainslie et al. 2023); 0: as many as query heads, 1: multi-query (Shazeer 2019)."""
    d_ff: int = 0
    """Width of the feed-forward; 0: four times d_model."""
    max_seq_len: int = 0
    """Positions of a training window: the context."""
    window: int = 0
    """How far attention looks back, itself included. 0: over everything, where a decoder is built; training chooses a
    quarter of the context for rotary positions without memory, and max_seq_len gives all of it."""
    memory: int = 0
    """Positions of the text before the window that each layer still sees (Transformer-XL); 0: none."""
    position: Position = field(default_factory=Rotary)
    """How order is known."""
    stack: Stack = field(default_factory=Plain)
    """How blocks are stacked."""
    norm: Literal["rmsnorm", "layernorm"] = "rmsnorm"
    """rmsnorm: without gain (Zhang and Sennrich 2019); layernorm: with gain, and with shift where there is `bias`."""
    norm_place: Literal["pre", "post"] = "pre"
    """Before each half of a block and at the end, or after each half (2017)."""
    embedding_norm: bool = False
    """Normalise the embedding before the first block."""
    qk_norm: bool = True
    """Normalise queries and keys, head by head (Henry et al. 2020)."""
    activation: Literal["relu", "gelu", "gelu_tanh", "relu2", "swiglu"] = "gelu"
    """Of the feed-forward; relu2: squared (So et al. 2021), swiglu: gated (Shazeer 2020), gelu_tanh: GPT-2's."""
    bias: bool = False
    """Biases in projections and norms."""
    tied_head: bool = False
    """The head's rows are the embedding's (Press and Wolf 2017)."""
    zero_init: bool = True
    """Start what writes to the residual stream, and an untied head, at zero; else as GPT-2 does."""
    token_shift: int = 2
    """How many tokens before it are mixed into the embedding of each token; 0: none."""
    tally: int | None = None
    """Counters of what is open, such as notes that sound, mixed into the embedding. None: where a decoder is built
    none; training chooses as many as the tokenizers have. 0: none."""
    value_embeddings: bool = True
    """Add an embedding of the token to the values of the first and the last application."""
    logit_softcap: float = 0.0
    """Squash logits into ±this by tanh; 0: off."""
    dropout: float = 0.0
    """Share of the residual updates dropped in training."""

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for f in fields(self):
            value, allowed = getattr(self, f.name), get_args(hints[f.name])
            if hints[f.name] is int and value < 0:
                raise ConfigError(f"{f.name} is {value}; it must be a count, or 0 to have it chosen")
            if f.name == "tally" and value is not None and value < 0:
                raise ConfigError(f"tally is {value}; it must be a count, or none to have it chosen")
            if isinstance(value, str) and value not in allowed:
                raise ConfigError(f"{f.name} is {value!r}; it is one of {', '.join(map(str, allowed))}")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if self.logit_softcap < 0:
            raise ConfigError(f"logit_softcap is {self.logit_softcap}; it must be positive, or 0 for none")
        self._check_parts()
        self._check_sizes()

    def _check_parts(self) -> None:
        """Parts that mean nothing, alone or together."""
        position, stack = self.position, self.stack
        if isinstance(position, Rotary | Sinusoidal) and position.base <= 1:
            raise ConfigError(f"position.base is {position.base}; it must be above 1")
        if isinstance(position, Relative) and position.max_distance < 1:
            raise ConfigError(f"position.max_distance is {position.max_distance}; it must be at least 1")
        if isinstance(position, Bucketed) and (
            position.buckets % 2 or not 4 <= position.buckets < 4 * position.max_distance
        ):
            raise ConfigError(
                f"position.buckets is {position.buckets} and position.max_distance {position.max_distance}; buckets "
                "are even, at least 4, and a quarter of them, the single distances, must lie below max_distance"
            )
        if isinstance(stack, Universal) and (stack.ponder_cost < 0 or not 0 < stack.threshold < 1):
            raise ConfigError(
                f"stack.ponder_cost is {stack.ponder_cost} and stack.threshold {stack.threshold}: the cost is not "
                "negative, the threshold lies between 0 and 1"
            )
        if isinstance(stack, Universal) and stack != Universal(halting=stack.halting) and not stack.halting:
            raise ConfigError(
                f"stack.ponder_cost {stack.ponder_cost} and stack.threshold {stack.threshold} mean nothing without "
                "stack.halting; leave them out"
            )
        if self.memory and position.absolute:
            raise ConfigError(
                f"memory {self.memory} and position {position.kind} do not go together: a remembered state would keep "
                "the position that the new text has too; choose rotary, alibi, relative, t5, transformer-xl or none"
            )
        if self.memory and self.window:
            raise ConfigError(
                f"memory {self.memory} and window {self.window} do not go together: the memory is how far back a "
                "segment sees; set one of them to 0"
            )

    def _check_sizes(self) -> None:
        if self.d_model and self.num_heads:
            if self.d_model % self.num_heads:
                raise ConfigError(f"d_model {self.d_model} does not divide by num_heads {self.num_heads}")
            if isinstance(self.position, Rotary) and self.head_dim % 2:
                raise ConfigError(
                    f"rotary positions need heads of even width; d_model {self.d_model} over num_heads "
                    f"{self.num_heads} gives {self.head_dim}"
                )
        if isinstance(self.position, Sinusoidal | TransformerXL) and self.d_model % 2:
            raise ConfigError(f"position {self.position.kind} needs an even d_model, not {self.d_model}")
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
    def num_blocks(self) -> int:
        """Blocks with weights of their own."""
        return 1 if isinstance(self.stack, Universal) else self.num_layers

    @property
    def _matrices(self) -> int:
        """Entries of a block's matrices."""
        inner, kv = self.num_heads * self.head_dim, self.kv_heads * self.head_dim
        return self.d_model * (2 * inner + 2 * kv + (3 if self.activation == "swiglu" else 2) * self.ff_width)

    @property
    def num_parameters(self) -> int:
        """Trained numbers of a `Decoder` of this shape. Raises ConfigError while sizes are to be chosen."""
        self._must_have_sizes()
        d, heads, inner, kv = self.d_model, self.num_heads, self.d_model, self.kv_heads * self.head_dim
        norm = d * (1 + self.bias) if self.norm == "layernorm" else 0
        block = self._matrices + 2 * norm
        if self.bias:
            block += inner + 2 * kv + d + self.ff_width * (2 if self.activation == "swiglu" else 1) + d
        whole = self.vocab_size * d * (1 if self.tied_head else 2) + (self.token_shift + (self.tally or 0)) * d
        whole += norm * (self.embedding_norm + (self.norm_place == "pre"))
        match self.position:
            case Learned():
                whole += self.max_seq_len * d
            case Bucketed(buckets=buckets):
                whole += buckets * heads
            case Relative(max_distance=most, values=values):
                block += (2 * most + 1) * inner * (1 + values)
            case TransformerXL():
                block += d * inner + 2 * inner
        if isinstance(self.stack, Universal):
            whole += (self.num_layers - 1) * d + (d + 1 if self.stack.halting else 0)
        if self.value_embeddings:
            whole += min(2, self.num_layers) * (self.vocab_size * kv + 1)
        return self.num_blocks * block + whole

    @property
    def flops_per_token(self) -> float:
        """Of one position in training, forward and backward, a multiply-add counted twice: products with weights, and
        scores and mixed values of the keys that it sees on average. Raises ConfigError while sizes are to be chosen.
        """
        self._must_have_sizes()
        reach = (self.max_seq_len + 1) / 2
        if 0 < self.window < self.max_seq_len:
            reach = self.window - self.window * (self.window - 1) / (2 * self.max_seq_len)
        terms = 2.0  # scores and values
        if isinstance(self.position, Relative):
            terms += 1 + self.position.values
        elif isinstance(self.position, TransformerXL):
            terms += 1
        kv = 2 * self.d_model * self.kv_heads * self.head_dim * self.memory / self.max_seq_len  # computed anew
        layer = self._matrices + kv + terms * self.d_model * (self.memory + reach)
        return 6 * (self.num_layers * layer + self.vocab_size * self.d_model)

    def _must_have_sizes(self) -> None:
        missing = [name for name in ("vocab_size", "d_model", "num_layers", "num_heads", "max_seq_len")
                   if not getattr(self, name)]  # fmt: skip
        if missing:
            raise ConfigError(f"{', '.join(missing)} of this decoder are still to be chosen; give numbers above 0")
