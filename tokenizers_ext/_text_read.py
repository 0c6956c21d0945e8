"""Text files to str: UTF-8, plain or gzip, a piece at a time, so that a file may be larger than memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import BinaryIO, cast

from seqmodal.errors import BadInput, ConfigError

SUFFIXES = (".txt", ".text", ".md", ".markdown", ".rst", ".tex", ".gz")
ERRORS = ("strict", "replace")
PIECE_BYTES = 1 << 20
MAX_CHARACTERS = 64 << 20
"""The longest text or line that is held at once; in memory a character takes 1 to 4 bytes."""
GZIP = b"\x1f\x8b"  # no UTF-8 begins so

Source = str | PathLike[str] | BinaryIO


def read(path: str | PathLike[str], errors: str = "strict") -> str:
    """The text of a file: without a byte-order mark, every line end a newline, as `open` gives it.

    Args:
        path: UTF-8, plain or gzip.
        errors: "strict": what is no UTF-8 raises; "replace": it becomes U+FFFD.

    Raises:
        BadInput: names the file, the line and the byte; also for an empty file, or one of more than MAX_CHARACTERS.
    """
    parts, size = [], 0
    for piece in pieces(path, errors):
        parts.append(piece)
        size += len(piece)
        if size > MAX_CHARACTERS:
            raise _too_long(path, "the text")
    if not size:
        raise BadInput(path, "the file is empty")
    return "".join(parts)


def lines(source: Source, errors: str = "strict") -> Iterator[str]:
    """The lines of a file, or of an open binary one such as `sys.stdin.buffer`, without their ends.

    A line ends at \\n, \\r\\n or \\r and nowhere else, unlike with `str.splitlines`: line n of two files stays line n.

    Raises:
        BadInput: as `read`; an empty file has no lines.
    """
    held: list[str] = []
    size = 0
    for piece in pieces(source, errors):
        first, *others = piece.split("\n")
        held.append(first)
        size += len(first)
        if size > MAX_CHARACTERS:
            raise _too_long(_name(source), "a line")
        if others:
            yield "".join(held)
            yield from others[:-1]
            held, size = [others[-1]], len(others[-1])
    if size:
        yield "".join(held)


def pieces(source: Source, errors: str = "strict", size: int = PIECE_BYTES) -> Iterator[str]:
    """The text of a file of any size in pieces that follow one another, in constant memory.

    Args:
        source: a file, plain or gzip, or an open binary one.
        errors: as in `read`.
        size: a piece comes from about as many bytes; it ends after a line where there is one.

    Raises:
        BadInput: names the file, the line and the byte.
    """
    if errors not in ERRORS:
        raise ConfigError(f"errors is {errors!r}; it is {' or '.join(map(repr, ERRORS))}")
    name, offset, line, rest, first = _name(source), 0, 1, b"", True
    try:
        with _opened(source) as file:
            while True:
                chunk = file.read(size)
                data = rest + chunk
                cut = _cut(data) if chunk else len(data)
                part, rest = data[:cut], data[cut:]
                if part:
                    text = _decoded(part, errors, name, offset, line)
                    offset, line = offset + len(part), line + part.count(b"\n")
                    text = text[1:] if first and text[0] == "\ufeff" else text
                    first = False
                    if text:
                        yield text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
                if not chunk:
                    return
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(name, getattr(error, "strerror", None) or f"cannot be read: {error}") from error


def write(text: str, path: str | PathLike[str]) -> None:
    """Write a text as UTF-8, compressed where the name ends in .gz. Raises BadInput for half a surrogate pair."""
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise surrogate(error) from error
    Path(path).write_bytes(gzip.compress(data) if Path(path).suffix.lower() == ".gz" else data)


def surrogate(error: UnicodeEncodeError) -> BadInput:
    """What is raised for half of a surrogate pair, the only thing in a str that is no character."""
    return BadInput(
        "text",
        f"U+{ord(error.object[error.start]):04X} at {error.start:,} is half of a surrogate pair and no character",
        "read files with this tokenizer; text.encode('utf-8', 'replace').decode() puts a question mark in its place",
    )


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if not isinstance(source, str | PathLike):
        yield source
        return
    with open(source, "rb") as file:
        if file.peek(len(GZIP))[: len(GZIP)] != GZIP:
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield cast(BinaryIO, unpacked)


def _cut(data: bytes) -> int:
    """Where to cut what is not the end: after the last line end, else before a character that may be incomplete."""
    if cut := data.rfind(b"\n") + 1:
        return cut
    cut = len(data)
    for back in range(1, min(4, len(data)) + 1):
        if data[-back] >= 0xC0:  # the first byte of a character
            cut = len(data) - back
            break
        if data[-back] < 0x80:
            break
    return cut - data[:cut].endswith(b"\r")  # its newline may be still to come


def _decoded(part: bytes, errors: str, name: str, offset: int, line: int) -> str:
    try:
        return part.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        at, line = offset + error.start, line + part.count(b"\n", 0, error.start)
        hint = "convert it to UTF-8, or read it with errors 'replace' (--errors replace)"
        if offset == 0 and part[:2] in (b"\xff\xfe", b"\xfe\xff"):
            hint = "it looks like UTF-16; convert it, for example with: iconv -f UTF-16 -t UTF-8"
        raise BadInput(name, f"byte 0x{part[error.start]:02X} at {at:,} (line {line:,}) is no UTF-8", hint) from error


def _too_long(where: str | PathLike[str], what: str) -> BadInput:
    return BadInput(where, f"{what} has more than {MAX_CHARACTERS:,} characters, too many to hold at once", "split it")


def _name(source: Source) -> str:
    return str(source) if isinstance(source, str | PathLike) else str(getattr(source, "name", "standard input"))
