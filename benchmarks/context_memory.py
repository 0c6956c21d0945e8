"""Peak memory of a training step against the context, at the same number of tokens a batch.

Each measurement is a process of its own; printed is what a step adds to the process's peak, in MiB.

    .venv/bin/python benchmarks/context_memory.py
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from dataclasses import replace

import torch

from seqmodal.config import Alibi, DecoderConfig, Relative, Rotary
from seqmodal.decoder import Decoder

TOKENS = 16_384
SMALL = DecoderConfig(vocab_size=256, d_model=128, num_layers=4, num_heads=4)
KINDS = {
    "default, window of 256": replace(SMALL, window=256),
    "rotary, full attention": replace(SMALL, position=Rotary()),
    "ALiBi": replace(SMALL, position=Alibi()),
    "relative": replace(SMALL, position=Relative(max_distance=512)),
    "relative, window of 256": replace(SMALL, position=Relative(max_distance=512), window=256),
}


def step(kind: str, context: int) -> float:
    """MiB that a step adds to the peak of this process."""
    torch.manual_seed(0)
    decoder = Decoder(replace(KINDS[kind], max_seq_len=context))
    ids = torch.randint(256, (TOKENS // context, context))
    decoder(ids[:1, :64]).hidden.sum().backward()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    decoder(ids).hidden.exp().mean().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--contexts", type=int, nargs="+", default=[1024, 2048, 4096, 8192, 16384])
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(step(args.one[0], int(args.one[1]))))
        return
    print("MiB at a context of", *args.contexts)
    for kind in KINDS:
        found = []
        for context in args.contexts:
            command = [sys.executable, __file__, "--one", kind, str(context)]
            found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        print(f"{kind}: {', '.join(f'{mib:.0f}' for mib in found)}", flush=True)


if __name__ == "__main__":
    main()
