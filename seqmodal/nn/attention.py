"""One softmax attention. Grouped heads, window, memory and cache are numbers and data on it, not classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from seqmodal.config import DecoderConfig
from seqmodal.nn.linear import Linear, side_by_side
from seqmodal.nn.mask import Mask, attend_to_self_if_blind, visible
from seqmodal.nn.norm import rms_norm
from seqmodal.nn.position import Angles, RelativeScores, layer_scores, rotate
from seqmodal.nn.state import CacheCall, MemoryCall

SHORT = 256
"""Queries up to which learning in bfloat16 on a CPU multiplies plainly: the fused kernel took two to six times as long
over 36, forward and back, and less beyond 512."""
QUERY_BLOCK = 256
"""Queries whose scores are held at once where positions add to the scores."""


@dataclass(frozen=True)
class Layout:
    """What all layers of one call share.

    Attributes:
        query, key: positions, (T,) and (S,) where they are consecutive and all rows alike, else (B, T) and (B, S).
        seen: who sees whom, (…, T, S) bool; None: plain causality over `window`. With `in_blocks`, from `block_masks`.
        is_causal: whether no query sees a later key.
        angles: of rotary positions, for what this call computes; with a memory, `key_angles` are those of the keys.
        shared_scores: what all layers add to their scores, by positions.
        before: the ids one, two, … before each (B, T); -1: none.
        tally: the counters after each id (B, T, F), where the decoder counts.
        cache: where keys and values are written, and which are read.
        memory: the hidden states before the text.
    """

    query: Tensor
    key: Tensor
    window: int
    seen: Tensor | None = None
    in_blocks: bool = False
    is_causal: bool = True
    angles: Angles | None = None
    key_angles: Angles | None = None
    shared_scores: nn.Module | None = None
    before: tuple[Tensor, ...] = ()
    tally: Tensor | None = None
    cache: CacheCall | None = None
    memory: MemoryCall | None = None

    def part(self, rows: slice, keys: slice) -> Tensor:
        """Who sees whom, of some queries and keys."""
        if self.seen is not None:
            return self.seen[..., rows, keys]
        return attend_to_self_if_blind(visible(self.query[rows], self.key[keys], window=self.window))


class Attention(nn.Module):
    """Softmax attention.

    `num_kv_heads` below `num_heads` groups the heads (Ainslie et al. 2023), 1 is multi-query (Shazeer 2019).
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.num_heads, self.num_kv_heads, self.head_dim = config.num_heads, config.kv_heads, config.head_dim
        self.normalise = config.qk_norm
        kv = self.num_kv_heads * self.head_dim
        self.q_proj = Linear(config.d_model, self.num_heads * self.head_dim, config.bias)
        self.k_proj = Linear(config.d_model, kv, config.bias)
        self.v_proj = Linear(config.d_model, kv, config.bias)
        self.out_proj = Linear(self.num_heads * self.head_dim, config.d_model, config.bias)
        self.scores = layer_scores(config)

    def forward(
        self, x: Tensor, context: Tensor, layout: Layout, layer: int, extra_value: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            x: (B, T, D), what asks.
            context: (B, S, D), what is looked at beside the cache: x, behind the memory where there is one.
            layout: what the call's layers share.
            layer: which slot of the cache is this application's.
            extra_value: (B, S, G * K), added to the values (value embeddings).

        Returns:
            (B, T, D).
        """
        kv, heads = self.num_kv_heads * self.head_dim, self.num_heads
        if context is x:
            both = side_by_side(x, self.q_proj, self.k_proj, self.v_proj)
            q, k = self._turned(both[..., :-kv], layout.angles).tensor_split((heads,), dim=2)
        else:
            both = side_by_side(context, self.k_proj, self.v_proj)
            q, k = self._turned(self.q_proj(x), layout.angles), self._turned(both[..., :kv], layout.key_angles)
        value = both[..., -kv:] if extra_value is None else both[..., -kv:] + extra_value
        q, k, v = (t.transpose(1, 2) for t in (q, k, self._split(value)))  # (B, H, T, K), (B, G, S, K) twice
        if layout.cache is not None:
            k, v = layout.cache.write(layer, k, v)
        if self.scores is not None or layout.shared_scores is not None:
            y = self._with_scores(q, k, v, layout)
        elif layout.in_blocks and layout.seen is not None:
            y = blocked_attention(q, k, v, layout.seen, layout.window)
        else:
            y = attend(q, k, v, layout.seen)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim))  # (B, T, H·K) -> (B, T, H, K)

    def _turned(self, x: Tensor, angles: Angles | None) -> Tensor:
        """Queries or keys (B, T, H·K), normalised and rotated where that is asked for: (B, T, H, K)."""
        x = rms_norm(self._split(x)) if self.normalise else self._split(x)
        return x if angles is None else rotate(x, angles)

    def _with_scores(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout) -> Tensor:
        """Attention whose scores depend on positions, some queries at a time; training computes them twice."""
        length, keys = q.shape[2], k.shape[2]
        if k.shape[1] != q.shape[1]:
            k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) for t in (k, v))
        parts = []
        for first in range(0, length, QUERY_BLOCK):
            rows, reach = slice(first, min(first + QUERY_BLOCK, length)), slice(0, keys)
            if layout.query.dim() == 1 and layout.is_causal:  # keys out of reach need no scores
                last = keys - length + rows.stop
                reach = slice(max(0, last - QUERY_BLOCK - layout.window) if layout.window else 0, last)
            given = (q[:, :, rows], k[:, :, reach], v[:, :, reach], layout, rows, reach)
            if length > QUERY_BLOCK and torch.is_grad_enabled():
                parts.append(checkpoint(self._scored, *given, use_reentrant=False))
            else:
                parts.append(self._scored(*given))
        return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]

    def _scored(self, q: Tensor, k: Tensor, v: Tensor, layout: Layout, rows: slice, keys: slice) -> Tensor:
        query, key = layout.query[..., rows], layout.key[..., keys]
        added: Any = 0.0
        if layout.shared_scores is not None:
            added = layout.shared_scores(query, key, q.dtype)
        if self.scores is not None:
            q, added = self.scores(q, query, key)
        added = added.masked_fill(~layout.part(rows, keys), float("-inf"))
        if not isinstance(self.scores, RelativeScores) or self.scores.values is None:
            return F.scaled_dot_product_attention(q, k, v, attn_mask=added.to(q.dtype))
        share = (q @ k.mT * self.head_dim**-0.5 + added).softmax(-1)
        return share @ v + self.scores.mixed(share, query, key)


def attend(q: Tensor, k: Tensor, v: Tensor, seen: Tensor | None) -> Tensor:
    """Softmax attention, (B, H, T, K) by (B, G, S, K) to (B, H, T, K).

    Args:
        seen: who sees whom, (…, T, S) bool; None: the last query sees all keys, each before it one less.
    """
    length = q.shape[2]
    if q.is_cpu and length <= SHORT and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu"):
        if seen is None:
            seen = torch.ones(length, length, dtype=torch.bool).tril()
        return products(q, k, v, seen)
    grouped = k.shape[1] != q.shape[1]
    if seen is None and length > 1:  # not an expression: compiled, that would be a number to come
        return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=grouped)


def products(q: Tensor, k: Tensor, v: Tensor, seen: Tensor) -> Tensor:
    """Attention as two plain products, which a CPU with bfloat16 units computes faster than the fused kernel."""
    k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], dim=1) if t.shape[1] != q.shape[1] else t for t in (k, v))
    scores = (q @ k.mT).mul(q.shape[-1] ** -0.5).masked_fill(~seen, float("-inf"))
    return scores.softmax(-1) @ v


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
    batch, heads, length, _ = q.shape
    blocks = -(-length // window)
    q, k, v = (F.pad(t, (0, 0, 0, blocks * window - length)).unflatten(2, (blocks, window)) for t in (q, k, v))
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, n, H, W, K)
    k, v = (_with_previous(t.transpose(2, 3), 0.0).transpose(2, 3) for t in (k, v))  # (B, n, G, 2W, K)
    q, k, v = (t.flatten(0, 1) for t in (q, k, v))
    if seen.shape[0] != len(q):
        seen = seen.repeat(batch, 1, 1, 1)
    if q.device.type == "cpu":
        y = products(q, k, v, seen)
    else:
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=k.shape[1] != heads)
    y = y.unflatten(0, (batch, blocks)).transpose(1, 2).flatten(2, 3)  # (B, H, n·W, K)
    return y[:, :, :length]


def _with_previous(blocks: Tensor, value: float) -> Tensor:
    """(B, n, W, …) to (B, n, 2W, …): each block behind the one before it, the first behind `value`."""
    before = torch.cat((torch.full_like(blocks[:, :1], value), blocks[:, :-1]), dim=1)
    return torch.cat((before, blocks), dim=2)
