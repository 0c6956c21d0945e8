"""Dropout whose random numbers cost little on a CPU."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def dropout(x: Tensor, share: float, training: bool = True) -> Tensor:
    """Zeroes each number with probability `share`, to 1 in 65,536, and scales the others so that the mean stays.

    On a CPU PyTorch draws a random word for each number, which takes most of the time that its dropout takes. Here each
    word of 64 bits decides over four numbers.
    """
    if not share or not training:
        return x
    if not x.is_cpu or torch.compiler.is_compiling():
        return F.dropout(x, share)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    dropped = min(max(1, round(share * 2**16)), 2**16 - 1)
    kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))
