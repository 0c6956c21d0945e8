"""Series by quantile bins: the laws, the nearest value, equal frequency, and reading files."""

from __future__ import annotations

import os
import pickle
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


def test_large_numbers_keep_the_laws_or_are_refused() -> None:
    largest = float(np.finfo(np.float32).max)
    made = fitted([-largest, 0, 1, largest])
    every = np.arange(made.vocab_size)
    np.testing.assert_array_equal(made.encode(made.decode(every)), every)
    assert np.isfinite(made.values).all()
    for item in ([0, 1e39], [0, -2e39], [0, 10**400]):
        with pytest.raises(BadInput, match="number 1 is -?[12]e.39; .*at most 3.4e.38|not numbers: int too large"):
            fitted(item)
        with pytest.raises(BadInput):
            made.encode(item)


@pytest.mark.parametrize(("name", "text", "numbers"), [
    ("a.csv", "date,value\n2020-01-01,1.5\n2020-01-02,-2e3\n", [1.5, -2000]),
    ("a.csv", "1;10\r\n2;20\r\n\r\n", [10, 20]),
    ("a.txt", "\ufeff7\n8\n", [7, 8]),
    ("a.TXT", "1 2\t3", [3]),
    ("a.txt", "highest temperature\n1  5 \n\t2   6\n", [5, 6]),
    ("a.txt", "\tv\n0\t5\n1\t6\n", [5, 6]),
    ("a.txt", "city\tvalue\t\nNew York\t5\t\nParis\t6\t\n", [5, 6]),
    ("a.csv", "\nt, v\n1, 5\n", [5]),
    ("a.csv", "t;v\n1;5,5\n2;-6\n3;1,5e3\n", [5.5, -6, 1500]),
    ("a.csv", "t;v\n1,5;1.25\n", [1.25]),
    ("a.csv", '"t","v"\n"1","2"\n"a, ""b""\nc", "-3.5"\n', [2, -3.5]),
    ("a.csv", '"temperature; daily",value\n1,5\n', [5]),
    ("a.csv", '"1";"2,5"\n', [2.5]),
])  # fmt: skip
def test_reads_text(name: str, text: str, numbers: list[float], tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8", newline="")
    assert SeriesTokenizer().read(tmp_path / name).tolist() == numbers


def test_reads_the_largest_that_it_writes(tmp_path: Path) -> None:
    made = fitted([np.finfo(np.float32).max])
    made.write(made.values, tmp_path / "a.csv")
    assert made.encode(made.read(tmp_path / "a.csv")).tolist() == [0]


@pytest.mark.parametrize("name", ["a.npy", "a.csv"])
def test_reads_what_it_writes(name: str, tmp_path: Path) -> None:
    made = fitted(np.random.default_rng(0).normal(size=50) * 1e-3)
    item = made.decode(np.arange(made.vocab_size))
    made.write(item, tmp_path / name)
    np.testing.assert_array_equal(made.read(tmp_path / name).astype(np.float32), item)


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


HUGE = b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f8', 'fortran_order': False, 'shape': (999999999999,)}   \n"


@pytest.mark.parametrize(("name", "data", "says"), [
    ("a.csv", b"", "no numbers"),
    ("a.csv", b"value\n", "no numbers"),
    ("a.csv", b"1\n2\nthree\n", "line 3 ends in 'three'"),
    ("a.csv", b"1\nnan\n", "line 2 .*finite"),
    ("a.txt", b"\xff\xfe\x00", "cannot be read"),
    ("a.npy", b"", "cannot be read"),
    ("a.csv", b"t,v\n1,5\n2,\n3,7\n", r"line 3 ends in an empty cell \(fill in"),
    ("a.csv", b"1,\n2,7\n", "line 1 ends in an empty cell"),
    ("a.csv", b"v\n5\n\n\"\"\n", "line 4 ends in an empty cell"),
    ("a.csv", b"t,v\n1,5\n,\n", "line 3 ends in an empty cell"),
    ("a.csv", b"t,v\n1,5\n2\n", r"line 3 has another number of cells, 1, than before, 2 \(fill in"),
    ("a.txt", b"t v\n1 5\n2 \n", "line 3 has another number of cells, 1, than before, 2"),
    ("a.csv", b"v\n1_000\n", "line 2 ends in '1_000', which is no number"),
    ("a.txt", b"t\tv\n1\t5\n2\t\n", "line 3 has another number of cells, 1, than before, 2"),
    ("a.csv", b"999\n1,234\n", "line 2 ends in '1,234', which is no number"),
    ("a.csv", b"v\n1,5\n", r"line 2 ends in '1,5', which is no number \(a decimal comma"),
    ("a.csv", b"t,v\n1,1,5\n", "line 2 has another number of cells, 3, than before, 2"),
    ("a.csv", b"t,v\n1,\"1,234\"\n", "line 2 ends in '1,234', which is no number"),
    ("a.csv", b"\"1,234\"\n\"999\"\n", "line 1 ends in '1,234', which is no number"),
    ("a.csv", b"1;1.234,5\n2;999,5\n", "line 1 ends in '1.234,5', which is no number"),
    ("a.csv", b"1;999,5\n2;1.234\n", "line 2 ends in '1.234'; a column has decimal commas or"),
    ("a.csv", b"1,2\n\"3,4\n5,6\n", "is no row of cells"),
    ("a.csv", b"t,v\n\"3\"x,4\n", "line 2 is no row of cells"),
    ("a.csv", b"1\n1e39\n", "line 2 ends in '1e39'; .*at most"),
    ("a.npy", HUGE, "cannot be read"),
    ("a.npy", b"PK\x03\x04 no archive", "cannot be read"),
    ("a.npy", npy(b"{'descr': (\n"), "cannot be read"),
    ("a.npy", npy(b"-" * 9000 + b"1"), "cannot be read as a series: ."),
    ("a.npy", npy(b"{'descr': ('<f8',), 'fortran_order': False, 'shape': (1,)}\n"), "cannot be read"),
    ("a.npy", npy(b"{[]: 1}\n"), "cannot be read"),
])  # fmt: skip
def test_files_that_are_no_series(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(BadInput, match=rf"{name}: .*{says}"):
        SeriesTokenizer().read(tmp_path / name)


@pytest.mark.parametrize(("array", "says"), [
    (np.zeros((3, 2)), "one axis"), (np.array(["a"]), "not numbers"), (np.array([1, np.inf]), "number 1 is inf"),
    (np.array([{}], object), "cannot be read"), (np.array([1 + 2j, 3]), "not numbers: .*complex128"),
    (np.array(["2020-01-01"], "M8[s]"), "not numbers: .*datetime64"), (np.array([0, 1e39]), "number 1 is 1e.39"),
], ids=str)  # fmt: skip
def test_arrays_that_are_no_series(array: np.ndarray, says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(BadInput, match=rf"a\.npy: .*{says}"):
        SeriesTokenizer().read(tmp_path / "a.npy")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = Trap(tmp_path / "trapped")
    np.save(tmp_path / "array.npy", np.array([trap], object))
    (tmp_path / "bare.npy").write_bytes(pickle.dumps(trap))
    np.savez(tmp_path / "archive.npz", np.zeros(3))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    for name in ("array", "bare", "archive"):
        with pytest.raises(BadInput, match=f"{name}.npy: cannot be read"):
            SeriesTokenizer().read(tmp_path / f"{name}.npy")
    assert not trap.path.exists()


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
