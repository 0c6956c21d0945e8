"""The laws of a tokenizer, checked on its own examples, on files, and on random ids: a kit for plug-in authors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
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
        runs: random sequences of ids to decode: `random_ids(tokenizer.vocab_size, seed, number)`.
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
    return [*kit.failures, *fuzz(tokenizer, range(runs), seed)]


def fuzz(
    tokenizer: Tokenizer[Any], numbers: Iterable[int], seed: int = 0, decode: Callable[[np.ndarray], Any] | None = None
) -> Iterator[Failure]:  # fmt: skip
    """Decode random ids, and encode what comes.

    Args:
        tokenizer: fitted, where it has to be.
        numbers: which random ids.
        seed: of them.
        decode: in place of the tokenizer's own, where that takes long: a part of it that must not fail either. What it
            gives is not encoded.
    """
    for number in numbers:
        kit, on = _Kit(tokenizer), f"random ids {number} of seed {seed}"
        ids = random_ids(tokenizer.vocab_size, seed, number)
        item = kit.attempt("decode is total", on, partial(decode or tokenizer.decode, ids))
        if item is not None and decode is None:
            kit.attempt("encode takes what decode returns", on, partial(tokenizer.encode, item))
        yield from kit.failures


def random_ids(vocab_size: int, seed: int, number: int) -> np.ndarray:
    """Ids int32 (n,), n up to 200: any; or few different ones; or each several times in a row."""
    rng = np.random.default_rng([seed, number])
    size = int(rng.integers(200)) if vocab_size else 0
    ids = rng.integers(vocab_size, size=size) if size else np.zeros(0)
    if number % 3 == 1 and size:
        ids = rng.choice(ids[: int(rng.integers(1, 6))], size)
    elif number % 3 == 2 and size:
        ids = ids.repeat(int(rng.integers(2, 30)))[:size]
    return ids.astype(np.int32)


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
