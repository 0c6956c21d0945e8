"""Logits of GPT-2 here beside those of `transformers`, in float32, from the same files, in both directions.

    make benchmarks-venv
    .venv-bench/bin/python benchmarks/gpt2_parity.py

All weights are random, biases and gains too. Hugging Face's model saves a folder that `load_gpt2` reads; `save_gpt2`
writes one that `GPT2LMHeadModel.from_pretrained` reads. A model that does not fit twice into `--gib` keeps its width,
vocabulary and context and loses layers. The files are as large as the model and lie in `--folder` while it is compared.
"""

from __future__ import annotations

import argparse
import gc
import resource
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from hugging_face import GPT2Config, GPT2LMHeadModel
from transformers.utils import logging

from seqmodal.config import PRESETS, DecoderConfig
from seqmodal.gpt2 import load_gpt2, save_gpt2

BAR = 1e-4
ROWS = (("gpt2", 0.02), ("gpt2", 0.1), ("gpt2-medium", 0.02), ("gpt2-large", 0.02), ("gpt2-xl", 0.02))


@dataclass(frozen=True)
class Found:
    """Of one model: the largest logit, and the largest differences of logits each way."""

    largest: float
    to_ours: float
    to_theirs: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=8.0, help="memory that a model and its copy may take")
    parser.add_argument("--length", type=int, default=256, help="ids read; the small model reads its whole context")
    parser.add_argument("--folder", type=Path, default=None, help="where the files lie meanwhile")
    args = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(f"{'preset':12} {'layers':>8} {'parameters':>14} {'deviation':>9} {'ids':>5} {'largest logit':>13} "
          f"{'HF to ours':>11} {'ours to HF':>11}")  # fmt: skip
    passed = True
    for name, deviation in ROWS:
        whole = PRESETS[name].model
        config = fitted(whole, args.gib)
        length = whole.max_seq_len if name == "gpt2" else args.length
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            found = compare(config, deviation, length, Path(folder))
        layers = f"{config.num_layers}/{whole.num_layers}"
        print(f"{name:12} {layers:>8} {config.num_parameters:14,} {deviation:9} {length:5} {found.largest:13.2f} "
              f"{found.to_ours:11.1e} {found.to_theirs:11.1e}", flush=True)  # fmt: skip
        passed &= max(found.to_ours, found.to_theirs) <= BAR
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest difference of a logit; the bar is {BAR:g}: {'passed' if passed else 'MISSED'}; peak {peak:.1f} GiB")
    sys.exit(not passed)


def fitted(config: DecoderConfig, gib: float) -> DecoderConfig:
    """As many of its layers as fit twice, in float32, beside 1 GiB for all else."""
    while 2 * 4 * config.num_parameters > (gib - 1) * 2**30:
        config = replace(config, num_layers=config.num_layers - 1)
    return config


@torch.no_grad()
def compare(config: DecoderConfig, deviation: float, length: int, folder: Path) -> Found:
    """Both ways for one model."""
    torch.manual_seed(0)
    ids = torch.randint(config.vocab_size, (1, length))
    theirs = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=config.vocab_size, n_positions=config.max_seq_len, n_embd=config.d_model,
            n_layer=config.num_layers, n_head=config.num_heads,
        )
    ).eval()  # fmt: skip
    for name, weight in theirs.named_parameters():
        weight.normal_(mean=1.0 if "ln_" in name and name.endswith("weight") else 0.0, std=deviation)
    expected = theirs(ids).logits
    theirs.save_pretrained(folder / "theirs", max_shard_size="1GB")
    del theirs
    gc.collect()
    ours = load_gpt2(folder / "theirs")
    assert ours.config == config, f"{ours.config} is not {config}"
    found = ours.logits(ours(ids).hidden)
    save_gpt2(ours, folder / "ours")
    del ours
    gc.collect()
    back, report = GPT2LMHeadModel.from_pretrained(folder / "ours", output_loading_info=True)
    assert not any(report.values()), f"transformers loads the saved folder with {report}"
    again = back.eval()(ids).logits
    return Found(expected.abs().max().item(), (found - expected).abs().max().item(), (again - found).abs().max().item())


if __name__ == "__main__":
    main()
