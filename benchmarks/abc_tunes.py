"""ABC notation to MIDI and back: the share of bars of held-out Nottingham tunes that are exactly right.

    .venv/bin/python benchmarks/abc_tunes.py --nottingham FOLDER --out /tmp/abc [--minutes 25]

FOLDER holds train, valid and test with pairs of files. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import seqmodal
from seqmodal.config import TrainingConfig
from seqmodal.training.judge import judge_run
from seqmodal.training.record import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nottingham", type=Path, default=Path("../shared/data/nottingham"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--tunes", type=int, default=50, help="that are judged, at most")
    args = parser.parse_args()
    run = args.out / "run"
    if not (run / "judged.json").is_file():
        how = TrainingConfig(minutes=args.minutes, threads=args.threads, batch_size=12)
        shape = {
            "d_model": args.width, "num_layers": args.layers, "num_heads": args.heads, "dropout": args.dropout
        }  # fmt: skip
        seqmodal.train(
            "abc", data=str(args.nottingham), out=run, model=shape, training=vars(how), sampling={"count": args.tunes}
        )
    found = judge_run(run, data=str(args.nottingham))
    seconds = read_metrics(run / "metrics.csv")[-1]["seconds"]
    print("| minutes | test bars | to MIDI | to ABC | to ABC without chord symbols | nats a token |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {seconds / 60:.1f} | {found['bars']:.0f} | {found['bars_right_to_midi']:.3f} | "
        f"{found['bars_right_to_abc']:.3f} | {found['bars_right_to_abc_melody']:.3f} | {found['nats_per_token']:.3f} |"
    )


if __name__ == "__main__":
    main()
