"""The conformance kit: silent on tokenizers that keep the laws, and it finds each law that one breaks."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fuzz import cheaper, ready
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits, Grid, Palette, Rising

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers import available, check, tokenizer
from seqmodal.tokenizers.conformance import fuzz, random_ids
from tokenizers_ext.text import ByteTokenizer


@pytest.mark.parametrize("name", sorted(available()))
def test_all_that_is_registered_keeps_the_laws(name: str) -> None:
    assert check(tokenizer(name), runs=3) == []  # of more, below


@pytest.mark.parametrize("name", sorted(available()))
def test_any_ids_decode_to_what_encodes(name: str) -> None:
    own, other = ready(name), cheaper(name)

    @settings(max_examples=300, deadline=None, database=None)
    @given(st.lists(st.integers(0, own.vocab_size - 1), max_size=60))
    def holds(ids: list[int]) -> None:
        if other is not None:
            other(np.array(ids, np.int32))
            return
        again = own.encode(own.decode(np.array(ids, np.int32)))
        assert not len(again) or 0 <= again.min() <= again.max() < own.vocab_size

    holds()


def test_random_ids_are_told_by_seed_and_number() -> None:
    many = [random_ids(7, 3, number) for number in range(300)]
    assert all(row.dtype == np.int32 and len(row) < 200 and set(row.tolist()) <= set(range(7)) for row in many)
    np.testing.assert_array_equal(random_ids(7, 3, 200), many[200])
    assert not np.array_equal(random_ids(7, 4, 200), many[200])
    assert {len(random_ids(0, 0, number)) for number in range(9)} == {0}
    (found,) = fuzz(Partial(), [at for at, row in enumerate(many) if 7 in random_ids(10, 3, at)][:1], 3)
    number = int(found.on.split()[2])
    assert found.on == f"random ids {number} of seed 3" and 7 in random_ids(10, 3, number)
    with_seven = sum(7 in random_ids(10, 3, number) for number in range(50))
    assert len(list(fuzz(Partial(), range(50), 3))) == with_seven > 10
    assert not list(fuzz(Partial(), range(50), 3, decode=list))


@pytest.mark.parametrize("own", [Digits(), Palette(), Grid()], ids=["digits", "palette", "grid"])
def test_the_toys_keep_the_laws(own: Any) -> None:
    assert check(own) == []


def test_files_are_checked_as_well(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.digits", tmp_path / "bad.digits"
    good.write_text("3147")
    bad.write_text("pi")
    assert check(Digits(), files=[good]) == []
    assert str(good) in {found.on for found in check(Partial(), files=[good])}  # its own example has no 7
    (found,) = (found for found in check(Crashing(), files=[good, bad], runs=0) if found.law == "reads files")
    assert found.on == str(bad) and "ValueError" in str(found)


@pytest.mark.parametrize("name", ["bad.digits", "none.digits", ""])
def test_a_file_that_cannot_be_used_breaks_no_law(tmp_path: Path, name: str) -> None:
    (tmp_path / "bad.digits").write_text("pi")
    with pytest.raises(BadInput, match=str(tmp_path / name)):
        check(Digits(), files=[tmp_path / name])


def test_what_is_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"palette reads no files; leave out .*any\.txt"):
        check(Palette(), files=[tmp_path / "any.txt"])
    (tmp_path / "strange.txt").write_text("9")
    with pytest.raises(BadInput, match=r"strange\.txt: cannot be encoded: .*'9'"):
        check(tokenizer("characters", alphabet="abc"), files=[tmp_path / "strange.txt"])


def test_what_has_to_be_fitted_is_fitted_on_the_files_too(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("№ ¾ ↯ are in no example")
    own = tokenizer("characters")
    assert check(own, files=[tmp_path / "own.txt"], runs=3) == [] and {*"№¾↯日"} <= {*own.alphabet}


class Random(Digits):
    def encode(self, item: Any) -> np.ndarray:
        return np.random.default_rng().integers(self.vocab_size, size=len(item))


class Beyond(Digits):
    def encode(self, item: Any) -> np.ndarray:
        return np.asarray(item, np.int32) + 1


class Square(Digits):
    def encode(self, item: Any) -> np.ndarray:
        return np.asarray(item, np.int32)[None]


class Real(Digits):
    def encode(self, item: Any) -> np.ndarray:
        return np.asarray(item, np.float64)


class Forgetful(Digits):
    """What it was made with is not in `to_dict`."""

    shift = 3

    def encode(self, item: Any) -> np.ndarray:
        return (super().encode(item) + self.shift) % self.vocab_size

    def decode(self, ids: np.ndarray) -> list[int]:
        return super().decode((ids - self.shift) % self.vocab_size)

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Forgetful:
        new = cls(d["name"], d["size"])
        new.shift = 0
        return new


class Partial(Digits):
    def decode(self, ids: np.ndarray) -> list[int]:
        if 7 in ids:
            raise ValueError("seven")
        return super().decode(ids)

    def examples(self, rng: np.random.Generator) -> list[list[int]]:
        return [[1, 2]]


class Strange(Digits):
    """Decodes to what it does not encode."""

    def decode(self, ids: np.ndarray) -> Any:
        return {"items": super().decode(ids)}


class Drifting(Digits):
    def decode(self, ids: np.ndarray) -> list[int]:
        return [max(0, i - 1) for i in super().decode(ids)]


class Worsening(Palette):
    """Its second round trip is much farther away than its first."""

    def decode(self, ids: np.ndarray) -> np.ndarray:
        return np.minimum(super().decode(ids) + 0.3, 2)


class Crashing(Digits):
    def read(self, path: Path) -> list[int]:
        return [int(path.read_text())]


class Nameless(Digits):
    def read(self, path: Path) -> list[int]:
        raise BadInput("somewhere", "not digits")


class Strict(Digits):
    def grammar(self) -> Any:
        class Even(Rising):
            def mask(self) -> np.ndarray:
                return np.append(np.arange(self.size) % 2 == 0, True)

        return Even(self.vocab_size)


class Endless(Digits):
    def grammar(self) -> Any:
        class NoEnd(Rising):
            def mask(self) -> np.ndarray:
                return np.append(np.ones(self.size, bool), False)

        return NoEnd(self.vocab_size)


class Numbered(Digits):
    """Its settings have a number of NumPy, which is no JSON."""

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {"size": np.int64(self.vocab_size)}


class Paired(Digits):
    """Its settings have a tuple, which JSON gives back as a list."""

    def __init__(self, *pair: Any) -> None:
        super().__init__()
        self.pair = pair or ((0, 1),)

    def encode(self, item: Any) -> np.ndarray:
        return super().encode(item)[:: 1 if isinstance(self.pair[0], tuple) else -1]

    def to_dict(self) -> dict[str, Any]:
        return {"pair": self.pair[0]}

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Paired:
        return cls(d["pair"])


class Wavering(Digits):
    """Other examples at each call."""

    def examples(self, rng: np.random.Generator) -> list[list[int]]:
        return super().examples(np.random.default_rng())


class Bare:
    name, vocab_size = "bare", 3


class Sized(Digits):
    def __init__(self) -> None:
        super().__init__(size="ten")  # type: ignore[arg-type]


class Unfit(Digits):
    """Has to be fitted, and cannot be."""

    def __getattribute__(self, name: str) -> Any:
        if name == "vocab_size":
            raise NotFitted("never")
        return super().__getattribute__(name)


class Exempt(Digits):
    def examples(self, rng: np.random.Generator) -> list[list[int]]:
        raise RuntimeError("none today")


class Unmeasured(Palette):
    def distortion(self, x: Any, y: Any) -> float:
        raise RuntimeError("no measure")


class Ragged(Grid):
    """Features of one item are wider than those of another."""

    def features(self, item: Any) -> np.ndarray:
        return np.ones((2, item.size), np.float32)

    def examples(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [rng.random((rows, self.wide)) for rows in (1, 2)]


class Vast(Grid):
    def features(self, item: Any) -> np.ndarray:
        return super().features(item) * 1e6


class Flat(Grid):
    def features(self, item: Any) -> np.ndarray:
        return super().features(item).ravel()


class Noisy(Grid):
    def features(self, item: Any) -> np.ndarray:
        return np.random.default_rng().random((4, 2))


class Half(Vast):
    """Too large on the first item, and fails on the second."""

    def features(self, item: Any) -> np.ndarray:
        if np.asarray(item).sum() < 3:
            raise RuntimeError("too dark")
        return super().features(item)

    def examples(self, rng: np.random.Generator) -> list[np.ndarray]:
        return [np.ones((2, self.wide)), np.zeros((2, self.wide))]


class Faraway(Grid):
    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        return super().coordinates(ids).astype(np.int64) - 5_000_000_000


class Curt(Digits):
    """Trimmed to more than it lasts, it is gone."""

    def duration(self, ids: np.ndarray) -> float:
        return len(ids) / 10

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        return ids[:0]


class Long(Digits):
    def grammar(self) -> Any:
        return Rising(self.vocab_size + 2)


class Clipping(Digits):
    def grammar(self) -> Any:
        class Above(Rising):
            def clip(self, id: int) -> int:
                return id + 5

        return Above(self.vocab_size)


class Moving(Grid):
    """Places are counted from the end."""

    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        return super().coordinates(ids)[::-1]


class Placeless(Grid):
    def coordinates(self, ids: np.ndarray) -> np.ndarray:
        return super().coordinates(ids)[1:]


class Overlong(Digits):
    def duration(self, ids: np.ndarray) -> float:
        return len(ids) / 10

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        return ids[: int(seconds * 10) + 1]


class Mumbling(ByteTokenizer):
    def stream(self) -> Any:
        return SimpleNamespace(push=lambda ids: "", end=lambda: "")


class Wild(Digits):
    def augment(self, ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return np.append(ids, self.vocab_size)


class Stuck(Digits):
    """Once a nine has come, nothing may follow."""

    def grammar(self) -> Any:
        class Last(Rising):
            over = False

            def mask(self) -> np.ndarray:
                return super().mask() & (not self.over)

            def advance(self, id: int) -> None:
                self.over = self.over or id == 9

        return Last(self.vocab_size)


class Miscounted(Digits):
    def effects(self) -> np.ndarray:
        return np.full((self.vocab_size, 1), 2, np.int8)


@pytest.mark.parametrize(
    ("own", "law"),
    [
        (Ragged(), "features are finite rows of one width"),
        (Vast(), "features are finite rows of one width"),
        (Flat(), "features are finite rows of one width"),
        (Noisy(), "features are finite rows of one width"),
        (Faraway(), "coordinates say where each id lies"),
        (Curt(), "trim keeps to the seconds"),
        (Long(), "the grammar always allows something"),
        (Clipping(), "the grammar always allows something"),
        (Moving(), "coordinates say where each id lies"),
        (Placeless(), "coordinates say where each id lies"),
        (Overlong(), "trim keeps to the seconds"),
        (Mumbling(), "a stream gives what decode gives"),
        (Wild(), "augment gives ids"),
        (Stuck(), "the grammar always allows something"),
        (Miscounted(), "effects are counted"),
        (Random(), "encode is deterministic"),
        (Beyond(), "ids are in range"),
        (Square(), "ids are integers of one axis"),
        (Real(), "ids are integers of one axis"),
        (Forgetful(), "from_dict rebuilds"),
        (Partial(), "decode is total"),
        (Strange(), "encode takes what decode returns"),
        (Drifting(), "encode undoes decode"),
        (Worsening(), "a second round trip distorts little more"),
        (Crashing(), "rubbish raises BadInput that names the file"),
        (Nameless(), "rubbish raises BadInput that names the file"),
        (Strict(), "the grammar accepts what encode gives"),
        (Endless(), "the grammar accepts what encode gives"),
        (Numbered(), "from_dict rebuilds"),
        (Paired(), "from_dict rebuilds"),
        (Wavering(), "a model folder knows it again"),
        (Bare(), "it has what a tokenizer has"),
        (Sized(), "it has what a tokenizer has"),
        (Unfit(), "vocab_size is there without fit"),
        (Exempt(), "examples gives items"),
        (Unmeasured(), "a second round trip distorts little more"),
    ],
    ids=lambda value: "" if isinstance(value, str) else type(value).__name__,
)
def test_each_broken_law_is_found(own: Any, law: str) -> None:
    assert law in {failure.law for failure in check(own)}


def test_what_was_found_is_told_though_the_next_item_fails() -> None:
    told = [str(found) for found in check(Half(), runs=0) if found.law.startswith("features")]
    assert len(told) == 2 and "example 0" in told[0] and "RuntimeError: too dark" in told[1]


class Learned(Palette):
    """Has to be fitted; `sloppy` encodes all the same."""

    def __init__(self, colours: np.ndarray | None = None, sloppy: bool = False) -> None:
        super().__init__(colours)
        self.fitted, self.sloppy = colours is not None, sloppy

    @property
    def vocab_size(self) -> int:
        if not self.fitted:
            raise NotFitted("no colours yet: call fit")
        return len(self.colours)

    def encode(self, item: Any) -> np.ndarray:
        return super().encode(item) if self.sloppy or self.vocab_size else np.zeros(0, np.int32)

    def fit(self, items: Iterable[Any]) -> None:
        self.colours, self.fitted = np.unique(np.concatenate([*items])), True


def test_what_has_to_be_fitted_is_fitted_on_its_examples() -> None:
    own = Learned()
    assert check(own) == []
    assert own.vocab_size == 12
    (found,) = check(Learned(sloppy=True))
    assert found.law == "encode raises NotFitted before fit"


class Fallow(Learned):
    """Has to be fitted, reads files, and brings no examples."""

    name, suffixes = "fallow", (".txt",)
    examples = None

    def read(self, path: Path) -> np.ndarray:
        try:
            return np.array(path.read_text().split(), np.float32).reshape(-1)
        except ValueError as error:
            raise BadInput(path, "no numbers") from error


def test_what_has_to_be_fitted_and_brings_no_examples_needs_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has to be fitted and brings no examples.*give files"):
        check(Fallow())
    (tmp_path / "some.txt").write_text("0.25 0.5 1")
    own = Fallow()
    assert check(own, files=[tmp_path / "some.txt"]) == [] and own.vocab_size == 3
