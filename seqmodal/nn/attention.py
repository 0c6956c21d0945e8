"""One softmax attention. Grouped heads, the window and the cache are numbers and data on it, not classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.nn.mask import Mask, attend_to_self_if_blind, visible
from seqmodal.nn.norm import rms_norm
from seqmodal.nn.position import Rotary
from seqmodal.nn.state import KVCache


@dataclass(frozen=True)
class Layout:
    """What all layers of one call share: the angles of its positions, who sees whom, the ids one, two, … before each
    (-1: none), and where the cache is written.

    `seen` is None where plain causality holds; then the fused kernels run without a matrix. With `in_blocks` it is
    that of `block_masks`, for `blocked_attention`.
    """

    angles: tuple[Tensor, Tensor]
    seen: Tensor | None
    before: tuple[Tensor, ...] = ()
    in_blocks: bool = False
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
        if layout.in_blocks and layout.seen is not None:
            y = blocked_attention(q, k, v, layout.seen, self.window)
        else:
            grouped, causal = self.num_kv_heads != self.num_heads, layout.seen is None
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=layout.seen, is_causal=causal, enable_gqa=grouped)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)  # (B, T, H·K) -> (B, H, T, K)


def block_masks(length: int, window: int, mask: Mask | None, device: torch.device) -> Tensor:
    """Who sees whom inside the blocks of `blocked_attention`: (B·n, 1, W, 2W), or (n, 1, W, 2W) without a mask."""
    blocks = -(-length // window)
    keys = _with_previous(torch.arange(blocks * window, device=device).view(1, blocks, window), -1).flatten(0, 1)
    if mask is None or mask.document is None:
        return attend_to_self_if_blind(visible(keys[:, window:], keys, window=window))
    document = F.pad(mask.document, (0, blocks * window - length), value=-1).unflatten(1, (blocks, window))
    held = _with_previous(document, -2).flatten(0, 1)  # (B·n, 2W)
    at = keys.repeat(len(mask.document), 1)
    return attend_to_self_if_blind(
        visible(at[:, window:], at, window=window, queries=Mask(held[:, window:]), keys=Mask(held))
    )


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, window: int) -> Tensor:
    """Attention over the last `window` keys in time and memory linear in length.

    The text is cut into blocks of `window`; a block looks at itself and the one before it, which hold every key in
    reach. On a CPU with bfloat16 units two plain products took two thirds of the fused kernel's time, forward and back.

    Args:
        q: (B, H, T, K); k, v: (B, G, T, K).
        seen: from `block_masks`.
    """
    batch, heads, length, width = q.shape
    blocks = -(-length // window)
    q, k, v = (F.pad(t, (0, 0, 0, blocks * window - length)).unflatten(2, (blocks, window)) for t in (q, k, v))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, n, H, W, K)
    k, v = (_with_previous(t.transpose(2, 3), 0.0).transpose(2, 3) for t in (k, v))  # (B, n, G, 2W, K)
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    if seen.shape[0] != len(q):
        seen = seen.repeat(batch, 1, 1, 1)
    if q.device.type == "cpu":
        k, v = (t.repeat_interleave(heads // t.shape[1], dim=1) if t.shape[1] != heads else t for t in (k, v))
        scores = (q @ k.transpose(-1, -2)).mul(width**-0.5).masked_fill(~seen, float("-inf"))
        y = scores.softmax(-1) @ v
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=k.shape[1] != heads)
    y = y.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)  # (B, H, n·W, K)
    return y[:, :, :length]


def _with_previous(blocks: Tensor, value: float) -> Tensor:
    """(B, n, W, …) to (B, n, 2W, …): each block behind the one before it, the first behind `value`."""
    before = torch.cat((torch.full_like(blocks[:, :1], value), blocks[:, :-1]), dim=1)
    return torch.cat((before, blocks), dim=2)
