"""`seqmodal evaluate`: how good a run is."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seqmodal.errors import BadInput, ConfigError


@dataclass(frozen=True)
class Evaluate:
    """How well a run predicts files, and how its samples compare with them."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run folder."""
    data: Annotated[str | tuple[str, ...] | None, tyro.conf.arg(metavar="PATH ...")] = None
    """Files or folders to evaluate on, their test part where there is one; else the run's own validation part."""
    exclude: tuple[str, ...] = ()
    """Patterns of file names to leave out."""
    json: bool = False
    """Print JSON on standard output."""


def evaluate(given: list[str]) -> None:
    """`seqmodal evaluate RUN`."""
    args = tyro.cli(Evaluate, args=given, prog="seqmodal evaluate")
    if args.exclude and args.data is None:
        raise ConfigError("--exclude leaves files of --data out, and none is given")
    from seqmodal.training.judge import judge_run

    metrics = judge_run(Path(args.run), data=args.data, exclude=args.exclude)
    if not metrics:
        raise BadInput(args.run, "it kept no validation part", "give --data with files to evaluate on")
    if args.json:
        import json

        print(json.dumps(metrics, indent=1))
        return
    width = max(map(len, metrics))
    for name, value in metrics.items():
        print(f"{name.replace('_', ' '):{width}}  {value:,.3f}")
    picture = Path(args.run) / ("evaluated" if args.data else "") / "statistics.png"
    if picture.is_file():
        print(picture)
