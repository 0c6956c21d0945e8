"""What runs in a worker process of `process_files`: one file after the other, an answer for each."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from multiprocessing.connection import Connection

from seqmodal.errors import BadInput

READY = -1
"""The number of the first answer, which says that the function was found."""


def serve(descriptor: int) -> None:
    """Answer (number, path) with (number, True, result) or (number, False, reason) until the other side goes away."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears Ctrl-C and ends its workers
    link = Connection(descriptor)
    try:
        module, file = link.recv()
        _import(module, file)
        function = link.recv()
        link.send((READY, True, None))
    except Exception as error:
        link.send((READY, False, f"{type(error).__name__}: {error}"))
        return
    while True:
        try:
            number, path = link.recv()
        except (EOFError, OSError):
            return
        try:
            link.send((number, True, function(path)))
        except BadInput as error:
            link.send((number, False, error.reason))
        except Exception as error:  # whatever a parser does with a damaged file
            link.send((number, False, f"{type(error).__name__}: {error}"))


def _import(name: str, file: str | None) -> None:
    """Import the module of a function; a recipe that was loaded from a file outside sys.path is loaded from there."""
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        if file is None or not os.path.isfile(file):
            raise
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
