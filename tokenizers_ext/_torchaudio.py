"""The one place that imports torchaudio."""

from __future__ import annotations

import importlib
import logging
import sys
from types import ModuleType


def import_torchaudio() -> ModuleType:
    """torchaudio beside any torch >= 2.11, CPU-only builds included.

    Its Linux wheels are linked to CUDA, so beside a CPU build of torch the native library does not load. All but
    forced alignment and the RNN-T and CUDA CTC losses goes without it, and torchaudio has a branch for that: where no
    library lies in its folder. 2.11 is its last release, so the two private names are fixed.
    """
    try:
        return importlib.import_module("torchaudio")
    except (OSError, RuntimeError) as error:
        utils = sys.modules.get("torchaudio._extension.utils")
        if utils is None or not hasattr(utils, "_LIB_DIR"):
            raise
        utils._LIB_DIR = utils._LIB_DIR / "absent"
        module = importlib.import_module("torchaudio")
        logging.getLogger(__name__).debug("torchaudio runs without its native library: %s", error)
        return module
