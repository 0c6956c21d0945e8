"""Where seqmodal keeps what it can make again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def cache_folder() -> Path:
    """$SEQMODAL_CACHE, or ~/.cache/seqmodal. It may be deleted at any time."""
    return Path(os.environ.get("SEQMODAL_CACHE") or Path.home() / ".cache" / "seqmodal").expanduser()


def made_once(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of the cache: as it is there, else what `make` writes into the path that it is given. It appears as a
    whole; where another process is quicker, that one's is taken."""
    if folder.is_dir():
        return folder
    making = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(making, ignore_errors=True)
    try:
        make(making)
        try:
            making.replace(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
