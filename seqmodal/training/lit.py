"""The Lightning side of a decoder: its loss, its optimizer, its data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seqmodal.config import TrainingConfig
from seqmodal.data.loader import Batch, Batches
from seqmodal.decoder import Decoder
from seqmodal.errors import SeqmodalError
from seqmodal.nn.mask import Mask
from seqmodal.training.optimizer import MuonAdamW, parameter_groups, warmup_stable_decay

BAD_STEPS = 3
"""So many steps in a row without a finite loss or gradient end the training."""


def as_tensors(batch: Batch) -> dict[str, Tensor]:
    """A loader's NumPy batch as tensors by name."""
    return {
        "ids": torch.from_numpy(batch.ids),
        "targets": torch.from_numpy(batch.targets),
        "weight": torch.from_numpy(batch.weight),
        "document": torch.from_numpy(batch.document),
    }


def next_token_loss(decoder: Decoder, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Weighted cross-entropy over the targets of a batch, in nats: the sum, and the sum of the weights.

    Logits are computed where a target counts and nowhere else.
    """
    output = decoder(batch["ids"], mask=Mask(document=batch["document"]))
    counts = batch["weight"] > 0
    weight = batch["weight"][counts]
    nats = F.cross_entropy(decoder.logits(output.hidden[counts]), batch["targets"][counts], reduction="none")
    total = (nats * weight).sum()
    return total if output.aux_loss is None else total + output.aux_loss * weight.sum(), weight.sum()


class LitDecoder(pl.LightningModule):
    """Trains a decoder on next-token loss. The learning rate is a pure function of the step."""

    def __init__(self, decoder: Decoder, config: TrainingConfig) -> None:
        super().__init__()
        self.decoder, self.config = decoder, config
        self.schedule = warmup_stable_decay(config.steps, config.warmup, config.decay, config.final_lr)
        self.bad_steps = 0
        self._validation: list[tuple[float, float]] = []

    def configure_optimizers(self) -> torch.optim.Optimizer:
        c = self.config
        groups = parameter_groups(self.decoder, c.matrix_lr, c.embedding_lr, c.weight_decay)
        return MuonAdamW(groups, product_dtype=getattr(torch, c.precision))

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        share = self.schedule(self.global_step)
        rates = (self.config.matrix_lr, self.config.embedding_lr)
        for group, rate in zip(self.trainer.optimizers[0].param_groups, rates, strict=True):
            group["lr"] = rate * share

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Loss in nats per target; None, which skips the step, when it is not finite."""
        total, weight = next_token_loss(self.decoder, batch)
        loss = total / weight
        if torch.isfinite(loss):
            return loss
        self._count_bad_step()
        return None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A gradient that is not finite never reaches the weights."""
        grads = [p.grad for p in self.decoder.parameters() if p.grad is not None]
        if not grads:
            return  # the step was skipped
        if bool(torch.isfinite(torch.stack(torch._foreach_norm(grads)).sum())):
            self.bad_steps = 0
            return
        for grad in grads:
            grad.zero_()
        self._count_bad_step()

    def _count_bad_step(self) -> None:
        self.bad_steps += 1
        if self.bad_steps >= BAD_STEPS:
            raise SeqmodalError(
                f"the loss or its gradient was not finite {BAD_STEPS} steps in a row, up to step {self.global_step}; "
                "the last good checkpoint is kept. Lower the learning rate, e.g. --training.matrix-lr 0.01"
            )

    def on_validation_epoch_start(self) -> None:
        self._validation.clear()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        total, weight = next_token_loss(self.decoder, batch)
        self._validation.append((float(total), float(weight)))

    def on_validation_epoch_end(self) -> None:
        total, weight = (sum(part) for part in zip(*self._validation, strict=True))
        self.log("valid_loss", total / weight, logger=False)


class _Stream(IterableDataset[dict[str, Tensor]]):
    """Batches from number `start` on, without end."""

    def __init__(self, batches: Batches, start: int) -> None:
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        number = self.start
        while True:
            yield as_tensors(self.batches.batch(number))
            number += 1


class SequenceDataModule(pl.LightningDataModule):
    """Training batches by number, so that a resumed run goes on exactly where it stopped; validation as a list."""

    def __init__(self, batches: Batches, validation: list[Batch]) -> None:
        super().__init__()
        self.batches, self.validation = batches, validation

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(_Stream(self.batches, self.trainer.global_step), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([as_tensors(batch) for batch in self.validation], batch_size=None)  # type: ignore[arg-type]
