"""What survives a crash: durable checkpoints, the state of the random generators, stopping on a signal."""

from __future__ import annotations

import os
import pickle
import random
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from seqmodal.errors import BadInput, SeqmodalError


class DurableCheckpointIO(TorchCheckpointIO):
    """A reader finds the whole old checkpoint or the whole new one, whatever kills the writer: the new one is written
    beside it, flushed to disk, and renamed over it."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            SeqmodalError: when the disk is full; the old checkpoint stands.
        """
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        try:
            with open(part, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except (OSError, RuntimeError) as error:  # torch.save words a full disk as a RuntimeError
            raise SeqmodalError(f"cannot write {path}: {error}; the checkpoint before it is kept") from error
        finally:
            part.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint, never running code from it.

        Raises:
            BadInput: when it is damaged.
        """
        try:
            return torch.load(path, map_location=map_location or "cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise BadInput(path, f"cannot be read: {error}", "train anew with another --out") from error


class RandomState(pl.Callback):
    """Keeps the random generators in the checkpoint, so that dropout goes on as if nothing had happened."""

    def __init__(self) -> None:
        self.restored: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        version, keys, at, gauss, cached = np.random.get_state()
        python = random.getstate()
        return {
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "numpy": [version, torch.from_numpy(np.asarray(keys).astype(np.int64)), at, gauss, cached],
            "python": [python[0], list(python[1]), python[2]],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restored = state_dict

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.restored is None:
            return
        torch.set_rng_state(self.restored["torch"])
        if self.restored["cuda"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(self.restored["cuda"])
        version, keys, at, gauss, cached = self.restored["numpy"]
        np.random.set_state((version, keys.numpy().astype(np.uint32), at, gauss, cached))
        version, state, gauss = self.restored["python"]
        random.setstate((version, tuple(state), gauss))


class StopOnSignal(pl.Callback):
    """The first SIGINT or SIGTERM ends training after the step at hand, with a checkpoint; a second, at once."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint, self.received = checkpoint, 0
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not earlier: Lightning sets a handler of its own just before, which saves nothing and exits with 0.
        if threading.current_thread() is not threading.main_thread():
            return  # signals reach the main thread only
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._receive)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()  # Lightning tears nothing down then

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        signal.signal(number, self._before[number])

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        if self.received and not trainer.should_stop:
            trainer.save_checkpoint(self.checkpoint)
            trainer.should_stop = True
