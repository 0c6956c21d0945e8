"""`train`: from a recipe and some settings to a run folder."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table

from seqmodal.checkpoint import load_weights, save_model
from seqmodal.config import Causal, RecipeConfig
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.data.whole import WholeBatches, must_fit
from seqmodal.errors import ConfigError
from seqmodal.model import Model
from seqmodal.objective import counts, fit, must_go_together, with_marks
from seqmodal.tokenizers.tally import num_counters
from seqmodal.training.feed import (
    learned_whole,
    must_have_condition,
    targets_a_step,
    training_batches,
    validation_batches,
)
from seqmodal.training.folder import environment, link, locked, must_be_free
from seqmodal.training.hardware import cores, device, keep_freed_memory
from seqmodal.training.keep import DurableCheckpointIO, RandomState, StopOnSignal
from seqmodal.training.lit import LitDecoder, SequenceDataModule
from seqmodal.training.recipe import find_recipe, recipe_of_run, save_yaml
from seqmodal.training.record import Record, Samples, read_metrics
from seqmodal.training.scale import OVERHEAD, adapt, fix_steps
from seqmodal.training.start import asked, first_parts, write_start
from seqmodal.transfer import choose_anew, must_go_on

CHECKPOINTS = 20
"""Times that training is saved for resuming, or more: every 500 steps at least."""


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, and what `judge` found."""

    folder: Path
    metrics: dict[str, float]


def train(
    recipe: str | Path,
    *,
    out: str | Path | None = None,
    preset: str | None = None,
    config: str | Path | RecipeConfig | None = None,
    resume: bool = False,
    console: Console | None = None,
    **settings: Any,
) -> Run:
    """Train a model by a recipe and leave a run folder.

    Args:
        recipe: name of a recipe, a recipe file, or, with `resume`, a run folder.
        out: the run folder; `runs/<recipe>` when None.
        preset: name of a decoder shape.
        config: a YAML file of settings, such as another run's config.yaml, or a whole configuration.
        resume: go on with the run in `out` where it stopped.
        console: where to talk to the user; standard error when None.
        settings: fields of the recipe's `Config`, groups as dictionaries: `data="~/midi"`, `training={"minutes": 5}`.

    Raises:
        RunExists: when the folder holds a run and `resume` is False, or another process is writing it.
        ConfigError, BadInput: for settings or data that cannot be used.
    """
    console = console or Console(stderr=True)
    _quieten()
    if resume and (Path(recipe) / "config.yaml").is_file():
        folder = Path(recipe)
    else:
        folder = Path(out).expanduser() if out is not None else Path("runs") / Path(recipe).stem
    if resume:
        if settings or preset or config:
            raise ConfigError("--resume goes on with the settings of the run; leave the others out")
        module, chosen = recipe_of_run(folder)
        with locked(folder):
            prepared = _stored(folder, module)
            console.print(f"going on with {folder}")
            return _fit(folder, module, str(recipe), chosen, prepared, console)
    module = find_recipe(recipe)
    chosen, start = asked(module, preset, config, settings)
    must_be_free(folder)
    _use_threads(chosen)
    must_go_together(chosen.objective, chosen.model)
    if start is None:
        prepared = prepare(module, chosen)
    else:
        prepared = prepare(module, chosen, start.tokenizers, start.vocabulary)
        shape, whole = start.decoder.config, learned_whole(prepared, chosen)
        chosen = replace(chosen, model=choose_anew(chosen.model, shape, chosen.objective, whole))
    if chosen.model.tally is None:
        counters = num_counters(prepared.tokenizers) if counts(chosen.objective) else 0
        chosen = replace(chosen, model=replace(chosen.model, tally=counters))
    must_have_condition(prepared, chosen)
    window, stores = chosen.model.window, prepared.stores
    chosen = adapt(chosen, stores["train"], stores.get("valid"), learned_whole(prepared, chosen))
    chosen = replace(chosen, model=fit(chosen.objective, chosen.model, prepared.vocabulary, window))
    if start is not None:
        must_go_on(chosen.model, start.decoder.config)
    batches = training_batches(prepared, chosen)
    if isinstance(batches, WholeBatches) and "valid" in stores:
        must_fit(stores["valid"], chosen.objective, chosen.model.max_seq_len)
    chosen, seconds = fix_steps(chosen, batches)
    console.print(summary(prepared, chosen, batches.per_epoch, seconds))
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        must_be_free(folder)  # still: another process may have trained here meanwhile
        link(prepared.folder, folder / "data")
        shutil.copyfile(prepared.folder / "skipped.csv", folder / "skipped.csv")
        shutil.copyfile(str(module.__file__), folder / "recipe.py")
        save_yaml(folder / "config.yaml", str(recipe), chosen)
        (folder / "environment.json").write_text(json.dumps(environment(), indent=1), encoding="utf-8")
        if start is not None:
            write_start(folder, chosen, start, prepared)
        return _fit(folder, module, str(recipe), chosen, _stored(folder, module), console)


def summary(prepared: Prepared, config: RecipeConfig, steps_an_epoch: float, seconds_a_step: float) -> Table:
    """What will be trained on what, for people."""
    model, training = config.model, config.training
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in prepared.facts.items():
        table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
    for split, store in prepared.stores.items():
        table.add_row(f"{split}", f"{len(store):,} documents, {store.num_tokens:,} tokens")
    table.add_row(
        "decoder",
        f"{model.num_layers} layers, {model.d_model} wide, {model.num_heads} heads, "
        f"{model.num_parameters:,} parameters, {model.flops_per_token / 1e6:,.3g} MFLOPs a token",
    )
    if config.objective != Causal():
        table.add_row("objective", config.objective.kind)
    memory = f", and {model.memory} before them in memory" if model.memory else ""
    table.add_row("context", f"{model.max_seq_len} tokens, attention over {model.window or model.max_seq_len}{memory}")
    table.add_row(
        "steps",
        f"{training.steps:,} of {training.batch_size} × {model.max_seq_len} tokens: "
        f"{training.steps / steps_an_epoch:.1f} times over the data",
    )
    table.add_row("machine", f"{device()}, {torch.get_num_threads()} threads, {training.precision}")
    minutes = training.steps * seconds_a_step * OVERHEAD / 60
    table.add_row("time", f"about {minutes:.0f} minutes" if minutes >= 1 else "less than a minute")
    return table


def _fit(
    folder: Path,
    module: ModuleType,
    name: str,
    config: RecipeConfig,
    prepared: Prepared,
    console: Console,
) -> Run:
    """Train from the last checkpoint on; from the first step where none has been written yet."""
    _use_threads(config)
    keep_freed_memory()
    training = config.training
    decoder, inputs, outputs = first_parts(folder, config, prepared)
    vocabulary = with_marks(prepared.vocabulary, config.objective)
    model = Model(
        decoder, vocabulary, prepared.tokenizers, folder, config.objective.kind, inputs, training.condition_dropout
    )  # fmt: skip
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    batches = training_batches(prepared, config)
    record = Record(folder, targets_a_step(prepared, batches), console)
    stop = StopOnSignal(last)
    callbacks: list[pl.Callback] = [
        RandomState(),
        stop,
        record,
        Samples(lambda step: _show(module, model, config, folder, console, step), training.steps, training.samples),
        ModelCheckpoint(
            last.parent,
            "last",
            every_n_train_steps=min(500, max(1, training.steps // CHECKPOINTS)),
            save_on_exception=False,
            enable_version_counter=False,
        ),
    ]
    validation = validation_batches(prepared, config)
    if validation:
        callbacks.append(
            ModelCheckpoint(
                best.parent,
                "best",
                monitor="valid_loss",
                save_weights_only=True,
                enable_version_counter=False,
            )
        )
    trainer = pl.Trainer(
        default_root_dir=folder,
        max_steps=training.steps,
        max_epochs=-1,
        accelerator=device().type,
        devices=1,
        precision="bf16-mixed" if training.precision == "bfloat16" else "32-true",
        callbacks=callbacks,
        plugins=[DurableCheckpointIO()],
        logger=False,
        val_check_interval=-(-training.steps // training.evaluations) if validation else None,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=len(validation),
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    lit = LitDecoder(decoder, training, inputs, outputs)
    data = SequenceDataModule(batches, validation)
    trainer.fit(lit, data, ckpt_path=last if last.is_file() else None, weights_only=True)
    if stop.received:
        console.print(
            f"stopped at step {trainer.global_step} of {training.steps}; go on with: seqmodal train {folder} --resume"
        )
        raise SystemExit(128 + stop.received)
    trainer.save_checkpoint(last)
    return _finish(folder, module, name, config, prepared, model, record, best, console)


def _finish(
    folder: Path,
    module: ModuleType,
    name: str,
    config: RecipeConfig,
    prepared: Prepared,
    model: Model,
    record: Record,
    best: Path,
    console: Console,
) -> Run:
    """Take the best weights, write the model folder, judge it and show it."""
    for part in (model.decoder, model.inputs):
        if part is not None:
            part.to(device()).eval()  # Lightning has left it on the CPU
    losses = [(row["valid_loss"], row["step"]) for row in record.rows if "valid_loss" in row]
    saved = torch.load(best, map_location="cpu", weights_only=True) if losses and best.is_file() else None
    if saved is not None and saved["global_step"] == min(losses)[1] != losses[-1][1]:
        load_weights(
            model.decoder, model.inputs,
            {key.removeprefix("decoder."): value for key, value in saved["state_dict"].items()},
        )  # fmt: skip
        console.print(f"validation was best at step {saved['global_step']}: that model is kept")
    record.draw()
    card = {"recipe": name, "data": config.data or "built in", "objective": config.objective.kind, **prepared.facts}
    if config.training.condition_dropout:
        card["condition_dropout"] = config.training.condition_dropout
    parts = (model.decoder, model.vocabulary, prepared.tokenizers)
    save_model(folder / "model", *parts, card, model.inputs)  # judging may fail
    with console.status("judging"):
        metrics = module.judge(model, config, prepared.stores, folder)
    (folder / "judged.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")
    save_model(folder / "model", *parts, card | metrics, model.inputs)
    shown = _show(module, model, config, folder, console, config.training.steps)
    seconds = read_metrics(folder / "metrics.csv")[-1]["seconds"]
    table = Table(show_header=False, box=None, pad_edge=False)
    for key, value in metrics.items():
        table.add_row(key.replace("_", " "), f"{value:.3f}")
    console.print(f"trained {config.training.steps} steps in {seconds / 60:.1f} minutes", table, sep="\n")
    for path in [folder / "loss.png", *shown]:
        console.print(str(path), highlight=False)
    if config.objective.left_to_right:
        console.print(f"next: seqmodal {getattr(module, 'NEXT', 'generate')} {folder}", highlight=False)
    return Run(folder, metrics)


def _show(
    module: ModuleType, model: Model, config: RecipeConfig, folder: Path, console: Console, step: int
) -> list[Path]:
    """Write a sample. One that fails must not cost the training."""
    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    try:
        return list(module.show(model, config, samples, step))
    except Exception as error:  # whatever a recipe's own code does
        console.print(f"no sample at step {step}: {type(error).__name__}: {error}")
        return []


def _stored(folder: Path, module: ModuleType) -> Prepared:
    """The corpus that a run keeps; a recipe may bring tokenizers of its own in a table `TOKENIZERS`."""
    return Prepared.open(folder / "data", tokenizers=getattr(module, "TOKENIZERS", None))


def _use_threads(config: RecipeConfig) -> None:
    torch.set_num_threads(config.training.threads or cores())


def _quieten() -> None:
    """Leave out what Lightning advertises or warns of and we mean to do."""
    for name in ("utilities.rank_zero", "accelerators.cuda", "trainer.connectors.checkpoint_connector"):
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*exists and is not empty.*",
        ".*IterableDataset.*",
        ".*returned `None`.*",
    ):
        warnings.filterwarnings("ignore", message=message)
