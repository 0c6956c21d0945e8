"""The files that a corpus is made of: each read once to check it, copies left out, split; then worked on again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import RecipeConfig
from seqmodal.data.source import Failure, Skipped, process_files, watch
from seqmodal.data.split import copies, input_files, left_out, need_some, split_files


@dataclass(frozen=True)
class Described:
    """What is kept of a file after the first reading.

    Attributes:
        digest: of its content; files of one digest are copies.
        weight: what is held out is a share of the sum of these.
        signature: `minhash`, by which near-duplicates are kept on one side of the split; None: of no file.
        more: whatever else a recipe wants to know.
    """

    digest: str
    weight: float = 1.0
    signature: np.ndarray | None = None
    more: Any = None


@dataclass(frozen=True)
class Files:
    """The files that can be used.

    Attributes:
        described: each by its path, in order.
        splits: which part each belongs to.
        skipped: the others with their reasons; `each` adds to it.
        strict: one that fails is an error.
    """

    described: dict[Path, Described]
    splits: dict[Path, str]
    skipped: list[Skipped]
    strict: bool

    def training(self, most: int) -> list[Path]:
        """Files of the training part, evenly taken where there are more than `most`."""
        paths = [path for path, split in self.splits.items() if split == "train"]
        return paths[:: -(-len(paths) // most) or 1]

    def each(self, function: Callable[[Path], Any], label: str = "tokenizing") -> Iterator[tuple[Path, Any]]:
        """Path and `function(path)` of every file, in order, from worker processes. What fails joins `skipped`."""
        for path, result in watch(process_files(list(self.described), function), len(self.described), label):
            if isinstance(result, Failure):
                self.skipped.append(left_out(path, result.reason, self.strict))
            else:
                yield path, result


def find_usable(
    config: RecipeConfig, suffixes: Sequence[str], describe: Callable[[Path], Described], what: str, *,
    evaluated: bool = False, others: bool = False,
) -> Files:  # fmt: skip
    """Find the files of `config.data`, describe each in worker processes, drop copies, and split.

    Args:
        config: its `data`, `exclude`, `strict` and `valid_share` are used.
        suffixes: of the files, such as ".png".
        describe: reads a file; from a module that can be imported. Raises BadInput for one that cannot be used.
        what: what an item is called, such as "picture".
        evaluated: a model is to be judged on them: those of the folder's own test part where it has one, else all, are
            the part "valid", and copies stay.
        others: files with other endings are tried as well, since names may be wrong. One that is none is listed, but is
            no error.

    Raises:
        BadInput: where there is no file, or none can be used.
    """
    assert config.data is not None
    roots, found = input_files(config.data, suffixes, config.exclude, what, evaluated=evaluated, others=others)
    described: dict[Path, Described] = {}
    skipped: list[Skipped] = []
    for path, result in watch(process_files(found, describe), len(found), "reading"):
        if not isinstance(result, Failure):
            described[path] = result
        elif others and path.suffix.lower() not in suffixes:
            skipped.append(Skipped(path, f"it neither ends like a {what} nor is one: {result.reason}"))
        else:
            skipped.append(left_out(path, result.reason, config.strict))
    need_some(described, found, skipped, roots, what)
    if evaluated:
        return Files(described, dict.fromkeys(described, "valid"), skipped, config.strict)
    again = copies({path: one.digest for path, one in described.items()}, what)
    for copy in again:
        del described[copy.path]
    weights = {path: one.weight for path, one in described.items()}
    signatures = [one.signature for one in described.values() if one.signature is not None]
    near = signatures if len(signatures) == len(described) else None
    splits = split_files(roots, weights, config.valid_share, near)
    return Files(described, splits, skipped + again, config.strict)


def digest_of(path: Path) -> str:
    """Of the bytes of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
