"""Finding a recipe by name or by file, and its configuration from presets, YAML and settings."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from seqmodal.config import DecoderConfig, RecipeConfig, from_dict, preset, to_dict
from seqmodal.errors import BadInput, ConfigError

PARTS = ("Config", "corpus", "judge", "show")


def recipes() -> list[str]:
    """Names of the recipes that come with seqmodal."""
    package = importlib.import_module("seqmodal.recipes")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def find_recipe(name: str | Path) -> ModuleType:
    """The recipe of that name, or in that file.

    Raises:
        ConfigError: when there is none, or it lacks a part.
    """
    path = Path(name).expanduser()
    if path.suffix == ".py":
        if not path.is_file():
            raise BadInput(path, "there is no such recipe file")
        module = _load(path)
    elif str(name) in recipes():
        module = importlib.import_module(f"seqmodal.recipes.{name}")
    else:
        raise ConfigError(
            f"no recipe is called {str(name)!r}; there are: {', '.join(recipes())}, or give a file ./mine.py"
        )
    missing = [part for part in PARTS if not hasattr(module, part)]
    if missing:
        raise ConfigError(f"the recipe {name} has no {', '.join(missing)}; a recipe has {', '.join(PARTS)}")
    return module


def _load(path: Path) -> ModuleType:
    """The module in a file. It is registered, since dataclasses and worker processes look their module up by name."""
    spec = importlib.util.spec_from_file_location(f"seqmodal_recipe_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def configure(
    recipe: ModuleType, *, preset_name: str | None, file: str | Path | None, settings: dict[str, Any],
    shape: DecoderConfig | None = None,
) -> RecipeConfig:  # fmt: skip
    """The recipe's configuration: its defaults, then the preset, then the YAML file, then `settings`.

    Args:
        recipe: has the defaults.
        preset_name: of a decoder.
        file: YAML.
        settings: fields, groups as dictionaries.
        shape: of the model that is gone on from, in place of the default decoder.

    Raises:
        ConfigError: for a preset beside it, and for settings that are unknown or mean nothing.
    """
    config: RecipeConfig = recipe.Config()
    if shape is not None:
        if preset_name is not None:
            raise ConfigError(f"preset {preset_name} and init do not go together: the model of init has a shape")
        config = replace(config, model=shape)
    if preset_name is not None:
        chosen = preset(preset_name)
        config = replace(config, model=chosen.model, training=replace(config.training, **chosen.training))
    if file is not None:
        config = from_dict(type(config), load_yaml(Path(file)), base=config)
    return from_dict(type(config), settings, base=config)


def load_yaml(path: Path) -> dict[str, Any]:
    """The settings in a YAML file, without the name of the recipe that config.yaml also holds."""
    return {key: value for key, value in _read(path).items() if key != "recipe"}


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(path, f"not a readable YAML file: {error}") from error
    if not isinstance(values, dict):
        raise BadInput(path, "a configuration is a mapping of settings", "see config.yaml of any run")
    return values


def save_yaml(path: Path, name: str, config: RecipeConfig) -> None:
    """Write the whole configuration, so that `train --config` repeats it."""
    path.write_text(yaml.safe_dump({"recipe": name, **to_dict(config)}, sort_keys=False), encoding="utf-8")


def recipe_of_run(folder: Path) -> tuple[ModuleType, RecipeConfig]:
    """The recipe that made a run, from the copy the run keeps where it came from a file, and its configuration.

    Raises:
        BadInput: when the folder holds no run.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise BadInput(folder, "this is no run: it has no config.yaml", "give the folder that `seqmodal train` printed")
    module = find_recipe(recipe_in(file))
    return module, configure(module, preset_name=None, file=file, settings={})


def recipe_in(config: Path) -> str:
    """The recipe that a run's config.yaml names: one that comes with seqmodal, or the copy of a file beside it."""
    name = str(_read(config).get("recipe", ""))
    return name if name in recipes() else str(config.with_name("recipe.py"))
