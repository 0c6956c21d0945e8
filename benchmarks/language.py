"""Bits per byte of tiny Shakespeare and of the Canterbury texts, beside xz and GPT-2 in nanoGPT's setting.

The last tenth of each text is judged, by a model that learned from the nine tenths before it: one of tiny Shakespeare,
and one of the four Canterbury texts together. xz reads the judged tenth alone, or behind all that the model learned
from, whose own bytes are taken off (with a dictionary that holds both, as its `-9e` is otherwise). A run that is
finished is not made again.

The peer is GPT-2 of Hugging Face with nanoGPT's setting for a CPU (4 layers, 4 heads, 128 wide, context 64, batches of
12, AdamW as in shakespeare.py) over GPT-2's 50,257 byte pairs, trained for the seconds that our run took.

    .venv-bench/bin/python benchmarks/language.py --minutes 2 --out /tmp/language --peer [--setting tokenizer=bytes ...]
"""

from __future__ import annotations

import argparse
import lzma
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from shakespeare import CONTEXT, drawn, judged

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.training.judge import judge_run
from seqmodal.training.record import read_metrics
from tokenizers_ext.text import TextTokenizer

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 28}]


def packed(data: bytes) -> int:
    """Bytes that xz -9e makes of some."""
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=FILTERS))


@dataclass(frozen=True)
class Corpus:
    """Texts that one model learns from.

    Attributes:
        data: what to train on.
        learned: the nine tenths of all texts.
        held: by name, the last tenth of each, and a file that holds it.
    """

    data: Path
    learned: str
    held: dict[str, tuple[str, Path]]


def corpora(data: Path, out: Path) -> Iterator[tuple[str, Corpus]]:
    """Each by name, its files written to `out`."""
    reader = TextTokenizer()
    for name, files in (
        ("tinyshakespeare", [data / "tinyshakespeare" / "input.txt"]),
        ("canterbury", sorted((data / "canterbury").glob("*.txt"))),
    ):
        learned, held = [], {}
        for path in files:
            text, called = reader.read(path), name if len(files) == 1 else path.stem
            cut = int(0.9 * len(text))
            places = [out / "data" / name / part / f"{called}.txt" for part in ("train", "valid")]
            for place, part in zip(places, (text[:cut], text[cut:]), strict=True):
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(part.encode())
            learned.append(text[:cut])
            held[called] = text[cut:], places[1]
        yield name, Corpus(out / "data" / name, "".join(learned), held)


def gpt2(encoding: Path, corpus: Corpus, seconds: float) -> dict[str, float]:
    """Bits per byte of each text by a peer that learned for so long."""
    from hugging_face import GPT2Config, GPT2LMHeadModel

    tokenizer = TextTokenizer.load(encoding)
    text = tokenizer.encode(corpus.learned).astype(np.int64)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            n_positions=CONTEXT, n_embd=128, n_layer=4, n_head=4, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            attn_implementation="sdpa", use_cache=False,
        )
    )  # fmt: skip
    groups = [{"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]  # fmt: skip
    optimizer, taken, step = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True), 0.0, 0
    while taken < seconds:
        begun = time.perf_counter()
        share = (1 + math.cos(math.pi * taken / seconds)) / 2
        for group in optimizer.param_groups:
            group["lr"] = min(1e-3 * (step + 1) / 101, 1e-4 + share * 9e-4)
        batch = torch.from_numpy(drawn(text, step, 0))
        F.cross_entropy(model(batch[:, :-1]).logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step, taken = step + 1, taken + time.perf_counter() - begun
    found = {}
    for name, (held, _) in corpus.held.items():
        ids = tokenizer.encode(held).astype(np.int64)
        nats = judged(lambda given: model(given).logits, ids) * (len(ids) - 1)
        found[name] = nats / math.log(2) / len(held.encode())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--peer", action="store_true", help="train GPT-2 as well, for as long")
    parser.add_argument("--only", nargs="*", help="tinyshakespeare or canterbury")
    parser.add_argument("--setting", nargs="*", default=[], help="of the recipe, such as tokenizer=bytes")
    args = parser.parse_args()
    settings = {key: yaml.safe_load(value) for key, value in (setting.split("=", 1) for setting in args.setting)}
    torch.set_num_threads(args.threads)
    print("| text | decoder | tokens | seconds | bits per byte | GPT-2 | xz -9e, after the rest | xz -9e, alone |")
    print("|---|---|---|---|---|---|---|---|")
    for name, corpus in corpora(args.data, args.out):
        if args.only and name not in args.only:
            continue
        run = args.out / name
        if not (run / "judged.json").is_file():
            how = TrainingConfig(minutes=args.minutes, threads=args.threads, samples=0)
            shutil.rmtree(run, ignore_errors=True)
            seqmodal.train("language", data=str(corpus.data), out=run, training=vars(how), **settings)
        model, seconds = seqmodal.load(run), read_metrics(run / "metrics.csv")[-1]["seconds"]
        shape = model.decoder.config
        others = gpt2(args.data / "gpt2_bpe", corpus, seconds) if args.peer else {}
        before = packed(corpus.learned.encode())
        for text, (held, place) in corpus.held.items():
            bits, size = judge_run(run, data=str(place))["bits_per_byte"], len(held.encode())
            after = packed((corpus.learned + held).encode()) - before
            print(
                f"| {text} | {shape.num_layers} × {shape.d_model} | {model.tokenizer().vocab_size:,} | "
                f"{seconds:.0f} | {bits:.3f} | {f'{others[text]:.3f}' if text in others else ''} | "
                f"{8 * after / size:.3f} | {8 * packed(held.encode()) / size:.3f} |", flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
