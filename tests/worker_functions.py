"""What the tests of `process_files` have done in worker processes: found by name, so in a module of their own."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from seqmodal.errors import BadInput


def obey(path: Path) -> Any:
    """Does what the name of the file says; gives the name."""
    order = path.name.split("_")[-1]
    if order == "abort":
        os.abort()
    if order == "exit":
        os._exit(3)
    if order == "hang":
        time.sleep(60)
    if order == "slow":
        time.sleep(0.3)
    if order == "bad":
        raise BadInput(path, "no notes in it")
    if order == "raise":
        raise ZeroDivisionError("ticks")
    if order == "lambda":
        return lambda: 0
    if order == "once":  # crashes the first time only
        marker = path.with_name("crashed")
        if not marker.exists():
            marker.touch()
            os.abort()
    return path.name


def plus(number: int, path: Path) -> int:
    return number + len(path.name)


def modules(path: Path) -> set[str]:
    import sys

    return set(sys.modules)
