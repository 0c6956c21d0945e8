"""Piano performances: `seqmodal train music` beside Hugging Face's GPT-2 of the same size, on the same tokens.

    make benchmarks-venv
    .venv-bench/bin/python benchmarks/asap.py --data ../shared/data/asap --out runs/asap-benchmark
    .venv-bench/bin/python benchmarks/asap.py --out runs/asap-presets --minutes 10 --presets music-transformer

Both see the same windows of the same token stream in the same order (augmentation included), with the same context,
batch, warm-up and decay, threads and number format. GPT-2's learning rate is the best of three in short runs. Both are
judged on whole files of the test folder in non-overlapping segments. What is done already is kept in `--out`, so a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hugging_face import GPT2Config, GPT2LMHeadModel
from matplotlib.figure import Figure

from seqmodal.data.corpus import Prepared, prepare
from seqmodal.decoder import DecoderOutput
from seqmodal.evaluation.likelihood import likelihood
from seqmodal.model import load
from seqmodal.training.feed import training_batches, validation_batches
from seqmodal.training.judge import judge_run
from seqmodal.training.lit import TrainingBatches, as_tensors
from seqmodal.training.optimizer import make_schedule
from seqmodal.training.recipe import recipe_of_run
from seqmodal.training.record import read_metrics

RATES = (3e-4, 1e-3, 3e-3)


@dataclass
class HuggingFace:
    """GPT-2 behind the two calls that `likelihood` makes of a decoder."""

    model: GPT2LMHeadModel

    def __call__(self, ids: torch.Tensor, **_: Any) -> DecoderOutput:
        return DecoderOutput(self.model.transformer(ids).last_hidden_state)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.model.lm_head(hidden).float()

    def eval(self) -> None:
        self.model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/asap"))
    parser.add_argument("--out", type=Path, default=Path("runs/asap-benchmark"))
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument(
        "--rate-minutes", type=float, default=4.0, help="length of each run that chooses the peer's rate"
    )
    parser.add_argument("--presets", nargs="+", default=[], help="train these beside the default, in place of GPT-2")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    ours = args.out / "ours"
    trained(ours, args)
    if args.presets:
        print("| preset | parameters | seconds | nats an event, test | nats a note |\n|---|---|---|---|---|")
        for name in ("default", *args.presets):
            run = ours if name == "default" else args.out / name
            trained(run, args, *(() if name == "default" else ("--preset", name)))
            found = kept(args.out / f"{name}.json", lambda run=run: judge_run(run, data=str(args.data)))
            size, seconds = load(run).decoder.config.num_parameters, read_metrics(run / "metrics.csv")[-1]["seconds"]
            events, notes = (found[f"nats_per_{what}"] for what in ("event", "note"))
            print(f"| {name} | {size:,} | {seconds:.0f} | {events:.3f} | {notes:.3f} |", flush=True)
        return
    module, config = recipe_of_run(ours)
    prepared = Prepared.open(ours / "data")
    rates = {
        rate: kept(args.out / f"rate_{rate:g}.json", lambda r=rate: peer(prepared, config, r, args.rate_minutes, None))
        for rate in RATES
    }
    rate = min(rates, key=lambda r: rates[r]["valid"][-1][1])
    weights = args.out / "peer.pt"
    theirs = kept(args.out / "peer.json", lambda: peer(prepared, config, rate, args.minutes, weights))
    found = kept(args.out / "test.json", lambda: judge(args.data, ours, module, config, weights))
    report(args.out, ours, rates, rate, theirs, found)


def trained(run: Path, args: argparse.Namespace, *more: str) -> None:
    """A run on the performances, made once."""
    if not (run / "model").is_dir():
        how = ["--data", str(args.data), "--exclude", "*score*", "--minutes", str(args.minutes), "--out", str(run)]
        subprocess.run([sys.executable, "-m", "seqmodal", "train", "music", *how, *more], check=True)


def kept(path: Path, make: Any) -> Any:
    """What `make` returned when it was first called."""
    if not path.is_file():
        path.write_text(json.dumps(make()), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


def gpt2(config: Any) -> GPT2LMHeadModel:
    """Hugging Face's GPT-2 in the shape of our decoder, without dropout, as ours is."""
    model = config.model
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=model.vocab_size, n_positions=model.max_seq_len, n_embd=model.d_model, n_layer=model.num_layers,
            n_head=model.d_model // 64, bos_token_id=1, eos_token_id=2, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    )  # fmt: skip


def peer(prepared: Prepared, config: Any, rate: float, minutes: float, keep: Path | None) -> dict[str, Any]:
    """Train GPT-2 for some minutes on the batches of our run. Its validation loss is measured off the clock, on those
    that ours is; the best of the weights that it was measured of are kept."""
    training, held_out = config.training, validation_batches(prepared, config)
    batches = training_batches(prepared, config)
    torch.manual_seed(training.seed)
    optimizer, model = adamw(config, rate)
    a_step = sorted(step(model, optimizer, batches, number, training.precision) for number in range(9))[4]
    steps = int(minutes * 60 / a_step)
    schedule = make_schedule(replace(training, steps=steps))
    torch.manual_seed(training.seed)
    optimizer, model = adamw(config, rate)
    spent, valid = 0.0, []
    for number in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * schedule(number)
        spent += step(model, optimizer, batches, number, training.precision)
        done = number + 1
        if done == steps or (keep is not None and done % max(1, steps // 10) == 0):
            found = likelihood(HuggingFace(model), held_out)
            model.train()
            valid.append((spent, found.nats / found.count))
            print(f"gpt-2 at {rate:g}: step {done}/{steps}  {spent:.0f} s  valid {valid[-1][1]:.3f}", flush=True)
            if keep is not None and valid[-1][1] == min(loss for _, loss in valid):
                torch.save(model.state_dict(), keep)
    count = sum(p.numel() for p in model.parameters())
    return {"rate": rate, "steps": steps, "seconds": spent, "valid": valid, "parameters": count}


def adamw(config: Any, rate: float) -> tuple[torch.optim.AdamW, GPT2LMHeadModel]:
    """A fresh GPT-2 and its optimizer."""
    model = gpt2(config).train()
    return torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True), model


def step(
    model: GPT2LMHeadModel, optimizer: torch.optim.AdamW, batches: TrainingBatches, number: int, precision: str
) -> float:  # fmt: skip
    """One update; returns its seconds."""
    start = time.perf_counter()
    batch = as_tensors(batches.batch(number))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        logits = model(batch["ids"]).logits
    counts = batch["weight"] > 0
    loss = F.cross_entropy(logits[counts].float(), batch["targets"][counts])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - start


def judge(data: Path, ours: Path, module: Any, config: Any, weights: Path) -> dict[str, Any]:
    """Both models over whole files of the test folder."""
    from dataclasses import replace

    model = load(ours)
    changed = replace(config, data=str(data / "test"), exclude=("*score*",))
    test = prepare(module, changed, model.tokenizers, evaluated=True).stores["valid"]
    theirs = gpt2(config)
    theirs.load_state_dict(torch.load(weights, weights_only=True))
    notes = sum(len(model.tokenizers[0].decode_notes(test[i].segments[0].ids)) for i in range(len(test)))
    result = {}
    for name, decoder in (("ours", model.decoder), ("gpt2", HuggingFace(theirs))):
        decoder.eval()
        found = likelihood(decoder, test, config.model.max_seq_len)
        result[name] = {
            "nats_per_event": found.nats / found.count,
            "nats_per_note": found.nats / notes,
            "accuracy": found.correct / found.count,
            "events": found.count,
            "files": len(test),
        }
    return result


def report(out: Path, ours: Path, rates: Any, rate: float, theirs: Any, found: Any) -> None:
    """The figures side by side, and a picture."""
    _, config = recipe_of_run(ours)
    rows = [row for row in read_metrics(ours / "metrics.csv") if "valid_loss" in row]
    curve = [(row["seconds"], row["valid_loss"]) for row in rows]
    reached = next((seconds for seconds, loss in curve if loss <= theirs["valid"][-1][1]), None)
    print(f"\n{'':28}{'seqmodal':>12}{'GPT-2 (HF)':>12}")
    print(f"{'parameters':28}{config.model.num_parameters:12,}{theirs['parameters']:12,}")
    print(f"{'steps':28}{config.training.steps:12,}{theirs['steps']:12,}")
    print(f"{'training seconds':28}{read_metrics(ours / 'metrics.csv')[-1]['seconds']:12.0f}{theirs['seconds']:12.0f}")
    for key in ("nats_per_event", "nats_per_note", "accuracy"):
        print(f"{'test ' + key.replace('_', ' '):28}{found['ours'][key]:12.3f}{found['gpt2'][key]:12.3f}")
    print(
        f"GPT-2's learning rate: {rate:g} of " + ", ".join(f"{r:g} ({v['valid'][-1][1]:.3f})" for r, v in rates.items())
    )
    if reached is not None:
        share = reached / theirs["seconds"]
        print(f"ours reached GPT-2's final validation loss after {reached:.0f} s: {share:.2f} of its time")
    draw({"seqmodal": curve, f"GPT-2 (HF), {rate:g}": theirs["valid"]}, out / "curves.png")


def draw(curves: dict[str, list[tuple[float, float]]], path: Path) -> None:
    """Validation loss against seconds of training."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(xlabel="seconds of training", ylabel="validation nats per event")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
