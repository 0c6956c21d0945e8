"""Settings to plain values and back."""

from __future__ import annotations

import dataclasses
import difflib
import os
from dataclasses import fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from seqmodal.errors import ConfigError

Config = TypeVar("Config")


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain values, for YAML or JSON."""
    plain: dict[str, Any] = {"kind": config.kind} if hasattr(config, "kind") else {}
    for f in fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            value = to_dict(value)
        plain[f.name] = list(value) if isinstance(value, tuple) else value
    return plain


def from_dict(cls: type[Config], values: dict[str, Any], *, base: Config | None = None, where: str = "") -> Config:
    """The configuration `cls` with `values` laid over `base` (or over its defaults).

    Raises:
        ConfigError: for a key that is no field, with the nearest ones, or a value of the wrong type.
    """
    start: Any = base if base is not None else cls()
    names = {f.name for f in fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    changes: dict[str, Any] = {}
    for key, value in values.items():
        if key not in names:
            near = difflib.get_close_matches(key, names, n=3)
            guess = f"did you mean {' or '.join(near)}?" if near else f"it may be one of: {', '.join(sorted(names))}"
            raise ConfigError(f"unknown setting {where}{key}; {guess}")
        changes[key] = _fit(getattr(start, key), value, f"{where}{key}", get_args(hints[key]))
    return dataclasses.replace(start, **changes)


def _fit(current: Any, value: Any, where: str, choices: tuple[Any, ...] = ()) -> Any:
    """Bring a value from YAML or JSON to the type that the setting has; a choice among dataclasses says its kind."""
    if dataclasses.is_dataclass(current):
        if isinstance(value, type(current)) or (choices and isinstance(value, choices)):
            return value
        if choices and isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, dict):
            raise ConfigError(f"{where} is a group of settings, not {value!r}")
        if choices and "kind" in value:
            kinds = {choice.kind: choice for choice in choices}
            if value["kind"] not in kinds:
                raise ConfigError(f"{where}.kind is {value['kind']!r}; it is one of {', '.join(kinds)}")
            chosen = kinds[value["kind"]]
            value = {key: given for key, given in value.items() if key != "kind"}
            current = current if type(current) is chosen else chosen()
        return from_dict(type(current), value, base=current, where=f"{where}.")
    several = isinstance(current, tuple) or any(get_origin(one) is tuple for one in choices)
    if several and isinstance(value, list | tuple):
        return tuple(os.fspath(one) if isinstance(one, os.PathLike) else one for one in value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(current, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if current is not None and value is not None and type(value) is not type(current) and type(value) not in choices:
        raise ConfigError(f"{where} is {value!r}; it must be of type {type(current).__name__}")
    return value
