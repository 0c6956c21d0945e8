"""`train`: from a recipe and some settings to a run folder."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from seqmodal import __version__
from seqmodal.checkpoint import load_weights, save_model, weights_of
from seqmodal.config import Causal, RecipeConfig, from_dict
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.data.loader import Batch, Batches, windows
from seqmodal.data.store import BlockShape
from seqmodal.data.stream import StreamBatches, segments
from seqmodal.data.whole import WholeBatches, must_fit
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError, RunExists
from seqmodal.model import Model, load
from seqmodal.objective import fit, must_go_together, with_marks
from seqmodal.tokenizers.protocol import Located
from seqmodal.tokenizers.tally import num_counters, tally_effects
from seqmodal.training.hardware import cores, device
from seqmodal.training.keep import DurableCheckpointIO, RandomState, StopOnSignal
from seqmodal.training.lit import LitDecoder, SequenceDataModule, TrainingBatches, inputs_and_outputs
from seqmodal.training.recipe import configure, find_recipe, recipe_of_run, save_yaml
from seqmodal.training.record import Record, Samples, read_metrics
from seqmodal.training.scale import OVERHEAD, adapt, fix_steps, validation_share
from seqmodal.transfer import carry_over, choose_anew, laid_over, must_go_on, shape_from

START = "start.safetensors"
"""Weights that a run began with, where they are not random: those of the model that it goes on from."""
CHECKPOINTS = 20
"""Times that training is saved for resuming, or more: every 500 steps at least."""
LOCK = ".lock"


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
        with _locked(folder):
            prepared = _stored(folder, module)
            console.print(f"going on with {folder}")
            return _fit(folder, module, str(recipe), chosen, prepared, console)
    module = find_recipe(recipe)
    chosen, start = _asked(module, preset, config, settings)
    _must_be_free(folder)
    _use_threads(chosen)
    must_go_together(chosen.objective, chosen.model)
    if start is None:
        prepared = prepare(module, chosen)
    else:
        prepared = prepare(module, chosen, start.tokenizers, start.vocabulary)
        shape, whole = start.decoder.config, _whole(prepared, chosen)
        chosen = replace(chosen, model=choose_anew(chosen.model, shape, chosen.objective, whole))
    if chosen.model.tally is None:
        counters = num_counters(prepared.tokenizers) if chosen.objective.left_to_right else 0
        chosen = replace(chosen, model=replace(chosen.model, tally=counters))
    _must_have_condition(prepared, chosen)
    window, stores = chosen.model.window, prepared.stores
    chosen = adapt(chosen, stores["train"], stores.get("valid"), _whole(prepared, chosen))
    chosen = replace(chosen, model=fit(chosen.objective, chosen.model, prepared.vocabulary, window))
    if start is not None:
        must_go_on(chosen.model, start.decoder.config)
    batches = _batches(prepared, chosen)
    if isinstance(batches, WholeBatches) and "valid" in stores:
        must_fit(stores["valid"], chosen.objective, chosen.model.max_seq_len)
    chosen, seconds = fix_steps(chosen, batches)
    console.print(summary(prepared, chosen, batches.per_epoch, seconds))
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        _must_be_free(folder)  # still: another process may have trained here meanwhile
        _link(prepared.folder, folder / "data")
        shutil.copyfile(prepared.folder / "skipped.csv", folder / "skipped.csv")
        shutil.copyfile(str(module.__file__), folder / "recipe.py")
        save_yaml(folder / "config.yaml", str(recipe), chosen)
        (folder / "environment.json").write_text(json.dumps(_environment(), indent=1), encoding="utf-8")
        if start is not None:
            _write_start(folder, chosen, start, prepared)
        return _fit(folder, module, str(recipe), chosen, _stored(folder, module), console)


def _asked(
    module: ModuleType, preset: str | None, config: str | Path | RecipeConfig | None, settings: dict[str, Any]
) -> tuple[RecipeConfig, Model | None]:
    """The configuration, and the model to go on from, whose shape settings are laid over."""
    if isinstance(config, RecipeConfig):
        chosen = from_dict(type(config), settings, base=config)
    else:
        chosen = configure(module, preset_name=preset, file=config, settings=settings)
    if chosen.init is None:
        return chosen, None
    start = load(chosen.init, tokenizers=getattr(module, "TOKENIZERS", None))
    shape = shape_from(start.decoder.config, start.tokenizers)
    if not isinstance(config, RecipeConfig):
        return configure(module, preset_name=preset, file=config, settings=settings, shape=shape), start
    return replace(chosen, model=laid_over(shape, chosen.model)), start


def _write_start(folder: Path, config: RecipeConfig, start: Model, prepared: Prepared) -> None:
    """The weights to begin with, so that the run can be resumed without the model that it goes on from."""
    torch.manual_seed(config.training.seed)
    decoder = Decoder(config.model)
    carry_over(start.decoder, start.vocabulary, decoder, with_marks(prepared.vocabulary, config.objective))
    known = {} if start.inputs is None else start.inputs.shapes
    inputs, _ = inputs_and_outputs(prepared.stores["train"], config, known)
    if inputs is not None and start.inputs is not None:
        inputs.load_state_dict(start.inputs.state_dict(), strict=False)  # what is new keeps its start
    weights = {name: tensor.contiguous() for name, tensor in weights_of(decoder, inputs).items()}
    shapes = {name: asdict(shape) for name, shape in known.items()}
    save_file(weights, folder / START, metadata={"shapes": json.dumps(shapes)})


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
        f"{model.num_parameters:,} parameters",
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
    table.add_row(
        "machine", f"{device()}, {torch.get_num_threads()} threads, {training.precision}"
    )
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
    training = config.training
    torch.manual_seed(training.seed)
    decoder, known = Decoder(config.model), dict[str, BlockShape]()
    if (folder / START).is_file():
        with safe_open(folder / START, "pt") as file:
            shapes = json.loads((file.metadata() or {}).get("shapes", "{}"))
        known = {name: BlockShape(**fields) for name, fields in shapes.items()}
    inputs, outputs = inputs_and_outputs(prepared.stores["train"], config, known)
    if (folder / START).is_file():
        load_weights(decoder, inputs, load_file(folder / START))
    if decoder.tally is not None:
        effects = tally_effects(prepared.vocabulary, prepared.tokenizers)
        decoder.tally.effects[: len(effects)] = torch.from_numpy(effects)
    vocabulary = with_marks(prepared.vocabulary, config.objective)
    model = Model(
        decoder, vocabulary, prepared.tokenizers, folder, config.objective.kind, inputs, training.condition_dropout
    )  # fmt: skip
    last, best = folder / "checkpoints" / "last.ckpt", folder / "checkpoints" / "best.ckpt"
    batches = _batches(prepared, config)
    record = Record(folder, _targets(prepared, batches), console)
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


def _whole(prepared: Prepared, config: RecipeConfig) -> bool:
    """Whether documents are learned whole: tasks, and what ends by itself, as pictures do. A memory reads on anyway."""
    used = prepared.stores["train"].used()
    located = all(isinstance(tokenizer, Located) for tokenizer in prepared.tokenizers if tokenizer.name in used)
    return not config.model.memory and (located or prepared.stores["train"].tasks)


def _targets(prepared: Prepared, batches: TrainingBatches) -> int:
    """Of a training step, on average."""
    return round(int((prepared.stores["train"].lengths - 1).sum()) / batches.per_epoch)


def _batches(prepared: Prepared, config: RecipeConfig) -> TrainingBatches:
    train, training, context = prepared.stores["train"], config.training, config.model.max_seq_len
    augment = {t.name: t.augment for t in prepared.tokenizers if training.augment and hasattr(t, "augment")}
    if config.model.memory:
        return StreamBatches(
            train, context=context, batch_size=training.batch_size, seed=training.seed, augment=augment
        )
    how: dict[str, Any] = {
        "context": context, "batch_size": training.batch_size, "seed": training.seed, "augment": augment,
        "objective": config.objective,
    }  # fmt: skip
    if _whole(prepared, config):
        return WholeBatches(train, condition_dropout=training.condition_dropout, **how)
    return Batches(train, **how)


def _must_have_condition(prepared: Prepared, config: RecipeConfig) -> None:
    """Raises ConfigError for condition dropout where nothing is given, or no null can stand in its place."""
    given = any(shape.given for shape in prepared.stores["train"].shapes().values())
    if not config.training.condition_dropout or (given and _whole(prepared, config) and prepared.vocabulary.null):
        return
    why = "nothing is given in these documents" if not given else "a memory or a vocabulary without a null cannot"
    raise ConfigError(f"condition_dropout {config.training.condition_dropout} means nothing here: {why}; set it to 0")


def validation_batches(prepared: Prepared, config: RecipeConfig) -> list[Batch]:
    """Validation batches, evenly taken, so that all evaluations together stay cheap; for a decoder with memory,
    documents in segments that follow one another."""
    store = prepared.stores.get("valid")
    if store is None or not config.training.evaluations:
        return []
    training, context = config.training, config.model.max_seq_len
    seen = training.steps * _targets(prepared, _batches(prepared, config))
    share = validation_share(seen, store.num_tokens, training.evaluations)
    if config.model.memory:
        return list(segments(store, context, training.batch_size, share))
    return list(windows(store, context, training.batch_size, share, config.objective))


def _stored(folder: Path, module: ModuleType) -> Prepared:
    """The corpus that a run keeps; a recipe may bring tokenizers of its own in a table `TOKENIZERS`."""
    return Prepared.open(folder / "data", tokenizers=getattr(module, "TOKENIZERS", None))


def _use_threads(config: RecipeConfig) -> None:
    torch.set_num_threads(config.training.threads or cores())


def _must_be_free(folder: Path) -> None:
    """Raises RunExists for a folder that holds anything but a lock."""
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {LOCK}):
        raise RunExists(
            f"{folder} exists already; give another --out, or go on with it by: seqmodal train {folder} --resume"
        )


def _link(source: Path, target: Path) -> None:
    """A copy of a folder that shares its bytes where the file system can."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a run folder.

    Raises:
        RunExists: when another process holds it.
    """
    if not folder.is_dir():
        raise BadInput(folder, "there is no such run")
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunExists(f"{folder} is being trained by another process") from error
        yield


def _environment() -> dict[str, str]:
    return {
        "seqmodal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "machine": platform.machine(),
        "device": str(device()),
    }


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
