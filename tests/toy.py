"""A tokenizer as small as the contract allows, with a few abilities, for tests of all that handles tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput


class Digits:
    """Lists of small integers, an id each."""

    suffixes = (".digits",)

    def __init__(self, name: str = "digits", size: int = 10) -> None:
        self.name, self.vocab_size = name, size

    def encode(self, item: Any) -> np.ndarray:
        return np.asarray(item, np.int32)

    def decode(self, ids: np.ndarray) -> list[int]:
        return [int(i) for i in ids]

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "size": self.vocab_size}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Digits:
        return cls(d["name"], d["size"])

    def read(self, path: Path) -> list[int]:
        text = path.read_bytes()
        if not text or not all(48 <= byte <= 57 for byte in text):
            raise BadInput(path, "not a line of digits")
        return [byte - 48 for byte in text]

    def examples(self, rng: np.random.Generator) -> list[list[int]]:
        return [[], rng.integers(self.vocab_size, size=20).tolist()]

    def grammar(self) -> Rising:
        return Rising(self.vocab_size)


class Rising:
    """Takes every id, and an end at any time; the shape of a grammar."""

    def __init__(self, size: int) -> None:
        self.size = size

    def mask(self) -> np.ndarray:
        return np.ones(self.size + 1, bool)

    def clip(self, id: int) -> int:
        return id

    def advance(self, id: int) -> None:
        if not 0 <= id < self.size:
            raise ValueError(f"{id} is no id")

    def copy(self) -> Rising:
        return Rising(self.size)


class Grid:
    """Pictures three wide, of numbers from 0 to 1 in tenths: ids on a grid, and features."""

    name, vocab_size, wide = "grid", 11, 3

    def encode(self, item: Any) -> np.ndarray:
        return np.rint(np.asarray(item, np.float32).ravel() * 10).astype(np.int32)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        whole = np.resize(np.asarray(ids, np.float32) / 10, -(-len(ids) // self.wide) * self.wide)
        whole[len(ids) :] = 0
        return whole.reshape(-1, self.wide)

    def features(self, item: Any) -> np.ndarray:
        values = np.asarray(item, np.float32).ravel()
        return np.stack([values - 0.5, values**2], axis=1)

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        return np.stack(np.divmod(np.arange(len(ids)), self.wide), axis=1).astype(np.int32)

    def to_dict(self) -> dict[str, Any]:
        return {}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Grid:
        return cls()

    def examples(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.random((2, self.wide))]


class Palette:
    """Lists of colours, each taken for the nearest of a palette that was learned: NumPy arrays in `to_dict`."""

    def __init__(self, colours: np.ndarray | None = None) -> None:
        self.name = "palette"
        self.colours = np.linspace(0, 1, 7, dtype=np.float32) if colours is None else colours

    @property
    def vocab_size(self) -> int:
        return len(self.colours)

    def encode(self, item: Any) -> np.ndarray:
        return np.abs(np.asarray(item, np.float32)[:, None] - self.colours).argmin(axis=1).astype(np.int32)

    def decode(self, ids: np.ndarray) -> np.ndarray:
        return self.colours[ids]

    def to_dict(self) -> dict[str, Any]:
        return {"colours": self.colours}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Palette:
        return cls(d["colours"])

    def distortion(self, x: Any, y: Any) -> float:
        return float(np.abs(np.asarray(x) - np.asarray(y)).mean())

    def examples(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.random(12, dtype=np.float32)]
