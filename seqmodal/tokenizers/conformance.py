"""The laws of a tokenizer, checked on its own examples, on files, and on random ids: a kit for plug-in authors."""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers.laws import LAWS
from seqmodal.tokenizers.protocol import METHODS, Distorting, Exemplary, Fittable, Grammatical, Readable, Tokenizer
from seqmodal.tokenizers.saved import fingerprint, rebuilt


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
        tokenizer: one that still has to be fitted is fitted on its examples and the files, in place.
        files: real input to check beside its examples, for one that reads.
        runs: random sequences of ids to decode: `random_ids(tokenizer.vocab_size, seed, number)`.
        seed: of the random ids.

    Raises:
        BadInput: for a file that cannot be used; no law says that any can be.
        ConfigError: for files where the tokenizer reads none, or where there is nothing to fit it on.
    """
    kit = _Kit(tokenizer)
    rng = np.random.default_rng(seed)
    fitted = kit.attempt("it has what a tokenizer has", "itself", partial(_is_fitted, tokenizer))
    if kit.failures:
        return kit.failures
    given = kit.read(files)
    own = kit.attempt("examples gives items", "itself", lambda: _examples(tokenizer, rng)) or []
    if not fitted and not kit.fit([*own, *given.values()]):
        return kit.failures
    kit.usable(given)
    for on, item in [*((f"example {number}", item) for number, item in enumerate(own)), *given.items()]:
        kit.item(item, str(on))
    kit.known_again()
    kit.abilities()
    if isinstance(tokenizer, Readable):
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
    """Whether it can be used before `fit`. Raises AttributeError or TypeError where it is no tokenizer."""
    for name in ("name", *METHODS):
        getattr(tokenizer, name)
    try:
        return operator.index(tokenizer.vocab_size) >= 0
    except NotFitted:
        return False


def _examples(tokenizer: Tokenizer[Any], rng: np.random.Generator) -> list[Any]:
    return list(tokenizer.examples(rng)) if isinstance(tokenizer, Exemplary) else []


class _Kit:
    def __init__(self, tokenizer: Tokenizer[Any]) -> None:
        self.tokenizer = tokenizer
        self.failures: list[Failure] = []
        self.encoded: dict[str, tuple[Any, np.ndarray]] = {}

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

    def read(self, files: Sequence[Path]) -> dict[Path, Any]:
        """What the files hold."""
        if files and not isinstance(self.tokenizer, Readable):
            raise ConfigError(f"the tokenizer {self.tokenizer.name} reads no files; leave out {files[0]}")
        items = {}
        for path in files:
            try:
                with open(path, "rb"):
                    items[path] = self.tokenizer.read(path)  # type: ignore[attr-defined]
            except BadInput:
                raise
            except OSError as error:
                raise BadInput(path, error.strerror or str(error)) from error
            except Exception as error:  # every other exception is the finding
                self.failures.append(Failure("reads files", str(path), f"{type(error).__name__}: {error}"))
        return items

    def fit(self, items: Sequence[Any]) -> bool:
        """Fit it on items, before which nothing is encoded; whether that went well."""
        t, law, on = self.tokenizer, "fit takes items", "its examples and the files"
        if not isinstance(t, Fittable):
            self.expect("vocab_size is there without fit", "itself", False, "it raises NotFitted")
            return False
        if not items:
            also = "give files that it reads" if isinstance(t, Readable) else "give it `examples`, or fit it before"
            raise ConfigError(f"the tokenizer {t.name} has to be fitted and brings no examples to fit it on; {also}")
        before = len(self.failures)
        self.unfitted(items)
        self.attempt(law, on, partial(t.fit, items))
        if len(self.failures) == before:
            self.expect(law, on, _is_fitted(t), "vocab_size still raises NotFitted")
        return len(self.failures) == before

    def usable(self, given: Mapping[Path, Any]) -> None:
        """What a file holds may be refused, as a file may be."""
        for path, item in given.items():
            try:
                self.tokenizer.encode(item)
            except BadInput as error:
                raise BadInput(path, f"cannot be encoded: {error}") from error
            except Exception:  # `item` finds it
                continue

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
        self.encoded[on] = item, ids
        again = self.attempt("encode is deterministic", on, lambda: np.asarray(t.encode(item)))
        self.expect("encode is deterministic", on, again is not None and np.array_equal(ids, again), "two calls differ")
        saved = self.attempt("from_dict rebuilds", on, lambda: np.asarray(rebuilt(t).encode(item)))
        if saved is not None:
            self.expect("from_dict rebuilds", on, np.array_equal(ids, saved), "it encodes differently")
        back = self.attempt("decode is total", on, lambda: t.decode(ids))
        if back is None:
            return
        self.round_trip(item, ids, back, on)
        if isinstance(t, Grammatical):
            self.attempt("the grammar accepts what encode gives", on, lambda: self.grammar(ids, on))

    def abilities(self) -> None:
        """The laws of what it does beside."""
        for law, (ability, broken) in LAWS.items():
            if isinstance(self.tokenizer, ability):
                self.attempt(law, "its items", partial(self.take, law, broken(self.tokenizer, self.encoded)))

    def take(self, law: str, found: Iterable[tuple[str, str]]) -> None:
        """What breaks a law, each as it comes, so that nothing is lost where the next raises."""
        for on, how in found:
            self.failures.append(Failure(law, on, how))

    def known_again(self) -> None:
        """A model folder takes it for what it was when it was saved."""
        law, t = "a model folder knows it again", self.tokenizer
        same = self.attempt(law, "itself", lambda: fingerprint(rebuilt(t)) == fingerprint(t))
        if same is not None:
            self.expect(law, "itself", same, "its settings, or the ids of its examples, change from call to call")

    def round_trip(self, item: Any, ids: np.ndarray, back: Any, on: str) -> None:
        """Exact, or, for a tokenizer that distorts, no worse the second time."""
        t = self.tokenizer
        law = "encode takes what decode returns"
        second = self.attempt(law, on, lambda: np.asarray(t.encode(back)))
        if second is None:
            return
        if isinstance(t, Distorting):
            law = "a second round trip distorts little more"
            pair = self.attempt(law, on, lambda: (t.distortion(item, back), t.distortion(item, t.decode(second))))
            if pair is not None:
                once, twice = pair
                self.expect(law, on, twice <= 1.5 * once + 1e-9, f"{once} became {twice}")
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
