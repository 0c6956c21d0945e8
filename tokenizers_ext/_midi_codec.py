"""The performance vocabulary: notes to ids and back, by array operations only.

The 388 events of Music Transformer (Huang et al. 2018, arXiv:1809.04281): 128 note-ons, 128 note-offs, 100 time shifts
of 10 ms, 32 velocities, by note_seq's rules, except the order within a step: note-offs by (program, pitch), then
note-ons by (program, pitch), then drum hits by pitch, so that encoding twice gives the same. A band has 256 more: a
program token wherever the program changes, and one token a drum hit, which has no note-off.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tokenizers_ext._midi_notes import Notes

ON, OFF, SHIFT, VELOCITY, PROGRAM, DRUM = 0, 128, 256, 356, 388, 516
PLAIN_SIZE, BAND_SIZE = 388, 644
STEPS_PER_SECOND, MAX_SHIFT = 100, 100
DRUM_STEPS = 10  # how long a decoded drum hit lasts; drums have no note-off
DEFAULT_VELOCITY = 100
NO_VELOCITY = 63  # in the six bits of a packed event's velocity: not known, or not needed
OPEN = 1 << 60  # the end step of a note that nothing closes

# An event is one int64, sorting canonically: step, kind (0 off, 1 on, 2 drum), program + 1, pitch, velocity.
_PITCH, _PROGRAM, _KIND, _STEP = 6, 13, 21, 23
_FIRST_ID = np.array((OFF, ON, DRUM))


@dataclass(frozen=True)
class Repairs:
    """What `decode` had to mend in ids that no `encode` could have made."""

    ignored_offs: int = 0
    hanging: int = 0
    zero_length: int = 0
    without_velocity: int = 0
    without_program: int = 0

    @property
    def total(self) -> int:
        return self.ignored_offs + self.hanging + self.zero_length + self.without_velocity + self.without_program


def quantize(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """Onset and end steps, int64 (n,): absolute times rounded, so that errors never add up; no length is 0."""
    start = (notes.onset * STEPS_PER_SECOND + 0.5).astype(np.int64)
    return start, np.maximum((notes.end * STEPS_PER_SECOND + 0.5).astype(np.int64), start + 1)


def pack(
    step: np.ndarray, kind: np.ndarray | int, program: np.ndarray | int, pitch: np.ndarray, velocity: np.ndarray | int
) -> np.ndarray:
    """Events as int64 that sort canonically; program -1 is not known."""
    return step << _STEP | kind << _KIND | program + 1 << _PROGRAM | pitch << _PITCH | velocity


def encode(notes: Notes, band: bool, restrikes: bool = True) -> tuple[np.ndarray, int]:
    """(ids int32, exact duplicates that became one). Without `band`, programs are merged and drums left out; without
    `restrikes`, a note ends where its pitch is struck again."""
    notes.check()
    if not band and notes.drum.any():
        notes = notes.select(~notes.drum)
    if not len(notes):
        return np.zeros(0, np.int32), 0
    start, end = quantize(notes)
    program = np.where(notes.drum, 0, notes.program) if band else 0
    ons = pack(start, np.where(notes.drum, 2, 1) if band else 1, program, notes.pitch, notes.velocity - 1 >> 2)
    ons, end, duplicates = merge_duplicates(ons, end)
    end = end if restrikes else np.minimum(end, next_strike(ons))
    return emit(np.sort(np.concatenate((ons, offs_of(ons, end))), kind="stable"), band), duplicates


def merge_duplicates(ons: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Of notes with one step, program and pitch one, with the loudest velocity and the longest end; how many went.

    A velocity that is not known gives way to one that is.
    """
    place = ons >> _PITCH
    if not (np.diff(place) > 0).all():  # else it is in order already, and nothing is twice
        order = np.argsort(ons, kind="stable")
        ons, end, place = ons[order], end[order], place[order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    if len(first) == len(ons):
        return ons, end, 0
    bins = ons & NO_VELOCITY
    loudest = np.maximum.reduceat(np.where(bins == NO_VELOCITY, -1, bins), first)
    merged = place[first] << _PITCH | np.where(loudest < 0, NO_VELOCITY, loudest)
    return merged, np.maximum.reduceat(end, first), len(ons) - len(first)


def next_strike(ons: np.ndarray) -> np.ndarray:
    """The step at which each packed note's pitch is struck again by its program; OPEN where it is not."""
    step, place = ons >> _STEP, ons >> _PITCH & (1 << _STEP - _PITCH) - 1
    order = np.lexsort((step, place))
    step, place = step[order], place[order]
    again = np.append(np.where(place[1:] == place[:-1], step[1:], OPEN), OPEN)[: len(ons)]
    found = np.empty_like(again)
    found[order] = again
    return found


def longest(notes: Notes) -> float:
    """Seconds that the longest note sounds, up to where its pitch is struck again by its program."""
    if not len(notes):
        return 0.0
    start, end = quantize(notes)
    ons = pack(start, 1, notes.program, notes.pitch, 0)
    return int((np.minimum(end, next_strike(ons)) - start).max()) / STEPS_PER_SECOND


def offs_of(ons: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The packed note-offs of packed note-ons; drum hits and open notes have none."""
    closed = ((ons >> _KIND & 3) == 1) & (end < OPEN)
    ons, end = ons[closed], end[closed]
    return end << _STEP | (ons & (1 << _KIND) - 1) | NO_VELOCITY


def emit(events: np.ndarray, band: bool, last_step: int = 0) -> np.ndarray:
    """Ids int32 of sorted packed events: time shifts, programs and velocities only where something changes.

    Velocities and programs that are not known leave the state as it is. Time shifts after the last event reach
    `last_step`.
    """
    if not len(events):
        return _shifts(last_step)
    step = events >> _STEP
    gap = np.diff(step, prepend=0)
    moved = np.flatnonzero(gap)
    rest = gap[moved].astype(np.int32) - 1
    full = rest // MAX_SHIFT  # 250 is 100, 100, 50; 200 is 100, 100
    kind = (events >> _KIND).astype(np.int8) & 3
    velocity = events.astype(np.int32) & 63
    new_velocity = _changes(velocity, (kind > 0) & (velocity != NO_VELOCITY))
    count = np.ones(len(events), np.int64)
    count[moved] += full + 1
    count[new_velocity] += 1
    if band:
        program = (events >> _PROGRAM & 255).astype(np.int32)
        new_program = _changes(program, (kind < 2) & (program > 0))
        count[new_program] += 1
    at = np.cumsum(count) - 1
    ids = np.full(at[-1] + 1, SHIFT + MAX_SHIFT - 1, np.int32)
    ids[at] = (events >> _PITCH & 127) + _FIRST_ID[kind]
    at[new_velocity] -= 1
    ids[at[new_velocity]] = VELOCITY + velocity[new_velocity]
    if band:
        at[new_program] -= 1
        ids[at[new_program]] = PROGRAM - 1 + program[new_program]
    ids[at[moved] - 1] = SHIFT + rest - full * MAX_SHIFT
    return ids if last_step <= step[-1] else np.concatenate((ids, _shifts(last_step - int(step[-1]))))


def borders_kept(events: np.ndarray) -> bool:
    """Whether in sorted events those of unknown program or velocity still come first, so that they can stay unsaid."""
    tonal = (events >> _KIND & 3) < 2
    programs = (events[tonal] >> _PROGRAM & 255) > 0
    velocities = (events[(events >> _KIND & 3) > 0] & 63) != NO_VELOCITY
    return bool((programs[1:] >= programs[:-1]).all() and (velocities[1:] >= velocities[:-1]).all())


def _shifts(steps: int) -> np.ndarray:
    ids = np.full(-(-steps // MAX_SHIFT), SHIFT + MAX_SHIFT - 1, np.int32)
    if steps > 0:
        ids[-1] = SHIFT + (steps - 1) % MAX_SHIFT
    return ids


def _changes(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Indices where a known value differs from the known value before it."""
    at = np.flatnonzero(known)
    return at[np.diff(values[at], prepend=-1) != 0]


@dataclass(frozen=True)
class Parsed:
    """The events among ids, in the ids' order: arrays of equal length, and the step that time has reached at the end.

    kind 0 off, 1 on, 2 drum; program and velocity bin are -1 where the ids have not yet named one.
    """

    at: np.ndarray
    step: np.ndarray
    kind: np.ndarray
    program: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    last_step: int


def parse(ids: np.ndarray, band: bool) -> Parsed:
    """What the ids say, without judging it. Without `band`, the program is 0 throughout."""
    ids = np.asarray(ids, np.int64)
    is_shift = (ids >= SHIFT) & (ids < VELOCITY)
    step = np.cumsum(np.where(is_shift, ids - (SHIFT - 1), 0))
    is_event = ids < SHIFT
    if band:
        is_event |= ids >= DRUM
    at = np.flatnonzero(is_event)
    events = ids[at]
    kind = np.where(events >= DRUM, 2, np.where(events < OFF, 1, 0))
    velocity = _state(ids, VELOCITY, PROGRAM, at)
    program = _state(ids, PROGRAM, DRUM, at) if band else np.zeros(len(at), np.int64)
    program = np.where(kind == 2, 0, program)
    pitch = np.where(kind == 2, events - DRUM, events & 127)
    return Parsed(at, step[at], kind, program, pitch, velocity, int(step[-1]) if len(ids) else 0)


def _state(ids: np.ndarray, low: int, high: int, at: np.ndarray) -> np.ndarray:
    """The value of the last id in low..high-1 before each place of `at`, minus low; -1 before the first."""
    named = np.flatnonzero((ids >= low) & (ids < high))
    if not len(named):
        return np.full(len(at), -1)
    index = np.searchsorted(named, at) - 1
    return np.where(index < 0, -1, ids[named[index]] - low)


def unfinished(ids: np.ndarray) -> int:
    """Where the programs and velocities begin that stand at the very end, without their note."""
    whole = (ids < VELOCITY) | (ids >= DRUM)
    return len(ids) - int(np.argmax(whole[::-1])) if whole.any() else 0


def trim(ids: np.ndarray, seconds: float, band: bool) -> np.ndarray:
    """The ids of the first `seconds`, up to the last event in them; what still sounds then stays open."""
    limit = int(seconds * STEPS_PER_SECOND + 0.5)
    parsed = parse(ids, band)
    if limit >= parsed.last_step:
        return ids
    inside = np.flatnonzero((parsed.step < limit) | (parsed.step == limit) & (parsed.kind == 0))
    return ids[: parsed.at[inside[-1]] + 1] if len(inside) else ids[:0]


def match(group: np.ndarray, is_on: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First in, first out: for each event the index of the off that closes it, and of the on it closes; -1 for none.

    group: int (n,), events of one program and pitch; is_on: bool (n,); both in the order of time.
    """
    n = len(group)
    closed_by, closes = np.full(n, -1), np.full(n, -1)
    if not n:
        return closed_by, closes
    order = np.argsort(group, kind="stable")
    group, on = group[order], is_on[order]
    starts = np.flatnonzero(np.diff(group, prepend=group[0] - 1))
    rank = np.repeat(np.arange(len(starts)), np.diff(starts, append=n))
    depth = np.cumsum(np.where(on, 1, -1))
    depth -= np.concatenate(([0], depth))[starts][rank]  # the count of each group begins at 0
    # An off finds nothing open where the depth falls to a new low; each group is laid far below the one before it.
    level = depth - rank * (2 * n + 2)
    before = np.concatenate(([0], level[:-1]))
    before[starts] = -np.arange(len(starts)) * (2 * n + 2)
    useless = ~on & (level < np.minimum.accumulate(before))
    # With those gone, the k-th off of a group closes its k-th on.
    ons, offs = np.flatnonzero(on), np.flatnonzero(~on & ~useless)
    nth_on = np.arange(len(ons)) - np.searchsorted(ons, starts)[rank[ons]]
    nth_off = np.arange(len(offs)) - np.searchsorted(offs, starts)[rank[offs]]
    at_on = np.searchsorted(rank[ons] * n + nth_on, rank[offs] * n + nth_off)
    ons, offs = order[ons[at_on]], order[offs]
    closed_by[ons], closes[offs] = offs, ons
    return closed_by, closes


def decode(ids: np.ndarray, band: bool, program: int = 0) -> tuple[Notes, Repairs]:
    """Notes of any ids in range, and what had to be mended. Without `band` they all get the one `program`."""
    parsed = parse(ids, band)
    tonal = parsed.kind < 2
    is_on = parsed.kind == 1
    closed_by = np.full(len(parsed.at), -1)
    inside = np.flatnonzero(tonal)
    named = np.maximum(parsed.program, 0)
    by, closes = match((named * 128 + parsed.pitch)[inside], is_on[inside])
    closed_by[inside] = np.where(by >= 0, inside[by], -1)
    end = np.where(closed_by >= 0, parsed.step[closed_by], parsed.last_step)
    end = np.where(tonal, end, parsed.step + DRUM_STEPS)
    sounds = parsed.kind > 0
    keep = sounds & (end > parsed.step)
    repairs = Repairs(
        ignored_offs=int((~is_on[inside] & (closes < 0)).sum()),
        hanging=int((is_on & (closed_by < 0)).sum()),
        zero_length=int((sounds & ~keep).sum()),
        without_velocity=int((sounds & (parsed.velocity < 0)).sum()),
        without_program=int((tonal & (parsed.program < 0)).sum()),
    )
    velocity = np.where(parsed.velocity < 0, DEFAULT_VELOCITY, 1 + 4 * parsed.velocity)
    notes = Notes.of(
        parsed.step[keep] / STEPS_PER_SECOND,
        end[keep] / STEPS_PER_SECOND,
        parsed.pitch[keep],
        velocity[keep],
        named[keep] if band else program,
        parsed.kind[keep] == 2,
    )
    return notes, repairs
