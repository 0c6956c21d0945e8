"""The position-wise half of a block."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.nn.linear import Linear, side_by_side


def squared_relu(x: Tensor) -> Tensor:
    """Of Primer (So et al. 2021). A product is differentiated faster than a power."""
    positive = F.relu(x)
    return positive * positive


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu2": squared_relu,
    "swiglu": F.silu,
}


class FeedForward(nn.Module):
    """Two projections with an activation between them; swiglu gates it by a third (Shazeer 2020)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        self.up = Linear(config.d_model, config.ff_width, config.bias)
        self.gate = Linear(config.d_model, config.ff_width, config.bias) if config.activation == "swiglu" else None
        self.down = Linear(config.ff_width, config.d_model, config.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        gate, up = side_by_side(x, self.gate, self.up).chunk(2, dim=-1)
        return self.down(self.activation(gate) * up)
