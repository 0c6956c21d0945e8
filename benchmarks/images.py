"""Generating pictures: nats a token and a picture at a stated PSNR, beside a unigram of the codes and GPT-2, on MNIST.

    .venv-bench/bin/python benchmarks/images.py --mnist FOLDER --out /tmp/images [--minutes 2] [--most 20000]

FOLDER holds the four IDX files, gzip. The last twelfth of the official training pictures is the validation part, by
which weights and learning rates are chosen; the test pictures are judged once. GPT-2 of Hugging Face is as wide as
ours, with so many layers that it is about as large, and learns from the same batches, for the seconds that our training
took, at the best of three rates in short runs (asap.py). The sheet of samples is named for looking at. What is done
already is kept in `--out`.
"""

from __future__ import annotations

import argparse
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from asap import RATES, HuggingFace, gpt2, kept, peer
from PIL import Image

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.evaluation.likelihood import likelihood
from seqmodal.training.judge import judge_run
from seqmodal.training.recipe import recipe_of_run
from seqmodal.training.record import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=60_000, help="at most so many pictures of a split")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run, parts = args.out / "run", unpacked(args.mnist, args.out / "parts", args.most)
    if not (run / "judged.json").is_file():
        how = TrainingConfig(minutes=args.minutes, threads=args.threads)
        seqmodal.train("images", data=(str(parts["train"]), str(parts["valid"])), size=28, out=run, training=vars(how))
    seconds = read_metrics(run / "metrics.csv")[-1]["seconds"]
    ours = kept(args.out / "ours.json", lambda: judge_run(run, data=str(parts["test"])))
    theirs = trained(args.out, run, seconds)
    other = kept(args.out / "gpt2.json", lambda: judged(run, parts["test"], args.out / "peer.pt"))
    size = seqmodal.load(run).decoder.config.num_parameters
    print(f"test: {ours['tokens_per_picture']:.0f} tokens a picture, PSNR {ours['psnr_db']:.2f} dB")
    print("| model | parameters | seconds | nats a token | nats a picture |\n|---|---|---|---|---|")
    rows = (
        ("unigram", 0, 0, ours["unigram_nats_per_token"], ours["unigram_nats_per_picture"]),
        ("seqmodal", size, seconds, ours["nats_per_token"], ours["nats_per_picture"]),
        (f"GPT-2 (HF), {theirs['rate']:g}", theirs["parameters"], theirs["seconds"], *other),
    )
    for name, count, spent, token, picture in rows:
        print(f"| {name} | {count:,} | {spent:.0f} | {token:.3f} | {picture:.1f} |")
    print(max((run / "samples").glob("step_*.png")))


def trained(out: Path, run: Path, seconds: float) -> Any:
    """GPT-2 of the size of a run, at the best of three rates, with its weights in `peer.pt`."""
    prepared, config, minutes = Prepared.open(run / "data"), as_large(run), seconds / 60
    short = {
        rate: kept(out / f"rate_{rate:g}.json", lambda r=rate: peer(prepared, config, r, minutes / 5, None))
        for rate in RATES
    }
    rate = min(short, key=lambda r: short[r]["valid"][-1][1])
    return kept(out / "peer.json", lambda: peer(prepared, config, rate, minutes, out / "peer.pt"))


def as_large(run: Path) -> Any:
    """The configuration of a run with so many layers that GPT-2 has about as many parameters as ours."""
    _, config = recipe_of_run(run)
    depths = range(config.model.num_layers, 3 * config.model.num_layers + 1)
    shapes = [replace(config, model=replace(config.model, num_layers=depth)) for depth in depths]
    return min(shapes, key=lambda shape: abs(gpt2(shape).num_parameters() - config.model.num_parameters))


def judged(run: Path, test: Path, weights: Path) -> tuple[float, float]:
    """Nats a token and a picture of GPT-2 on the pictures that `judge_run` judges ours on."""
    (module, config), model = recipe_of_run(run), seqmodal.load(run)
    changed = replace(config, data=str(test), exclude=(), strict=False)
    held = prepare(module, changed, model.tokenizers, model.vocabulary, evaluated=True).stores["valid"]
    decoder = gpt2(as_large(run))
    decoder.load_state_dict(torch.load(weights, weights_only=True))
    nats = likelihood(HuggingFace(decoder), held, config.model.max_seq_len).nats
    return nats / sum(len(held[number].segments[0].ids) for number in range(len(held))), nats / len(held)


def unpacked(mnist: Path, out: Path, most: int) -> dict[str, Path]:
    """Folders of pictures as PNG; those that are not there yet are written."""
    learned, judged_on = (pictures(mnist / f"{name}-images-idx3-ubyte.gz")[:most] for name in ("train", "t10k"))
    cut = len(learned) - max(1, len(learned) // 12)
    for split, data in (("train", learned[:cut]), ("valid", learned[cut:]), ("test", judged_on)):
        (out / split).mkdir(parents=True, exist_ok=True)
        for number, picture in enumerate(data):
            file = out / split / f"{number:05}.png"
            if not file.is_file():
                Image.fromarray(picture).save(file)
    return {split: out / split for split in ("train", "valid", "test")}


def pictures(path: Path) -> np.ndarray:
    """uint8 (n, 28, 28) of an IDX file."""
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


if __name__ == "__main__":
    main()
