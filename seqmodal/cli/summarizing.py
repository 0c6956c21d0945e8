"""`seqmodal summarize`: a summary of each text, on standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from seqmodal.cli.runs import open_run
from seqmodal.errors import BadInput, SeqmodalError

RECORDS = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""Names of files that hold a text a line."""


@dataclass(frozen=True)
class Summarize:
    """Summarize texts: a line of output for each file, and for each line of a .jsonl; without files, standard input."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run of the recipe summarization."""
    files: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[FILE…]")] = ()
    """Text files, plain or gzip; of a .jsonl, the field that the run learned from."""
    beams: int | None = None
    """Prefixes that are kept while the likeliest summary is searched for; by default as the run says."""
    length_penalty: float | None = None
    """Higher makes longer summaries; by default as the run says."""
    max_new_tokens: int | None = None
    """At most so many tokens; by default as the run says."""
    errors: Literal["strict", "replace"] = "strict"
    """strict: bytes that are no UTF-8 are told, with the line; replace: they become U+FFFD."""


def summarize(given: list[str]) -> None:
    """`seqmodal summarize RUN FILE…`. What cannot be read is told on standard error, and its line stays empty."""
    args = tyro.cli(Summarize, args=given, prog="seqmodal summarize")
    from dataclasses import replace

    from rich.console import Console
    from rich.progress import Progress

    module, config, model = open_run(args.run, "summarize")
    read: Any = {"errors": args.errors}
    config = replace(config, **read)
    names = ("beams", "length_penalty", "max_new_tokens")
    how = {name: value for name in names if (value := getattr(args, name)) is not None}
    texts = list(_texts(args.files, module, config, model))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="replace", newline="\n")
    good = [text for text in texts if isinstance(text, str)]
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("summarizing", total=len(good))
        made = iter(
            module.summarize(
                model, config, good, progress=lambda done, total: bar.update(task, completed=done), **how
            )
        )  # fmt: skip
    for text in texts:
        print(next(made) if isinstance(text, str) else "")
        if isinstance(text, BadInput):
            print(f"left out: {text}", file=sys.stderr)
    if long := module.how_many_are_cut(model, config, good):
        print(f"{long:,} of {len(good):,} texts were read up to token {config.article:,} only", file=sys.stderr)
    if texts and not good:
        raise SeqmodalError("nothing could be summarized")


def _texts(files: tuple[str, ...], module: Any, config: Any, model: Any) -> Iterator[str | BadInput]:
    """The texts in order; in place of one that cannot be read or is empty, the reason."""
    for name in files or ("",):
        try:
            if name.lower().endswith(RECORDS):
                for found in module.read_articles(Path(name), config, with_summary=False):
                    yield found if isinstance(found, BadInput) else found.text
                continue
            source = Path(name).expanduser() if name else sys.stdin.buffer
            text = "\n".join(model.tokenizer("text").lines(source, config.errors))
            yield text if text.strip() else BadInput(name or "standard input", "there is no text")
        except BadInput as error:
            yield error
