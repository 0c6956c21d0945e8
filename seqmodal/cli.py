"""The command line: `seqmodal VERB OBJECT [--flags]`. Each verb imports what it needs when it is called."""

from __future__ import annotations

import io
import os
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from seqmodal.errors import BadInput, ConfigError, SeqmodalError

HELP = """\
seqmodal: one decoder, any modality

  seqmodal train RECIPE      learn from your files and leave a run folder
  seqmodal generate RUN      make something new with a run, or go on from a prompt
  seqmodal next RUN          the likeliest next tokens of a text, to pick from
  seqmodal evaluate RUN      how well a run predicts, and how its samples compare with the data
  seqmodal prepare RECIPE    read and tokenize the files now, to train later
  seqmodal tokenizers        list the tokenizers there are; `tokenizers check NAME` tests one
  seqmodal demo              train on Bach's chorales for a few minutes and listen

  seqmodal VERB --help       the flags of a verb

examples
  seqmodal train music --data ~/midi --minutes 20 --out runs/music
  seqmodal generate runs/music --seconds 60 --prompt primer.mid --out song.mid
  seqmodal train language --data book.txt --minutes 5 --out runs/book
  seqmodal generate runs/book --prompt "The ship"

exit codes: 0 done, 1 it could not be done (the message says why), 2 a wrong word, flag or setting, 130/143 stopped
"""
SECONDS, TOKENS = 60.0, 256
"""How much `generate` makes by default, of what has a duration and of text."""
SHORT = ("minutes", "steps", "seed")
"""Settings of `training` that are written often, and so without its name."""
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
    """Seconds to make, beyond the prompt; by default 60, where the model makes what has a duration."""
    max_new_tokens: int | None = None
    """At most so many tokens, beyond the prompt; by default 256 for a model of text."""
    prompt: str | None = None
    """A file to go on from; for a model of text, what names no text file is the text itself."""
    prompt_seconds: float | None = None
    """Use only the first seconds of the prompt."""
    prompt_share: float | None = None
    """Use only so much of the prompt's tokens, from the start: of a picture, 0.5 is the upper half."""
    fill: tuple[float, float] | None = None
    """Make this stretch of the prompt anew, from one token to another (of sound, from one second), and keep the rest:
    for a run that learned the objective masked. Not for music, whose notes would hang."""
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
    """The text so far, or a text file that is there; by default from nothing."""


@dataclass(frozen=True)
class Evaluate:
    """How well a run predicts files, and how its samples compare with them."""

    run: RunFolder
    """A run folder."""
    data: str | None = None
    """File or folder to evaluate on, its test part where it has one; by default the run's own validation part."""
    exclude: tuple[str, ...] = ()
    """Patterns of file names to leave out."""
    json: bool = False
    """Print JSON on standard output."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbs = {
        "train": train,
        "generate": generate,
        "next": next_tokens,
        "evaluate": evaluate,
        "prepare": prepare,
        "tokenizers": tokenizers,
        "demo": demo,
    }
    if not given or given[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    if given[0] == "--version":
        from seqmodal import __version__

        print(__version__)
        return 0
    try:
        if given[0] not in verbs:
            raise ConfigError(f"no verb is called {given[0]!r}; there are: {', '.join(verbs)}. See seqmodal --help")
        verbs[given[0]](given[1:])
        sys.stdout.flush()
        return 0
    except BrokenPipeError:  # whoever reads the output has had enough, such as `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (SeqmodalError, OSError) as error:  # such as a full disk, or a folder that may not be written
        if os.environ.get("SEQMODAL_DEBUG"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1  # tyro ends with 2 as well
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def train(given: list[str]) -> None:
    """`seqmodal train RECIPE`; `seqmodal train --config config.yaml` takes the recipe that made the run it is of."""
    file = _value(given, "--config")
    if file is not None and given[0].startswith("-"):
        from seqmodal.training.recipe import recipe_in

        given = [recipe_in(Path(file)), *given]
    recipe, rest = _object(
        given, "train",
        "a recipe (music, language, images) or a recipe file; to resume, the recipe's name or a run folder",
    )
    if "--resume" in rest or (recipe and (Path(recipe) / "config.yaml").is_file()):
        args = tyro.cli(_Resume, args=rest, prog=f"seqmodal train {recipe}")
        if not args.resume:
            raise ConfigError(f"{recipe} is a run; go on with it by: seqmodal train {recipe} --resume")
        from seqmodal.training import train as run

        run(recipe, out=args.out, resume=True)
        return
    module, config, out = _configured(recipe, rest, "train")
    from seqmodal.training import train as run

    run(recipe, out=out, config=config)


def prepare(given: list[str]) -> None:
    """`seqmodal prepare RECIPE`."""
    recipe, rest = _object(given, "prepare", "a recipe (music, language, images) or a recipe file")
    module, config, _ = _configured(recipe, rest, "prepare")
    from seqmodal.data.corpus import prepare as make

    prepared = make(module, config)
    for name, value in prepared.facts.items():
        print(
            f"{name.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')}: {value}"
        )
    for split, store in prepared.stores.items():
        print(f"{split}: {len(store):,} documents, {store.num_tokens:,} tokens")
    print(prepared.folder)


def generate(given: list[str]) -> None:
    """`seqmodal generate RUN`."""
    args = tyro.cli(Generate, args=given, prog="seqmodal generate")
    import numpy as np

    from seqmodal.model import load
    from seqmodal.show.page import Item, page
    from seqmodal.show.sheet import sheet
    from seqmodal.tokenizers.protocol import Grammatical, Streamable, Timed

    model = load(args.run)
    tokenizer = model.tokenizer()
    suffix = tokenizer.suffixes[0]
    if args.out and Path(args.out).suffix.lower() not in tokenizer.suffixes:
        allowed = " or ".join(tokenizer.suffixes)
        raise BadInput(args.out, f"{tokenizer.name} is written as {allowed}", f"try {Path(args.out).stem}{suffix}")
    if args.fill is None and args.seconds is None and args.max_new_tokens is None:
        timed, ends = isinstance(tokenizer, Timed), isinstance(tokenizer, Grammatical)
        args = replace(args, seconds=SECONDS if timed else None, max_new_tokens=None if timed or ends else TOKENS)
    if isinstance(tokenizer, Streamable) and args.out is None and args.fill is None:
        _print_text(model, args)
        return
    made = _sample(model, args) if args.fill is None else _filled(model, args)
    if args.prompt is not None and all(len(one.ids) == len(one.prompt_ids) for one in made):
        print("nothing was added: the prompt is whole; --prompt-share 0.5 uses its first half", file=sys.stderr)
    seed = made[0].seed
    out = Path(args.out) if args.out else Path(args.run) / "samples" / f"generated_{seed}{suffix}"
    out.parent.mkdir(parents=True, exist_ok=True)
    listed, pictures = [], suffix == ".png"
    for number, one in enumerate(made, 1):
        path = out if len(made) == 1 else out.with_stem(f"{out.stem}-{number}")
        tokenizer.write(one.item, path)
        shown = {}
        if len(made) == 1 or not pictures:
            shown = {extra.suffix: extra for extra in model.show(one, path.with_suffix(""))}
        listed.append(Item(path.name, shown.get(".wav"), shown.get(".png")))
        for file in (path, *shown.values()):
            print(file)
    if len(made) > 1 and pictures:
        print(sheet([np.asarray(one.item) for one in made], out.with_suffix(".png")))
    elif len(made) > 1:
        print(page(listed, out.with_suffix(".html"), title=f"{out.stem}, seed {seed}"))
    print(f"seed {seed}", file=sys.stderr)


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
            max_new_tokens=args.max_new_tokens,
            draft="lookup" if args.draft == "lookup" else load(args.draft) if args.draft else None,
            seed=args.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **{name: getattr(args, name) for name in SAMPLING},
        )


def _prompt(model: Any, args: Generate) -> Any:
    """What to go on from: the prompt, or the ids of its share."""
    share = args.prompt_share
    if share is None:
        return args.prompt
    if args.prompt is None or not 0 < share <= 1:
        raise ConfigError(f"prompt_share is {share}; it is above 0 and at most 1, of a prompt given with --prompt")
    from seqmodal.prompt import prompt_ids

    given = prompt_ids(model.tokenizer(), args.prompt, args.prompt_seconds)
    return given[: round(share * len(given))]


def _filled(model: Any, args: Generate) -> list[Any]:
    """A stretch of the prompt made anew."""
    if args.prompt is None or args.fill is None:
        raise ConfigError("--fill makes a stretch of a prompt anew; give the file with --prompt")
    for name in ("seconds", "max_new_tokens", "prompt_seconds", "prompt_share", "draft"):
        if getattr(args, name) is not None:
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} and --fill do not go together: what is filled keeps its number of ids")
    sampling = {name: getattr(args, name) for name in SAMPLING}
    return model.fill(args.prompt, *args.fill, variations=args.variations, seed=args.seed, **sampling)


def _print_text(model: Any, args: Generate) -> None:
    """The prompt and what follows it on standard output: as it comes, or whole where several are made side by side."""
    from seqmodal.prompt import prompt_ids

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows few characters
    if args.variations != 1 or args.draft or args.seconds is not None or args.prompt_seconds is not None:
        made = _sample(model, args)
        for number, one in enumerate(made, 1):
            if len(made) > 1:
                print(f"{number} of {len(made)}:", file=sys.stderr, flush=True)
            print(one.item, flush=True)
        print(f"seed {made[0].seed}", file=sys.stderr)
        return
    seed = secrets.randbelow(1 << 31) if args.seed is None else args.seed
    given = prompt_ids(model.tokenizer(), _prompt(model, args), None)
    pieces = model.stream(
        given, max_new_tokens=args.max_new_tokens, seed=seed, **{name: getattr(args, name) for name in SAMPLING}
    )
    print(model.tokenizer().stream().push(given), end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
    print()
    print(f"seed {seed}", file=sys.stderr)


def next_tokens(given: list[str]) -> None:
    """`seqmodal next RUN`."""
    args = tyro.cli(Next, args=given, prog="seqmodal next")
    from rich.console import Console

    from seqmodal.explore import explore
    from seqmodal.model import load

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that knows few characters
    explore(load(args.run), args.prompt, Console(highlight=False), input if sys.stdin.isatty() else None)


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


def tokenizers(given: list[str]) -> None:
    """`seqmodal tokenizers`, `seqmodal tokenizers check NAME [FILES…]`."""
    if given and given[0] in ("-h", "--help"):
        print("usage: seqmodal tokenizers                        list them")
        print("       seqmodal tokenizers check NAME [FILES…]    does it keep the laws of a tokenizer?")
        return
    from seqmodal.tokenizers import available, check, failures
    from seqmodal.tokenizers import tokenizer as build

    if given and given[0] == "check":
        if len(given) < 2:
            raise ConfigError("tokenizers check needs a name; there are: " + ", ".join(available()))
        found = check(build(given[1]), files=[Path(name) for name in given[2:]])
        for failure in found:
            print(failure)
        if found:
            raise SeqmodalError(f"{given[1]} breaks {len(found)} of the laws of a tokenizer")
        print(f"{given[1]} keeps all laws of a tokenizer")
        return
    if given:
        raise ConfigError(f"tokenizers takes no {given[0]!r}; there is: seqmodal tokenizers [check NAME [FILES…]]")
    for name, entry in available().items():
        print(f"{name:10}  {entry.summary}  [{entry.distribution}]")
    for line in failures():
        print(f"broken: {line}", file=sys.stderr)


def demo(given: list[str]) -> None:
    """`seqmodal demo`: the built-in corpus, a few minutes, music to hear."""
    args = tyro.cli(_Demo, args=given, prog="seqmodal demo")
    out = Path(args.out)
    if (out / "model").is_dir():
        print(f"{out} is there already; listen to it, or remove it to train again:")
        for path in (out / "loss.png", *sorted((out / "samples").glob("*"))):
            print(path)
        print(f"next: seqmodal generate {out}")
        return
    from seqmodal.training import train as run

    if (out / "config.yaml").is_file():
        run(out, resume=True)
    else:
        run("music", out=out, training={"minutes": args.minutes})


@dataclass(frozen=True)
class _Demo:
    """Train on Bach's chorales for a few minutes and write music to listen to."""

    out: str = "runs/demo"
    """The run folder."""
    minutes: float = 4.0
    """How long to train."""


@dataclass(frozen=True)
class _Resume:
    """Go on with a run where it stopped."""

    resume: bool = False
    """Go on with the run."""
    out: str | None = None
    """The run folder, where it is not runs/RECIPE."""


def _object(given: list[str], verb: str, wanted: str) -> tuple[str, list[str]]:
    """The main object of a verb, which stands in first place, and the flags after it."""
    if given and not given[0].startswith("-"):
        return given[0], given[1:]
    if given and given[0] in ("-h", "--help"):
        return "music", given
    raise ConfigError(f"seqmodal {verb} needs {wanted}")


def _configured(recipe: str, given: list[str], verb: str) -> tuple[Any, Any, str | None]:
    """The recipe's module, its configuration from --preset, --config and the flags, and --out."""
    from seqmodal.config import PRESETS
    from seqmodal.training.recipe import configure, find_recipe

    module = find_recipe(recipe)
    preset, file = (_value(given, flag) for flag in ("--preset", "--config"))
    start = configure(module, preset_name=preset, file=file, settings={})
    out = Annotated[str | None, tyro.conf.arg(help="The run folder; by default runs/RECIPE.")]
    extra: list[Any] = [
        *([("out", out, field(default=None))] if verb == "train" else []),
        (
            "preset",
            Annotated[str | None, tyro.conf.arg(help=f"A decoder by name: {', '.join(PRESETS)}.")],
            field(default=None),
        ),
        ("config", Annotated[str | None, tyro.conf.arg(help="YAML file of settings.")], field(default=None)),
    ]
    for name in SHORT:
        kind, help = type(getattr(start.training, name)), f"Short for --training.{name}."
        extra.append((name, Annotated[kind | None, tyro.conf.arg(help=help)], field(default=None)))
    flags = make_dataclass("Flags", extra, bases=(module.Config,), frozen=True)
    known = {f.name: getattr(start, f.name) for f in fields(module.Config)}
    parsed = tyro.cli(
        flags,
        args=given,
        default=flags(**known),
        config=(tyro.conf.AvoidSubcommands,),
        prog=f"seqmodal {verb} {recipe}",
        description=f"{module.__doc__}\n\nFlags win over --config, which wins over --preset.",
    )
    config = module.Config(**{name: getattr(parsed, name) for name in known})
    short = {name: value for name in SHORT if (value := getattr(parsed, name)) is not None}
    return module, replace(config, training=replace(config.training, **short)), getattr(parsed, "out", None)


def _value(given: list[str], flag: str) -> str | None:
    """What a flag is set to, before all flags are read."""
    for at, word in enumerate(given):
        if word == flag and at + 1 < len(given):
            return given[at + 1]
        if word.startswith(f"{flag}="):
            return word[len(flag) + 1 :]
    return None


if __name__ == "__main__":
    sys.exit(main())
