"""Sizes that fit the corpus, the machine and the time: what a setting of 0 becomes."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from seqmodal.config import Objective, RecipeConfig, Rotary
from seqmodal.data.store import Store
from seqmodal.decoder import Decoder
from seqmodal.nn.state import SegmentMemory
from seqmodal.objective import needed
from seqmodal.training.hardware import device, nominal_speed, product_format
from seqmodal.training.lit import LitDecoder, TrainingBatches, as_tensors, inputs_and_outputs, loss_and_memory

DEFAULT_MINUTES = 10.0
EPOCHS = 20
"""Without a wish for time, nothing is read more often than this."""
TOKENS_PER_PARAMETER = 2.7
"""Of its matrices. Large models are trained best on about 20; here, where a corpus is read a few times in minutes, a
192-wide decoder beat a 256-wide one by 0.2 nats in the same time, at this ratio and not at half of it."""
SHAPES = (
    (64, 3, 1), (96, 4, 1), (128, 4, 2), (128, 6, 2), (192, 6, 2), (256, 8, 2), (384, 8, 3), (512, 10, 4),
    (768, 12, 6), (1024, 24, 8),
)  # fmt: skip
"""Width, layers, heads of the decoders to choose from, smallest first."""
PARAMETERS_PER_TOKEN = 10
"""Of the corpus, at most; augmentation makes many of each."""
OVERHEAD = 1.08
"""What validation, samples and checkpoints add to the time of the steps."""
BATCH_TOKENS = {"cpu": 4096, "cuda": 65536}
"""Most targets of a step; a short run takes fewer, to have some `STEPS`."""
STEPS = 1500


def adapt(config: RecipeConfig, train: Store, valid: Store | None = None, whole: bool = False) -> RecipeConfig:
    """Fill in all sizes but the number of steps.

    The context covers most documents, up to 1,024 positions; a quarter of it is the attention window where positions
    are rotary, there is no memory and the objective is causal, so that generation may go on past it; else all of it.
    Where documents are learned `whole`, the context is that of the longest, `valid` included, and so is the window.
    The decoder is the largest that the time allows to see `TOKENS_PER_PARAMETER`, at 6 operations a parameter and
    token, and that has no more than ten parameters for a token of the corpus.
    """
    model, training = config.model, config.training
    context = model.max_seq_len or (_longest(config.objective, train, valid) if whole else _context(train))
    streams = isinstance(model.position, Rotary) and not model.memory and not whole
    window = model.window or (context // 4 if streams else 0)
    operations = (training.minutes or DEFAULT_MINUTES) * 60 * nominal_speed()
    if not (model.d_model and model.num_layers and model.num_heads):
        most = min((operations / 6 / TOKENS_PER_PARAMETER) ** 0.5, PARAMETERS_PER_TOKEN * train.num_tokens)
        fitting = [shape for shape in SHAPES if _parameters(shape) <= most] or [SHAPES[0]]
        width, layers, heads = fitting[-1]
        width, layers = model.d_model or width, model.num_layers or layers
        model = replace(model, d_model=width, num_layers=layers, num_heads=model.num_heads or _heads(width, heads))
    model = replace(model, vocab_size=train.vocabulary.size, max_seq_len=context, window=window)
    targets = operations / 6 / _parameters((model.d_model, model.num_layers, 0)) / STEPS
    targets = min(BATCH_TOKENS[device().type], 2 ** int(np.log2(max(1024, targets))))
    batch = training.batch_size or max(1, targets // context)
    precision = training.precision if training.precision != "auto" else product_format()
    return replace(config, model=model, training=replace(training, batch_size=batch, precision=precision))


def fix_steps(config: RecipeConfig, batches: TrainingBatches) -> tuple[RecipeConfig, float]:
    """Measure a few steps, and turn the minutes into their number; without minutes, a given number stays.

    Returns:
        the configuration with `steps` and no minutes, and the seconds that a step takes.
    """
    training = config.training
    seconds = _seconds_of_a_step(config, batches)
    steps = training.steps
    if training.minutes or not steps:
        minutes = training.minutes or DEFAULT_MINUTES
        steps = max(1, int(minutes * 60 / (seconds * OVERHEAD)))
        if not training.minutes:
            steps = min(steps, max(300, round(EPOCHS * batches.per_epoch)))
        steps = -(-steps // max(1, training.evaluations)) * max(1, training.evaluations)  # the last step is evaluated
    return replace(config, training=replace(training, steps=steps, minutes=0.0)), seconds


def validation_share(train_tokens: int, valid_tokens: int, evaluations: int) -> float:
    """Share of the validation data to read at an evaluation, so that all of them take about a twentieth of the time."""
    return min(1.0, 0.15 * train_tokens / max(1, valid_tokens * evaluations))


def _context(train: Store) -> int:
    """The power of two that holds nine of ten documents, between 64 and 1,024."""
    long = float(np.quantile(train.lengths, 0.9))
    return int(min(1024, max(64, 2 ** np.ceil(np.log2(long)))))


def _longest(objective: Objective, *stores: Store | None) -> int:
    """Positions that the longest document takes."""
    return needed(objective, max(int(store.lengths.max()) for store in stores if store is not None) - 1)


def _parameters(shape: tuple[int, int, int]) -> int:
    width, layers, _ = shape
    return 12 * layers * width**2


def _heads(width: int, heads: int) -> int:
    """`heads`, or the nearest number below that divides the width into even parts."""
    return next(h for h in range(heads, 0, -1) if width % (2 * h) == 0)


def _seconds_of_a_step(config: RecipeConfig, batches: TrainingBatches) -> float:
    """Median of a few steps of a throw-away model on the first batches."""
    where = device()
    decoder, training = Decoder(config.model), replace(config.training, steps=100)
    lit = LitDecoder(decoder, training, *inputs_and_outputs(batches.store, config)).to(where)
    optimizer, times = lit.configure_optimizers(), []
    memory: SegmentMemory | None = None
    for number in range(7):
        start = time.perf_counter()
        batch = {name: tensor.to(where) for name, tensor in as_tensors(batches.batch(number)).items()}
        with torch.autocast(where.type, torch.bfloat16, enabled=config.training.precision == "bfloat16"):
            memory = lit.decoder.memory_for(len(batch["ids"]), memory)
            total, weight, memory = loss_and_memory(lit.decoder, batch, memory, 0.0, lit.inputs, lit.outputs)
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times[2:]))
