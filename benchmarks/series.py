"""Forecasts of a tiny decoder over quantile bins, beside the seasonal-naive rule: tomorrow is like today.

    python benchmarks/series.py                                  # made-up series
    python benchmarks/series.py --data highs.csv --season 365 --context 30 --horizon 7 --bins 32 --steps 40

The last fifth of each series is held out. From horizon to horizon through it, the decoder sees the `context` numbers
before and forecasts `horizon`, by the median of paths drawn at random; the rule takes what was a season before. The
figure is the mean absolute error over all forecasts, in units of the data. Series of more than one file are one data
set, with one tokenizer and one decoder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from seqmodal.config import DecoderConfig, TrainingConfig
from seqmodal.decoder import Decoder
from seqmodal.training.optimizer import MuonAdamW, make_schedule, parameter_groups
from tokenizers_ext.series import SeriesTokenizer

PATHS = 20
BATCH = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="series: .csv, .txt or .npy")
    parser.add_argument("--season", type=int, default=12, help="steps of a season")
    parser.add_argument("--context", type=int, default=84, help="steps that a forecast sees")
    parser.add_argument("--horizon", type=int, default=12, help="steps of a forecast, at most a season")
    parser.add_argument("--bins", type=int, default=64)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.manual_seed(given.seed)
    tokenizer = SeriesTokenizer(given.bins)
    rng = np.random.default_rng(given.seed)
    series = [tokenizer.read(path) for path in given.data] or [made_up(rng, given.season) for _ in range(48)]
    season, context, horizon = given.season, given.context, given.horizon
    cuts = [len(row) * 4 // 5 for row in series]
    least = max(context + horizon, season)
    if (
        not 1 <= horizon <= season
        or min(cuts) <= least
        or any(len(row) - cut < horizon for row, cut in zip(series, cuts, strict=True))
    ):
        parser.error(f"the first four fifths of a series have to be more than {least} numbers, the rest a horizon, and "
                     "the horizon no more than a season")  # fmt: skip
    start = time.perf_counter()
    tokenizer.fit(row[:cut] for row, cut in zip(series, cuts, strict=True))
    decoder = train(
        tokenizer, [row[:cut] for row, cut in zip(series, cuts, strict=True)], context + horizon, given.steps, rng
    )
    trained = time.perf_counter() - start
    origins = [(row, at) for row, cut in zip(series, cuts, strict=True)
               for at in range(cut, len(row) - horizon + 1, horizon)]  # fmt: skip
    truth = np.stack([row[at : at + horizon] for row, at in origins])
    naive = np.stack([row[at - season : at - season + horizon] for row, at in origins])
    seen = np.stack([tokenizer.encode(row[at - context : at]) for row, at in origins])
    parts = np.array_split(seen, -(-len(seen) // BATCH))
    forecast = np.concatenate([forecasts(decoder, tokenizer, part, horizon) for part in parts])
    rounded = tokenizer.decode(tokenizer.encode(truth.ravel())).reshape(truth.shape)
    size = sum(p.numel() for p in decoder.parameters())
    print(f"{len(series)} series, {sum(map(len, series))} numbers, {tokenizer.vocab_size} bins, "
          f"{size} parameters, {given.steps} steps in {trained:.0f} s", flush=True)  # fmt: skip
    print(f"{len(origins)} forecasts of {horizon} steps, mean absolute error:")
    for name, guess in (("decoder", forecast), ("seasonal naive", naive), ("the bins alone", rounded)):
        print(f"  {name:15}{np.abs(guess - truth).mean():8.3f}")


def made_up(rng: np.random.Generator, season: int, seasons: int = 80) -> np.ndarray:
    """A wave that is lower in two seasons of seven, with its harmonic, and noise that remembers itself."""
    t = np.arange(season * seasons)
    phase, level = rng.uniform(0, 2 * np.pi), rng.normal()
    wave = np.sin(2 * np.pi * t / season + phase) + 0.4 * np.sin(4 * np.pi * t / season + 2 * phase)
    week = np.where(t // season % 7 >= 5, 0.5, 1.0)
    noise, before = np.empty(len(t)), 0.0
    for i, shock in enumerate(rng.normal(scale=0.15, size=len(t))):
        noise[i] = before = 0.8 * before + shock
    return level + wave * week + noise


def train(
    tokenizer: SeriesTokenizer, series: list[np.ndarray], context: int, steps: int, rng: np.random.Generator
) -> Decoder:
    """The default decoder, small, by the default optimizer, of windows from anywhere in the series."""
    decoder = Decoder(DecoderConfig(
        vocab_size=tokenizer.vocab_size, d_model=64, num_layers=2, num_heads=4, max_seq_len=context
    ))  # fmt: skip
    training = TrainingConfig(steps=steps)
    optimizer, schedule = MuonAdamW(parameter_groups(decoder, training)), make_schedule(training)
    rows = [tokenizer.encode(row) for row in series]
    places = np.array([(k, at) for k, row in enumerate(rows) for at in range(len(row) - context)])
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * schedule(number)
        drawn = places[rng.integers(len(places), size=BATCH)]
        ids = torch.from_numpy(np.stack([rows[k][at : at + context + 1] for k, at in drawn]).astype(np.int64))
        logits = decoder.logits(decoder(ids[:, :-1]).hidden)
        loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return decoder


@torch.inference_mode()
def forecasts(decoder: Decoder, tokenizer: SeriesTokenizer, seen: np.ndarray, steps: int) -> np.ndarray:
    """(n, steps): the median of paths drawn after ids (n, t)."""
    paths = torch.from_numpy(seen.astype(np.int64)).repeat_interleave(PATHS, 0)
    state = decoder.new_state(len(paths), paths.shape[1] + steps)
    ids, drawn = paths, []
    for _ in range(steps):
        odds = decoder.logits(decoder(ids, state=state).hidden[:, -1]).softmax(-1)
        ids = torch.multinomial(odds, 1)
        drawn.append(ids)
    values = tokenizer.decode(torch.cat(drawn, 1).numpy())
    return np.median(values.reshape(-1, PATHS, steps), axis=1)


if __name__ == "__main__":
    main()
