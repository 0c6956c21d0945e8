"""GPT-2 small on an accelerator: training tokens a second, and what share of the machine that is; decoding one row.

Training is in bfloat16, compiled, at context 1,024, with AdamW. The operations of a token are those of
`DecoderConfig.flops_per_token`, and beside them those of nanoGPT's rule: 6 N + 12 L D T, N without positions. MFU is of
the rate of a large product of bfloat16 matrices measured here, not of a data sheet. Decoding in bfloat16 is bound by
reading the weights and the cache; its share is of the measured bandwidth of a copy.

    .venv/bin/python benchmarks/accelerator.py
    .venv/bin/python benchmarks/accelerator.py --small     # a tiny model, to see that it runs, without an accelerator
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from seqmodal.config import TrainingConfig, preset
from seqmodal.decoder import Decoder
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.training.hardware import device
from seqmodal.training.optimizer import MuonAdamW, parameter_groups


def median(run: Callable[[], object], rounds: int, where: torch.device) -> float:
    """Seconds of a call, the median of some after two that are not counted."""
    times = []
    for _ in range(rounds + 2):
        start = time.perf_counter()
        run()
        if where.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return statistics.median(times[2:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--new", type=int, default=256)
    args = parser.parse_args()
    where, config = device(), preset("gpt2").model
    if args.small:
        config = replace(config, vocab_size=512, d_model=64, num_layers=2, num_heads=2, max_seq_len=64)
    name = torch.cuda.get_device_name() if where.type == "cuda" else "CPU"
    wide, long = (8192, 2**28) if where.type == "cuda" else (512, 2**20)
    a, b = (torch.randn(wide, wide, device=where, dtype=torch.bfloat16) for _ in range(2))
    peak = 2 * wide**3 / median(lambda: a @ b, args.rounds, where)
    numbers = torch.zeros(long, device=where, dtype=torch.bfloat16)
    bandwidth = 2 * 2 * long / median(numbers.clone, args.rounds, where)
    print(f"{name}: {peak / 1e12:.2f} TFLOP/s of bfloat16 products, {bandwidth / 1e9:.0f} GB/s of copies")

    torch.manual_seed(0)
    decoder = Decoder(config).to(where)
    decoder.compile()
    optimizer = MuonAdamW(parameter_groups(decoder, TrainingConfig(optimizer="adamw", embedding_lr=6e-4)))
    ids = torch.randint(config.vocab_size, (args.batch, config.max_seq_len + 1), device=where)

    def step() -> None:
        with torch.autocast(where.type, torch.bfloat16):
            logits = decoder.logits(decoder(ids[:, :-1]).hidden)
            loss = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    start = time.perf_counter()
    step()
    print(f"first step, compiling: {time.perf_counter() - start:.1f} s")
    rate = args.batch * config.max_seq_len / median(step, args.rounds, where)
    known = config.num_parameters - config.max_seq_len * config.d_model
    rule = 6 * known + 12 * config.num_layers * config.d_model * config.max_seq_len
    for said, operations in (("ours", config.flops_per_token), ("nanoGPT's rule", rule)):
        share = rate * operations / peak
        print(f"training: {rate:.0f} tokens/s, MFU {share:.1%} by {said} ({operations / 1e9:.3f} GFLOPs a token)")

    model = Decoder(config).to(where, torch.bfloat16).eval()
    prompt, new = [np.arange(16) % config.vocab_size], min(args.new, config.max_seq_len - 16)
    taken = median(lambda: generate(model, prompt, sampler=Sampler(0.0), max_new_tokens=new), 5, where)
    read = 2 * (known + config.num_layers * 2 * config.d_model * (16 + new / 2))
    print(f"decoding: {new / taken:.0f} tokens/s, {read * new / taken / bandwidth:.1%} of the bandwidth")


if __name__ == "__main__":
    main()
