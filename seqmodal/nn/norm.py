"""Normalisation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from seqmodal.config import DecoderConfig


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last axis, without a gain (Zhang and Sennrich 2019)."""
    return torch.nn.functional.rms_norm(x, (x.shape[-1],))


class RMSNorm(nn.Module):
    """`rms_norm` as a module; it has no weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) to (…, D)."""
        return rms_norm(x)


def make_norm(config: DecoderConfig) -> nn.Module:
    """The norm of that configuration, over d_model."""
    return RMSNorm() if config.norm == "rmsnorm" else nn.LayerNorm(config.d_model, bias=config.bias)
