"""JSON Lines: an object a line, plain or gzip, read one at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from os import PathLike
from typing import Any

from seqmodal.errors import BadInput
from tokenizers_ext._text_read import lines

SUFFIXES = (".jsonl", ".ndjson")
OBJECTS = "each line is an object: {\"text\": \"…\"}"


def is_records(path: str | PathLike[str]) -> bool:
    """Whether a file is named as one of JSON Lines, with or without .gz behind."""
    return str(path).lower().removesuffix(".gz").endswith(SUFFIXES)


def records(
    path: str | PathLike[str], fields: Sequence[str], errors: str = "strict"
) -> Iterator[tuple[int, dict[str, Any] | BadInput]]:
    """Line numbers and objects of a file, each with the `fields` at least; blank lines are passed over.

    In place of one that cannot be used comes the BadInput that names the file, the line, and what it lacks, so that
    the others are not lost.

    Raises:
        BadInput: for a file that cannot be read on, as `lines`.
    """
    for number, line in enumerate(lines(path, errors), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadInput(path, f"line {number:,} is no JSON: {error}", OBJECTS)
            continue
        if not isinstance(record, dict):
            yield number, BadInput(path, f"line {number:,} is a {type(record).__name__}", OBJECTS)
        elif missing := [field for field in fields if field not in record]:
            there = ", ".join(map(repr, record)) or "none"
            yield number, BadInput(path, f"line {number:,} has no field {missing[0]!r}; its fields are: {there}")
        else:
            yield number, record


def texts(path: str | PathLike[str], field: str, errors: str = "strict") -> Iterator[str | BadInput]:
    """The text in one field of each object, neither empty nor half of a surrogate pair; otherwise as `records`."""
    for number, record in records(path, [field], errors):
        if isinstance(record, BadInput):
            yield record
            continue
        text = record[field]
        if not isinstance(text, str) or not text:
            said = "empty" if text == "" else f"a {type(text).__name__} and no text"
            yield BadInput(path, f"line {number:,}: the field {field!r} is {said}")
            continue
        try:
            text.encode()
        except UnicodeEncodeError:
            if errors == "strict":
                yield BadInput(path, f"line {number:,}: the field {field!r} holds half of a surrogate pair")
                continue
            text = text.encode("utf-8", "replace").decode()
        yield text
