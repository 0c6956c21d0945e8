"""One softmax attention. Grouped heads, the window and the cache are numbers and data on it, not classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.nn.mask import visible
from seqmodal.nn.norm import rms_norm
from seqmodal.nn.position import Rotary
from seqmodal.nn.state import KVCache


@dataclass(frozen=True)
class Layout:
    """What all layers of one call share: the angles of its positions, who sees whom, the ids one, two, … before each
    (-1: none), and where the cache is written.

    `seen` is None where plain causality holds; then the fused kernels run without a matrix.
    """

    angles: tuple[Tensor, Tensor]
    seen: Tensor | None
    before: tuple[Tensor, ...] = ()
    cache: KVCache | None = None
    index: tuple[Tensor, Tensor] | None = None


class Attention(nn.Module):
    """Causal softmax attention with rotary positions and normalised queries and keys (Henry et al. 2020).

    `num_kv_heads` below `num_heads` groups the heads (Ainslie et al. 2023), 1 is multi-query (Shazeer 2019).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.kv_heads, config.head_dim
        self.window, self.dropout = config.window, config.dropout
        kv = self.num_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.d_model, self.num_heads * self.head_dim, bias=False)
        self.k_proj = nn.Linear(config.d_model, kv, bias=False)
        self.v_proj = nn.Linear(config.d_model, kv, bias=False)
        self.out_proj = nn.Linear(self.num_heads * self.head_dim, config.d_model, bias=False)

    def forward(self, x: Tensor, layout: Layout, layer: int, extra_value: Tensor | None = None) -> Tensor:
        """Attend.

        Args:
            x: (B, T, D).
            layout: what the call's layers share.
            layer: which slot of the cache is this application's.
            extra_value: (B, T, G * K), added to the values (value embeddings).
        """
        value = self.v_proj(x)
        if extra_value is not None:
            value = value + extra_value
        q = Rotary.rotate(rms_norm(self._split(self.q_proj(x))), layout.angles)  # (B, H, T, K)
        k = Rotary.rotate(rms_norm(self._split(self.k_proj(x))), layout.angles)  # (B, G, T, K)
        v = self._split(value)  # (B, G, T, K)
        if layout.cache is not None and layout.index is not None:
            k, v = layout.cache.write(layer, layout.index, k, v)
        grouped = self.num_kv_heads != self.num_heads
        if layout.seen is not None:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=layout.seen, enable_gqa=grouped)
        elif not self.window or x.shape[1] <= self.window:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
        else:
            y = sliding_window_attention(q, k, v, self.window)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, T, H·K) -> (B, H, T, K)


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Causal attention over the last `window` keys in time and memory linear in length.

    The text is cut into blocks of `window`; a block looks at itself and the one before it, which holds every key in
    reach. The first block is plain causal attention.

    Args:
        q: (B, H, T, K); k, v: (B, G, T, K) with T > window.
    """
    batch, heads, length, _ = q.shape
    pad = -length % window
    if pad:
        q, k, v = (F.pad(t, (0, 0, 0, pad)) for t in (q, k, v))
    grouped = k.shape[1] != heads
    first = F.scaled_dot_product_attention(
        q[:, :, :window], k[:, :, :window], v[:, :, :window], is_causal=True, enable_gqa=grouped
    )

    def blocks(t: Tensor, overlap: bool) -> Tensor:  # (B, H, T, K) -> (B·n, H, w or 2w, K), from the second block on
        cut = (
            t.unfold(2, 2 * window, window).transpose(-1, -2)
            if overlap
            else t[:, :, window:].unflatten(2, (-1, window))
        )
        return cut.transpose(1, 2).flatten(0, 1)

    at = torch.arange(2 * window, device=q.device)
    seen = visible(at[window:], at, window=window)
    rest = F.scaled_dot_product_attention(
        blocks(q, False), blocks(k, True), blocks(v, True), attn_mask=seen, enable_gqa=grouped
    )
    rest = rest.unflatten(0, (batch, -1)).transpose(1, 2).flatten(2, 3)  # (B, H, T - w, K)
    return torch.cat((first, rest), dim=2)[:, :, :length]
