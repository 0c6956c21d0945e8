"""`seqmodal train`, `prepare` and `demo`: a recipe and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from seqmodal.errors import ConfigError

SHORT = ("minutes", "steps", "seed")
"""Settings of `training` that are written often, and so without its name."""


def train(given: list[str]) -> None:
    """`seqmodal train RECIPE`; `seqmodal train --config config.yaml` takes the recipe that made the run it is of."""
    file = _value(given, "--config")
    if file is not None and given[0].startswith("-"):
        from seqmodal.training.recipe import recipe_in

        given = [recipe_in(Path(file)), *given]
    recipe, rest = _object(given, "train", "; to resume, the recipe's name or a run folder")
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
    recipe, rest = _object(given, "prepare")
    module, config, _ = _configured(recipe, rest, "prepare")
    from seqmodal.data.corpus import prepare as make

    if config.init is None:
        prepared = make(module, config)
    else:
        from seqmodal.model import load

        model = load(config.init, tokenizers=getattr(module, "TOKENIZERS", None))
        prepared = make(module, config, model.tokenizers, model.vocabulary)
    for name, value in prepared.facts.items():
        print(
            f"{name.replace('_', ' ')}: {value:,}" if isinstance(value, int) else f"{name.replace('_', ' ')}: {value}"
        )
    for split, store in prepared.stores.items():
        print(f"{split}: {len(store):,} documents, {store.num_tokens:,} tokens")
    print(prepared.folder)


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


def _object(given: list[str], verb: str, more: str = "") -> tuple[str, list[str]]:
    """The main object of a verb, which stands in first place, and the flags after it."""
    if given and not given[0].startswith("-"):
        return given[0], given[1:]
    if given and given[0] in ("-h", "--help"):
        return "music", given
    from seqmodal.training.recipe import recipes

    raise ConfigError(f"seqmodal {verb} needs a recipe ({', '.join(recipes())}) or a recipe file{more}")


def _configured(recipe: str, given: list[str], verb: str) -> tuple[Any, Any, str | None]:
    """The recipe's module, its configuration from --preset, --config and the flags, and --out."""
    from seqmodal.config import PRESETS
    from seqmodal.training.recipe import configure, find_recipe

    module = find_recipe(recipe)
    preset, file = (_value(given, flag) for flag in ("--preset", "--config"))
    start = configure(module, preset_name=preset, file=file, settings={})
    if (init := _value(given, "--init") or start.init) is not None:
        from seqmodal.model import load
        from seqmodal.transfer import shape_from

        model = load(init, tokenizers=getattr(module, "TOKENIZERS", None))
        shape = shape_from(model.decoder.config, model.tokenizers)
        start = configure(module, preset_name=preset, file=file, settings={}, shape=shape)
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
    places = tyro.conf.arg(metavar="PATH ...", help="Files or folders to learn from; none: the recipe's own corpus.")
    extra.append(("data", Annotated[str | tuple[str, ...] | None, places], field(default=None)))
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
