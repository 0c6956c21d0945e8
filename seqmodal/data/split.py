"""Which files are learned from and which are held back: copies left out, the folder's own split or one by weight."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.data.duplicates import group_near, split_groups
from seqmodal.data.source import Skipped, find_files, given_paths, named_splits, split_folders, split_places
from seqmodal.errors import BadInput

FEW = 2000
"""Of fewer pieces a tenth is held back, of more so many that it is a tenth of these."""


def left_out(path: Path, reason: str, strict: bool) -> Skipped:
    """The line of skipped.csv for a file that cannot be used. Raises BadInput where `strict`."""
    if strict:
        raise BadInput(path, reason, "leave out --strict to go on without it")
    return Skipped(path, reason)


def input_files(
    data: str | Sequence[str], suffixes: Sequence[str], exclude: Sequence[str], what: str, *, evaluated: bool,
    others: bool = False,
) -> tuple[tuple[Path, ...], list[Path]]:  # fmt: skip
    """The files and folders that `--data` names, and what they hold of these suffixes, each of which is called `what`;
    `evaluated`: of their own test part, where folders or names of files say so; `others`: see `find_files`.

    Raises:
        BadInput: when there are none.
    """
    roots = given_paths(data)
    if evaluated:
        roots = tuple((split_folders(root) or {}).get("test", root) for root in roots)
    files = list(dict.fromkeys(path for root in roots for path in find_files(root, suffixes, exclude, others)))
    if evaluated and (named := named_splits(files)) is not None:
        files = [path for path in files if named[path] == "test"] or files
    if not files:
        reason = f"there is no {what} here ({' '.join(suffixes)})"
        raise BadInput(", ".join(map(str, roots)), reason, "give --data files, or a folder that has some")
    return roots, files


def need_some(
    usable: Collection[Any], files: Sequence[Path], skipped: Sequence[Skipped], roots: Sequence[Path], what: str
) -> None:  # fmt: skip
    """Raises BadInput with the first reasons where none of the files, which are called `what`, can be used."""
    if not usable:
        why = "".join(f"\n  {s.path}: {s.reason}" for s in skipped[:5])
        where = ", ".join(map(str, roots))
        raise BadInput(where, f"none of {len(files)} {what}s can be used{why}", "see the reasons above")


def copies(hashes: Mapping[Path, str], what: str) -> list[Skipped]:
    """All files but the first of each set with the same hash of their content, which is called `what`."""
    first: dict[str, Path] = {}
    return [
        Skipped(path, f"the same {what} as {first[content]}")
        for path, content in hashes.items()
        if first.setdefault(content, path) != path
    ]


def split_files(
    roots: Sequence[Path], weights: Mapping[Path, float], share: float = 0.0,
    signatures: Sequence[np.ndarray] | None = None,
) -> dict[Path, str]:  # fmt: skip
    """Which split each file belongs to: as folders or the names of files say, or whole files held out at random, always
    the same.

    Args:
        roots: the files and folders that they were found in.
        weights: of each file, such as its notes or bytes.
        share: of the weight to hold out, where the folder has no valid part; 0: chosen for their number.
        signatures: `minhash` of each file, in the order of `weights`; near-duplicates then stand on one side.
    """
    own = split_places(roots)
    if own:
        splits = {path: next((s for folder, s in own if path.is_relative_to(folder)), "train") for path in weights}
    else:
        splits = named_splits(list(weights)) or dict.fromkeys(weights, "train")
    if "valid" in splits.values() or "valid" in (split for _, split in own):
        return splits
    at = [number for number, split in enumerate(splits.values()) if split == "train"]
    pieces = [path for path, split in splits.items() if split == "train"]
    groups = np.arange(len(at)) if signatures is None else group_near([signatures[number] for number in at])
    share = share or (0.1 if len(at) < FEW else 0.1 * FEW / len(at))
    held = split_groups(groups, share, seed=0, weights=[weights[path] for path in pieces])
    return splits | {path: "valid" for path, out in zip(pieces, held, strict=True) if out}
