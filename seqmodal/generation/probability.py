"""From logits to the probabilities that are sampled from. Everything that samples goes through here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from seqmodal.errors import ConfigError, SeqmodalError

CANDIDATES = 1024
"""Ids that top_p looks at before it sorts all of them: they nearly always hold enough."""


@dataclass(frozen=True)
class Sampler:
    """How to choose from what the model says. The defaults leave its distribution as it is.

    Attributes:
        temperature: divides the logits; 0 takes the likeliest id always.
        top_k: keep the k likeliest ids; None: all.
        top_p: keep the smallest set of the likeliest ids that holds this share (nucleus, Holtzman et al. 2020).
        min_p: keep ids at least this likely, as a share of the likeliest (Nguyen et al. 2024).
        typical: keep the smallest set that holds this share of those ids whose surprise is nearest to the entropy
            (locally typical sampling, Meister et al. 2022).
        repetition_penalty: logits of ids that the row has already are divided by this where positive and multiplied
            where negative (Keskar et al. 2019, CTRL, with the sign minded); 1: off.

    Raises:
        ConfigError: for a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical: float | None = None
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature is {self.temperature}; it must be 0 (the likeliest) or a positive number")
        if self.top_k is not None and self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k}; it must be at least 1, or None for all ids")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it is a share of the probability, above 0 and at most 1")
        if self.min_p is not None and not 0 <= self.min_p <= 1:
            raise ConfigError(f"min_p is {self.min_p}; it is a share of the likeliest id's probability, 0 to 1")
        if self.typical is not None and not 0 < self.typical <= 1:
            raise ConfigError(f"typical is {self.typical}; it is a share of the probability, above 0 and at most 1")
        if not 0 < self.repetition_penalty < math.inf:
            raise ConfigError(f"repetition_penalty is {self.repetition_penalty}; it must be positive, 1 for none")

    @property
    def remembers(self) -> bool:
        """Whether the ids that a row has already count."""
        return self.repetition_penalty != 1


def probabilities(
    logits: Tensor, sampler: Sampler, allowed: Tensor | None = None, history: Tensor | None = None
) -> Tensor:
    """The distribution to sample from.

    In this order: what is not allowed goes first, so that every later step counts only what can be chosen; the penalty
    of repetition; temperature; top_k; top_p of what top_k leaves; min_p, which depends only on the ratio to the
    likeliest; typical of what these leave. Ties are broken towards the smaller id.

    Args:
        logits: (…, V).
        sampler: how to choose.
        allowed: (…, V) bool, the ids that may be chosen; None: all.
        history: (…, V) bool, the ids that the row has already; needed for a penalty of repetition, else not read.

    Returns:
        (…, V) float32, rows that sum to 1.

    Raises:
        SeqmodalError: where nothing is allowed, or the model gave no number.
        ConfigError: for a penalty of repetition without a history.
    """
    logits, top, best = _ready(logits, sampler, allowed, history)
    if sampler.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, best, 1.0)
    p = (logits if sampler.temperature == 1 else (logits - top) / sampler.temperature).softmax(dim=-1)
    whole = p
    if sampler.top_k is not None or sampler.top_p is not None:
        p = _likeliest(p, sampler.top_k, sampler.top_p)
    if sampler.min_p is not None:
        p = p.masked_fill(p < sampler.min_p * p.amax(dim=-1, keepdim=True), 0)
    if sampler.typical is not None:
        p = _typical(p / p.sum(dim=-1, keepdim=True), sampler.typical)
    return p if p is whole else p / p.sum(dim=-1, keepdim=True)


def choose(
    logits: Tensor, sampler: Sampler, generators: Sequence[torch.Generator], allowed: Tensor | None = None,
    history: Tensor | None = None,
) -> Tensor:
    """An id for each row: (B, V) logits to (B,) int64, drawn from `probabilities` with one generator a row.

    At temperature 0 it is the maximum itself, and no random number is taken.
    """
    if sampler.temperature == 0:
        return _ready(logits, sampler, allowed, history)[2].squeeze(-1)
    uniform = torch.cat([torch.rand(1, generator=generator) for generator in generators])
    return draw(probabilities(logits, sampler, allowed, history), uniform.to(logits.device))


def draw(p: Tensor, uniform: Tensor) -> Tensor:
    """The id at which the distribution function passes a number: (…, V) and (…,) in [0, 1) to (…,) int64.

    The rows of p need not sum to 1. An id of probability 0 never comes.
    """
    cdf = p.double().cumsum(dim=-1)
    return torch.searchsorted(cdf, (uniform.double() * cdf[..., -1]).unsqueeze(-1), right=True).squeeze(-1)


def _ready(
    logits: Tensor, sampler: Sampler, allowed: Tensor | None, history: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits (…, V) of what is allowed, repetition penalised; their maximum and its id, (…, 1) each."""
    logits = logits.float()
    if allowed is not None:
        logits = logits.masked_fill(~allowed, -math.inf)
    if sampler.remembers:
        if history is None:
            raise ConfigError("a repetition_penalty needs the history of ids that each row has already")
        penalty = sampler.repetition_penalty
        logits = torch.where(history, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    top, best = logits.max(dim=-1, keepdim=True)
    if not math.isfinite(top.sum().item()) and not bool(top.isfinite().all()):  # a sum of finite numbers may overflow
        if (top == -math.inf).any():
            raise SeqmodalError("nothing is allowed as the next id: the constraint has no way on")
        raise SeqmodalError("the model gives no finite logits to sample from; its weights or its input are broken")
    return logits, top, best


def _likeliest(p: Tensor, top_k: int | None, top_p: float | None) -> Tensor:
    """p (…, V) with 0 for what top_k and top_p leave out."""
    size = p.shape[-1]
    top_p = 1.0 if top_p is None else top_p
    if top_k is None and top_p == 1:
        return p
    if size <= CANDIDATES:
        ranked, order = p.sort(dim=-1, descending=True, stable=True)
        ranked, order = ranked[..., :top_k], order[..., :top_k]
        kept = _nucleus(ranked, top_p, ranked.sum(dim=-1, keepdim=True)) if top_p < 1 else ranked
        return torch.zeros_like(p).scatter(-1, order, kept)
    ranked = p.topk(min(top_k or CANDIDATES, size)).values
    kept = ranked
    if top_p < 1:
        whole = (p if top_k is None else ranked).sum(dim=-1, keepdim=True)
        if top_k is None and bool((ranked.sum(dim=-1, keepdim=True) <= top_p * whole).any()):
            ranked = p.sort(dim=-1, descending=True).values
        kept = _nucleus(ranked, top_p, whole)
    count = (kept > 0).sum(dim=-1, keepdim=True)
    last = ranked.gather(-1, count - 1)
    above, tied = p > last, p == last
    return p.masked_fill(~(above | (tied & (tied.cumsum(-1) <= count - above.sum(-1, keepdim=True)))), 0)


def _nucleus(ranked: Tensor, share: float, whole: Tensor) -> Tensor:
    """Probabilities (…, n) from the greatest down, 0 from where those before hold a share of the whole."""
    before = ranked.cumsum(dim=-1)[..., :-1]
    return torch.cat((ranked[..., :1], ranked[..., 1:].masked_fill(before >= share * whole, 0)), dim=-1)


def _typical(p: Tensor, share: float) -> Tensor:
    """p (…, V), rows that sum to 1, with 0 for the least typical ids."""
    odd = (-p.log() - torch.special.entr(p).sum(dim=-1, keepdim=True)).abs()
    order = odd.argsort(dim=-1, stable=True)
    before = p.gather(-1, order).cumsum(dim=-1)[..., :-1]
    kept = torch.cat((torch.ones_like(order[..., :1], dtype=torch.bool), before < share), dim=-1)
    return p.masked_fill(~torch.zeros_like(kept).scatter(-1, order, kept), 0)
