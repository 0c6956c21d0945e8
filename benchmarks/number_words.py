"""The built-in examples of the recipe translation: how many numbers that were never seen come out word for word.

    .venv/bin/python benchmarks/number_words.py --out /tmp/words --minutes 10

Printed is the share of held-out texts whose answer is the reference, letter for letter: number words between English
and German, then the digits of such words and whether they are odd. A run that is finished is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import seqmodal
from seqmodal.training.record import read_metrics


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0, help="of training, an example")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    print("| example | asked | word for word | seconds |\n|---|---|---|---|")
    for example in ("numbers", "tasks"):
        run = args.out / example
        if not (run / "judged.json").is_file():
            how = {"minutes": args.minutes, "threads": args.threads, "samples": 0}
            seqmodal.train("translation", out=run, example=example, training=how)
        seconds = read_metrics(run / "metrics.csv")[-1]["seconds"]
        for name, value in json.loads((run / "judged.json").read_text()).items():
            kind, _, asked = name.partition("_")
            if kind in ("exact", "accuracy"):
                print(f"| {example} | {asked.replace('_', ' to ')} | {value:.2%} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
