"""A block: attention, then feed-forward, each added back to the residual stream."""

from __future__ import annotations

from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.nn.attention import Attention, Layout
from seqmodal.nn.dropout import dropout
from seqmodal.nn.feed_forward import FeedForward
from seqmodal.nn.norm import make_norm


class Block(nn.Module):
    """One layer of the decoder, with its norms before each half or after it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.dropout, self.pre = config.dropout, config.norm_place == "pre"
        self.attn_norm, self.ffn_norm = make_norm(config), make_norm(config)
        self.attention = Attention(config)
        self.feed_forward = FeedForward(config)

    def forward(self, x: Tensor, layout: Layout, layer: int, extra_value: Tensor | None = None) -> Tensor:
        """(B, T, D) to (B, T, D); `layer` counts applications, `extra_value` is added to the values."""
        context = x if layout.memory is None else layout.memory.behind(layer, x)
        if self.pre:
            seen = self.attn_norm(context)
            asks = seen if layout.memory is None else seen[:, -x.shape[1] :]
            x = x + self._drop(self.attention(asks, seen, layout, layer, extra_value))
            return x + self._drop(self.feed_forward(self.ffn_norm(x)))
        x = self.attn_norm(x + self._drop(self.attention(x, context, layout, layer, extra_value)))
        return self.ffn_norm(x + self._drop(self.feed_forward(x)))

    def _drop(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)
