"""Tokenizers by name, from the modules of the namespace package `tokenizers_ext` that any distribution may add to."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from seqmodal.errors import ConfigError, SeqmodalError
from seqmodal.tokenizers.protocol import ABILITIES, METHODS

NAMESPACE = "tokenizers_ext"


@dataclass(frozen=True)
class Entry:
    """A tokenizer that was found: its class, the module and file it stands in, and the distribution that brought it, or
    the folder where no distribution is known to have installed the file, which then has no version."""

    name: str
    cls: type
    module: str
    file: str
    distribution: str
    version: str

    @property
    def origin(self) -> str:
        """Distribution and version."""
        return _origin(self.distribution, self.version)

    @property
    def summary(self) -> str:
        """First line of its documentation."""
        return (self.cls.__doc__ or "").strip().split("\n")[0]

    @property
    def abilities(self) -> tuple[str, ...]:
        """Names of the optional protocols that it fulfils."""
        return tuple(a.__name__ for a in ABILITIES if all(hasattr(self.cls, name) for name in _members(a)))


@cache
def _discover() -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Every module is imported alone, so that one which fails names itself and breaks nobody else."""
    found: list[Entry] = []
    broken: list[str] = []
    spec = importlib.util.find_spec(NAMESPACE)
    places = dict.fromkeys(Path(p).resolve() for p in spec.submodule_search_locations or ()) if spec else {}
    for place in places:
        for module in pkgutil.iter_modules([str(place)]):
            if module.name.startswith("_"):
                continue
            name = f"{NAMESPACE}.{module.name}"
            file = place / module.name / "__init__.py" if module.ispkg else place / f"{module.name}.py"
            owner = _distribution(place, file)
            try:
                table = _checked(importlib.import_module(name).TOKENIZERS)
            except (Exception, SystemExit) as error:  # whatever a stranger's module does at import
                broken.append(f"{name} ({file}, {_origin(*owner)}): {type(error).__name__}: {error}")
                continue
            found += [Entry(key, cls, name, str(file), *owner) for key, cls in table.items()]
    return tuple(found), tuple(broken)


def _checked(table: Any) -> Mapping[str, type]:
    if not isinstance(table, Mapping):
        raise TypeError(f"TOKENIZERS is a {type(table).__name__}, expected a dict of classes by name")
    for key, cls in table.items():
        if not isinstance(key, str) or not isinstance(cls, type):
            raise TypeError(f"TOKENIZERS has {key!r}: {cls!r}, expected a class by its name")
    return table


def entries() -> tuple[Entry, ...]:
    """All tokenizers; of one name there may be several, of which none can be had by its name."""
    return _discover()[0]


def available() -> dict[str, Entry]:
    """All tokenizers by name, but for names that several have (`duplicates`)."""
    return {name: named[0] for name, named in _by_name().items() if len(named) == 1}


def duplicates() -> tuple[str, ...]:
    """One line for every name that several tokenizers have: modules, files, distributions, and what to do."""
    return tuple(_clash(named) for named in _by_name().values() if len(named) > 1)


def _by_name() -> dict[str, list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries():
        found.setdefault(entry.name, []).append(entry)
    return found


def _clash(named: Sequence[Entry]) -> str:
    first, all_of_them = named[0], " and ".join(f"{each.module} ({each.file}, {each.origin})" for each in named)
    return (
        f"two tokenizers are called {first.name!r}: {all_of_them}; uninstall one, or take the class itself: "
        f"`from {first.module} import {first.cls.__name__}`, load(..., tokenizers={{{first.name!r}: ...}})"
    )


def failures() -> tuple[str, ...]:
    """One line for every plug-in that could not be imported: module, file, distribution, error."""
    return _discover()[1]


def find(name: str) -> Entry:
    """The tokenizer of that name.

    Raises:
        ConfigError: for an unknown name, with those there are and the plug-ins that failed, or one that two have.
    """
    found = _by_name()
    named = found.get(name, [])
    if not named:
        known = ", ".join(sorted(found))
        install = "; a file is found once it is installed: see docs/new-modality.md" if name.endswith(".py") else ""
        raise ConfigError(f"no tokenizer is called {name!r}; there are: {known}{install}{not_imported()}")
    if len(named) > 1:
        raise ConfigError(_clash(named))
    return named[0]


def not_imported() -> str:
    """The end of a message about a tokenizer that is not there: the plug-ins that failed, or nothing."""
    return f"; could not be imported: {'; '.join(failures())}" if failures() else ""


def tokenizer(name: Any, **options: Any) -> Any:
    """A tokenizer by name; `options` are its constructor's. What is a tokenizer already comes back as it is.

    Raises:
        ConfigError: for an unknown name, with those there are and the plug-ins that failed, an unknown option, or an
            object that is no tokenizer.
    """
    if not isinstance(name, str):
        return _object(name, options)
    cls = find(name).cls
    try:
        return cls(**options)
    except SeqmodalError:
        raise
    except TypeError as error:
        raise ConfigError(f"tokenizer {name!r}: {error}") from error
    except Exception as error:  # whatever a stranger's class does, such as to import what is not installed
        raise ConfigError(f"tokenizer {name!r} cannot be made: {type(error).__name__}: {error}") from error


def options_of(given: Sequence[str]) -> dict[str, Any]:
    """Options of a constructor from NAME=VALUE, values as in YAML. Raises ConfigError."""
    import yaml

    parts = [one.partition("=") for one in given]
    for name, sign, value in parts:
        if not name or not sign:
            raise ConfigError(f"options has {name + sign + value!r}; an option is NAME=VALUE, such as bins=64")
    twice = {name for name, _, _ in parts if [other for other, _, _ in parts].count(name) > 1}
    if twice:
        raise ConfigError(f"options has {', '.join(sorted(twice))} more than once; say it once")
    try:
        return {name: yaml.safe_load(value) for name, _, value in parts}
    except (yaml.YAMLError, ValueError) as error:  # a date that is none
        raise ConfigError(f"the options {' '.join(given)} hold a value that is no YAML: {error}") from error


def _object(given: Any, options: Mapping[str, Any]) -> Any:
    kind = type(given).__name__
    lacks = [name for name in METHODS if not hasattr(given, name)]
    if isinstance(given, type) or lacks:
        why = f"lacks {', '.join(lacks)}" if lacks else "is a class; make an object of it"
        raise ConfigError(f"a {kind} is no tokenizer, it {why}; give a name or an object with {', '.join(METHODS)}")
    if options:
        raise ConfigError(f"{', '.join(options)} means nothing for a {kind} that is made already; leave it out")
    return given


def _members(protocol: type) -> list[str]:
    return [n for n in (*protocol.__dict__, *protocol.__annotations__) if not n.startswith("_")]


def _origin(distribution: str, version: str) -> str:
    return f"{distribution} {version}".rstrip()


@cache
def _owners() -> dict[Path, tuple[str, str]]:
    """Name and version of each distribution by what it brings: by the files of the namespace that it installed, or by
    its folder where it is installed as editable."""
    owners = {}
    for distribution in importlib.metadata.distributions():
        owner = (distribution.name, distribution.version)
        for file in distribution.files or ():
            if file.parts[:1] == (NAMESPACE,):
                owners[Path(str(distribution.locate_file(file))).resolve()] = owner
        if (folder := _editable(distribution)) is not None:
            owners[folder] = owner
    return owners


def _editable(distribution: importlib.metadata.Distribution) -> Path | None:
    """Its project's folder, where it is installed as editable (PEP 610)."""
    try:
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        if direct.get("dir_info", {}).get("editable"):
            return Path(unquote(urlsplit(direct["url"]).path)).resolve()
    except (OSError, ValueError, AttributeError, KeyError):  # another installer's idea of that file
        pass
    return None


def _distribution(place: Path, file: Path) -> tuple[str, str]:
    """Name and version of what brought a file of the namespace's folder `place`; else the folder that it lies in."""
    project = place.parent.parent if place.parent.name == "src" else place.parent
    return _owners().get(file.resolve()) or _owners().get(project) or (str(place.parent), "")
