"""How a decoder knows order: rotary positions."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotary positions (Su et al. 2021, RoFormer): pairs of channels turn by an angle proportional to the position,
    so that a score depends on the distance of query and key alone.

    Args:
        head_dim: channels of a head, even.
        base: the slowest pair turns once in about 2·pi·`base` positions.
    """

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        self.head_dim, self.base = head_dim, base

    def angles(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and sine for (…, T) positions: two tensors (…, T, head_dim / 2), computed in float64."""
        exponent = torch.arange(0, self.head_dim, 2, device=positions.device, dtype=torch.float64) / self.head_dim
        angle = positions.to(torch.float64).unsqueeze(-1) * self.base**-exponent
        return angle.cos().to(dtype), angle.sin().to(dtype)

    @staticmethod
    def rotate(x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        """Turn x (B, H, T, K) by its angles; the pairs are channel i and channel i + K/2."""
        cos, sin = (a.unsqueeze(-3) for a in angles)  # (…, 1, T, K/2)
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)
