"""Pairs of text that every installation has: what a docstring explains, and the line that it begins with."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seqmodal.data.source import Failure, process_files, watch

LIBRARIES = ("numpy", "torch")
"""Read beside the standard library."""
LEFT_OUT = {
    "test", "tests", "testing", "site-packages", "lib2to3", "idlelib", "_vendor", "_inductor", "_dynamo", "distributed",
}
"""Folders that are not read."""
FIRST, REST = (15, 120), 100
"""Characters of a first line, at least and at most, and of what is explained behind it, at least."""


@dataclass(frozen=True)
class Docstring:
    """A docstring of a module, class or function, of which no other has the same first line or explanation.

    Attributes:
        module: where it stands: the path of its file below its library.
        first: its first line, a sentence.
        rest: what comes behind it.
    """

    module: str
    first: str
    rest: str


def docstrings() -> Iterator[Docstring]:
    """Those of the standard library, NumPy and PyTorch, in order of their files. The files are parsed, never imported;
    one that cannot be is passed over."""
    places = {path: f"{root.name}/{path.relative_to(root)}" for root in _roots() for path in _files(root)}
    seen: set[bytes] = set()
    for path, found in watch(process_files(list(places), pairs), len(places), "reading docstrings"):
        if isinstance(found, Failure):
            continue
        for first, rest in found:
            marks = [hashlib.sha256(text.encode("utf-8", "replace")).digest() for text in (first, rest)]
            if not seen.intersection(marks):
                yield Docstring(places[path], first, rest)
            seen.update(marks)


def pairs(path: Path) -> list[tuple[str, str]]:
    """First line and rest of each docstring of a file that has both, and whose first line is a sentence."""
    found = []
    for node in ast.walk(ast.parse(path.read_bytes())):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        first, _, rest = (ast.get_docstring(node) or "").partition("\n")
        first, rest = first.strip(), inspect.cleandoc(rest).strip()
        if FIRST[0] <= len(first) <= FIRST[1] and first.endswith(".") and len(rest) >= REST:
            found.append((first, rest))
    return found


def _roots() -> Iterator[Path]:
    yield Path(ast.__file__).parent
    for name in LIBRARIES:
        spec = importlib.util.find_spec(name)
        yield from map(Path, spec.submodule_search_locations or () if spec else ())


def _files(root: Path) -> list[Path]:
    """Python files below a folder whose folders are not left out, those of tests among them."""
    found = []
    for path in root.rglob("*.py"):
        parts = path.relative_to(root).parts
        if not LEFT_OUT.intersection(parts) and not any(part.startswith("test_") for part in parts):
            found.append(path)
    return sorted(found)
