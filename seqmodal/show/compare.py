"""Piano rolls above each other: the truth and what was made of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.show.piano_roll import piano_roll

SHOWN = 20.0
"""Seconds that are drawn, from the start."""


def piano_rolls(pieces: Mapping[str, Any], path: str | Path) -> Path:
    """Draw the first 20 seconds of pieces, each with its name as title, one above the other, and return `path`.

    pieces: by name, arrays `onset`, `end` in seconds, `pitch` and `velocity`, such as `Notes`.
    """
    from PIL import Image

    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, notes) in enumerate(pieces.items()):
            begun = notes.onset < SHOWN
            onset, end, pitch, velocity = (
                column[begun] for column in (notes.onset, notes.end, notes.pitch, notes.velocity)
            )
            drawn = piano_roll(
                onset, np.minimum(end, SHOWN), pitch, velocity, path=Path(folder) / f"{number}.png", title=name
            )
            with Image.open(drawn) as opened:
                pictures.append(opened.convert("RGB"))
    paper = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        paper.paste(picture, (0, top))
        top += picture.height
    paper.save(path, format="PNG", optimize=True)
    return Path(path)
