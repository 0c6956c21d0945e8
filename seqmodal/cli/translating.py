"""`seqmodal translate`: texts on standard input, their answers on standard output, line by line."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Literal

import tyro

from seqmodal.errors import ConfigError

AT_ONCE = 2048
"""Lines that are answered and written together."""


@dataclass(frozen=True)
class Translate:
    """Translate the lines of standard input, or do to them what else the run has learned; line n of the output is the
    answer to line n, an empty one to an empty one."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run of the recipe translation, or its model folder."""
    to: str | None = None
    """The language; may be left out where the run has learned one thing only."""
    task: str | None = None
    """In place of --to: the task, of a run that has learned some."""
    beams: int = 4
    """Prefixes that are kept while the likeliest answer is searched for."""
    length_penalty: float = 0.6
    """Above 0, longer answers cost less."""
    errors: Literal["strict", "replace"] = "strict"
    """strict: what is no UTF-8 ends it, with the line and the byte; replace: it becomes U+FFFD."""


def translate(given: list[str]) -> None:
    """`seqmodal translate RUN < in > out`."""
    args = tyro.cli(Translate, args=given, prog="seqmodal translate")
    from rich.console import Console
    from rich.progress import Progress

    from seqmodal.model import load
    from seqmodal.model.answers import TEXT, answers, chosen_tag

    if args.to is not None and args.task is not None:
        raise ConfigError(f"--to {args.to} and --task {args.task} do not go together: both say what is asked")
    model = load(args.run)
    tag = chosen_tag(model, args.to if args.task is None else args.task)
    lines = list(model.tokenizer(TEXT).lines(sys.stdin.buffer, args.errors))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("translating", total=len(lines))
        for first in range(0, len(lines), AT_ONCE):
            some = lines[first : first + AT_ONCE]
            how: Any = {"beams": args.beams, "length_penalty": args.length_penalty}
            for one in answers(model, some, tag, progress=partial(_tell, bar, task, first, len(some)), **how):
                print(" ".join(one.split()))  # one line, whatever it is made of
            sys.stdout.flush()
    print(f"{len(lines):,} lines", file=sys.stderr)


def _tell(bar: Any, task: Any, first: int, size: int, done: float, total: float) -> None:
    bar.update(task, completed=first + size * done / total)
