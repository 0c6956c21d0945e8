"""Generating pictures: nats a token and a picture at a stated PSNR, beside a unigram of the codes, on MNIST.

    .venv/bin/python benchmarks/images.py --mnist FOLDER --out /tmp/images [--minutes 2] [--most 20000]

FOLDER holds the four IDX files, gzip; the official test pictures are the validation part. The sheet of samples is named
for looking at. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
from PIL import Image

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.training.record import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=Path("../shared/data/mnist"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--most", type=int, default=60_000, help="at most so many pictures of a split")
    args = parser.parse_args()
    data, run = args.out / "pictures", args.out / "run"
    for split, name in (("train", "train"), ("valid", "t10k")):
        unpack(args.mnist / f"{name}-images-idx3-ubyte.gz", data / split, args.most)
    if not (run / "judged.json").is_file():
        how = TrainingConfig(minutes=args.minutes, threads=args.threads)
        seqmodal.train("images", data=str(data), size=28, out=run, training=vars(how))
    found, shape = json.loads((run / "judged.json").read_text()), seqmodal.load(run).decoder.config
    print("| decoder | seconds | tokens | PSNR, dB | nats a token | nats a picture | unigram, a token | a picture |")
    print("|---|---|---|---|---|---|---|---|")
    print(
        f"| {shape.num_layers} × {shape.d_model} | {read_metrics(run / 'metrics.csv')[-1]['seconds']:.0f} | "
        f"{found['tokens_per_picture']:.0f} | {found['psnr_db']:.2f} | {found['nats_per_token']:.3f} | "
        f"{found['nats_per_picture']:.1f} | {found['unigram_nats_per_token']:.3f} | "
        f"{found['unigram_nats_per_picture']:.1f} |"
    )
    print(max((run / "samples").glob("step_*.png")))


def unpack(path: Path, folder: Path, most: int) -> None:
    """The pictures of an IDX file as PNG, those that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    data = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)
    for number, picture in enumerate(data[:most]):
        file = folder / f"{number:05}.png"
        if not file.is_file():
            Image.fromarray(picture).save(file)


if __name__ == "__main__":
    main()
