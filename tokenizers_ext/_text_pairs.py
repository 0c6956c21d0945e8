"""Texts that belong together: the columns of a table, or the lines of several files, by their line numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, zip_longest
from os import PathLike
from pathlib import Path
from typing import Any

from seqmodal.errors import BadInput
from tokenizers_ext._text_read import lines
from tokenizers_ext._text_records import is_records, records

TABLES = (".tsv", ".jsonl", ".ndjson")
"""Suffixes, to which .gz may be added."""
NAMING = 1000
"""Objects of a .jsonl, the first, whose fields are its columns."""
NAME = 32
"""Characters of the name of a column at most, so that a file without names is not taken for one with strange ones."""

Row = tuple[int, dict[str, str] | BadInput]
"""The line number, and the texts by column; or what is wrong with the line."""


def column_names(path: str | PathLike[str], errors: str = "strict", wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """The names of a table's columns: its first line, or the fields of its first objects that hold text.

    Args:
        wanted: some of the names; a table whose first line lacks one of them has no such line, and these are its
            columns.

    Raises:
        BadInput: for a file that is empty, or whose first line names nothing.
    """
    if is_records(path):
        some = islice((r for _, r in records(path, (), errors) if not isinstance(r, BadInput)), NAMING)
        names = tuple(dict.fromkeys(name for r in some for name, value in r.items() if isinstance(value, str)))
        if not names:
            raise BadInput(path, "there is not one object with a text in it")
        return names
    first = next(lines(path, errors), None)
    if first is None:
        raise BadInput(path, "the file is empty")
    names = tuple(name.strip() for name in first.split("\t"))
    odd = [name for name in names if not name or " " in name or len(name) > NAME]
    if wanted and (not set(wanted) <= set(names) or odd or len(set(names)) < len(names)):
        return tuple(wanted)
    if len(names) < 2 or odd or len(set(names)) < len(names):
        raise BadInput(
            path, f"line 1 is {first[:60]!r}, which does not name two columns parted by a tab",
            "put such a line first, for example en<tab>de; or name the columns with --languages",
        )  # fmt: skip
    return names


def table(path: str | PathLike[str], names: Sequence[str], errors: str = "strict") -> Iterator[Row]:
    """The rows of a table by these columns, those of them that an object has; a line 1 that repeats them is none.

    Raises:
        BadInput: for a file that cannot be read on, as `lines`.
    """
    if is_records(path):
        for number, record in records(path, (), errors):
            yield number, record if isinstance(record, BadInput) else _texts(path, number, record, names, errors)
        return
    for number, line in enumerate(lines(path, errors), 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if cells == [""] or (number == 1 and cells == list(names)):
            continue
        if len(cells) != len(names):
            said = "1 field" if len(cells) == 1 else f"{len(cells)} fields"
            yield number, BadInput(path, f"line {number:,} has {said}; the columns are: {', '.join(names)}")
        else:
            yield number, dict(zip(names, cells, strict=True))


def _texts(
    path: str | PathLike[str], number: int, record: Mapping[str, Any], names: Sequence[str], errors: str
) -> dict[str, str] | BadInput:
    """The fields of these names, or what is wrong with one."""
    found = {}
    for name in names:
        if name not in record:
            continue
        value = record[name]
        if not isinstance(value, str):
            return BadInput(path, f"line {number:,}: the field {name!r} is a {type(value).__name__} and no text")
        try:
            value.encode()
        except UnicodeEncodeError:
            if errors == "strict":
                return BadInput(path, f"line {number:,}: the field {name!r} holds half of a surrogate pair")
            value = value.encode("utf-8", "replace").decode()
        found[name] = value.strip()
    return found


def aligned(paths: Mapping[str, Path], errors: str = "strict") -> Iterator[Row]:
    """Line n of every file together, by the names of the files.

    Raises:
        BadInput: where one ends before another, and for a file that cannot be read on.
    """
    for number, texts in enumerate(zip_longest(*(lines(path, errors) for path in paths.values())), 1):
        if None in texts:
            short = list(paths.values())[texts.index(None)]
            longer = next(path for path, text in zip(paths.values(), texts, strict=True) if text is not None)
            raise BadInput(
                short, f"it ends after {number - 1:,} lines, and {longer.name} has a line {number:,}",
                "line n of one belongs to line n of the other; find the line that one of them lacks",
            )  # fmt: skip
        yield number, {name: (text or "").strip() for name, text in zip(paths, texts, strict=True)}
