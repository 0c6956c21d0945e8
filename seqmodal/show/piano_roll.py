"""A piano roll as PNG: time runs right and wraps into rows; prompt and generated notes have their own colours."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

Color = tuple[int, int, int]

PAPER: Color = (255, 255, 255)
WHITE_KEYS: Color = (250, 250, 248)
BLACK_KEYS: Color = (241, 241, 238)
LINE: Color = (222, 222, 218)
FRAME: Color = (196, 196, 192)
INK: Color = (52, 56, 66)
FAINT: Color = (128, 132, 140)
PROMPT: Color = (84, 104, 138)
PALETTE: tuple[Color, ...] = (
    *((226, 88, 52), (24, 150, 136), (146, 88, 190)),
    *((222, 152, 20), (208, 62, 120), (88, 150, 52)),
)

FAMILIES = (
    *("piano", "chromatic", "organ", "guitar", "bass", "strings", "ensemble", "brass"),
    *("reed", "pipe", "lead", "pad", "effects", "folk", "percussive", "sounds"),
)  # General MIDI, eight programs each
DRUM_LANES = (  # from the top
    ("cymbals", (49, 51, 52, 53, 55, 57, 59)),
    ("hi-hat", (22, 26, 42, 44, 46)),
    ("toms", (41, 43, 45, 47, 48, 50, 58)),
    ("snare", (37, 38, 39, 40)),
    ("kick", (35, 36)),
    ("other", ()),
)

# Sizes in points; every one is drawn SCALE pixels large.
SCALE = 2
WIDTH, LEFT, RIGHT, TOP, ROW_GAP, DRUM_HEIGHT, BOTTOM = 1100, 52, 16, 46, 30, 11, 12
ROW_SECONDS = (30, 60, 120, 300, 600, 1800, 3600, 7200, 21600)
MOST_ROWS = 10


@dataclass(frozen=True)
class _Notes:
    onset: np.ndarray
    end: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    drum: np.ndarray
    program: np.ndarray
    prompt: np.ndarray


@dataclass(frozen=True)
class _Layout:
    row_seconds: float
    rows: int
    low: int  # lowest pitch shown
    high: int
    key: int  # height of a key in points
    lanes: tuple[str, ...]
    total: float

    @property
    def roll(self) -> int:
        return (self.high - self.low + 1) * self.key

    @property
    def height(self) -> int:
        """Of one row: keys, then drums."""
        return self.roll + (len(self.lanes) * DRUM_HEIGHT + 4 if self.lanes else 0)

    def top(self, row: int) -> int:
        return TOP + row * (self.height + ROW_GAP)

    def x(self, seconds: float) -> float:
        """Points from the left for a time within a row."""
        return LEFT + seconds / self.row_seconds * (WIDTH - LEFT - RIGHT)


def piano_roll(
    onset: ArrayLike,
    end: ArrayLike,
    pitch: ArrayLike,
    velocity: ArrayLike,
    *,
    drum: ArrayLike | None = None,
    program: ArrayLike | None = None,
    prompt_notes: int = 0,
    path: str | Path,
    title: str | None = None,
) -> Path:
    """Draw n notes; the first `prompt_notes` of them are the prompt. No notes give an empty roll.

    onset, end: seconds (n,). pitch, velocity: 0..127 (n,). drum: bool (n,). program: 0..127 (n,); where several
    families of instruments play, each has its colour. Loud notes are strong, soft ones pale. Returns `path`.
    """
    from PIL import Image, ImageDraw

    onsets = np.asarray(onset, np.float64)
    count = len(onsets)
    notes = _Notes(
        onset=onsets,
        end=np.asarray(end, np.float64),
        pitch=np.asarray(pitch, int),
        velocity=np.asarray(velocity, int),
        drum=np.zeros(count, bool) if drum is None else np.asarray(drum, bool),
        program=np.zeros(count, int) if program is None else np.asarray(program, int),
        prompt=np.arange(count) < prompt_notes,
    )
    layout = _plan(notes)
    size = (WIDTH * SCALE, (layout.top(layout.rows) - ROW_GAP + 22 + BOTTOM) * SCALE)
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    colors, legend = _colors(notes)
    _draw_header(draw, title, legend, notes, layout)
    for row in range(layout.rows):
        _draw_row(draw, layout, row)
    _draw_notes(draw, layout, notes, colors)
    if 0 < prompt_notes < count:
        _draw_boundary(draw, layout, float(notes.onset[prompt_notes:].min()))
    image.save(path, format="PNG", optimize=True)
    return Path(path)


def _plan(notes: _Notes) -> _Layout:
    total = max(float(notes.end.max(initial=0.0)), 1.0)
    usual = next((s for s in ROW_SECONDS if total <= s * MOST_ROWS), total / MOST_ROWS)
    rows = max(1, math.ceil(total / usual - 1 / 3))  # rows a little longer than usual rather than one nearly empty
    row_seconds = math.ceil(total / rows)
    keys = notes.pitch[~notes.drum]
    if len(keys) or not len(notes.drum):
        low, high = (int(keys.min()) - 2, int(keys.max()) + 2) if len(keys) else (54, 77)
        low, high = max(0, low), min(127, high)
        while high - low < 23:
            low, high = max(0, low - 1), min(127, high + 1)
    else:
        low, high = 0, -1  # drums alone: no keys
    key = int(np.clip((380 if rows == 1 else 220) // max(1, high - low + 1), 2, 9))
    present = {_lane(p) for p in notes.pitch[notes.drum].tolist()}
    lanes = tuple(name for name, _ in DRUM_LANES if name in present)
    return _Layout(float(row_seconds), rows, low, high, key, lanes, total)


def _lane(pitch: int) -> str:
    return next((name for name, pitches in DRUM_LANES if pitch in pitches), "other")


def _colors(notes: _Notes) -> tuple[list[Color], list[tuple[str, Color]]]:
    """The colour of every note, and the legend."""
    new = ~notes.prompt
    families = [FAMILIES[p // 8] if not d else "drums" for p, d in zip(notes.program, notes.drum, strict=True)]
    ranked = [name for name, _ in Counter(families[i] for i in np.flatnonzero(new)).most_common()]
    shade = {name: PALETTE[min(rank, len(PALETTE) - 1)] for rank, name in enumerate(ranked)}
    colors = [shade[name] if is_new else PROMPT for name, is_new in zip(families, new.tolist(), strict=True)]
    legend: list[tuple[str, Color]] = []
    if notes.prompt.any():
        legend = [("prompt", PROMPT)]
        if len(ranked) == 1:
            legend.append(("generated", shade[ranked[0]]))
    if len(ranked) > 1:
        shown = ranked if len(ranked) <= len(PALETTE) else [*ranked[: len(PALETTE) - 1], "others"]
        legend += [(name, PALETTE[rank]) for rank, name in enumerate(shown)]
    return colors, legend


@functools.cache
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size * SCALE)


def _box(draw: ImageDraw, left: float, top: float, right: float, bottom: float, fill: Color) -> None:
    """A rectangle given in points; its last pixel is outside."""
    x0, y0 = round(left * SCALE), round(top * SCALE)
    draw.rectangle((x0, y0, max(x0, round(right * SCALE) - 1), max(y0, round(bottom * SCALE) - 1)), fill)


def _text(draw: ImageDraw, x: float, y: float, text: str, size: int, fill: Color, anchor: str) -> None:
    draw.text((x * SCALE, y * SCALE), text, fill, font=_font(size), anchor=anchor)


def _draw_header(
    draw: ImageDraw, title: str | None, legend: list[tuple[str, Color]], notes: _Notes, layout: _Layout
) -> None:
    x = float(WIDTH - RIGHT)
    for name, color in reversed(legend):
        x -= draw.textlength(name, _font(11)) / SCALE
        _text(draw, x, 22, name, 11, INK, "lm")
        _box(draw, x - 15, 17, x - 5, 27, color)
        x -= 32
    count, length = len(notes.onset), _clock(notes.end.max(initial=0.0), layout.total)
    facts = f"{count:,} note{'s' if count > 1 else ''}, {length}" if count else "no notes"
    facts_width = draw.textlength(facts, _font(11)) / SCALE
    if title:
        title = _shortened(draw, title, x - LEFT - facts_width - 40)
        _text(draw, LEFT, 22, title, 15, INK, "lm")
        _text(draw, LEFT + draw.textlength(title, _font(15)) / SCALE + 14, 23, facts, 11, FAINT, "lm")
    else:
        _text(draw, LEFT, 22, facts, 11, FAINT, "lm")


def _shortened(draw: ImageDraw, text: str, width: float) -> str:
    text = " ".join(text.split())
    if draw.textlength(text, _font(15)) <= width * SCALE:
        return text
    while text and draw.textlength(text + "…", _font(15)) > width * SCALE:
        text = text[:-1]
    return text + "…"


def _draw_row(draw: ImageDraw, layout: _Layout, row: int) -> None:
    top, right = layout.top(row), layout.x(layout.row_seconds)
    _box(draw, LEFT, top, right, top + layout.roll, WHITE_KEYS)
    for pitch in range(layout.low, layout.high + 1):
        y = top + (layout.high - pitch) * layout.key
        if pitch % 12 in (1, 3, 6, 8, 10):
            _box(draw, LEFT, y, right, y + layout.key, BLACK_KEYS)
        if pitch % 12 == 0:
            _box(draw, LEFT, y + layout.key - 0.5, right, y + layout.key, LINE)
            _text(draw, LEFT - 8, y + layout.key / 2, f"C{pitch // 12 - 1}", 10, FAINT, "rm")
    drums = top + layout.roll + 4
    for number, name in enumerate(layout.lanes):
        y = drums + number * DRUM_HEIGHT
        _box(draw, LEFT, y, right, y + DRUM_HEIGHT, WHITE_KEYS if number % 2 else BLACK_KEYS)
        _text(draw, LEFT - 8, y + DRUM_HEIGHT / 2, name, 9, FAINT, "rm")
    bottom = top + layout.height
    step, begin = _tick_step(layout), row * layout.row_seconds
    for number in range(math.ceil(begin / step - 1e-6), int((begin + layout.row_seconds) / step + 1e-6) + 1):
        x = layout.x(number * step - begin)
        _box(draw, x, top, x + 0.5, bottom, LINE)
        _box(draw, x, bottom, x + 0.5, bottom + 4, FRAME)
        if x < right - 12 or row == layout.rows - 1:  # else the next row begins with this label
            _text(draw, x, bottom + 7, _clock(number * step, layout.total), 10, FAINT, "ma")
    _box(draw, LEFT, bottom - 0.5, right, bottom, FRAME)


def _tick_step(layout: _Layout) -> float:
    """Seconds between labels, at least 60 points apart."""
    least = 60 * layout.row_seconds / (WIDTH - LEFT - RIGHT)
    return next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 300, 600, 1800, 3600) if s >= least), least)


def _clock(seconds: float, total: float) -> str:
    """0.5 s and 12 s in short pieces, 1:05 in long ones, 2:00:00 in very long ones."""
    if total < 60:
        return f"{round(float(seconds), 1):g} s"
    whole = round(float(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def _draw_notes(draw: ImageDraw, layout: _Layout, notes: _Notes, colors: list[Color]) -> None:
    gap = 0.5 if layout.key >= 3 else 0.0
    for i in np.argsort(notes.onset, kind="stable").tolist():
        onset, end = max(0.0, float(notes.onset[i])), float(notes.end[i])
        color = _mixed(colors[i], int(notes.velocity[i]))
        edge = _mixed(_darker(colors[i]), int(notes.velocity[i]))
        first = min(layout.rows - 1, int(onset // layout.row_seconds))
        if notes.drum[i]:
            start = onset - first * layout.row_seconds
            y = layout.top(first) + layout.roll + 4 + layout.lanes.index(_lane(int(notes.pitch[i]))) * DRUM_HEIGHT
            x = layout.x(start)
            _box(draw, x, y + 2, x + 3, y + DRUM_HEIGHT - 2, color)
            continue
        last = min(layout.rows - 1, max(first, math.ceil(end / layout.row_seconds) - 1))
        for row in range(first, last + 1):
            begin = row * layout.row_seconds
            left = layout.x(max(0.0, onset - begin))
            right = max(left + 1.5, layout.x(min(layout.row_seconds, end - begin)) - 0.5)
            top = layout.top(row) + (layout.high - int(notes.pitch[i])) * layout.key
            _box(draw, left, top + gap, right, top + layout.key, color)
            if row == first:  # a darker onset keeps repeated notes apart
                _box(draw, left, top + gap, left + 1, top + layout.key, edge)


def _mixed(color: Color, velocity: int) -> Color:
    share = 0.25 + 0.75 * (min(max(velocity, 0), 127) / 127) ** 0.7
    mixed = [round(share * c + (1 - share) * p) for c, p in zip(color, WHITE_KEYS, strict=True)]
    return mixed[0], mixed[1], mixed[2]


def _darker(color: Color) -> Color:
    return color[0] * 2 // 3, color[1] * 2 // 3, color[2] * 2 // 3


def _draw_boundary(draw: ImageDraw, layout: _Layout, seconds: float) -> None:
    row = min(layout.rows - 1, int(max(0.0, seconds) // layout.row_seconds))
    x, top = layout.x(max(0.0, seconds) - row * layout.row_seconds) - 1, layout.top(row)
    for y in range(top - 5, top + layout.height, 6):
        _box(draw, x, y, x + 1, min(y + 3, top + layout.height), INK)
    _box(draw, x - 3, top - 8, x + 4, top - 5, INK)
