"""The laws of a tokenizer, checked on its own examples, on files, and on random ids: a kit for plug-in authors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput, NotFitted
from seqmodal.tokenizers.protocol import Distorting, Exemplary, Fittable, Grammatical, Readable, Tokenizer


@dataclass(frozen=True)
class Failure:
    """A law that was broken, on what, and how."""

    law: str
    on: str
    how: str

    def __str__(self) -> str:
        return f"{self.law}: {self.how} (on {self.on})"


def check(tokenizer: Tokenizer[Any], files: Sequence[Path] = (), runs: int = 100, seed: int = 0) -> list[Failure]:
    """All laws that `tokenizer` breaks; an empty list when it keeps them.

    Args:
        tokenizer: one that still has to be fitted is fitted on its examples, in place.
        files: real input to check beside its examples, for one that reads.
        runs: random sequences of ids to decode.
        seed: of the random ids.
    """
    kit = _Kit(tokenizer)
    rng = np.random.default_rng(seed)
    items = list(tokenizer.examples(rng)) if isinstance(tokenizer, Exemplary) else []
    if isinstance(tokenizer, Fittable) and not _is_fitted(tokenizer):
        kit.unfitted(items)
        kit.attempt("fit takes items", "its examples", partial(tokenizer.fit, items))
        if kit.failures:
            return kit.failures
    for number, item in enumerate(items):
        kit.item(item, f"example {number}")
    if isinstance(tokenizer, Readable):
        for path in files:
            item = kit.attempt("reads files", str(path), partial(tokenizer.read, path))
            if item is not None:
                kit.item(item, str(path))
        kit.rubbish(tokenizer, rng)
    for number in range(runs):
        ids = rng.integers(tokenizer.vocab_size, size=int(rng.integers(0, 200))).astype(np.int32)
        kit.random(ids, f"random ids {number}")
    return kit.failures


def _is_fitted(tokenizer: Tokenizer[Any]) -> bool:
    try:
        return tokenizer.vocab_size >= 0
    except NotFitted:
        return False


class _Kit:
    def __init__(self, tokenizer: Tokenizer[Any]) -> None:
        self.tokenizer = tokenizer
        self.failures: list[Failure] = []

    def attempt(self, law: str, on: str, call: Callable[[], Any]) -> Any:
        """What `call` returns; an exception breaks the law, and gives None."""
        try:
            return call()
        except Exception as error:  # anything a stranger's tokenizer does is a finding, not a crash
            self.failures.append(Failure(law, on, f"{type(error).__name__}: {error}"))
            return None

    def expect(self, law: str, on: str, holds: bool, how: str) -> None:
        if not holds:
            self.failures.append(Failure(law, on, how))

    def unfitted(self, items: Sequence[Any]) -> None:
        """Before `fit` nothing is encoded."""
        for number, item in enumerate(items[:1]):
            try:
                self.tokenizer.encode(item)
            except NotFitted:
                continue
            except Exception as error:  # every other exception is the finding
                how = f"{type(error).__name__}: {error}"
            else:
                how = "it encodes"
            self.failures.append(Failure("encode raises NotFitted before fit", f"example {number}", how))

    def item(self, item: Any, on: str) -> None:
        """The laws that hold for an item."""
        t = self.tokenizer
        ids = self.attempt("encode takes items", on, lambda: np.asarray(t.encode(item)))
        if ids is None:
            return
        if ids.ndim != 1 or ids.dtype.kind not in "iu":
            return self.expect("ids are integers of one axis", on, False, f"they are {ids.dtype} of shape {ids.shape}")
        if len(ids) and not 0 <= ids.min() <= ids.max() < t.vocab_size:
            how = f"{ids.min()} to {ids.max()} reach beyond 0 to {t.vocab_size - 1}"
            return self.expect("ids are in range", on, False, how)
        again = self.attempt("encode is deterministic", on, lambda: np.asarray(t.encode(item)))
        self.expect("encode is deterministic", on, again is not None and np.array_equal(ids, again), "two calls differ")
        rebuilt = self.attempt(
            "from_dict rebuilds", on, lambda: np.asarray(type(t).from_dict(t.to_dict()).encode(item))
        )
        self.expect(
            "from_dict rebuilds", on, rebuilt is not None and np.array_equal(ids, rebuilt), "it encodes differently"
        )
        back = self.attempt("decode is total", on, lambda: t.decode(ids))
        if back is None:
            return
        self.round_trip(item, ids, back, on)
        if isinstance(t, Grammatical):
            self.attempt("the grammar accepts what encode gives", on, lambda: self.grammar(ids, on))

    def round_trip(self, item: Any, ids: np.ndarray, back: Any, on: str) -> None:
        """Exact, or, for a tokenizer that distorts, no worse the second time."""
        t = self.tokenizer
        law = "encode takes what decode returns"
        second = self.attempt(law, on, lambda: np.asarray(t.encode(back)))
        if second is None:
            return
        if isinstance(t, Distorting):
            once, twice = t.distortion(item, back), t.distortion(item, t.decode(second))
            self.expect(
                "a second round trip distorts little more", on, twice <= 1.5 * once + 1e-9, f"{once} became {twice}"
            )
        else:
            self.expect("encode undoes decode", on, np.array_equal(ids, second), "other ids come back")

    def grammar(self, ids: np.ndarray, on: str) -> None:
        """The grammar accepts what encode gives, and its end."""
        grammar = self.tokenizer.grammar()  # type: ignore[attr-defined]
        for at, value in enumerate(ids.tolist()):
            mask = grammar.mask()
            if not mask[value]:
                self.failures.append(
                    Failure("the grammar accepts what encode gives", on, f"id {value} at {at} is refused")
                )
                return
            grammar.advance(value)
        self.expect("the grammar accepts what encode gives", on, bool(grammar.mask()[-1]), "the end is refused")

    def random(self, ids: np.ndarray, on: str) -> None:
        """Any ids in range decode to an item that encodes."""
        item = self.attempt("decode is total", on, lambda: self.tokenizer.decode(ids))
        if item is not None:
            self.attempt("encode takes what decode returns", on, lambda: self.tokenizer.encode(item))

    def rubbish(self, tokenizer: Readable, rng: np.random.Generator) -> None:
        """Unreadable files raise BadInput that names the file."""
        law = "rubbish raises BadInput that names the file"
        with tempfile.TemporaryDirectory() as folder:
            for number, data in enumerate((b"", rng.bytes(300), b"\xff" * 64)):
                path = Path(folder) / f"rubbish_{number}{tokenizer.suffixes[0]}"
                path.write_bytes(data)
                try:
                    tokenizer.read(path)
                except BadInput as error:
                    self.expect(law, path.name, path.name in str(error), f"the message is {error}")
                except Exception as error:  # every other exception is the finding
                    self.failures.append(Failure(law, path.name, f"{type(error).__name__}: {error}"))
