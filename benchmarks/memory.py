"""What a segment memory is worth: the characters of tiny Shakespeare, read in segments of 64.

The same decoder is trained twice for as many steps: with a memory, on batches that go on from one another, and without,
on shuffled windows. Both are judged on the whole last tenth of the text, the first also with its memory taken away.

    .venv/bin/python benchmarks/memory.py --data ../shared/data/tinyshakespeare/input.txt

`memory off` is by how much each is worse than the decoder that reads with its memory; the project asks for 0.03 nats.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from seqmodal.config import DecoderConfig, TrainingConfig, TransformerXL, from_dict
from seqmodal.data.loader import Batches, windows
from seqmodal.data.store import Store, write_store
from seqmodal.data.stream import StreamBatches
from seqmodal.decoder import Decoder
from seqmodal.evaluation.likelihood import Likelihood, likelihood
from seqmodal.nn.state import SegmentMemory
from seqmodal.sequence import Document, Segment
from seqmodal.tokenizers.vocabulary import Vocabulary
from seqmodal.training.lit import as_tensors, loss_and_memory
from seqmodal.training.optimizer import MuonAdamW, make_schedule, parameter_groups

GOAL = 0.03
MODEL = DecoderConfig(
    d_model=128, num_layers=4, num_heads=4, max_seq_len=64, memory=128, position=TransformerXL()
)  # fmt: skip


def stores(path: Path, folder: Path) -> tuple[Store, Store]:
    """The first nine tenths of the text and the rest, each one document with an id a character."""
    text = path.read_text(encoding="utf-8")
    table = {c: i for i, c in enumerate(sorted(set(text)))}
    ids = np.array([table[c] for c in text], np.int32)
    vocabulary, cut = Vocabulary.of([]).append("characters", len(table)), int(0.9 * len(ids))
    parts = {"train": ids[:cut], "held": ids[cut:]}
    made = [write_store(folder / n, [Document((Segment("characters", p),))], vocabulary) for n, p in parts.items()]
    return made[0], made[1]


def trained(model: DecoderConfig, training: TrainingConfig, text: Store) -> Decoder:
    """A decoder after all steps; it carries its memory where it has one."""
    torch.manual_seed(training.seed)
    decoder = Decoder(model)
    batches = (StreamBatches if model.memory else Batches)(
        text, context=model.max_seq_len, batch_size=training.batch_size, seed=training.seed
    )
    optimizer, schedule = MuonAdamW(parameter_groups(decoder, training)), make_schedule(training)
    memory: SegmentMemory | None = None
    losses, start = [], time.perf_counter()
    for step in range(training.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * schedule(step)
        batch = as_tensors(batches.batch(step))
        memory = decoder.memory_for(len(batch["ids"]), memory)
        total, weight, memory = loss_and_memory(decoder, batch, memory)
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(total.detach() / weight))
        if (step + 1) % 200 == 0 or step + 1 == training.steps:
            seconds = time.perf_counter() - start
            print(f"  step {step + 1}: {np.mean(losses[-200:]):.4f} in training, {seconds:.0f} s", flush=True)
    return decoder.eval()


def per_character(found: Likelihood) -> float:
    """Nats a character, the end of the text counted as one."""
    return found.nats / found.count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tinyshakespeare/input.txt"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch-size", type=int, default=12)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", type=json.loads, default={}, help="settings of the decoder, as JSON")
    parser.add_argument("--judge", type=int, default=0, help="so many characters of the last tenth only; 0: all")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        text, held = stores(args.data, Path(folder))
        if args.judge:
            held = shortened(held, args.judge, Path(folder))
        model = replace(from_dict(DecoderConfig, args.model, base=MODEL), vocab_size=text.vocabulary.size)
        print(f"{text.num_tokens:,} characters to learn from, {held.num_tokens:,} held out; "
              f"{torch.get_num_threads()} threads\n{model}")  # fmt: skip
        for seed in args.seeds:
            compare(model, TrainingConfig(steps=args.steps, batch_size=args.batch_size, seed=seed), text, held)


def compare(model: DecoderConfig, training: TrainingConfig, text: Store, held: Store) -> None:
    """Train with and without a memory, judge three ways and print."""
    context = model.max_seq_len
    print(f"seed {training.seed}, with a memory of {model.memory}:")
    decoder = trained(model, training, text)
    start = time.perf_counter()
    with_memory = per_character(likelihood(decoder, held, context))
    print(f"  judged in {time.perf_counter() - start:.0f} s")
    taken_away = per_character(likelihood(decoder, windows(held, context, 64)))
    print(f"seed {training.seed}, without a memory:")
    never = per_character(likelihood(trained(replace(model, memory=0), training, text), held, context, batch_size=64))
    rows = {"with its memory": with_memory, "the same, memory off": taken_away, "trained without": never}
    print(f"\n{'':22}{'nats a character':>17}{'memory off':>12}")
    for name, nats in rows.items():
        print(f"{name:22}{nats:17.4f}{nats - with_memory:+12.4f}")
    least = min(taken_away, never) - with_memory
    print(f"{'reached' if least >= GOAL else 'NOT reached'}: {least:.4f} of {GOAL}\n", flush=True)


def shortened(held: Store, characters: int, folder: Path) -> Store:
    """The first characters of a store's only document."""
    ids = held[0].segments[0].ids[:characters]
    return write_store(folder / "short", [Document((Segment("characters", ids),))], held.vocabulary)


if __name__ == "__main__":
    main()
