"""A block: attention, then feed-forward, each on the normalised stream and added back to it (pre-norm)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.nn.attention import Attention, Layout
from seqmodal.nn.feed_forward import FeedForward
from seqmodal.nn.norm import rms_norm


class Block(nn.Module):
    """One layer of the decoder."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.dropout = config.dropout
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, layout: Layout, layer: int, extra_value: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D)."""
        x = x + self._drop(self.attention(rms_norm(x), layout, layer, extra_value))
        return x + self._drop(self.feed_forward(rms_norm(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training) if self.dropout else x
