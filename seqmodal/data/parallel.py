"""Texts side by side: in which files they stand, which part each file is, and which rows are held back."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seqmodal.data.duplicates import split_groups
from seqmodal.data.source import SPLIT_NAMES, find_files, split_places
from seqmodal.errors import BadInput

LANGUAGE = re.compile(r"[a-z]{2,3}([-_][A-Za-z0-9]{2,8})?")
"""What the end of a file's name looks like that is a language: de, deu, pt_BR."""
NO_LANGUAGE = ("txt", "md", "rst", "tex", "py", "csv", "log", "gz", "zip", "ini", "tsv")
FEW = 20_000
"""Of fewer rows a tenth is held back, of more so many that it is a tenth of these."""


@dataclass(frozen=True)
class Part:
    """A table, or files whose lines belong together.

    Attributes:
        path: of the table, or of the first of the files.
        split: train, valid or test.
        files: by language; none: a table.
    """

    path: Path
    split: str
    files: Mapping[str, Path]


def find_parts(
    roots: Sequence[Path], languages: Sequence[str], exclude: Sequence[str], tables: Sequence[str]
) -> list[Part]:
    """The tables below folders, and the sets of files that are called alike but for a language at the end
    (train.en, train.de); or tables themselves, and files whose lines belong together; or the set of a single file.

    The part comes from a folder train, valid or test, or from how the name begins (val.en, test_2016.en); where nothing
    is called train, all is training data.

    Args:
        roots: folders or files.
        languages: at the end of names; none: whatever looks like one. Of files of other names, in their order.
        exclude: see `find_files`.
        tables: suffixes of tables, with a dot.

    Raises:
        BadInput: where there is nothing.
    """
    alone = roots[0] if len(roots) == 1 and roots[0].is_file() and not _is_table(roots[0], tables) else None
    places = [alone.parent] if alone else roots
    own, sets, parts = split_places(places), dict[tuple[Path, str], dict[str, Path]](), list[Part]()
    for path in dict.fromkeys(path for place in places for path in _all(place, exclude)):
        name = path.name.removesuffix(".gz")
        stem, _, end = name.rpartition(".")
        if _is_table(path, tables):
            if alone is None:
                parts.append(Part(path, _split(path, own), {}))
        elif stem and (end in languages if languages else LANGUAGE.fullmatch(end) and end not in NO_LANGUAGE):
            sets.setdefault((path.parent, stem), {})[end] = path
    for files in sets.values():
        if len(files) > 1 and (alone is None or alone in files.values()):
            parts.append(Part(next(iter(files.values())), _split(next(iter(files.values())), own), files))
    if not parts and len(roots) == len(languages) > 1 and all(root.is_file() for root in roots):
        parts.append(Part(roots[0], "train", dict(zip(languages, roots, strict=True))))
    if not parts:
        wanted = f" in the languages {', '.join(languages)}" if languages else ""
        raise BadInput(
            ", ".join(map(str, roots)), f"there are no texts side by side here{wanted}",
            f"give a table ({' '.join(tables)}), two files such as train.en and train.de or a folder that has them, or "
            "files of any names and their --languages in the same order",
        )  # fmt: skip
    if not any(part.split == "train" for part in parts):
        parts = [Part(part.path, "train", part.files) for part in parts]
    return sorted(parts, key=lambda part: part.path)


def hold_back(keys: Sequence[Sequence[Hashable]], share: float) -> np.ndarray:
    """Which rows to hold back, bool (rows,), always the same: rows that share a key stand on one side.

    Args:
        keys: of each row, such as its texts.
        share: of the rows; 0: chosen for their number.
    """
    group, first = list(range(len(keys))), dict[Hashable, int]()

    def root(at: int) -> int:
        while group[at] != at:
            group[at] = at = group[group[at]]
        return at

    for row, those in enumerate(keys):
        for key in those:
            group[root(row)] = root(first.setdefault(key, row))
    share = share or (0.1 if len(keys) < FEW else 0.1 * FEW / len(keys))
    return split_groups(np.unique([root(row) for row in range(len(keys))], return_inverse=True)[1], share, seed=0)


def _all(folder: Path, exclude: Sequence[str]) -> list[Path]:
    suffixes = {path.suffix.lower() for path in folder.rglob("*")} if folder.is_dir() else {""}
    return find_files(folder, sorted(suffixes), exclude)


def _is_table(path: Path, tables: Sequence[str]) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(tuple(tables))


def _split(path: Path, own: Sequence[tuple[Path, str]]) -> str:
    beginning = re.split(r"[._-]", path.name)[0].lower()
    named = next((split for folder, split in own if path.is_relative_to(folder)), None)
    return named or SPLIT_NAMES.get(beginning, "train")
