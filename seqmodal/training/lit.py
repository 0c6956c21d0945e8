"""The Lightning side of a decoder: its loss, its optimizer, its data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from seqmodal.config import RecipeConfig, TrainingConfig
from seqmodal.data.loader import Batch, Batches
from seqmodal.data.store import BlockShape, Store
from seqmodal.data.stream import StreamBatches
from seqmodal.data.whole import WholeBatches
from seqmodal.decoder import Decoder
from seqmodal.errors import SeqmodalError
from seqmodal.inputs import Inputs, added
from seqmodal.nn.mask import Mask
from seqmodal.nn.state import SegmentMemory
from seqmodal.objective import with_marks
from seqmodal.outputs import Outputs
from seqmodal.training.hardware import release_freed_memory
from seqmodal.training.optimizer import MuonAdamW, make_schedule, parameter_groups

TrainingBatches = Batches | WholeBatches | StreamBatches
BAD_STEPS = 3
"""So many steps in a row without a finite loss or gradient end the training."""

RELEASED = 50
"""Steps after which memory that lies free is given back."""


def inputs_and_outputs(
    store: Store, config: RecipeConfig, known: Mapping[str, BlockShape] | None = None
) -> tuple[Inputs | None, Outputs]:
    """What stands before and behind a decoder that learns from a store; with a memory nothing stands before it.

    Args:
        store: the training data.
        config: with all sizes.
        known: shapes that a model has which is gone on from.
    """
    vocabulary, shapes = with_marks(store.vocabulary, config.objective), store.shapes()
    for name, shape in (known or {}).items():
        shapes[name] = shape.joined(shapes[name])
    outputs = Outputs(vocabulary, config.objective)
    if config.model.memory:
        return None, outputs
    return Inputs.of(vocabulary, shapes, config.model.d_model), outputs


def as_tensors(batch: Batch) -> dict[str, Tensor]:
    """A loader's NumPy batch as tensors by name, those that it has."""
    arrays = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return {name: torch.from_numpy(array) for name, array in arrays.items() if array is not None}


@dataclass(frozen=True)
class Read:
    """What a decoder makes of the n targets of a batch that count.

    Attributes:
        nats: (n,), of each, with the smoothing that was asked for.
        targets, weight: (n,).
        aux_loss: what the stack asks for, for each target; None: nothing.
        memory: what the next batch goes on from, for a decoder that has one.
    """

    nats: Tensor
    targets: Tensor
    weight: Tensor
    aux_loss: Tensor | None
    memory: SegmentMemory | None


def read(
    decoder: Decoder, batch: Mapping[str, Tensor], memory: SegmentMemory | None = None, smoothing: float = 0.0,
    inputs: Inputs | None = None, outputs: Outputs | None = None,
) -> Read:  # fmt: skip
    """Read a batch. Logits are computed where a target counts and nowhere else.

    Args:
        decoder: what reads.
        batch: see `as_tensors`.
        memory: that it goes on from, of a decoder that has one.
        smoothing: the share of the weight of a target that goes to all ids alike that compete with it.
        inputs: what is added to the embeddings.
        outputs: which ids compete; None: all.
    """
    mask = Mask(*(batch.get(name) for name in ("document", "span", "order", "reveal")))
    output = decoder(batch["ids"], batch.get("positions"), mask=mask, extra=added(inputs, batch), state=memory)
    counts = batch["weight"] > 0
    hidden, targets = output.hidden[counts], batch["targets"][counts]
    nats = (outputs or Outputs.all()).nats(decoder, hidden, targets, smoothing)
    after = output.state if isinstance(output.state, SegmentMemory) else None
    return Read(nats, targets, batch["weight"][counts], output.aux_loss, after)


def loss_and_memory(
    decoder: Decoder, batch: Mapping[str, Tensor], memory: SegmentMemory | None = None, smoothing: float = 0.0,
    inputs: Inputs | None = None, outputs: Outputs | None = None,
) -> tuple[Tensor, Tensor, SegmentMemory | None]:  # fmt: skip
    """Weighted cross-entropy over the targets of a batch, in nats: the sum, the sum of the weights, and the memory that
    the next batch goes on from, for a decoder that has one.

    The arguments are those of `read`. While training, what the stack asks for (`aux_loss`) is added for each target.
    """
    found = read(decoder, batch, memory, smoothing, inputs, outputs)
    total, weight = (found.nats * found.weight).sum(), found.weight.sum()
    if found.aux_loss is not None and decoder.training:
        total = total + found.aux_loss * weight
    return total, weight, found.memory


class LitDecoder(pl.LightningModule):
    """Trains a decoder on next-token loss. The learning rate is a pure function of the step.

    The memory of a decoder that has one is carried from step to step and kept in checkpoints; validation has its own.
    `inputs` are trained with the decoder; `outputs` say which ids compete, and of which modalities losses are told.
    """

    def __init__(
        self, decoder: Decoder, config: TrainingConfig, inputs: Inputs | None = None, outputs: Outputs | None = None
    ) -> None:
        super().__init__()
        self.decoder, self.inputs, self.config = decoder, inputs, config
        self.outputs = outputs or Outputs.all()
        self.schedule = make_schedule(config)
        self.bad_steps = 0
        self.memory: SegmentMemory | None = None
        self._validation: list[Tensor] = []
        self._validation_memory: SegmentMemory | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return MuonAdamW(
            parameter_groups(self, self.config), product_dtype=getattr(torch, self.config.precision)
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self.global_step % RELEASED == 0:
            release_freed_memory()
        share = self.schedule(self.global_step)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["full_lr"] * share

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor | None:
        """Loss in nats per target; None, which skips the step, when it is not finite."""
        total, weight, self.memory = self._loss(batch, self.memory, self.config.label_smoothing)
        loss = total / torch.where(weight > 0, weight, 1)  # a segment may be all source, and have no target
        if torch.isfinite(loss):
            return loss
        self.memory = None  # it holds what was not finite
        self._count_bad_step()
        return None

    def _loss(
        self, batch: dict[str, Tensor], memory: SegmentMemory | None, smoothing: float = 0.0
    ) -> tuple[Tensor, Tensor, SegmentMemory | None]:
        memory = self.decoder.memory_for(len(batch["ids"]), memory)
        return loss_and_memory(self.decoder, batch, memory, smoothing, self.inputs, self.outputs)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.memory is not None:
            checkpoint["memory"] = vars(self.memory.map(torch.clone))  # its tensors are views of what is longer

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if (held := checkpoint.get("memory")) is not None:
            self.memory = SegmentMemory(**held)

    def on_train_start(self) -> None:
        if self.memory is not None:  # a checkpoint's, on the CPU
            self.memory = self.memory.map(lambda tensor: tensor.to(self.device))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """A gradient that is not finite never reaches the weights."""
        grads = [p.grad for p in self.parameters() if p.grad is not None]
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
                "the last good checkpoint is kept. Lower the learning rate, "
                + ("--training.matrix-lr" if self.config.optimizer == "muon" else "--training.embedding-lr")
            )

    def on_validation_epoch_start(self) -> None:
        self._validation.clear()
        self._validation_memory = None

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        memory = self.decoder.memory_for(len(batch["ids"]), self._validation_memory)
        found = read(self.decoder, batch, memory, inputs=self.inputs, outputs=self.outputs)
        self._validation_memory = found.memory
        rows = torch.stack([found.nats * found.weight, found.weight]).double()
        parts = [self.outputs.sums(found.targets, row) for row in rows]
        self._validation.append(torch.cat([rows.sum(dim=1, keepdim=True), torch.stack(parts)], dim=1).cpu())

    def on_validation_epoch_end(self) -> None:
        """Logs the loss of all targets, and of those inside each modality where there are several."""
        totals, weights = torch.stack(self._validation).sum(dim=0)  # of all, then of each modality
        self.log("valid_loss", totals[0] / weights[0], logger=False)
        if len(self.outputs.names) > 1:
            for name, total, weight in zip(self.outputs.names, totals[1:], weights[1:], strict=True):
                if weight > 0:
                    self.log(f"valid_loss_{name}", total / weight, logger=False)


class _Stream(IterableDataset[dict[str, Tensor]]):
    """Batches from number `start` on, without end."""

    def __init__(self, batches: TrainingBatches, start: int) -> None:
        self.batches, self.start = batches, start

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        number = self.start
        while True:
            yield as_tensors(self.batches.batch(number))
            number += 1


class SequenceDataModule(pl.LightningDataModule):
    """Training batches by number, so that a resumed run goes on exactly where it stopped; validation as a list."""

    def __init__(self, batches: TrainingBatches, validation: list[Batch]) -> None:
        super().__init__()
        self.batches, self.validation = batches, validation

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return DataLoader(_Stream(self.batches, self.trainer.global_step), batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([as_tensors(batch) for batch in self.validation], batch_size=None)  # type: ignore[arg-type]
