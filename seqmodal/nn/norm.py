"""Normalisation."""

from __future__ import annotations

import torch
from torch import Tensor


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last axis, without a gain (Zhang and Sennrich 2019)."""
    return torch.nn.functional.rms_norm(x, (x.shape[-1],))
