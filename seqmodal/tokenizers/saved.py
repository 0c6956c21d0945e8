"""Tokenizers in a folder: their settings, where they came from, and by what to tell whether they still do the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput, Mismatch
from seqmodal.tokenizers.protocol import Distorting, Exemplary, Tokenizer
from seqmodal.tokenizers.registry import Entry, entries, find, not_imported

FILE, ARRAYS = "tokenizers.json", "tokenizers.safetensors"


def fingerprint(tokenizer: Tokenizer[Any]) -> str:
    """Changes with what the tokenizer is made of and with what `encode` does to its own examples.

    Raises:
        BadInput: for settings that cannot be saved.
    """
    digest = hashlib.sha256(tokenizer.name.encode())
    plain, arrays = _settings(tokenizer)
    digest.update(json.dumps(plain, sort_keys=True).encode())
    for key in sorted(arrays):
        digest.update(key.encode() + arrays[key].tobytes())
    if isinstance(tokenizer, Exemplary):
        for item in tokenizer.examples(np.random.default_rng(0)):
            digest.update(np.asarray(tokenizer.encode(item), dtype="<i4").tobytes())
    return digest.hexdigest()[:32]


def decode_fingerprint(tokenizer: Tokenizer[Any]) -> str:
    """Changes with what `decode` makes of some ids, which is seen by encoding it again.

    Nothing ("") where that tells nothing: for a tokenizer that loses something, and where it fails or differs from call
    to call.
    """
    if isinstance(tokenizer, Distorting):
        return ""
    try:
        first, second = (_decoded(tokenizer) for _ in range(2))
    except Exception:  # whatever a stranger's tokenizer does; the conformance kit says what
        return ""
    return first if first == second else ""


def _decoded(tokenizer: Tokenizer[Any]) -> str:
    digest = hashlib.sha256()
    for ids in _probes(tokenizer.vocab_size):
        digest.update(np.asarray(tokenizer.encode(tokenizer.decode(ids)), dtype="<i4").tobytes() + b"|")
    return digest.hexdigest()[:32]


def _probes(vocab_size: int) -> list[np.ndarray]:
    """Rows of ids int32: a thousand that are spread over all, in order; some of all, and of the first few, mixed. No
    generator of NumPy makes them, since those may change with its version."""
    if not vocab_size:
        return []
    spread = np.arange(0, vocab_size, -(-vocab_size // 1000))
    mixed = np.arange(1, 201) * 2654435761 % 2**32 >> 8
    return [ids.astype(np.int32) for ids in (spread, mixed % vocab_size, mixed % min(vocab_size, 5))]


def rebuilt(tokenizer: Tokenizer[Any]) -> Any:
    """A tokenizer made anew from its settings, as a folder keeps them. Raises BadInput where they cannot be saved."""
    from safetensors.numpy import load, save

    plain, arrays = _settings(tokenizer)
    return type(tokenizer).from_dict({**json.loads(json.dumps(plain)), **load(save(arrays))})


def save_tokenizers(tokenizers: Sequence[Tokenizer[Any]], folder: Path) -> None:
    """Write what rebuilds them: tokenizers.json, and tokenizers.safetensors for arrays.

    Raises:
        BadInput: for settings that cannot be saved.
    """
    known = {entry.cls: entry for entry in entries()}
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for held in tokenizers:
        plain, own = _settings(held)
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
                "decode_fingerprint": decode_fingerprint(held),
            }
        )
        arrays |= {f"{held.name}/{key}": value for key, value in own.items()}
    if arrays:
        from safetensors.numpy import save_file

        save_file(arrays, folder / ARRAYS)
    (folder / FILE).write_text(json.dumps(rows, indent=1), encoding="utf-8")


def load_tokenizers(folder: Path, extra: Mapping[str, type] | None = None) -> list[Any]:
    """Rebuild what `save_tokenizers` wrote.

    Args:
        folder: where tokenizers.json lies.
        extra: classes by name, in place of what plug-ins register.

    Raises:
        BadInput: for a missing or unreadable file.
        ConfigError: when two plug-ins have the name of one that is needed.
        Mismatch: when a tokenizer is not installed, or does something else than when it was saved. Of one without
            examples nobody can tell, so that another version of its distribution is refused.
    """
    try:
        rows = json.loads((folder / FILE).read_text(encoding="utf-8"))
        arrays = _arrays(folder / ARRAYS) if any(row["arrays"] for row in rows) else {}
        own = [{key: arrays[f"{row['name']}/{key}"] for key in row["arrays"]} for row in rows]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise BadInput(folder / FILE, f"cannot be read: {type(error).__name__}: {error}") from error
    held = []
    for row, values in zip(rows, own, strict=True):
        kind, then = row["kind"], f"{row['distribution']} {row.get('version', '')}".strip() or "unregistered"
        cls = _class(kind, extra or {})
        if cls is None:
            raise Mismatch(
                f"{folder} needs the tokenizer {kind!r} of {row['module']} ({then}), which is not here; install it, "
                f"or pass its class: load(..., tokenizers={{{kind!r}: ...}}){not_imported()}"
            )
        now = next((entry for entry in entries() if entry.cls is cls), None)
        made, differs = _remade(cls, row, values, now)
        if differs:
            raise Mismatch(
                f"the tokenizer {kind!r} here ({cls.__module__}, {now.origin if now else 'unregistered'}) does not do "
                f"what it did when {folder} was saved ({then}): {differs}; install the version it was saved with"
            )
        held.append(made)
    return held


def _class(kind: str, extra: Mapping[str, type]) -> Any | None:
    if kind in extra:
        return extra[kind]
    return find(kind).cls if any(entry.name == kind for entry in entries()) else None


def _remade(
    cls: Any, row: dict[str, Any], arrays: dict[str, np.ndarray], now: Entry | None
) -> tuple[Any, str]:  # fmt: skip
    """A tokenizer as it was saved, and how it differs from what it was: nothing where it does not."""
    try:
        made = cls.from_dict({**row["config"], **arrays})
        same = fingerprint(made) == row["fingerprint"]
    except Exception as error:  # whatever a stranger's other version does with settings it does not know
        return None, f"it cannot be rebuilt from its settings: {type(error).__name__}: {error}"
    if not same:
        return made, _difference(made, row, arrays)
    decoding = row.get("decode_fingerprint")  # folders of before do not have it
    if decoding and decode_fingerprint(made) != decoding:
        return made, "it decodes the same ids to something else"
    then, here = row.get("version", ""), now.version if now else ""
    if isinstance(made, Exemplary) or not then or not here or then == here:
        return made, ""
    return made, "it has no `examples` by which the two versions could be compared"


def _difference(made: Any, row: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """How a tokenizer with another fingerprint than what was saved differs from it."""
    plain, own = _settings(made)
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


def _settings(tokenizer: Tokenizer[Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What `to_dict` gives: JSON values, and arrays of numbers, contiguous. Raises BadInput for anything else."""
    plain, arrays = {}, {}
    for key, value in tokenizer.to_dict().items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            arrays[key] = np.asarray(value, order="C")
            continue
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise BadInput(
                f"the tokenizer {tokenizer.name}", f"its to_dict has {key}, which cannot be saved: {error}",
                "give JSON values, such as int(...) of a number of NumPy, and arrays of numbers",
            ) from error  # fmt: skip
        plain[key] = value
    return plain, arrays
