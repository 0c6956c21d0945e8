"""Where seqmodal keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """$SEQMODAL_CACHE, or ~/.cache/seqmodal. It may be deleted at any time."""
    return Path(os.environ.get("SEQMODAL_CACHE") or Path.home() / ".cache" / "seqmodal").expanduser()
