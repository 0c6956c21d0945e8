"""One optimizer for all parameters: Muon for the matrices of the blocks, AdamW for the rest."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from seqmodal.config import TrainingConfig

Schedule = Callable[[int], float]


class MuonAdamW(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on groups marked `kind="muon"`, AdamW (Loshchilov and Hutter 2019) on `kind="adamw"`.

    Muon replaces the momentum of a matrix by the nearest orthogonal matrix. Matrices of one shape are stacked and
    orthogonalised together, in `product_dtype`.

    Args:
        groups: each with `params`, `kind`, `lr` and `weight_decay`, as `parameter_groups` makes them.
        momentum: of Muon, Nesterov's.
        newton_schulz_steps: of the iteration that orthogonalises.
        product_dtype: of that iteration's products; bfloat16 where the machine has units for it.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        momentum: float = 0.95,
        newton_schulz_steps: int = 5,
        product_dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(
            groups, {"lr": 0.0, "weight_decay": 0.0, "momentum": momentum, "betas": (0.9, 0.95), "eps": 1e-10}
        )
        self.newton_schulz_steps, self.product_dtype = newton_schulz_steps, product_dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of all parameters that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            held = [p for p in group["params"] if p.grad is not None]
            if held:
                (self._muon if group["kind"] == "muon" else self._adamw)(group, held)
        return loss

    def _muon(self, group: dict[str, Any], params: list[Tensor]) -> None:
        shapes: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
        for p in params:
            shapes[tuple(p.shape)].append(p)
        for (rows, columns), same in shapes.items():
            grads = torch.stack([p.grad for p in same if p.grad is not None])
            buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in same]
            stacked = torch.stack(buffers).lerp_(grads, 1 - group["momentum"])
            for buffer, new in zip(buffers, stacked, strict=True):
                buffer.copy_(new)
            nesterov = grads.lerp_(stacked, group["momentum"])
            update = orthogonalize(nesterov.to(self.product_dtype), self.newton_schulz_steps)
            step = group["lr"] * max(1.0, rows / columns) ** 0.5
            for p, u in zip(same, update, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u.to(p.dtype), alpha=-step)

    def _adamw(self, group: dict[str, Any], params: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for p in params:
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] = state["step"].to(p.device)  # a loaded one lies on the CPU
        states = [self.state[p] for p in params]
        adamw(
            params,
            [p.grad for p in params if p.grad is not None],
            [s["exp_avg"] for s in states],
            [s["exp_avg_sq"] for s in states],
            [],
            [s["step"] for s in states],
            fused=True,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def orthogonalize(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of (N, R, C) matrices towards 1 by a quintic Newton-Schulz iteration."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


def parameter_groups(model: nn.Module, config: TrainingConfig) -> list[dict[str, Any]]:
    """The matrices inside blocks, by Muon or AdamW, and embeddings, head and vectors, by AdamW and without decay."""
    matrices = [p for name, p in model.named_parameters() if "blocks." in name and p.ndim == 2]
    rest = [p for name, p in model.named_parameters() if not ("blocks." in name and p.ndim == 2)]
    kind, lr = ("muon", config.matrix_lr) if config.optimizer == "muon" else ("adamw", config.embedding_lr)
    return [
        {"kind": kind, "params": matrices, "full_lr": lr, "lr": lr, "weight_decay": config.weight_decay},
        {"kind": "adamw", "params": rest, "full_lr": config.embedding_lr, "lr": config.embedding_lr},
    ]


def make_schedule(config: TrainingConfig) -> Schedule:
    """Share of the full learning rate at a step: up linearly, then as `config.schedule` says."""
    rise = max(1, round(config.steps * config.warmup))
    fall = max(1, round(config.steps * config.decay) if config.schedule == "wsd" else config.steps - rise)

    def rate(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        if config.schedule == "inverse_sqrt":
            return (rise / (step + 1)) ** 0.5
        left = min(1.0, max(0, config.steps - step) / fall)
        high = left if config.schedule == "wsd" else (1 - math.cos(math.pi * left)) / 2
        return config.final_lr + (1 - config.final_lr) * high

    return rate
