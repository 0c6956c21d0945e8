"""`make fuzz`: very many random ids for every registered tokenizer, which decodes them and encodes what comes.

The suite does 300 for each (tests/test_conformance.py). What fails is printed with the command that repeats it.
"""

from __future__ import annotations

import argparse
import secrets
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from seqmodal.tokenizers import available, tokenizer
from seqmodal.tokenizers.conformance import fuzz
from seqmodal.tokenizers.protocol import Fittable

CHEAPER = {"sound": "decode_spectrogram"}
"""What stands for `decode` where that takes long: Griffin-Lim makes a sound of any spectrogram."""
AT_ONCE = 500
"""Sequences of a task."""


@cache
def ready(name: str) -> Any:
    """A registered tokenizer, fitted on its examples where it has to be."""
    made = tokenizer(name)
    if isinstance(made, Fittable):
        made.fit(made.examples(np.random.default_rng(0)))  # type: ignore[attr-defined]
    return made


def cheaper(name: str) -> Callable[[np.ndarray], Any] | None:
    """What stands for its `decode`; None: nothing does."""
    return getattr(ready(name), CHEAPER[name]) if name in CHEAPER else None


def some(task: tuple[str, int, int, int]) -> tuple[int, list[str]]:
    """How many were tried, and what failed."""
    name, first, last, seed = task
    return last - first, [str(found) for found in fuzz(ready(name), range(first, last), seed, cheaper(name))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100_000, help="sequences for each tokenizer")
    parser.add_argument("--first", type=int, default=0, help="number of the first")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(1 << 31), help="by default a new one")
    parser.add_argument("--only", choices=sorted(available()), help="one tokenizer")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    args = parser.parse_args()
    console, failed, last = Console(stderr=True), 0, args.first + args.runs
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool, Progress(console=console) as bar:
        for name in [args.only] if args.only else sorted(available()):
            start, own = time.perf_counter(), 0
            line = bar.add_task(name, total=args.runs)
            tasks = [(name, at, min(at + AT_ONCE, last), args.seed) for at in range(args.first, last, AT_ONCE)]
            for done, failures in pool.map(some, tasks):
                bar.advance(line, done)
                own += len(failures)
                for failure in failures[: max(0, 10 - own + len(failures))]:
                    print(f"{name}: {failure}")
            if own:
                again = f"tests/fuzz.py --only {name} --seed {args.seed} --first N --runs 1"
                print(f"{name}: {own} failures; number N again: {again}")
            failed += own
            print(f"{name}: {args.runs:,} random sequences of ids in {time.perf_counter() - start:.0f} s", flush=True)
    print(f"seed {args.seed}, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
