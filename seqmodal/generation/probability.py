"""From logits to the probabilities that are sampled from. Everything that samples goes through here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmodal.errors import ConfigError, SeqmodalError


@dataclass(frozen=True)
class Sampler:
    """How to choose from what the model says. The defaults leave its distribution as it is.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest id always.
        top_k: keep the k likeliest ids; None: all.
        top_p: keep the smallest set of the likeliest ids that holds this share (nucleus, Holtzman et al. 2020).
        min_p: keep ids at least this likely, as a share of the likeliest (Nguyen et al. 2024).

    Raises:
        ConfigError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1, or None for all ids")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it is a share of the probability, above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p is {self.min_p}; it is a share of the likeliest id's probability, 0 to 1")


def probabilities(logits: Tensor, sampler: Sampler, allowed: Tensor | None = None) -> Tensor:
    """The distribution to sample from.

    In this order: what is not allowed goes first, so that every later step counts only what can be chosen; temperature;
    top_k; top_p of what top_k leaves; min_p, which depends only on the ratio to the likeliest. Ties are broken towards
    the smaller id.

    Args:
        logits: (…, V).
        sampler: how to choose.
        allowed: (…, V) bool, the ids that may be chosen; None: all.

    Returns:
        (…, V) float32, rows that sum to 1.

    Raises:
        SeqmodalError: where nothing is allowed, or the model gave no number.
    """
    logits = logits.float()
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    top, best = logits.max(dim=-1, keepdim=True)
    if not math.isfinite(top.double().sum().item()):
        if (top == -math.inf).any():
            raise SeqmodalError("nothing is allowed as the next id: the constraint has no way on")
        raise SeqmodalError("the model gives no finite logits to sample from; its weights or its input are broken")
    if sampler.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    p = ((logits - top) / sampler.temperature).softmax(dim=-1)
    if sampler.top_k is not None or sampler.top_p is not None:
        ranked, order = p.sort(dim=-1, descending=True, stable=True)
        if sampler.top_k is not None:
            ranked[..., sampler.top_k :] = 0
        if sampler.top_p is not None and sampler.top_p < 1:
            share = ranked / ranked.sum(dim=-1, keepdim=True)
            before = (share.cumsum(dim=-1) - share).clamp(min=0)  # an id stays while those before it hold too little
            ranked = ranked.masked_fill(before >= sampler.top_p, 0)
        p = torch.zeros_like(p).scatter(-1, order, ranked)
    if sampler.min_p is not None:
        p = p.masked_fill(p < sampler.min_p * p.amax(dim=-1, keepdim=True), 0)
    return p / p.sum(dim=-1, keepdim=True)


def draw(p: Tensor, uniform: Tensor) -> Tensor:
    """The id at which the distribution function passes a number: (…, V) and (…,) float32 in [0, 1) to (…,) int64.

    An id of probability 0 never comes.
    """
    cdf = p.double().cumsum(dim=-1)
    return torch.searchsorted(cdf, (uniform.double() * cdf[..., -1]).unsqueeze(-1), right=True).squeeze(-1)
