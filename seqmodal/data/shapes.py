"""Drawn shapes: pictures to learn from where no folder is given, always the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

COLORS = ((214, 69, 65), (38, 106, 180), (60, 150, 84), (238, 178, 48), (120, 82, 160))
PAPER = (250, 248, 242)
FINER = 4
"""Drawn so many times as large and scaled down, for smooth edges."""


def shapes(count: int, size: int, seed: int = 0) -> list[Image]:
    """RGB pictures of `size` pixels a side: one disc, ring, square or triangle, of one of five colours, on paper."""
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        side = size * FINER
        picture = Image.new("RGB", (side, side), PAPER)
        draw = ImageDraw.Draw(picture)
        radius = rng.uniform(0.2, 0.4) * side
        x, y = rng.uniform(radius, side - radius, 2)
        color = COLORS[rng.integers(len(COLORS))]
        box = (x - radius, y - radius, x + radius, y + radius)
        kind = rng.integers(4)
        if kind == 0:
            draw.ellipse(box, fill=color)
        elif kind == 1:
            draw.ellipse(box, outline=color, width=round(radius / 3))
        elif kind == 2:
            draw.rectangle(box, fill=color)
        else:
            draw.polygon([(x - radius, y + radius), (x + radius, y + radius), (x, y - radius)], fill=color)
        made.append(picture.resize((size, size), Image.Resampling.LANCZOS))
    return made
