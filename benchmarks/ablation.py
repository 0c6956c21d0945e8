"""What each part of the default decoder and optimizer is worth, on the characters of tiny Shakespeare.

One part at a time is taken out of the setting of shakespeare.py, or put into it; all runs have the same steps, batches
and seeds.
Printed is a table in Markdown: nats per character of the whole held-out part, the difference, and the time as a ratio.

    .venv/bin/python benchmarks/ablation.py --steps 1000 --seeds 2
    .venv/bin/python benchmarks/ablation.py --bpe 4096              # byte pairs instead of characters
"""

from __future__ import annotations

import argparse
import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from shakespeare import CONTEXT, MODEL, TRAINING, characters, ours

from seqmodal.config import DecoderConfig, Learned, TrainingConfig
from seqmodal.tokenizers.registry import tokenizer
from seqmodal.training.hardware import keep_freed_memory

WITHOUT: dict[str, tuple[DecoderConfig, TrainingConfig]] = {
    "the default": (MODEL, TRAINING),
    "no token shift": (replace(MODEL, token_shift=0), TRAINING),
    "no norm of queries and keys": (replace(MODEL, qk_norm=False), TRAINING),
    "no value embeddings": (replace(MODEL, value_embeddings=False), TRAINING),
    "LayerNorm for RMSNorm": (replace(MODEL, norm="layernorm"), TRAINING),
    "head tied to the embedding": (replace(MODEL, tied_head=True), TRAINING),
    "no zero start": (replace(MODEL, zero_init=False), TRAINING),
    "squared ReLU for GELU": (replace(MODEL, activation="relu2"), TRAINING),
    "SwiGLU of equal size": (replace(MODEL, activation="swiglu", d_ff=344), TRAINING),
    "a cap on logits": (replace(MODEL, logit_softcap=15.0), TRAINING),
    "a norm of the embedding": (replace(MODEL, embedding_norm=True), TRAINING),
    "learned for rotary positions": (replace(MODEL, position=Learned(), window=CONTEXT), TRAINING),
    "AdamW for Muon": (MODEL, replace(TRAINING, optimizer="adamw", embedding_lr=3e-3)),
}


def pairs(path: Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """As `characters`, of a byte-pair encoding."""
    text = path.read_text(encoding="utf-8")
    parts = text[: (cut := int(0.9 * len(text)))], text[cut:]
    encoding = tokenizer("text", vocab_size=size)
    encoding.fit([parts[0]])
    learned, held = (encoding.encode(part).astype(np.int64) for part in parts)
    return learned, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/tinyshakespeare/input.txt"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--bpe", type=int, help="tokens of a byte-pair encoding, learned from the part to be learned")
    parser.add_argument("--only", nargs="+", default=list(WITHOUT))
    args = parser.parse_args()
    text, held = characters(args.data) if args.bpe is None else pairs(args.data, args.bpe)
    keep_freed_memory()
    print(f"| | nats per {'character' if args.bpe is None else 'token'} | difference | time |\n|---|---|---|---|")
    whole = None
    for name in args.only:
        model, training = WITHOUT[name]
        model = replace(model, vocab_size=args.bpe or model.vocab_size)
        with contextlib.redirect_stdout(io.StringIO()):
            curves = [ours(text, held, seed, args.steps, model, training, args.steps) for seed in range(args.seeds)]
        loss, seconds = (sum(curve[-1][part] for curve in curves) / len(curves) for part in (2, 1))
        whole = whole or (loss, seconds)
        print(f"| {name} | {loss:.3f} | {loss - whole[0]:+.3f} | {seconds / whole[1]:.2f} |", flush=True)


if __name__ == "__main__":
    main()
