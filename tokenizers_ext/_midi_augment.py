"""A window of ids in another key and at another speed, on the fly, as training sees it."""

from __future__ import annotations

import numpy as np

from tokenizers_ext import _midi_codec as codec


def transform(ids: np.ndarray, band: bool, transpose: int, stretch: float, low: int, high: int) -> np.ndarray:
    """The ids with pitches `transpose` semitones higher and times multiplied by `stretch`, in canonical order again.

    `ids` is a window cut anywhere out of a piece, and its borders stay open: an off whose on lies before it stays an
    off, a note whose off lies beyond it stays open, a velocity or program that the window does not name stays unsaid.
    Drums keep their pitch; so does everything when a note would leave low..high.
    """
    if transpose == 0 and stretch == 1:
        return ids.astype(np.int32)
    parsed = codec.parse(ids, band)
    is_on, is_off = parsed.kind == 1, parsed.kind == 0
    pitch = parsed.pitch + np.where(parsed.kind < 2, transpose, 0)
    tonal = pitch[parsed.kind < 2]
    if len(tonal) and (tonal.min() < low or tonal.max() > high):
        if stretch == 1:
            return ids.astype(np.int32)
        pitch = parsed.pitch
    step = (parsed.step * stretch + 0.5).astype(np.int64)
    group = np.where(parsed.kind < 2, (parsed.program + 1) * 128 + pitch, -1)  # drums are no partners of anything
    closed_by, closes = codec.match(group, ~is_off)
    end = np.where(is_on & (closed_by >= 0), np.maximum(step[closed_by], step + 1), codec.OPEN)

    velocity = np.where(parsed.velocity < 0, codec.NO_VELOCITY, parsed.velocity)
    packed = codec.pack(step, parsed.kind, parsed.program, pitch, velocity)
    ons, end, _ = codec.merge_duplicates(packed[~is_off], end[~is_off])
    dangling = packed[is_off & (closes < 0)] | codec.NO_VELOCITY
    events = np.sort(np.concatenate((dangling, ons, codec.offs_of(ons, end))), kind="stable")
    if stretch != 1 and not codec.borders_kept(events):
        return transform(ids, band, transpose, 1.0, low, high)
    unfinished = ids[codec.unfinished(ids) :]
    changed = codec.emit(events, band, int(parsed.last_step * stretch + 0.5))
    return np.concatenate((changed, unfinished)).astype(np.int32) if len(unfinished) else changed
