"""How blocks follow one another: each with weights of its own, or one block again and again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqmodal.config import DecoderConfig, Universal
from seqmodal.nn.attention import Layout
from seqmodal.nn.block import Block


class PlainStack(nn.Module):
    """Blocks with weights of their own.

    A stack takes (B, T, D), with additions to the values by application, and gives (B, T, D), a loss, and how often a
    block was applied at each position (B, T); the last two are None where there is nothing to say.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))

    def forward(self, x: Tensor, layout: Layout, values: Mapping[int, Tensor]) -> tuple[Tensor, None, None]:
        """As the class says."""
        for layer, block in enumerate(self.blocks):
            x = block(x, layout, layer, values.get(layer))
        return x, None, None


class UniversalStack(nn.Module):
    """One block applied again and again (Dehghani et al. 2019). It learns a vector for each time but the first.

    With halting (ACT, Graves 2016), a position whose halting probabilities have added up to the threshold keeps its
    state; what comes out is the mean of its states, weighted by these probabilities, the last by what is left of 1. The
    loss is the mean over positions of the number of applications and that remainder.
    """

    def __init__(self, config: DecoderConfig, kind: Universal) -> None:
        super().__init__()
        self.times, self.kind = config.num_layers, kind
        self.blocks = nn.ModuleList([Block(config)])
        self.time_embedding = nn.Parameter(torch.zeros(config.num_layers - 1, config.d_model))
        self.halt = nn.Linear(config.d_model, 1) if kind.halting else None

    def forward(
        self, x: Tensor, layout: Layout, values: Mapping[int, Tensor]
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See `PlainStack`."""
        block = self.blocks[0]
        if self.halt is None:
            for time in range(self.times):
                x = block(self._at(x, time), layout, time, values.get(time))
            return x, None, None
        mean = torch.zeros_like(x)
        total = x.new_zeros(x.shape[:2])  # of the halting probabilities
        steps, remainder = torch.zeros_like(total), torch.zeros_like(total)
        running = torch.ones_like(total, dtype=torch.bool)
        for time in range(self.times):
            new = block(self._at(x, time), layout, time, values.get(time))
            share = torch.sigmoid(self.halt(new)).squeeze(-1).to(total.dtype)
            stops = running & ((total + share > self.kind.threshold) if time < self.times - 1 else running)
            rest = 1 - total
            weight = torch.where(stops, rest, share) * running
            remainder = torch.where(stops, rest, remainder)
            steps = steps + running.to(steps.dtype)
            total = total + weight
            mean = mean + weight.unsqueeze(-1) * new
            x = torch.where(running.unsqueeze(-1), new, x)
            running = running & ~stops
        return mean, self.kind.ponder_cost * (steps + remainder).mean(), steps.detach()

    def _at(self, x: Tensor, time: int) -> Tensor:
        return x + self.time_embedding[time - 1] if time else x


def make_stack(config: DecoderConfig) -> PlainStack | UniversalStack:
    """The stack of that configuration."""
    return UniversalStack(config, config.stack) if isinstance(config.stack, Universal) else PlainStack(config)
