"""Files: finding them, the folder's own split, and working on them in processes that may crash."""

from __future__ import annotations

import csv
import fnmatch
import functools
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import track

from seqmodal.data.worker import READY
from seqmodal.errors import BadInput, ConfigError, SeqmodalError

T = TypeVar("T")
SPLIT_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "validation": "valid", "val": "valid", "dev": "valid",
    "test": "test",
}
AT_ONCE = 8
"""Files a worker holds, so that it need not wait for the next."""
AHEAD = 1024
"""Files begun beyond the one that is waited for; what is done early is kept in memory."""
STARTING_S = 300.0
CRASHED = "the parser crashed"
START = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); "
    "from seqmodal.data.worker import serve; serve(int(sys.argv[1]))"
)


@dataclass(frozen=True)
class Skipped:
    """A file that was not used, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Failure:
    """What came instead of a result."""

    reason: str


def given_paths(data: str | Sequence[str]) -> tuple[Path, ...]:
    """The files and folders that `--data` names, one or several."""
    return tuple(Path(one).expanduser() for one in ([data] if isinstance(data, str) else data))


def find_files(root: Path, suffixes: Sequence[str], exclude: Sequence[str] = (), others: bool = False) -> list[Path]:
    """All files below `root` with one of the suffixes, in order of their names; or `root` itself when it is a file.

    Args:
        root: folder or file.
        suffixes: such as ".mid"; upper and lower case are the same.
        exclude: patterns; a file is left out when one matches its name or its path below `root`.
        others: those with other endings follow, but for hidden ones, which begin with a dot or lie in such a folder.

    Raises:
        BadInput: when there is no such folder or file.
    """
    if root.is_file():
        return [root]

    def wanted(path: Path) -> bool:
        below = path.relative_to(root)
        hidden = path.suffix.lower() not in suffixes and any(part.startswith(".") for part in below.parts)
        left_out = any(fnmatch.fnmatch(path.name, p) or fnmatch.fnmatch(str(below), p) for p in exclude)
        return not hidden and not left_out

    found = [path for path in all_files(root) if others or path.suffix.lower() in suffixes]
    return sorted(filter(wanted, found), key=lambda path: (path.suffix.lower() not in suffixes, path))


def partner(path: Path, suffixes: Iterable[str]) -> Path | None:
    """The file beside `path` that is called alike but for its suffix, one of `suffixes`, in small letters or capitals;
    the first of these that is there, or None."""
    spelled = (each for suffix in suffixes for each in (suffix, suffix.upper()))
    return next((found for each in spelled if (found := path.with_suffix(each)).is_file()), None)


def all_files(root: Path) -> Iterator[Path]:
    """Everything below `root` that is no folder, links followed; or `root` itself when it is a file.

    Raises:
        BadInput: when there is no such folder or file.
    """
    if root.is_file():
        yield root
        return
    if not root.is_dir():
        raise BadInput(root, "there is no such file or folder", "give an existing one")
    seen = {os.path.realpath(root)}
    for folder, folders, names in os.walk(root, followlinks=True):
        real = {name: os.path.realpath(os.path.join(folder, name)) for name in sorted(folders)}
        folders[:] = [name for name, place in real.items() if place not in seen]  # links may lead round in a circle
        seen.update(real.values())
        yield from (Path(folder) / name for name in names)


def split_folders(root: Path) -> dict[str, Path] | None:
    """The folder's own split: "train", "valid" and "test" to sub-folders; None unless it has train and another.

    Raises:
        BadInput: when two sub-folders are named after one split.
    """
    if not root.is_dir():
        return None
    found: dict[str, Path] = {}
    for path in sorted(root.iterdir()):
        split = SPLIT_NAMES.get(path.name.lower())
        if split is not None and path.is_dir() and found.setdefault(split, path) != path:
            raise BadInput(
                root, f"{found[split].name} and {path.name} are both the {split} part", "move their files into one"
            )
    return found if "train" in found and len(found) > 1 else None


def named_splits(files: Sequence[Path]) -> dict[Path, str] | None:
    """The split that files say by their names up to the first dot, such as train.jsonl and dev.jsonl, those with other
    names being of the training part; None unless there is train and another."""
    found = {path: SPLIT_NAMES.get(path.name.lower().split(".")[0]) for path in files}
    told = set(found.values()) - {None}
    return {path: split or "train" for path, split in found.items()} if "train" in told and len(told) > 1 else None


def split_places(roots: Sequence[Path]) -> list[tuple[Path, str]]:
    """Folders that say of all below them which split it belongs to: the sub-folders of `split_folders`, and roots that
    are called so themselves, such as data/train and data/valid."""
    below = [(folder, split) for root in roots for split, folder in (split_folders(root) or {}).items()]
    return below + [(root, split) for root, split in (named_splits(roots) or {}).items() if root.is_dir()]


def write_skipped(path: Path, rows: Iterable[Skipped]) -> None:
    """skipped.csv: a line for every file that was not used."""
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "reason"])
        writer.writerows([str(row.path), row.reason] for row in rows)


def process_files(
    paths: Sequence[Path], function: Callable[[Path], Any], *, workers: int | None = None, timeout_s: float = 60.0
) -> Iterator[tuple[Path, Any]]:
    """`function(path)` for every path, in order, in worker processes.

    A worker that crashes or takes too long costs the file it was at, and nothing else: it is replaced, and its other
    files are given out again. After a crash the file is tried once more: it may only have been there when it came.

    Args:
        paths: files.
        function: from a module that can be imported, so that a worker finds it; its result must be picklable.
        workers: processes; None: one a core, fewer for few files.
        timeout_s: seconds a file may take.

    Yields:
        (path, result), where the result is a `Failure` when the function raised or its worker died.

    Raises:
        ConfigError: when a worker cannot import the function.
    """
    wanted = min(workers or os.cpu_count() or 1, -(-len(paths) // AT_ONCE))
    waiting = deque(range(len(paths)))
    results: dict[int, Any] = {}
    tried: set[int] = set()
    crew: list[_Worker] = []
    given = 0
    try:
        while given < len(paths):
            while len(crew) < wanted:
                crew.append(_Worker(function))
            for worker in crew:
                while waiting and len(worker.tasks) < AT_ONCE and waiting[0] < given + AHEAD:
                    worker.give(waiting.popleft(), paths)
            wait([worker.pipe for worker in crew], timeout=min(worker.left(timeout_s) for worker in crew))
            for worker in list(crew):
                alive = worker.collect(results)
                if alive and worker.left(timeout_s) > 0:
                    continue
                crew.remove(worker)
                worker.stop()
                if worker.tasks:
                    culprit = worker.tasks[0]
                    if not alive and culprit not in tried:
                        tried.add(culprit)
                    else:
                        worker.tasks.popleft()
                        results[culprit] = Failure(f"it took longer than {timeout_s:g} s" if alive else CRASHED)
                    waiting.extendleft(reversed(worker.tasks))
            while given in results:
                yield paths[given], results.pop(given)
                given += 1
    finally:
        for worker in crew:
            worker.stop()


def watch(steps: Iterable[T], total: int, label: str) -> Iterator[T]:
    """The same steps, with a moving bar on standard error where that is a terminal."""
    console = Console(stderr=True)
    yield from track(steps, label, total, console=console, transient=True, disable=not console.is_terminal)


class _Worker:
    """A process, the pipe to it, and the files it has yet to answer for, in order.

    It is a Python of its own that gets the function by name (`seqmodal.data.worker`). multiprocessing's "fork" may hang
    beside torch's threads, and its "spawn" and "forkserver" run the main script again, which would start the training
    anew in a script without `if __name__ == "__main__"`.
    """

    def __init__(self, function: Callable[[Path], Any]) -> None:
        inner: Any = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        module = getattr(inner, "__module__", None) or type(inner).__module__
        if module == "__main__":
            raise ConfigError(
                f"worker processes cannot import {getattr(inner, '__qualname__', inner)} from the script that runs; "
                "move it into a module of its own"
            )
        self.pipe, other = multiprocessing.Pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-c", START, str(other.fileno()), json.dumps([str(place) for place in sys.path])],
            pass_fds=[other.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            env={"OMP_NUM_THREADS": "1", **os.environ},
        )
        other.close()
        self.tasks: deque[int] = deque()
        self.ready = False
        self.since = time.monotonic()
        try:
            self.pipe.send((module, getattr(sys.modules.get(module), "__file__", None)))
            self.pipe.send(function)
        except Exception as error:  # what pickling raises has no common base
            self.stop()
            raise ConfigError(f"{function} cannot be sent to a worker process: {error}") from error

    def give(self, number: int, paths: Sequence[Path]) -> None:
        if not self.tasks:
            self.since = time.monotonic()
        self.tasks.append(number)
        with suppress(OSError):  # it died; `collect` will find out
            self.pipe.send((number, paths[number]))

    def collect(self, results: dict[int, Any]) -> bool:
        """Take all answers that are there; whether the worker still lives."""
        try:
            while self.pipe.poll():
                number, done, result = self.pipe.recv()
                self.since = time.monotonic()
                if number == READY:
                    if not done:
                        raise ConfigError(f"a worker process cannot import what it should do: {result}")
                    self.ready = True
                else:
                    self.tasks.remove(number)
                    results[number] = result if done else Failure(result)
        except (EOFError, OSError):
            if not self.ready:
                code = self.process.wait()
                raise SeqmodalError(f"a worker process ended while it started, exit code {code}") from None
            return False
        return True

    def left(self, timeout_s: float) -> float:
        """Seconds that it may still take for its next answer."""
        allowed = timeout_s if self.ready else STARTING_S
        return max(0.0, self.since + allowed - time.monotonic()) if self.tasks else allowed

    def stop(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.wait()
