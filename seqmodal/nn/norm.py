"""Normalisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from seqmodal.config import DecoderConfig


def rms_norm(x: Tensor) -> Tensor:
    """Root-mean-square normalisation over the last axis, without a gain (Zhang and Sennrich 2019)."""
    if x.requires_grad and torch.is_grad_enabled() and x.is_cpu and not torch.compiler.is_compiling():
        return _RMSNorm.apply(x)
    return torch.nn.functional.rms_norm(x, (x.shape[-1],))


class _RMSNorm(torch.autograd.Function):
    """The same for training on a CPU, where PyTorch's is made of many passes over the numbers, forward and back, and
    takes twice to three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        square = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1])
        scale = square.add_(torch.finfo(wide.dtype).eps).rsqrt_()
        y = wide * scale
        ctx.save_for_backward(y, scale)
        return y.to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y, scale = ctx.saved_tensors
        wide = grad.to(y.dtype)
        share = torch.linalg.vecdot(wide, y).unsqueeze(-1).div_(-y.shape[-1])
        return torch.addcmul(wide, y, share).mul_(scale).to(grad.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` as a module; it has no weights."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, D) to (…, D)."""
        return rms_norm(x)


def make_norm(config: DecoderConfig) -> nn.Module:
    """The norm of that configuration, over d_model."""
    return RMSNorm() if config.norm == "rmsnorm" else nn.LayerNorm(config.d_model, bias=config.bias)
