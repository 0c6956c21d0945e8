"""nanoGPT's published CPU setting on the characters of tiny Shakespeare, beside GPT-2 of Hugging Face.

4 layers, 4 heads, 128 wide, context 64, batches of 12, 2,000 steps. The peer is trained as nanoGPT's config for a CPU
says: AdamW at 1e-3 with betas 0.9 and 0.99, decay 0.1 of the matrices, 100 steps of warm-up, cosine to 1e-4, clipping
at 1. Both are judged on the whole last tenth of the text, in segments of 64 characters that do not overlap, every 100
steps; the time spent on judging is not counted.

    .venv-bench/bin/python benchmarks/shakespeare.py --data ../shared/data/tinyshakespeare/input.txt
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmodal.config import DecoderConfig, TrainingConfig, from_dict
from seqmodal.decoder import Decoder
from seqmodal.training.optimizer import MuonAdamW, make_schedule, parameter_groups

CONTEXT, BATCH, STEPS, EVERY = 64, 12, 2000, 100
GOAL = 1.89
MODEL = DecoderConfig(
    vocab_size=65, d_model=128, num_layers=4, num_heads=4, max_seq_len=CONTEXT, window=CONTEXT
)  # fmt: skip
TRAINING = TrainingConfig(steps=STEPS)
Curve = list[tuple[int, float, float]]  # step, seconds, validation nats per character


def characters(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The ids of the first nine tenths of the text, and of the rest."""
    text = path.read_text(encoding="utf-8")
    table = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = np.array([table[c] for c in text], np.int64)
    cut = int(0.9 * len(ids))
    return ids[:cut], ids[cut:]


def shuffled(ids: np.ndarray, number: int, seed: int) -> np.ndarray:
    """Batch `number`, (B, T + 1): the text in segments, each once an epoch, from a new place in every epoch."""
    per_epoch = (len(ids) - CONTEXT - 1) // (CONTEXT * BATCH)
    epoch, at = divmod(number, per_epoch)
    rng = np.random.default_rng([seed, epoch])
    first, order = int(rng.integers(CONTEXT)), rng.permutation(per_epoch * BATCH)
    starts = first + order[at * BATCH : (at + 1) * BATCH] * CONTEXT
    return ids[starts[:, None] + np.arange(CONTEXT + 1)]


def drawn(ids: np.ndarray, number: int, seed: int) -> np.ndarray:
    """A batch of segments from anywhere, as nanoGPT draws them."""
    starts = np.random.default_rng([seed, number]).integers(len(ids) - CONTEXT, size=BATCH)
    return ids[starts[:, None] + np.arange(CONTEXT + 1)]


def judged(logits: Callable[[Tensor], Tensor], held: np.ndarray) -> float:
    """Nats per character of all of the held-out text but its first character."""
    count = (len(held) - 1) // CONTEXT
    ids = torch.from_numpy(held[: count * CONTEXT + 1])
    total, done = 0.0, 0
    with torch.inference_mode():
        pairs = [(ids[:-1].view(-1, CONTEXT), ids[1:].view(-1, CONTEXT))]
        rest = torch.from_numpy(held[count * CONTEXT :])
        pairs += [(rest[None, :-1], rest[None, 1:])] if len(rest) > 1 else []
        for given, wanted in pairs:
            for x, y in zip(given.split(128), wanted.split(128), strict=True):
                total += float(F.cross_entropy(logits(x).flatten(0, 1), y.flatten(), reduction="sum"))
                done += y.numel()
    return total / done


def train(
    step: Callable[[int, Tensor], None], logits: Callable[[Tensor], Tensor], batches: Callable[[int], np.ndarray],
    held: np.ndarray, steps: int, name: str, every: int = EVERY,
) -> Curve:
    """The validation curve of a run, a point after `every` steps; seconds are those of training."""
    curve, seconds = [], 0.0
    for number in range(steps):
        start = time.perf_counter()
        step(number, torch.from_numpy(batches(number)))
        seconds += time.perf_counter() - start
        if (number + 1) % every == 0 or number + 1 == steps:
            curve.append((number + 1, seconds, judged(logits, held)))
            print(f"{name}: step {number + 1}, {seconds:.1f} s, {curve[-1][2]:.4f}", flush=True)
    return curve


def ours(
    text: np.ndarray, held: np.ndarray, seed: int, steps: int, model: DecoderConfig, training: TrainingConfig,
    every: int = EVERY,
) -> Curve:  # fmt: skip
    """The default decoder and optimizer."""
    torch.manual_seed(seed)
    decoder, training = Decoder(model), replace(training, steps=steps)
    optimizer, schedule = MuonAdamW(parameter_groups(decoder, training)), make_schedule(training)
    print(f"ours: {model.num_parameters:,} parameters, {model}, {training}")

    def step(number: int, batch: Tensor) -> None:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * schedule(number)
        loss = F.cross_entropy(decoder.logits(decoder(batch[:, :-1]).hidden).flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def logits(ids: Tensor) -> Tensor:
        return decoder.logits(decoder(ids).hidden)

    return train(step, logits, lambda number: shuffled(text, number, seed), held, steps, "ours", every)


def peer(text: np.ndarray, held: np.ndarray, seed: int, steps: int) -> Curve:
    """GPT-2 of the same size, by the recipe of nanoGPT's config for a CPU."""
    from hugging_face import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(seed)
    model: Any = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=65, n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, attn_implementation="sdpa", use_cache=False,
        )
    )  # fmt: skip
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    groups = [{"params": matrices, "weight_decay": 0.1}]
    groups += [{"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    print(f"GPT-2: {sum(p.numel() for p in model.parameters()):,} parameters")

    def step(number: int, batch: Tensor) -> None:
        share = (1 + math.cos(math.pi * min(1, max(0, number - 100) / (STEPS - 100)))) / 2
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * (number + 1) / 101 if number < 100 else 1e-4 + share * 9e-4
        loss = F.cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return train(step, lambda ids: model(ids).logits, lambda n: drawn(text, n, seed), held, steps, "GPT-2")


def first(curve: Curve, goal: float) -> tuple[int, float] | None:
    """Step and seconds at which a curve has reached the goal."""
    return next(((step, seconds) for step, seconds, loss in curve if loss <= goal), None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tinyshakespeare/input.txt"))
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--short", action="store_true", help="also ours in 500 steps, its schedule made for them")
    parser.add_argument("--model", type=json.loads, default={}, help="settings of the decoder, as JSON")
    parser.add_argument("--training", type=json.loads, default={}, help="settings of the training, as JSON")
    args = parser.parse_args()
    text, held = characters(args.data)
    model = from_dict(DecoderConfig, args.model, base=MODEL)
    training = from_dict(TrainingConfig, args.training, base=TRAINING)
    print(f"{len(text):,} characters to learn from, {len(held):,} held out; {torch.get_num_threads()} threads")
    found = {"ours": ours(text, held, args.seed, args.steps, model, training)}
    if args.short:
        found["ours, 500 steps"] = ours(text, held, args.seed, 500, model, training)
    if not args.no_peer:
        found["GPT-2"] = peer(text, held, args.seed, args.steps)
    for name, curve in found.items():
        reached = first(curve, GOAL)
        told = f"{GOAL} after {reached[0]} steps, {reached[1]:.0f} s" if reached else f"{GOAL} not reached"
        print(f"{name}: {curve[-1][2]:.4f} after {curve[-1][0]} steps and {curve[-1][1]:.0f} s; {told}")
    ways = {name: first(curve, GOAL) for name, curve in found.items()}
    theirs = ways.get("GPT-2")
    for name in ("ours", "ours, 500 steps"):
        mine = ways.get(name)
        if mine and theirs:
            print(f"time of {name} to {GOAL} as a share of GPT-2's: {mine[1] / theirs[1]:.2f}")


if __name__ == "__main__":
    main()
