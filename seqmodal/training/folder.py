"""A run folder: free or taken, held by one process, with links to what it learns from."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import torch

from seqmodal import __version__
from seqmodal.errors import BadInput, RunExists
from seqmodal.training.hardware import device

LOCK = ".lock"


def must_be_free(folder: Path) -> None:
    """Raises RunExists for a folder that holds anything but a lock."""
    if folder.exists() and (not folder.is_dir() or {path.name for path in folder.iterdir()} - {LOCK}):
        raise RunExists(
            f"{folder} exists already; give another --out, or go on with it by: seqmodal train {folder} --resume"
        )


def link(source: Path, target: Path) -> None:
    """A copy of a folder that shares its bytes where the file system can."""
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        place = target / path.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(path, place)
        except OSError:
            shutil.copyfile(path, place)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run folder.

    Raises:
        RunExists: when another process holds it.
    """
    if not folder.is_dir():
        raise BadInput(folder, "there is no such run")
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RunExists(f"{folder} is being trained by another process") from error
        yield


def environment() -> dict[str, str]:
    """What a run is made with."""
    return {
        "seqmodal": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "lightning": pl.__version__,
        "machine": platform.machine(),
        "device": str(device()),
    }
