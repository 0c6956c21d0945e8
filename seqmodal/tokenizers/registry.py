"""Tokenizers by name, from the modules of the namespace package `tokenizers_ext` that any distribution may add to."""

from __future__ import annotations

import hashlib
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

import numpy as np

from seqmodal.errors import BadInput, ConfigError, Mismatch
from seqmodal.tokenizers.protocol import ABILITIES, Exemplary, Tokenizer

NAMESPACE = "tokenizers_ext"
FILE, ARRAYS = "tokenizers.json", "tokenizers.safetensors"


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
        return f"{self.distribution} {self.version}".rstrip()

    @property
    def summary(self) -> str:
        """First line of its documentation."""
        return (self.cls.__doc__ or "").strip().split("\n")[0]

    @property
    def abilities(self) -> tuple[str, ...]:
        """Names of the optional protocols that it fulfils."""
        return tuple(a.__name__ for a in ABILITIES if all(hasattr(self.cls, name) for name in _members(a)))


@cache
def _discover() -> tuple[dict[str, Entry], tuple[str, ...]]:
    """Every module is imported alone, so that one which fails names itself and breaks nobody else."""
    found: dict[str, Entry] = {}
    broken: list[str] = []
    spec = importlib.util.find_spec(NAMESPACE)
    places = dict.fromkeys(str(Path(p).resolve()) for p in spec.submodule_search_locations or ()) if spec else {}
    for place in places:
        for module in pkgutil.iter_modules([place]):
            if module.name.startswith("_"):
                continue
            name, file = f"{NAMESPACE}.{module.name}", str(Path(place) / f"{module.name}.py")
            try:
                table: Mapping[str, type] = importlib.import_module(name).TOKENIZERS
            except Exception as error:  # whatever a stranger's module does at import
                broken.append(f"{name} ({file}): {type(error).__name__}: {error}")
                continue
            for key, cls in table.items():
                entry = Entry(key, cls, name, file, *_distribution(file))
                if key in found:
                    other = found[key]
                    raise ConfigError(
                        f"two tokenizers are called {key!r}: {other.module} ({other.file}, {other.origin}) and "
                        f"{name} ({file}, {entry.origin}); uninstall one or pass the object itself"
                    )
                found[key] = entry
    return found, tuple(broken)


def available() -> dict[str, Entry]:
    """All tokenizers by name."""
    return dict(_discover()[0])


def failures() -> tuple[str, ...]:
    """One line for every plug-in that could not be imported: module, file, error."""
    return _discover()[1]


def tokenizer(name: str, **options: Any) -> Any:
    """A tokenizer by name; `options` are its constructor's.

    Raises:
        ConfigError: for an unknown name, with those there are and the plug-ins that failed, or an unknown option.
    """
    found, broken = _discover()
    if name not in found:
        also = f"; could not be imported: {'; '.join(broken)}" if broken else ""
        raise ConfigError(f"no tokenizer is called {name!r}; there are: {', '.join(sorted(found))}{also}")
    try:
        return found[name].cls(**options)
    except TypeError as error:
        raise ConfigError(f"tokenizer {name!r}: {error}") from error


def fingerprint(tokenizer: Tokenizer[Any]) -> str:
    """Changes with what the tokenizer is made of and with what it does to its own examples."""
    digest = hashlib.sha256(tokenizer.name.encode())
    plain, arrays = _split(tokenizer.to_dict())
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for key in sorted(arrays):
        digest.update(key.encode() + np.ascontiguousarray(arrays[key]).tobytes())
    if isinstance(tokenizer, Exemplary):
        for item in tokenizer.examples(np.random.default_rng(0)):
            digest.update(np.asarray(tokenizer.encode(item), dtype="<i4").tobytes())
    return digest.hexdigest()[:32]


def save_tokenizers(tokenizers: Sequence[Tokenizer[Any]], folder: Path) -> None:
    """Write what rebuilds them: tokenizers.json, and tokenizers.safetensors for arrays."""
    known = {entry.cls: entry for entry in available().values()}
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for held in tokenizers:
        plain, own = _split(held.to_dict())
        entry = known.get(type(held))
        rows.append(
            {
                "name": held.name,
                "kind": entry.name if entry else held.name,
                "config": plain,
                "arrays": sorted(own),
                "module": type(held).__module__,
                "distribution": entry.distribution if entry else "",
                "version": entry.version if entry else "",
                "fingerprint": fingerprint(held),
            }
        )
        arrays |= {f"{held.name}/{key}": np.ascontiguousarray(value) for key, value in own.items()}
    if arrays:
        from safetensors.numpy import save_file

        save_file(arrays, folder / ARRAYS)
    (folder / FILE).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def load_tokenizers(folder: Path, extra: Mapping[str, type] | None = None) -> list[Any]:
    """Rebuild what `save_tokenizers` wrote.

    Args:
        folder: where tokenizers.json lies.
        extra: classes by name that no plug-in registers.

    Raises:
        BadInput: for a missing or unreadable file.
        Mismatch: when a tokenizer is not installed, or does something else than when it was saved. Of one without
            examples nobody can tell, so that another version of its distribution is refused.
    """
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        arrays = _arrays(folder / ARRAYS) if any(row["arrays"] for row in rows) else {}
        own = [{key: arrays[f"{row['name']}/{key}"] for key in row["arrays"]} for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(folder / FILE, f"cannot be read: {type(error).__name__}: {error}") from error
    entries = available()
    classes: dict[str, Any] = {name: entry.cls for name, entry in entries.items()} | dict(extra or {})
    held = []
    for row, values in zip(rows, own, strict=True):
        kind, then = row["kind"], f"{row['distribution']} {row.get('version', '')}".strip()
        if kind not in classes:
            raise Mismatch(
                f"{folder} needs the tokenizer {kind!r} of {row['module']} ({then or 'unregistered'}), which is not "
                f"here; install it, or pass its class: load(..., tokenizers={{{kind!r}: ...}})"
            )
        entry = entries.get(kind)
        now = entry if entry is not None and entry.cls is classes[kind] else None
        rebuilt, differs = _rebuilt(classes[kind], row, values, now)
        if differs:
            here = now.origin if now else "unregistered"
            raise Mismatch(
                f"the tokenizer {kind!r} here ({classes[kind].__module__}, {here}) does not do what it did "
                f"when {folder} was saved ({then or 'unregistered'}): {differs}; install the version it was saved with"
            )
        held.append(rebuilt)
    return held


def _rebuilt(
    cls: Any, row: dict[str, Any], arrays: dict[str, np.ndarray], now: Entry | None
) -> tuple[Any, str]:  # fmt: skip
    """A tokenizer as it was saved, and how it differs from what it was: nothing where it does not."""
    try:
        rebuilt = cls.from_dict({**row["config"], **arrays})
        same = fingerprint(rebuilt) == row["fingerprint"]
    except Exception as error:  # whatever a stranger's other version does with settings it does not know
        return None, f"it cannot be rebuilt from its settings: {type(error).__name__}: {error}"
    if same:
        then, here = row.get("version", ""), now.version if now else ""
        if isinstance(rebuilt, Exemplary) or not then or not here or then == here:
            return rebuilt, ""
        return rebuilt, "it has no `examples` by which the two versions could be compared"
    return rebuilt, _difference(rebuilt, row, arrays)


def _difference(rebuilt: Any, row: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """How a tokenizer with another fingerprint than what was saved differs from it."""
    plain, own = _split(rebuilt.to_dict())
    then, here = row["config"], json.loads(json.dumps(plain))
    changed = [f"{key} is {here.get(key)!r} and was {then.get(key)!r}" for key in sorted({*then, *here})
               if here.get(key) != then.get(key)]  # fmt: skip
    changed += [f"the array {key} differs" for key in sorted({*arrays, *own})
                if key not in arrays or key not in own or not np.array_equal(arrays[key], own[key])]  # fmt: skip
    return "; ".join(changed) or "its examples become other ids, or what was saved has been changed since"


def _arrays(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadInput(path, f"cannot be read: {error}") from error


def _split(d: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays = {key: value for key, value in d.items() if isinstance(value, np.ndarray)}
    return {key: value for key, value in d.items() if key not in arrays}, arrays


def _members(protocol: type) -> list[str]:
    return [n for n in (*protocol.__dict__, *protocol.__annotations__) if not n.startswith("_")]


@cache
def _owners() -> dict[str, tuple[str, str]]:
    """Absolute file to name and version of the distribution that installed it, for the files of the namespace."""
    owners = {}
    for distribution in importlib.metadata.distributions():
        for file in distribution.files or ():
            if file.parts[:1] == (NAMESPACE,):
                place = str(Path(str(distribution.locate_file(file))).resolve())
                owners[place] = (distribution.name, distribution.version)
    return owners


def _distribution(file: str) -> tuple[str, str]:
    """Name and version of what installed a file; an editable install is known by its folder only."""
    return _owners().get(str(Path(file).resolve()), (str(Path(file).resolve().parent.parent), ""))
