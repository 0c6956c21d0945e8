"""The position-wise half of a block."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig


class FeedForward(nn.Module):
    """Two projections with a squared ReLU between them (So et al. 2021, Primer)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.d_model, config.ff_width, bias=False)
        self.down = nn.Linear(config.ff_width, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        return self.down(F.relu(self.up(x)).square())
