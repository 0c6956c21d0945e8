"""A spectrogram as PNG: time runs right, pitch runs up, loud is dark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

RANGE_DB = 70.0
"""Softer than the loudest by more than this is paper."""
SHADES = ((255, 255, 255), (226, 230, 238), (150, 166, 194), (226, 88, 52), (120, 30, 40), (40, 12, 28))
LINE, FAINT = (196, 196, 192), (128, 132, 140)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 1100, 260, 62, 16, 12, 30  # points, each SCALE pixels large
SCALE = 2


def spectrogram(decibels: ArrayLike, frame_seconds: float, centres: ArrayLike, path: str | Path) -> Path:
    """Draw levels (frames, bands), lowest band first, and return `path`. No frames give an empty frame.

    frame_seconds: from one frame to the next. centres: Hertz (bands,) of the bands. Where several frames fall on a
    pixel, the loudest is seen.
    """
    from PIL import ImageDraw
    from PIL.Image import new

    levels, hertz = np.asarray(decibels, np.float64), np.asarray(centres, np.float64)
    image = new("RGB", (WIDTH * SCALE, HEIGHT * SCALE), SHADES[0])
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = (SCALE * v for v in (LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))
    if len(levels):
        image.paste(_picture(levels, right - left, bottom - top), (left, top))
    draw.rectangle((left, top, right, bottom), outline=LINE, width=1)
    _ticks(draw, len(levels) * frame_seconds, hertz)
    image.save(path, format="PNG", optimize=True)
    return Path(path)


def _picture(levels: np.ndarray, width: int, height: int) -> Image:
    """The levels alone, a Pillow picture of that size."""
    from PIL.Image import Resampling, fromarray

    frames = len(levels)
    if frames > width:
        starts = np.linspace(0, frames, width, endpoint=False).astype(int)
        levels = np.maximum.reduceat(levels, starts, axis=0)
    share = np.clip(1 - (levels.max() - levels) / RANGE_DB, 0, 1)
    if np.ptp(levels) == 0:  # silence, or one level throughout
        share[:] = 0
    at = np.linspace(0, 1, len(SHADES))
    rgb = np.stack([np.interp(share, at, [shade[c] for shade in SHADES]) for c in range(3)], axis=-1)
    pixels = np.rint(rgb).astype(np.uint8).swapaxes(0, 1)[::-1]
    return fromarray(np.ascontiguousarray(pixels)).resize((width, height), Resampling.NEAREST)


def _ticks(draw: ImageDraw, seconds: float, hertz: np.ndarray) -> None:
    """Times below, Hertz to the left."""
    from PIL import ImageFont

    font = ImageFont.load_default(10 * SCALE)
    bottom = (HEIGHT - BOTTOM) * SCALE
    if seconds > 0:
        steps = [m * 10.0**e for e in range(-3, 6) for m in (1, 2, 5)]
        step = next((s for s in steps if seconds / s <= 12), seconds)
        for number in range(int(seconds / step + 1e-9) + 1):
            x = (LEFT + number * step / seconds * (WIDTH - LEFT - RIGHT)) * SCALE
            draw.line((x, bottom, x, bottom + 4 * SCALE), fill=LINE, width=SCALE)
            draw.text((x, bottom + 6 * SCALE), f"{number * step:g} s", fill=FAINT, font=font, anchor="ma")
    free = float(bottom)  # labels that would overlap are left out
    for value in (50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000):
        if hertz[0] <= value <= hertz[-1]:
            band = float(np.interp(value, hertz, np.arange(len(hertz)))) + 0.5
            y = bottom - band / len(hertz) * (HEIGHT - TOP - BOTTOM) * SCALE
            if y > free:
                continue
            free = y - 12 * SCALE
            draw.line(((LEFT - 4) * SCALE, y, LEFT * SCALE, y), fill=LINE, width=SCALE)
            label = f"{value} Hz" if value < 1000 else f"{value // 1000} kHz"
            draw.text(((LEFT - 7) * SCALE, y), label, fill=FAINT, font=font, anchor="rm")
