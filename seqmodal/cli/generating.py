"""`seqmodal generate` and `next`: what a run makes."""

from __future__ import annotations

import io
import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from seqmodal.cli.runs import stem_beside
from seqmodal.errors import BadInput, ConfigError

SECONDS, TOKENS = 60.0, 256
"""How much `generate` makes by default, of what has a duration and of text."""
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical", "repetition_penalty")
"""Flags of `generate` that say how to choose."""
RunFolder = Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]


@dataclass(frozen=True)
class Generate:
    """Make something new with a run, or go on from a prompt."""

    run: RunFolder
    """A run folder, a model folder, or a folder of GPT-2 with its tokenizer."""
    out: str | None = None
    """File to write; by default in the run's samples folder, and text goes to standard output."""
    seconds: float | None = None
    """Seconds to make, beyond the prompt; by default 60, of a model that makes one thing, which has a duration."""
    max_new_tokens: int | None = None
    """At most so many tokens, beyond the prompt; by default 256 for a model of text."""
    prompt: str | None = None
    """A file to go on from; for a model of text, what names no file is the text itself. With --to, what is of
    another kind is made into what is asked for."""
    to: str | None = None
    """What to make, of a model that makes several things: the name of one of its tokenizers, such as text or sound."""
    prompt_seconds: float | None = None
    """Use only the first seconds of the prompt."""
    prompt_share: float | None = None
    """Use only so much of the prompt's tokens, from the start: of a picture, 0.5 is the upper half."""
    fill: tuple[float, float] | None = None
    """Make this stretch of the prompt anew, from one token to another (of sound, from one second), and keep the rest:
    for a run that learned the objective masked. Not for music, whose notes would hang."""
    stop: tuple[str, ...] = ()
    r"""Of text: end behind the first of these that is made, such as "." or, in a shell, $'\n'."""
    temperature: float = 0.95
    """1: as the model has it; lower is safer; 0: always the likeliest."""
    top_p: float | None = 0.98
    """Draw from the likeliest ids that hold this share of the probability."""
    top_k: int | None = None
    """Draw from the k likeliest ids."""
    min_p: float | None = None
    """Draw from ids at least this likely, as a share of the likeliest."""
    typical: float | None = None
    """Draw from the ids whose surprise is nearest to what is expected, that hold this share of the probability."""
    repetition_penalty: float = 1.0
    """Above 1: make what has come before less likely."""
    beams: int | None = None
    """Search for the likeliest with so many prefixes, instead of drawing; the variations are then the best found."""
    guidance: float | None = None
    """Above 1: hold more to what is given, for a run with --training.condition-dropout."""
    draft: str | None = None
    """lookup, or the run of a smaller model: several events are guessed at once, and kept where this model agrees."""
    seed: int | None = None
    """The same seed gives the same again; by default a new one, which is printed."""
    variations: int = 1
    """How many to make, side by side."""


@dataclass(frozen=True)
class Next:
    """Show the ten likeliest next tokens of a text; in a terminal, pick one by its number and go on."""

    run: RunFolder
    """A run folder, a model folder, or a folder of GPT-2 with its tokenizer."""
    prompt: str | None = None
    """The text so far, or a text file that is there; or what the text is made of, such as a picture. By default from
    nothing."""
    to: str | None = None
    """Of a model with several vocabularies of text: which."""


def generate(given: list[str]) -> None:
    """`seqmodal generate RUN`."""
    args = tyro.cli(Generate, args=given, prog="seqmodal generate")
    import numpy as np

    from seqmodal.show.page import Item, page
    from seqmodal.show.sheet import sheet
    from seqmodal.tokenizers.protocol import Grammatical, Readable, Streamable, Timed, Writable

    model = _loaded(args.run)
    tokenizer = model.maker(args.to)
    if not all(isinstance(tokenizer, kind) for kind in (Readable, Writable)):
        raise ConfigError(
            f"the tokenizer {tokenizer.name} writes no files; give it `suffixes`, `read` and `write`, or take the "
            "items from Python: seqmodal.load(RUN).generate()"
        )
    suffix = tokenizer.suffixes[0]
    written = getattr(tokenizer, "writes", tokenizer.suffixes)
    if args.out and Path(args.out).suffix.lower() not in written:
        allowed = " or ".join(written)
        raise BadInput(args.out, f"{tokenizer.name} is written as {allowed}", f"try {Path(args.out).stem}{suffix}")
    unbounded = args.fill is None and args.seconds is None and args.max_new_tokens is None
    if unbounded and len(model.tokenizers) == 1:  # of several, each made from another ends by itself
        timed, ends = isinstance(tokenizer, Timed), isinstance(tokenizer, Grammatical)
        args = replace(args, seconds=SECONDS if timed else None, max_new_tokens=None if timed or ends else TOKENS)
    if isinstance(tokenizer, Streamable) and args.out is None and args.fill is None:
        _print_text(model, args)
        return
    if args.out:
        stem_beside(Path(args.out), args.prompt)  # before anything is made
    made = _sample(model, args) if args.fill is None else _filled(model, args)
    if args.prompt is not None and all(len(one.ids) == len(one.prompt_ids) for one in made):
        print("nothing was added: the prompt is whole; --prompt-share 0.5 uses its first half", file=sys.stderr)
    seed = made[0].seed
    out = Path(args.out) if args.out else Path(args.run) / "samples" / f"generated_{seed}{suffix}"
    out.parent.mkdir(parents=True, exist_ok=True)
    listed, pictures = [], suffix == ".png"
    for number, one in enumerate(made, 1):
        path = out if len(made) == 1 else out.with_stem(f"{out.stem}-{number}")
        stem = stem_beside(path, args.prompt)
        tokenizer.write(one.item, path)
        shown = {}
        if len(made) == 1 or not pictures:
            shown = {extra.suffix: extra for extra in model.show(one, stem, args.to)}
        listed.append(Item(path.name, shown.get(".wav"), shown.get(".png")))
        for file in dict.fromkeys((path, *shown.values())):
            print(file)
    if len(made) > 1 and pictures:
        print(sheet([np.asarray(one.item) for one in made], stem_beside(out, args.prompt).with_suffix(".png")))
    elif len(made) > 1:
        print(page(listed, stem_beside(out, args.prompt).with_suffix(".html"), title=f"{out.stem}, seed {seed}"))
    print(f"seed {seed}", file=sys.stderr)


def _loaded(run: str) -> Any:
    """The model, which must be one that goes on from a prompt."""
    from seqmodal.model import load
    from seqmodal.model.answers import TAGS, tags_of

    model = load(run)
    if TAGS in (tokenizer.name for tokenizer in model.tokenizers):
        raise ConfigError(
            f"{run} answers what it is given: seqmodal translate {run} --to {tags_of(model)[0]} < in.txt"
        )  # fmt: skip
    return model


def _sample(model: Any, args: Generate) -> list[Any]:
    """What is made, with a moving bar on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    from seqmodal.model import load

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("generating", total=args.seconds or args.max_new_tokens)
        return model.sample(
            _prompt(model, args),
            seconds=args.seconds,
            prompt_seconds=args.prompt_seconds if args.prompt_share is None else None,
            variations=args.variations,
            stop=args.stop or None,
            max_new_tokens=args.max_new_tokens,
            to=args.to,
            guidance=args.guidance,
            draft="lookup" if args.draft == "lookup" else load(args.draft) if args.draft else None,
            seed=args.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            beams=args.beams,
            **_sampling(args),
        )


def _sampling(args: Generate) -> dict[str, Any]:
    """How to choose; of a search, which draws nothing, what is not as by default, for it to be refused."""
    plain = Generate(args.run)
    return {
        name: value for name in SAMPLING
        if (value := getattr(args, name)) != getattr(plain, name) or args.beams is None
    }  # fmt: skip


def _prompt(model: Any, args: Generate) -> Any:
    """What to go on from: the prompt, or the ids of its share."""
    share = args.prompt_share
    if share is None:
        return args.prompt
    if args.prompt is None or not 0 < share <= 1:
        raise ConfigError(f"prompt_share is {share}; it is above 0 and at most 1, of a prompt given with --prompt")
    from seqmodal.prompt import prompt_ids, prompt_tokenizer

    tokenizer = model.maker(args.to)
    if prompt_tokenizer(model.tokenizers, args.prompt, tokenizer) is not tokenizer:
        raise ConfigError("prompt_share is for a prompt to go on from; this one, of another kind, is given as a whole")
    given = prompt_ids(tokenizer, args.prompt, args.prompt_seconds)
    return given[: round(share * len(given))]


def _filled(model: Any, args: Generate) -> list[Any]:
    """A stretch of the prompt made anew."""
    if args.prompt is None or args.fill is None:
        raise ConfigError("--fill makes a stretch of a prompt anew; give the file with --prompt")
    for name in ("seconds", "max_new_tokens", "prompt_seconds", "prompt_share", "draft", "guidance", "beams", "stop"):
        if getattr(args, name) not in (None, ()):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} and --fill do not go together: what is filled keeps its number of ids")
    how = _sampling(args)
    return model.fill(args.prompt, *args.fill, to=args.to, variations=args.variations, seed=args.seed, **how)


def _print_text(model: Any, args: Generate) -> None:
    """The prompt and what follows it on standard output: as it comes, or whole where several are made side by side."""
    from seqmodal.prompt import prompt_ids, prompt_tokenizer

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows few characters
    whole = args.variations != 1 or args.draft or args.guidance is not None or args.beams is not None
    if whole or args.seconds is not None or args.prompt_seconds is not None:
        made = _sample(model, args)
        for number, one in enumerate(made, 1):
            if len(made) > 1:
                print(f"{number} of {len(made)}:", file=sys.stderr, flush=True)
            print(one.item, flush=True)
        print(f"seed {made[0].seed}", file=sys.stderr)
        return
    seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed
    tokenizer, prompt = model.maker(args.to), _prompt(model, args)
    before = ""
    if prompt_tokenizer(model.tokenizers, prompt, tokenizer) is tokenizer:
        prompt = prompt_ids(tokenizer, prompt, None)
        before = tokenizer.stream().push(prompt)
    how = _sampling(args)
    pieces = model.stream(
        prompt, to=args.to, stop=args.stop or None, max_new_tokens=args.max_new_tokens, seed=seed, **how
    )
    print(before, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    print(f"seed {seed}", file=sys.stderr)


def next_tokens(given: list[str]) -> None:
    """`seqmodal next RUN`."""
    args = tyro.cli(Next, args=given, prog="seqmodal next")
    from rich.console import Console

    from seqmodal.explore import explore

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows few characters
    ask = input if sys.stdin.isatty() else None
    explore(_loaded(args.run), args.prompt, Console(highlight=False), ask, to=args.to)
