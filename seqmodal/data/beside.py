"""What some segments of a store have beside their ids: rows of numbers, memory-mapped, a row for each place.

`NAME.bin` holds the rows one after the other and `NAME.npy` says where those of which segment are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput

WHERE = np.dtype([("segment", "i8"), ("start", "i8"), ("length", "i4"), ("width", "i4")])
AT_ONCE = 1 << 22
"""Numbers hashed at a time."""


class BesideWriter:
    """Writes rows of numbers; the files are made when the first come."""

    def __init__(self, folder: Path, name: str, dtype: Any) -> None:
        self._folder, self._name, self._dtype = folder, name, np.dtype(dtype)
        self._where: list[tuple[int, int, int, int]] = []
        self._digest, self._size = hashlib.sha256(), 0
        self._file: Any = None

    def add(self, segment: int, rows: np.ndarray) -> None:
        """Append the rows (n, width) of a segment.

        Raises:
            BadInput: for numbers that the format cannot hold.
        """
        if self._file is None:
            self._file = open(self._folder / f"{self._name}.bin", "wb")  # noqa: SIM115 - closed by `close`
        with np.errstate(over="ignore", invalid="ignore"):
            kept = np.ascontiguousarray(rows, dtype=self._dtype)
        if rows.ndim != 2 or not (np.isfinite(kept).all() if self._dtype.kind == "f" else np.array_equal(kept, rows)):
            raise BadInput(
                f"{self._name} of segment {segment}", f"of shape {rows.shape}, are no rows of {self._dtype} numbers",
                "they have to be finite and of moderate size, such as mean 0 and deviation 1",
            )  # fmt: skip
        data = kept.tobytes()
        self._file.write(data)
        self._digest.update(data)
        self._where.append((segment, self._size, *kept.shape))
        self._size += kept.size

    def close(self) -> str | None:
        """Write the table; gives the hash of the rows, None where there are none."""
        if self._file is None:
            return None
        self._file.close()
        np.save(self._folder / f"{self._name}.npy", np.array(self._where, WHERE))
        return self._digest.hexdigest()


class Beside:
    """Rows by number of segment.

    Attributes:
        lengths, widths: int64 (segments,), of the rows of each; 0 where there are none.

    Raises:
        BadInput: at opening, for files that are missing, cut short or changed.
    """

    def __init__(self, folder: Path, name: str, dtype: Any, segments: int, sha256: str, again: str) -> None:
        path, dtype = folder / f"{name}.bin", np.dtype(dtype)
        try:
            where = np.load(folder / f"{name}.npy", allow_pickle=False)
            size = path.stat().st_size
        except (OSError, ValueError) as error:
            raise BadInput(path, f"not {name} of a token store: {error}", again) from error
        fits = where.dtype == WHERE and where.ndim == 1 and len(where) > 0
        if fits:
            number, sizes = where["segment"], where["length"].astype(np.int64) * where["width"]
            fits = (
                bool((np.diff(number) > 0).all()) and number[0] >= 0 and number[-1] < segments
                and (where["length"] >= 0).all() and (where["width"] >= 0).all()
                and np.array_equal(where["start"], np.cumsum(sizes) - sizes)
                and size == sizes.sum() * dtype.itemsize
            )  # fmt: skip
        if not fits:
            raise BadInput(folder, f"the files of its {name} do not fit each other", again)
        self._rows = np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)
        digest = hashlib.sha256()
        for at in range(0, len(self._rows), AT_ONCE):
            digest.update(self._rows[at : at + AT_ONCE].data)
        if digest.hexdigest() != sha256:
            raise BadInput(path, "its content is not what was written", again)
        self._starts = np.full(segments, -1, np.int64)
        self.lengths, self.widths = np.zeros(segments, np.int64), np.zeros(segments, np.int64)
        self._starts[number], self.lengths[number] = where["start"], where["length"]
        self.widths[number] = where["width"]

    def __getitem__(self, segment: int) -> np.ndarray | None:
        """The rows (n, width) of a segment, a view into the memory map; None where it has none."""
        start = int(self._starts[segment])
        if start < 0:
            return None
        length, width = int(self.lengths[segment]), int(self.widths[segment])
        return self._rows[start : start + length * width].reshape(length, width)
