"""Bits per byte of tiny Shakespeare and of the Canterbury texts, beside xz -9.

Tiny Shakespeare is judged on its last tenth; of the Canterbury texts each is judged by a model that learned from the
others. xz reads the judged text alone, or behind the text that the model learned from, whose own bytes are taken off
(with a dictionary that holds both). A run that is finished is not made again.

    .venv/bin/python benchmarks/language.py --minutes 2 --out /tmp/language [--setting tokenizer=bytes ...]
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.training.record import read_metrics
from tokenizers_ext.text import TextTokenizer

FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 1 << 28}]


def packed(data: bytes) -> int:
    """Bytes that xz -9e makes of some."""
    return len(lzma.compress(data, format=lzma.FORMAT_XZ, filters=FILTERS))


def texts(data: Path, out: Path) -> Iterator[tuple[str, Path, str, str]]:
    """(name, what to train on, the text learned from, the text judged on)."""
    reader = TextTokenizer()
    whole = reader.read(data / "tinyshakespeare" / "input.txt")
    cut = int(0.9 * len(whole))
    yield "tinyshakespeare", data / "tinyshakespeare" / "input.txt", whole[:cut], whole[cut:]
    files = sorted((data / "canterbury").glob("*.txt"))
    for held in files:
        folder = out / "data" / held.stem
        for path in files:
            place = folder / ("valid" if path == held else "train") / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place)
        yield held.stem, folder, "".join(reader.read(p) for p in files if p != held), reader.read(held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="names of texts")
    parser.add_argument("--setting", nargs="*", default=[], help="of the recipe, such as tokenizer=bytes")
    args = parser.parse_args()
    settings = {key: yaml.safe_load(value) for key, value in (setting.split("=", 1) for setting in args.setting)}
    print("| text | decoder | tokens | seconds | bits per byte | xz -9, after the rest | xz -9, alone |")
    print("|---|---|---|---|---|---|---|")
    for name, data, learned, held in texts(args.data, args.out):
        if args.only and name not in args.only:
            continue
        run = args.out / name
        if not (run / "judged.json").is_file():
            how = TrainingConfig(minutes=args.minutes, threads=args.threads, samples=0)
            shutil.rmtree(run, ignore_errors=True)
            seqmodal.train("language", data=str(data), out=run, training=vars(how), **settings)
        found = json.loads((run / "judged.json").read_text())
        model = seqmodal.load(run)
        size = len(held.encode())
        after = packed((learned + held).encode()) - packed(learned.encode())
        shape = model.decoder.config
        print(
            f"| {name} | {shape.num_layers} × {shape.d_model} | {model.tokenizer().vocab_size:,} | "
            f"{read_metrics(run / 'metrics.csv')[-1]['seconds']:.0f} | {found['bits_per_byte']:.3f} | "
            f"{8 * after / size:.3f} | {8 * packed(held.encode()) / size:.3f} |", flush=True,
        )  # fmt: skip


if __name__ == "__main__":
    main()
