"""What a person sees of training: one moving line, metrics.csv, a picture of the losses, samples now and then."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from seqmodal.show.curves import loss_curve

COLUMNS = ("step", "tokens", "seconds", "train_loss", "valid_loss", "learning_rate")
ROWS = 200
"""About so many rows of training loss are kept of a run."""


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The rows of metrics.csv; an empty cell is left out of its row."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


class Record(pl.Callback):
    """Writes metrics.csv and loss.png, and draws the progress line on standard error.

    Args:
        folder: the run's.
        tokens_per_step: targets of a step, for the count of tokens and the speed.
    """

    def __init__(self, folder: Path, tokens_per_step: int, console: Console) -> None:
        self.path, self.picture = folder / "metrics.csv", folder / "loss.png"
        self.tokens_per_step, self.console = tokens_per_step, console
        self.rows = read_metrics(self.path)  # of a run that goes on; it may have nothing left to do
        self._losses: list[float] = []
        self._before = 0.0
        self._started = 0.0
        self._progress: Progress | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rows = [row for row in self.rows if row["step"] <= trainer.global_step]
        self._before = self.rows[-1]["seconds"] if self.rows else 0.0
        self._started = time.monotonic()
        self._first_step = trainer.global_step
        self._write()
        if sys.stderr.isatty():
            self._progress = Progress(
                TextColumn("training"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total} steps"),
                TextColumn("{task.fields[said]}"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._progress.start()
            self._task = self._progress.add_task("", total=trainer.max_steps, completed=trainer.global_step, said="")

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *args: Any) -> None:
        step = trainer.global_step
        if outputs:  # empty where a step was skipped
            self._losses.append(float(outputs["loss"]))
        every = max(1, trainer.max_steps // ROWS)
        if step % every == 0 or step == trainer.max_steps:
            self._row(trainer, step)
        if self._progress is not None and self._losses:
            self._progress.update(self._task, completed=step, said=self._said(step))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.sanity_checking:
            return
        if not self.rows or self.rows[-1]["step"] != trainer.global_step:
            self._row(trainer, trainer.global_step)
        told = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("valid_loss")}
        self.rows[-1] |= told
        self._write()
        self.draw()
        if self._progress is None:
            row = self.rows[-1]
            self.console.print(
                f"step {trainer.global_step}/{trainer.max_steps}  {self._said(trainer.global_step)}  "
                f"valid {row['valid_loss']:.3f}  {row['seconds']:.0f} s",
                highlight=False,
            )

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._end_progress()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._end_progress()  # Lightning tears nothing down then

    def draw(self) -> None:
        """Draw loss.png from what was recorded."""
        loss_curve(self.rows, self.picture)

    def _end_progress(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _said(self, step: int) -> str:
        loss = self._losses[-1] if self._losses else self.rows[-1].get("train_loss", float("nan"))
        seconds = max(1e-9, time.monotonic() - self._started)
        speed = (step - self._first_step) * self.tokens_per_step / seconds
        return f"loss {loss:.3f}  {speed:,.0f} tokens/s"

    def _row(self, trainer: pl.Trainer, step: int) -> None:
        row = {
            "step": step,
            "tokens": step * self.tokens_per_step,
            "seconds": round(self._before + time.monotonic() - self._started, 3),
            "learning_rate": trainer.optimizers[0].param_groups[0]["lr"],
        }
        if self._losses:
            row["train_loss"] = sum(self._losses) / len(self._losses)
            self._losses.clear()
        self.rows.append(row)
        self._write()

    def _write(self) -> None:
        part = self.path.with_suffix(".part")
        with open(part, "w", newline="", encoding="utf-8") as file:
            more = {name: None for row in self.rows for name in row if name not in COLUMNS}  # a loss of each modality
            writer = csv.DictWriter(file, [*COLUMNS, *more])
            writer.writeheader()
            writer.writerows(self.rows)
        part.replace(self.path)


class Samples(pl.Callback):
    """Calls `show(step)` at evenly spread steps, the last of them not included: the finished model is shown later."""

    def __init__(self, show: Callable[[int], object], steps: int, times: int) -> None:
        self.show = show
        self.at = {round(steps * (k + 1) / (times + 1)) for k in range(times)} - {0, steps}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        if trainer.global_step in self.at:
            pl_module.eval()
            try:
                self.show(trainer.global_step)
            finally:
                pl_module.train()
