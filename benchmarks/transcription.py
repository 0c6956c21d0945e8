"""Sound to MIDI: onset F1 on chorales and on Nottingham tunes, rendered by pretty_midi, both learned by one model.

    .venv/bin/python benchmarks/transcription.py --nottingham FOLDER --out /tmp/transcription [--minutes 25]

FOLDER holds train, valid and test with MIDI files; the chorales are those of music21 with the split of the recipe. Both
are told apart on their test parts, by whole pieces. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.recipes.transcription import chorale_files
from seqmodal.training.judge import judge_run
from seqmodal.training.record import read_metrics

SPLITS = ("train", "valid", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nottingham", type=Path, default=Path("../shared/data/nottingham"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--longest", type=float, default=30.0, help="seconds of a training piece")
    parser.add_argument("--versions", type=int, default=3, help="times that a training piece is rendered")
    parser.add_argument("--width", type=int, default=192)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--pieces", type=int, default=20, help="of each test part that are judged")
    args = parser.parse_args()
    sources = {"chorales": chorale_files(), "nottingham": args.nottingham.resolve()}
    data, run = args.out / "data", args.out / "run"
    for name, source in sources.items():
        for split in SPLITS:
            (data / split / name).mkdir(parents=True, exist_ok=True)
            (args.out / name / "test").mkdir(parents=True, exist_ok=True)
            for file in sorted((source / split).glob("*.mid")):
                _link(file, data / split / name / file.name)
        for file in sorted((source / "test").glob("*.mid"))[:: _every(source / "test", args.pieces)]:
            _link(file, args.out / name / "test" / file.name)
    if not (run / "judged.json").is_file():
        how = TrainingConfig(minutes=args.minutes, threads=args.threads, samples=2)
        shape = {"d_model": args.width, "num_layers": args.layers, "num_heads": max(1, args.width // 64)}
        seqmodal.train(
            "transcription", data=str(data), longest=args.longest, versions=args.versions, out=run, model=shape,
            training=vars(how), sampling={"count": args.pieces},
        )  # fmt: skip
    seconds = read_metrics(run / "metrics.csv")[-1]["seconds"]
    print(f"trained {seconds / 60:.1f} minutes")
    print("| test pieces of | pieces | precision | recall | onset F1 | F1 with ends | nats a token |")
    print("|---|---|---|---|---|---|---|")
    for name in sources:
        found = judge_run(run, data=str(args.out / name))
        (args.out / f"{name}.json").write_text(json.dumps(found, indent=1))
        print(
            f"| {name} | {found['pieces']:.0f} | {found['onset_precision']:.3f} | {found['onset_recall']:.3f} | "
            f"{found['onset_f1']:.3f} | {found['note_f1']:.3f} | {found['nats_per_token']:.3f} |", flush=True
        )  # fmt: skip


def _link(file: Path, place: Path) -> None:
    if not place.is_symlink():
        place.symlink_to(file)


def _every(folder: Path, most: int) -> int:
    return -(-len(list(folder.glob("*.mid"))) // most) or 1


if __name__ == "__main__":
    main()
