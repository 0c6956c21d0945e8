"""How a decoder knows order. A kind acts in one of three places: on the embedding, on queries and keys, on the scores.

Positions are given as int tensors: 1-D where they are consecutive and the same in all rows, (B, T) where they are not.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import Alibi, Bucketed, DecoderConfig, Learned, Relative, Rotary, Sinusoidal, TransformerXL
from seqmodal.nn.linear import Linear

Angles = tuple[Tensor, Tensor]


def sinusoids(positions: Tensor, width: int, base: float, dtype: torch.dtype) -> Tensor:
    """(…,) positions to (…, width): sines in the first half, cosines in the second, computed in float64."""
    angle = _angle(positions, width, base)
    return torch.cat((angle.sin(), angle.cos()), dim=-1).to(dtype)


def _angle(positions: Tensor, width: int, base: float) -> Tensor:
    exponent = torch.arange(0, width, 2, device=positions.device, dtype=torch.float64) / width
    return positions.to(torch.float64).unsqueeze(-1) * base**-exponent


# --- on the embedding -------------------------------------------------------------------------------------------------


class LearnedEmbedding(nn.Module):
    """A trained vector a position, added to the embedding (GPT-2)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.max_seq_len, config.d_model))

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, T, D) at positions (T,) or (B, T), those below 0 being padding."""
        return x + F.embedding(positions.clamp(min=0), self.weight)


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of the position added to the embedding, which is scaled by sqrt(D) (Vaswani et al. 2017)."""

    def __init__(self, base: float) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """x (B, T, D) at positions (T,) or (B, T)."""
        return x * x.shape[-1] ** 0.5 + sinusoids(positions, x.shape[-1], self.base, x.dtype)


def embedding_position(config: DecoderConfig) -> nn.Module | None:
    """What is added to the embedding, None for kinds that act elsewhere."""
    match config.position:
        case Learned():
            return LearnedEmbedding(config)
        case Sinusoidal(base=base):
            return SinusoidalEmbedding(base)
    return None


# --- on queries and keys ----------------------------------------------------------------------------------------------


def rotary_angles(config: DecoderConfig, positions: Tensor, dtype: torch.dtype) -> Angles | None:
    """For `rotate`, of (…, T) positions, two tensors (…, T, K): cosines twice, sines with either sign; None where
    positions are not rotary."""
    if not isinstance(config.position, Rotary):
        return None
    angle = _angle(positions, config.head_dim, config.position.base)
    cos, sin = angle.cos().to(dtype), angle.sin().to(dtype)
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn x (B, T, H, K) by its angles (Su et al. 2021); the pairs are channel i and channel i + K/2."""
    cos, sin = (a.unsqueeze(-2) for a in angles)  # (…, T, 1, K)
    first, second = x.chunk(2, dim=-1)
    return torch.addcmul(x * cos, torch.cat((second, first), dim=-1), sin)


# --- on the scores ----------------------------------------------------------------------------------------------------


def distances(query: Tensor, key: Tensor) -> Tensor:
    """Query minus key position, (T, S) or (B, T, S); 0 for keys that are not there (below 0)."""
    return torch.where(key.unsqueeze(-2) >= 0, query.unsqueeze(-1) - key.unsqueeze(-2), 0)


def consecutive_distances(query: Tensor, key: Tensor) -> Tensor:
    """All distances between two consecutive runs, the largest first: (T + S - 1,), in the order that `skew` takes."""
    return torch.arange(int(query[-1] - key[0]), int(query[0] - key[-1]) - 1, -1, device=query.device)


def skew(x: Tensor, keys: int) -> Tensor:
    """Scores by distance to scores by key, without an index (Huang et al. 2018, Music Transformer).

    Args:
        x: (…, T, T + S - 1), row t by the distances of `consecutive_distances`; row t needs S of them from T-1-t on.
        keys: S.

    Returns:
        (…, T, S).
    """
    rows, width = x.shape[-2:]
    flat = F.pad(x, (0, 1)).flatten(-2)[..., rows - 1 : rows - 1 + rows * width]
    return flat.unflatten(-1, (rows, width))[..., :keys]


class AlibiScores(nn.Module):
    """A slope a head times the distance, subtracted (Press et al. 2022)."""

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads

    def forward(self, query: Tensor, key: Tensor, dtype: torch.dtype) -> Tensor:
        """(H, T, S) or (B, H, T, S) of positions (T,), (S,) or (B, T), (B, S)."""
        slopes = torch.tensor(alibi_slopes(self.num_heads), dtype=dtype, device=query.device)
        return -slopes.view(-1, 1, 1) * distances(query, key).abs().unsqueeze(-3)


def alibi_slopes(num_heads: int) -> list[float]:
    """2^(-8/n), 2^(-16/n), … for n heads; for n that is no power of two, every other slope of 2n' comes after n'."""
    whole = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (i + 1) / whole) for i in range(whole)]
    return slopes + [2 ** (-4 * (2 * i + 1) / whole) for i in range(num_heads - whole)]


class BucketedScores(nn.Module):
    """A trained number a head and bucket of distances (T5, Raffel et al. 2020)."""

    def __init__(self, config: Bucketed, num_heads: int) -> None:
        super().__init__()
        self.side, self.max_distance = config.buckets // 2, config.max_distance
        self.weight = nn.Parameter(torch.empty(config.buckets, num_heads))

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of each distance; the upper half of them is for keys that come after the query."""
        exact, size = self.side // 2, distance.abs()
        far = torch.log(size.clamp(min=1).double() / exact) / math.log(self.max_distance / exact)
        far = exact + (far * (self.side - exact)).long().clamp(max=self.side - exact - 1)
        return torch.where(size < exact, size, far) + self.side * (distance < 0)

    def forward(self, query: Tensor, key: Tensor, dtype: torch.dtype) -> Tensor:
        """(H, T, S) or (B, H, T, S) of positions (T,), (S,) or (B, T), (B, S)."""
        return F.embedding(self.bucket(distances(query, key)), self.weight).movedim(-1, -3).to(dtype)


def shared_scores(config: DecoderConfig) -> nn.Module | None:
    """What all layers add to their scores, from positions alone."""
    match config.position:
        case Alibi():
            return AlibiScores(config.num_heads)
        case Bucketed() as bucketed:
            return BucketedScores(bucketed, config.num_heads)
    return None


class RelativeScores(nn.Module):
    """Trained vectors a head and distance, multiplied with the query, and added to the values where asked for."""

    def __init__(self, config: Relative, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.most = config.max_distance
        self.keys = nn.Parameter(torch.empty(num_heads, 2 * self.most + 1, head_dim))
        self.values = nn.Parameter(torch.empty_like(self.keys)) if config.values else None

    def _row(self, distance: Tensor) -> Tensor:
        return distance.clamp(-self.most, self.most) + self.most

    def forward(self, q: Tensor, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """(q, what its scores get added): (B, H, T, K) and (B, H, T, S), in units of the final score."""
        scale = q.shape[-1] ** -0.5
        if query.dim() == 1:
            table = self.keys[:, self._row(consecutive_distances(query, key))]  # (H, T + S - 1, K)
            return q, skew(q @ table.mT, len(key)) * scale
        row = self._row(distances(query, key)).unsqueeze(1).expand(-1, q.shape[1], -1, -1)  # (B, H, T, S)
        return q, (q @ self.keys.mT).gather(-1, row) * scale

    def mixed(self, share: Tensor, query: Tensor, key: Tensor) -> Tensor:
        """What attention shares (B, H, T, S) make of the value vectors: (B, H, T, K)."""
        assert self.values is not None
        row = self._row(distances(query, key))
        row = (row if row.dim() == 2 else row.unsqueeze(1)).expand_as(share)
        by_distance = share.new_zeros(*share.shape[:3], 2 * self.most + 1).scatter_add(-1, row, share)
        return by_distance @ self.values


class TransformerXLScores(nn.Module):
    """The terms of Dai et al. (2019) beside q·k: a bias u a head on the key, and W·sinusoid(distance) against q + v."""

    def __init__(self, d_model: int, num_heads: int, head_dim: int) -> None:
        super().__init__()
        self.distance_proj = Linear(d_model, num_heads * head_dim, bias=False)
        self.key_bias = nn.Parameter(torch.zeros(num_heads, 1, head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, 1, head_dim))

    def forward(self, q: Tensor, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """(q + u, what its scores get added): (B, H, T, K) and (B, H, T, S), in units of the final score."""
        heads, width = q.shape[1], q.shape[-1]
        each = distances(query, key) if query.dim() == 2 else None
        if each is None:
            wanted = consecutive_distances(query, key)
        else:
            wanted = torch.arange(int(each.min()), int(each.max()) + 1, device=q.device)
        known = sinusoids(wanted, self.distance_proj.in_features, 10_000.0, q.dtype)
        table = self.distance_proj(known).view(-1, heads, width).transpose(0, 1)  # (H, N, K)
        scores = (q + self.distance_bias) @ table.mT * width**-0.5  # (B, H, T, N)
        if each is None:
            return q + self.key_bias, skew(scores, len(key))
        row = (each - wanted[0]).unsqueeze(1).expand(-1, heads, -1, -1)
        return q + self.key_bias, scores.gather(-1, row)


def layer_scores(config: DecoderConfig) -> RelativeScores | TransformerXLScores | None:
    """What one layer adds to its scores, from positions and its own queries."""
    match config.position:
        case Relative() as relative:
            return RelativeScores(relative, config.num_heads, config.head_dim)
        case TransformerXL():
            return TransformerXLScores(config.d_model, config.num_heads, config.head_dim)
    return None
