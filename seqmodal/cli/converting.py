"""`seqmodal convert`: tunes in ABC notation to MIDI files, and back."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from seqmodal.cli.runs import open_run
from seqmodal.errors import BadInput, ConfigError, SeqmodalError

WRITES = (".abc", ".mid", ".midi")


@dataclass(frozen=True)
class Convert:
    """Make MIDI files of tunes in ABC notation, and ABC notation of MIDI files: a few bars at a time, which are joined.
    Of an .abc with several tunes, each becomes a file."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run of the recipe abc."""
    files: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="FILE ...")]
    """.abc becomes .mid, and .mid becomes .abc. What cannot be converted is told, and the others are."""
    out: str | None = None
    """The folder to write to, or for a single FILE the file; by default the run's samples folder. A file that stands
    beside those given is not overwritten."""


def convert(given: list[str]) -> None:
    """`seqmodal convert RUN FILE…`."""
    args = tyro.cli(Convert, args=given, prog="seqmodal convert")
    from rich.console import Console
    from rich.progress import Progress

    sources = [Path(name).expanduser() for name in args.files]
    out = Path(args.out).expanduser() if args.out else Path(args.run) / "samples"
    if not sources:
        raise ConfigError("no file is given; give some: seqmodal convert RUN FILE ...")
    if _is_name(out) and out.suffix.lower() not in WRITES:
        raise BadInput(out, f"tunes are written as {' or '.join(WRITES)}", "or give a folder that is there")
    if _is_name(out) and len(sources) > 1:
        raise ConfigError(f"--out {out} is one file, and {len(sources)} are given to convert; give a folder")
    module, config, model = open_run(args.run, "convert")
    places = _Places(out, {source.resolve().parent for source in sources})
    with Progress(console=Console(stderr=True), transient=True) as bar:
        steps = bar.track(sources, description="converting")
        found = [one for source in steps for one in _converted(module, config, model, source, places)]
    for one in found:
        if isinstance(one, Path):
            print(one)
        else:
            print(f"left out: {one}", file=sys.stderr)
    if not places.taken:
        raise SeqmodalError("nothing could be converted")


@dataclass
class _Places:
    """Where to write: `out`, and not over what is `taken` or stands in a folder that is `kept`."""

    out: Path
    kept: set[Path]
    taken: set[Path] = field(default_factory=set)

    def take(self, source: Path, number: int, count: int, suffix: str) -> Path:
        """The place of item `number` of `count` that a source becomes. Raises BadInput."""
        named = _is_name(self.out)
        if named and (self.out.suffix.lower() == ".abc") != (suffix == ".abc"):
            raise BadInput(self.out, f"{source.name} becomes {suffix}", f"try --out {self.out.stem}{suffix}")
        path = self.out if named else self.out / f"{source.stem}{suffix}"
        if count > 1:
            path = path.with_stem(f"{path.stem}-{number}")
        path.parent.mkdir(parents=True, exist_ok=True)
        real = path.resolve()
        if real in self.taken or (real.exists() and real.parent in self.kept):
            raise BadInput(path, f"it is there already, and {source} would replace it", "give --out another folder")
        self.taken.add(real)
        return path


def _converted(module: Any, config: Any, model: Any, source: Path, places: _Places) -> Iterator[Path | Exception]:
    """The files that are written of a source; in place of what cannot be, the reason."""
    try:
        items = list(module.convert(model, config, source))
    except (SeqmodalError, OSError) as error:
        yield error
        return
    for number, item in enumerate(items, 1):
        try:
            yield item if isinstance(item, BadInput) else _written(item, source, number, len(items), places)
        except (SeqmodalError, OSError) as error:
            yield error


def _written(item: Any, source: Path, number: int, count: int, places: _Places) -> Path:
    path = places.take(source, number, count, ".abc" if isinstance(item, str) else ".mid")
    if isinstance(item, str):
        path.write_text(item, encoding="utf-8")
    else:
        item.write(str(path))
    return path


def _is_name(out: Path) -> bool:
    """Whether it is the name of a file and not of a folder."""
    return bool(out.suffix) and not out.is_dir()
