"""Many pictures on one PNG, side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

PAPER = 236
"""Grey between the pictures."""
CELL, GAP = 112, 8
"""Pixels of a picture's longer side, about, and between two pictures."""


def sheet(pictures: Sequence[np.ndarray], path: str | Path, columns: int | None = None) -> Path:
    """Draw pictures uint8 (height, width) or (height, width, 3) row by row, small ones enlarged, and return `path`.

    columns: in a row; None: as many as there are rows, or one more. Where sizes differ, each lies in the middle of its
    place.
    """
    from PIL import Image

    columns = columns or max(1, math.ceil(math.sqrt(len(pictures))))
    longest = max((max(p.shape[:2]) for p in pictures), default=1)
    times = max(1, round(CELL / longest))
    height = times * max((p.shape[0] for p in pictures), default=1)
    width = times * max((p.shape[1] for p in pictures), default=1)
    rows = max(1, math.ceil(len(pictures) / columns))
    paper = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), PAPER, np.uint8)
    for number, picture in enumerate(pictures):
        large = picture.repeat(times, axis=0).repeat(times, axis=1)
        top = GAP + number // columns * (height + GAP) + (height - large.shape[0]) // 2
        left = GAP + number % columns * (width + GAP) + (width - large.shape[1]) // 2
        place = paper[top : top + large.shape[0], left : left + large.shape[1]]
        place[:] = large if large.ndim == 3 else large[:, :, None]
    Image.fromarray(paper).save(path, format="PNG", optimize=True)
    return Path(path)
