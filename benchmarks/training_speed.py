"""Training tokens a second: the GPT-2 preset beside GPT-2 of Hugging Face and the same decoder of x-transformers.

6 layers, 6 heads, 384 wide, context 256, batches of 8, float32, AdamW. The three take turns, so that what else the
machine does falls on all alike; printed are medians and ratios, and beside them the default decoder with its own
optimizer.

    .venv-bench/bin/python benchmarks/training_speed.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from seqmodal.config import DecoderConfig, TrainingConfig, preset
from seqmodal.decoder import Decoder
from seqmodal.training.optimizer import MuonAdamW, parameter_groups

CONTEXT, BATCH, VOCAB = 256, 8, 65
SIZES = {"d_model": 384, "num_layers": 6, "num_heads": 6, "max_seq_len": CONTEXT, "vocab_size": VOCAB}


def ours(config: DecoderConfig, training: TrainingConfig) -> Callable[[torch.Tensor], None]:
    """A training step of a decoder of ours."""
    decoder = Decoder(config)
    optimizer = MuonAdamW(parameter_groups(decoder, training))
    print(f"{sum(p.numel() for p in decoder.parameters()):,} parameters")

    def step(ids: torch.Tensor) -> None:
        logits = decoder.logits(decoder(ids[:, :-1]).hidden)
        F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def peer(model: Any, logits: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], None]:
    """A training step of another model."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters")

    def step(ids: torch.Tensor) -> None:
        F.cross_entropy(logits(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def contestants() -> dict[str, Callable[[torch.Tensor], None]]:
    """A step of each, by name."""
    from hugging_face import GPT2Config, GPT2LMHeadModel
    from x_transformers import Decoder as XDecoder
    from x_transformers import TransformerWrapper

    gpt2 = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCAB, n_positions=CONTEXT, n_embd=384, n_layer=6, n_head=6, resid_pdrop=0.0, embd_pdrop=0.0,
            attn_pdrop=0.0, attn_implementation="sdpa", use_cache=False,
        )
    )  # fmt: skip
    wrapper = TransformerWrapper(
        num_tokens=VOCAB, max_seq_len=CONTEXT, tie_embedding=True,
        attn_layers=XDecoder(dim=384, depth=6, heads=6, attn_flash=True),
    )  # fmt: skip
    adamw = TrainingConfig(optimizer="adamw", embedding_lr=1e-4)
    return {
        "ours, GPT-2 preset": ours(replace(preset("gpt2").model, **SIZES), adamw),
        "Hugging Face": peer(gpt2, lambda ids: gpt2(ids).logits),
        "x-transformers": peer(wrapper, wrapper),
        "ours, default": ours(DecoderConfig(window=CONTEXT, **SIZES), TrainingConfig()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    steps, times = contestants(), {}
    torch.manual_seed(0)
    for number in range(args.rounds + 2):
        ids = torch.randint(VOCAB, (BATCH, CONTEXT + 1))
        for name, step in steps.items():
            start = time.perf_counter()
            step(ids)
            if number >= 2:
                times.setdefault(name, []).append(time.perf_counter() - start)
    rates = {name: BATCH * CONTEXT / statistics.median(taken) for name, taken in times.items()}
    best = max(rates["Hugging Face"], rates["x-transformers"])
    for name, rate in rates.items():
        print(f"{name}: {rate:.0f} tokens/s, {rate / best:.2f} of the better peer")


if __name__ == "__main__":
    main()
