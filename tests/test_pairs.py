"""Texts side by side: tables and aligned files, what is wrong with them, and which rows are held back."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqmodal.data.parallel import find_parts, hold_back
from seqmodal.errors import BadInput
from tokenizers_ext.text import aligned, column_names, table

TABLES = (".tsv", ".jsonl")
CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\t\r\n\ufeff"), min_size=1).map(str.strip)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(CELL, CELL).filter(all), min_size=1), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_table_and_aligned_files_give_what_was_written(rows: list[tuple[str, str]], end: str, bom: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        mark = "\ufeff" if bom else ""
        whole = write(Path(place) / "a.tsv", mark + end.join(["en\tde", *map("\t".join, rows)]) + end)
        assert column_names(whole) == ("en", "de")
        wanted = [{"en": a, "de": b} for a, b in rows]
        assert [row for _, row in table(whole, ("en", "de"))] == wanted
        assert [number for number, _ in table(whole, ("en", "de"))] == list(range(2, len(rows) + 2))
        files = {
            name: write(Path(place) / f"a.{name}", mark + end.join(row[at] for row in rows) + end)
            for at, name in enumerate(("en", "de"))
        }
        assert [row for _, row in aligned(files)] == wanted


def test_json_lines_are_a_table_too(tmp_path: Path) -> None:
    lines = '\n{"task": "t", "n": 1, "source": "a"}\n{"source": " c", "target": "b"}\n{"source": 3}\n7\n'
    path = write(tmp_path / "a.jsonl", lines + '{"source": "\\ud800"}\n')
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    for one in (path, packed):
        assert column_names(one) == ("task", "source", "target")  # of all objects, those that are texts
        rows = dict(table(one, ("source", "target")))
        assert rows.pop(2) == {"source": "a"} and rows.pop(3) == {"source": "c", "target": "b"}
        told = [rows[number].reason for number in (4, 5, 6)]  # type: ignore[union-attr]
        assert "line 4: the field 'source' is a int and no text" in told[0] and "line 5 is a int" in told[1]
        assert "line 6: the field 'source' holds half of a surrogate pair" in told[2]
        assert dict(table(one, ("source",), "replace"))[6] == {"source": "?"}
    with pytest.raises(BadInput, match="not one object with a text"):
        column_names(write(tmp_path / "d.jsonl", '7\n{"a": 3}\n'))


def test_names_that_are_wanted_are_a_header_or_stand_for_one(tmp_path: Path) -> None:
    named, bare = write(tmp_path / "a.tsv", "de\ten\tfr\nja\tyes\toui\n"), write(tmp_path / "b.tsv", "ja\tyes\n")
    assert column_names(named, wanted=("en", "de")) == column_names(named) == ("de", "en", "fr")
    assert column_names(bare, wanted=("de", "en")) == ("de", "en")
    twice = write(tmp_path / "c.tsv", "de\tde\ten\n")
    assert column_names(twice, wanted=("de", "en")) == ("de", "en")
    assert column_names(write(tmp_path / "d.jsonl", '{"en": "a", "de": "b"}\n'), wanted=("de", "en")) == ("en", "de")


def test_lines_that_lack_fields_are_told_and_the_others_kept(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", "en\tde\nyes\tja\nno\n\na\tb\tc\nwell\tgut\n")
    rows = dict(table(path, ("en", "de")))
    assert rows[2] == {"en": "yes", "de": "ja"} and rows[6] == {"en": "well", "de": "gut"} and 4 not in rows
    assert rows[3].reason == "line 3 has 1 field; the columns are: en, de"  # type: ignore[union-attr]
    assert rows[5].reason == "line 5 has 3 fields; the columns are: en, de"  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["Two young men are here.\tZwei junge Männer", "alone", "a\ta", "a\t"])
def test_a_first_line_that_names_nothing(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadInput, match="line 1 is .* does not name two columns"):
        column_names(write(tmp_path / "a.tsv", text))
    with pytest.raises(BadInput, match="the file is empty"):
        column_names(write(tmp_path / "b.tsv", ""))


def test_files_of_unequal_length_say_where(tmp_path: Path) -> None:
    files = {"en": write(tmp_path / "a.en", "1\n2\n3\n"), "de": write(tmp_path / "a.de", "1\r\n2\r\n")}
    with pytest.raises(BadInput, match=r"a\.de: it ends after 2 lines, and a\.en has a line 3"):
        list(aligned(files))
    write(tmp_path / "a.de", b"1\n\xff2\n3\n")
    with pytest.raises(BadInput, match=r"a\.de: byte 0xFF at 2 \(line 2\) is no UTF-8"):
        list(aligned(files))
    assert [row["de"] for _, row in aligned(files, "replace")] == ["1", "\ufffd2", "3"]


def test_parts_of_a_folder_by_their_names(tmp_path: Path) -> None:
    for name in ("train.en", "train.de", "train.fr", "val.en", "val.de", "test_2016.en", "test_2016.de", "notes.txt",
                 "lonely.en", "image.txt", "SOURCE.json", "more/train.tsv"):
        write(tmp_path / name, "x\n")
    found = {str(part.path.relative_to(tmp_path)): (part.split, sorted(part.files)) for part in
             find_parts([tmp_path], (), (), TABLES)}
    assert found == {
        "more/train.tsv": ("train", []), "test_2016.de": ("test", ["de", "en"]),
        "train.de": ("train", ["de", "en", "fr"]), "val.de": ("valid", ["de", "en"]),
    }  # fmt: skip
    chosen = find_parts([tmp_path], ("en", "fr"), ("more*",), TABLES)
    assert [(part.split, sorted(part.files)) for part in chosen] == [("train", ["en", "fr"])]
    one = find_parts([tmp_path / "val.en"], (), (), TABLES)
    assert [(part.split, sorted(part.files)) for part in one] == [("train", ["de", "en"])]  # all there is
    assert [part.path for part in find_parts([tmp_path / "more" / "train.tsv"], (), (), TABLES)] == [
        tmp_path / "more" / "train.tsv"
    ]
    for name in ("a/train/x.en", "a/train/x.de", "a/valid/x.en", "a/valid/x.de"):
        write(tmp_path / name, "x\n")
    assert [part.split for part in find_parts([tmp_path / "a"], (), (), TABLES)] == ["train", "valid"]
    named = find_parts([tmp_path / "a" / "valid", tmp_path / "a" / "train"], (), (), TABLES)
    assert [part.split for part in named] == ["train", "valid"]


def test_files_that_are_given_together(tmp_path: Path) -> None:
    for name in ("train.en", "train.de", "train.fr", "val.en", "val.de", "english.txt", "german.txt", "t.tsv"):
        write(tmp_path / name, "x\n")

    def found(*given: str, languages: tuple[str, ...] = ()) -> list[tuple[str, dict[str, str]]]:
        parts = find_parts([tmp_path / name for name in given], languages, (), TABLES)
        return [(part.split, {name: path.name for name, path in part.files.items()}) for part in parts]

    assert found("train.en", "train.de") == [("train", {"en": "train.en", "de": "train.de"})]
    both = found("train.de", "train.fr", "val.en", "val.de", "t.tsv")
    assert both == [("train", {}), ("train", {"de": "train.de", "fr": "train.fr"}),
                    ("valid", {"en": "val.en", "de": "val.de"})]  # fmt: skip
    named = found("english.txt", "german.txt", languages=("en", "de"))
    assert named == [("train", {"en": "english.txt", "de": "german.txt"})]
    with pytest.raises(BadInput, match="files of any names and their --languages in the same order"):
        found("english.txt", "german.txt")


def test_nothing_side_by_side(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", "x")
    with pytest.raises(BadInput, match="no texts side by side here; give|no texts side by side here \\(give"):
        find_parts([tmp_path], (), (), TABLES)
    with pytest.raises(BadInput, match="in the languages en, de"):
        find_parts([tmp_path], ("en", "de"), (), TABLES)
    with pytest.raises(BadInput, match="no such file or folder"):
        find_parts([tmp_path / "none"], (), (), TABLES)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.lists(st.integers(0, 30), max_size=3), min_size=2, max_size=40))
def test_rows_that_share_a_key_stand_on_one_side(keys: list[list[int]]) -> None:
    held = hold_back(keys, 0.3)
    assert held.shape == (len(keys),) and np.array_equal(held, hold_back(keys, 0.3))
    for key in {key for row in keys for key in row}:
        assert len({bool(out) for row, out in zip(keys, held, strict=True) if key in row}) == 1
    apart = hold_back([[number] for number in range(1000)], 0.0)
    assert 80 <= apart.sum() <= 120
