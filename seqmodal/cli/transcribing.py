"""`seqmodal transcribe`: a recording of any length as a MIDI file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from seqmodal.cli.runs import open_run, stem_beside
from seqmodal.errors import BadInput


@dataclass(frozen=True)
class Transcribe:
    """Write down the notes of a recording: it is heard in windows that overlap, and what they tell is joined."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run of the recipe transcription."""
    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """The recording: .wav, .flac, .ogg or .mp3."""
    out: str | None = None
    """The MIDI file to write; by default called like the recording, in the run's samples folder."""


def transcribe(given: list[str]) -> None:
    """`seqmodal transcribe RUN FILE`."""
    args = tyro.cli(Transcribe, args=given, prog="seqmodal transcribe")
    from rich.console import Console
    from rich.progress import Progress

    module, _, model = open_run(args.run, "transcribe")
    tokenizer, source = model.tokenizer("transcript"), Path(args.file).expanduser()
    out = Path(args.out) if args.out else Path(args.run) / "samples" / f"{source.stem}.mid"
    if out.suffix.lower() not in tokenizer.suffixes:
        raise BadInput(out, f"notes are written as {' or '.join(tokenizer.suffixes)}", f"try {out.stem}.mid")
    stem = stem_beside(out, source)
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("transcribing", total=None)
        notes = module.transcribe(
            model, source, progress=lambda done, total: bar.update(task, completed=done, total=total)
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.write(notes, out)
    for path in (out, *tokenizer.show(notes, stem)):
        print(path)
