"""Series by quantile bins: the laws, the nearest value, equal frequency, and reading files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers import check, load_tokenizers, save_tokenizers, tokenizer
from tokenizers_ext.series import SeriesTokenizer

finite = st.floats(-1e6, 1e6)


def fitted(numbers: object, bins: int = 16) -> SeriesTokenizer:
    made = SeriesTokenizer(bins)
    made.fit([numbers])
    return made


@pytest.mark.parametrize("bins", [1, 2, 256])
def test_keeps_the_laws(bins: int) -> None:
    assert check(tokenizer("series", bins=bins)) == []


@settings(max_examples=100, deadline=None)
@given(st.lists(finite, min_size=1, max_size=50), st.lists(finite, max_size=20), st.integers(1, 40))
def test_each_number_becomes_the_nearest_value(data: list[float], item: list[float], bins: int) -> None:
    made = fitted(data, bins)
    values, ids = made.values.tolist(), made.encode(item)
    assert made.vocab_size == len(values) == len(set(values)) <= bins and values == sorted(values)
    assert ids.dtype == np.int32 and made.decode(ids).dtype == np.float32
    for number, id in zip(item, ids, strict=True):
        assert abs(values[id] - number) == min(abs(value - number) for value in values)
    every = np.arange(made.vocab_size)
    np.testing.assert_array_equal(made.encode(made.decode(every)), every)


def test_neighbouring_floats_stay_apart() -> None:
    low = np.float32(1.0)
    made = fitted([low, np.nextafter(low, np.float32(2))], 2)
    assert made.vocab_size == 2 and made.encode(made.decode(np.array([0, 1, 1]))).tolist() == [0, 1, 1]


def test_bins_are_equally_frequent() -> None:
    numbers = np.random.default_rng(0).lognormal(sigma=2, size=8000)
    counts = np.bincount(fitted(numbers, 8).encode(numbers), minlength=8)
    assert counts.min() > 700 and counts.max() < 1300


def test_few_distinct_numbers_come_back_exactly() -> None:
    numbers = [3, 1, 3, 2, 2, 1]
    made = fitted(numbers, 100)
    assert made.decode(made.encode(numbers)).tolist() == numbers


def test_rebuilt_from_a_folder(tmp_path: Path) -> None:
    made = fitted(np.arange(99.0))
    save_tokenizers([made], tmp_path)
    (again,) = load_tokenizers(tmp_path)
    assert again.bins == 16 and again.encode([5, 60.2]).tolist() == made.encode([5, 60.2]).tolist()


@pytest.mark.parametrize(("name", "text", "numbers"), [
    ("a.csv", "date,value\n2020-01-01,1.5\n2020-01-02,-2e3\n", [1.5, -2000]),
    ("a.csv", "1;10\r\n2;20\r\n\r\n", [10, 20]),
    ("a.txt", "\ufeff7\n8\n", [7, 8]),
    ("a.TXT", "1 2\t3", [3]),
])  # fmt: skip
def test_reads_text(name: str, text: str, numbers: list[float], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert SeriesTokenizer().read(tmp_path / name).tolist() == numbers


@pytest.mark.parametrize("name", ["a.npy", "a.csv"])
def test_reads_what_it_writes(name: str, tmp_path: Path) -> None:
    made = fitted(np.random.default_rng(0).normal(size=50) * 1e-3)
    item = made.decode(np.arange(made.vocab_size))
    made.write(item, tmp_path / name)
    np.testing.assert_array_equal(made.read(tmp_path / name).astype(np.float32), item)


HUGE = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}   \n"


@pytest.mark.parametrize(("name", "data", "says"), [
    ("a.csv", b"", "no numbers"),
    ("a.csv", b"value\n", "no numbers"),
    ("a.csv", b"1\n2\nthree\n", "line 3 ends in 'three'"),
    ("a.csv", b"1\nnan\n", "line 2 .*finite"),
    ("a.txt", b"\xff\xfe\x00", "cannot be read"),
    ("a.npy", b"", "cannot be read"),
    ("a.npy", HUGE, "cannot be read"),
])  # fmt: skip
def test_files_that_are_no_series(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=rf"{name}: .*{says}"):
        SeriesTokenizer().read(tmp_path / name)


@pytest.mark.parametrize(("array", "says"), [
    (np.zeros((3, 2)), "one axis"), (np.array(["a"]), "not numbers"), (np.array([1, np.inf]), "number 1 is inf"),
    (np.array([{}], object), "cannot be read"),
], ids=str)  # fmt: skip
def test_arrays_that_are_no_series(array: np.ndarray, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadInput, match=rf"a\.npy: .*{says}"):
        SeriesTokenizer().read(tmp_path / "a.npy")


def test_refuses() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        SeriesTokenizer(0)
    with pytest.raises(NotFitted, match="fit"):
        SeriesTokenizer().encode([1])
    with pytest.raises(BadInput, match="no numbers"):
        SeriesTokenizer().fit([[]])
    with pytest.raises(BadInput, match="number 1 is nan"):
        fitted([1, 2]).encode([1, np.nan])
    with pytest.raises(BadInput, match="one axis"):
        fitted([1, 2]).encode(np.zeros((2, 2)))
