"""Seconds that a user waits: for help, for the first token of a model on the disk, for the first step of a training.

Each measurement is a process of its own, counted from its start; printed is the median of some. The model is GPT-2
small with random weights, the same files for Hugging Face's library and for ours; the training is of
language on the built-in text, which is prepared before.

    .venv-bench/bin/python benchmarks/waiting.py
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

CLOCK = f"""
import sys
def told(what):
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        began = float(stat.read().rsplit(")", 1)[1].split()[19]) / {os.sysconf("SC_CLK_TCK")}
        print("told", what, float(uptime.read().split()[0]) - began, file=sys.stderr, sep="\\t", flush=True)
"""
MAKE = """
import sys
sys.modules["torchaudio"] = None  # its wheel does not load beside a CPU build of torch
from transformers import GPT2Config, GPT2LMHeadModel
GPT2LMHeadModel(GPT2Config()).save_pretrained({folder!r})
"""
OURS = """
import numpy as np
from seqmodal.gpt2 import load_gpt2
from seqmodal.generation.loop import stream
decoder = load_gpt2({folder!r}).eval()
told("loaded")
next(stream(decoder, [np.arange(16)]))
told("first token")
"""
THEIRS = """
import sys
import torch
sys.modules["torchaudio"] = None
from transformers import GPT2LMHeadModel
model = GPT2LMHeadModel.from_pretrained({folder!r}).eval()
told("loaded")
model.generate(torch.arange(16)[None], attention_mask=torch.ones(1, 16), max_new_tokens=1, pad_token_id=0)
told("first token")
"""
HELP = """
from seqmodal.cli import main
try:
    main({words!r})
except SystemExit:
    pass
told("seqmodal " + " ".join({words!r}))
"""
TRAIN = """
import tempfile
from seqmodal.training import train
from seqmodal.training.lit import LitDecoder
def training_step(self, batch, index, plain=LitDecoder.training_step):
    if index < 2:
        told(("train language: first batch", "train language: first step done")[index])
    return plain(self, batch, index)
LitDecoder.training_step = training_step
quick = dict(steps=2, evaluations=0, samples=0)
with tempfile.TemporaryDirectory() as place:
    train("language", out=place + "/run", training=quick, tokenizer="characters")
"""


def waited(code: str, runs: int) -> dict[str, float]:
    """Seconds from the start of a process to each point that it tells of: medians, the first run not counted."""
    found = []
    for _ in range(runs + 1):
        done = subprocess.run([sys.executable, "-c", CLOCK + code], capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        lines = [line.split("\t") for line in done.stderr.splitlines() if line.startswith("told\t")]
        found.append({what: float(seconds) for _, what, seconds in lines})
    return {what: statistics.median(one[what] for one in found[1:]) for what in found[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = str(Path(place) / "gpt2")
        waited(MAKE.format(folder=folder), 0)
        ours, theirs = (waited(code.format(folder=folder), args.runs) for code in (OURS, THEIRS))
    print("| GPT-2 small | seqmodal | transformers | ratio |\n|---|---|---|---|")
    for what, seconds in ours.items():
        print(f"| {what} | {seconds:.2f} s | {theirs[what]:.2f} s | {seconds / theirs[what]:.2f} |")
    print("\n| seqmodal | |\n|---|---|")
    for code in (HELP.format(words=["--help"]), HELP.format(words=["generate", "--help"]), TRAIN):
        for what, seconds in waited(code, args.runs).items():
            print(f"| {what} | {seconds:.2f} s |")


if __name__ == "__main__":
    main()
