"""The laws of what a tokenizer may do beside encoding and decoding. Each tells on which item it is broken, and how."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from seqmodal.tokenizers.protocol import (
    Augmentable,
    Featured,
    Grammatical,
    Located,
    Streamable,
    Tallied,
    Timed,
)

Encoded = Mapping[str, tuple[Any, np.ndarray]]
"""Items and their ids, by a name for people."""
Broken = Iterator[tuple[str, str]]
WALKS, STEPS = 20, 100
"""Random ways through a grammar, and the ids of each."""


def features(tokenizer: Any, items: Encoded) -> Broken:
    """Finite rows of one width."""
    widths = set()
    for on, (item, _) in items.items():
        given = np.asarray(tokenizer.features(item))
        if given.ndim != 2 or given.dtype.kind != "f" or not given.shape[1]:
            yield on, f"they are {given.dtype} of shape {given.shape}, not float32 (n, F)"
            continue
        if not np.array_equal(given, tokenizer.features(item), equal_nan=True):
            yield on, "two calls differ"
        with np.errstate(over="ignore"):
            if not np.isfinite(given.astype(np.float16)).all():
                yield on, "some are not finite, or too large for float16, which they are stored as"
        widths.add(given.shape[1])
        if len(widths) > 1:
            yield on, f"rows have {given.shape[1]} numbers, and those of another item {min(widths - {given.shape[1]})}"
            return


def coordinates(tokenizer: Any, items: Encoded) -> Broken:
    """A place for each id, which later ones do not move."""
    for on, (_, ids) in items.items():
        places = np.asarray(tokenizer.coordinates(ids))
        if places.ndim != 2 or len(places) != len(ids) or not places.shape[1] or places.dtype.kind not in "iu":
            yield on, f"they are {places.dtype} of shape {places.shape}, not int32 ({len(ids)}, axes)"
            continue
        if places.size and np.abs(places.astype(np.float64)).max() > np.iinfo(np.int32).max:
            yield on, "some are beyond int32"
        half = len(ids) // 2
        if not np.array_equal(tokenizer.coordinates(ids[:half]), places[:half]):
            yield on, f"those of the first {half} ids change with what comes later"


def time(tokenizer: Any, items: Encoded) -> Broken:
    """A duration, and a trimmed part that is no longer than it was asked to be."""
    for on, (_, ids) in items.items():
        whole = float(tokenizer.duration(ids))
        if not 0 <= whole < float("inf"):
            yield on, f"duration is {whole}"
            continue
        for seconds in (0.0, whole / 2, whole + 1):
            part = np.asarray(tokenizer.trim(ids, seconds))
            lasts = float(tokenizer.duration(part))
            if len(part) > len(ids) or lasts > seconds + 1e-6 or (seconds > whole and lasts < whole - 1e-6):
                yield on, f"trim to {seconds:g} of {whole:g} seconds gives {lasts:g}, {len(part)} of {len(ids)} ids"


def stream(tokenizer: Any, items: Encoded) -> Broken:
    """Together the text that decode gives."""
    for on, (_, ids) in items.items():
        flow = tokenizer.stream()
        text = "".join([*(flow.push([id]) for id in ids.tolist()), flow.end()])
        if text != tokenizer.decode(ids):
            yield on, f"it gives {text[:40]!r}, and decode {tokenizer.decode(ids)[:40]!r}"


def augmentation(tokenizer: Any, items: Encoded) -> Broken:
    """Ids in range."""
    for on, (_, ids) in items.items():
        for seed in range(5):
            varied = np.asarray(tokenizer.augment(ids, np.random.default_rng(seed)))
            if varied.ndim != 1 or varied.dtype.kind not in "iu":
                yield on, f"it gives {varied.dtype} of shape {varied.shape}"
            elif len(varied) and not 0 <= varied.min() <= varied.max() < tokenizer.vocab_size:
                yield on, f"{varied.min()} to {varied.max()} reach beyond 0 to {tokenizer.vocab_size - 1}"


def grammar(tokenizer: Any, items: Encoded) -> Broken:
    """Whatever it allows, it always allows something next, and what it led to decodes."""
    for seed in range(WALKS):
        rng, walker, ids = np.random.default_rng(seed), tokenizer.grammar(), list[int]()
        while len(ids) < STEPS:
            mask, on = np.asarray(walker.mask()), f"a random way, seed {seed}, after {len(ids)} ids"
            if mask.shape != (tokenizer.vocab_size + 1,) or mask.dtype != bool:
                yield on, f"the mask is {mask.dtype} of shape {mask.shape}, not bool ({tokenizer.vocab_size + 1},)"
                return
            if not mask.any():
                yield on, "nothing is allowed, and no end"
                return
            if (id := int(rng.choice(np.flatnonzero(mask)))) == tokenizer.vocab_size:
                break
            if not 0 <= (taken := walker.clip(id)) < tokenizer.vocab_size:
                yield on, f"clip makes {taken} of {id}, which is no id"
                return
            ids.append(taken)
            walker.advance(taken)
        tokenizer.decode(np.array(ids, np.int32))


def effects(tokenizer: Any, items: Encoded) -> Broken:
    """From -1 to 1, of each id on each counter."""
    given = np.asarray(tokenizer.effects())
    if given.ndim != 2 or len(given) != tokenizer.vocab_size or given.dtype.kind != "i":
        yield "itself", f"they are {given.dtype} of shape {given.shape}, not int8 ({tokenizer.vocab_size}, counters)"
    elif given.size and not -1 <= given.min() <= given.max() <= 1:
        yield "itself", f"they reach from {given.min()} to {given.max()}"


LAWS: dict[str, tuple[type, Callable[[Any, Encoded], Broken]]] = {
    "features are finite rows of one width": (Featured, features),
    "coordinates say where each id lies": (Located, coordinates),
    "trim keeps to the seconds": (Timed, time),
    "a stream gives what decode gives": (Streamable, stream),
    "augment gives ids": (Augmentable, augmentation),
    "the grammar always allows something": (Grammatical, grammar),
    "effects are counted": (Tallied, effects),
}
"""By what they say, the ability that each is of."""
