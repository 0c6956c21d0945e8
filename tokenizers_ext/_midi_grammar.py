"""Which id may come next: all that encoding can produce, and nothing that decoding would have to repair.

A finished sequence is canonical: without limits, encoding what it decodes to gives the same ids again. Limits come on
top of the grammar and never bind `encode`, which makes no use of it.
"""

from __future__ import annotations

from typing import Self

import numpy as np

from seqmodal.errors import ConfigError
from tokenizers_ext._midi_codec import (
    BAND_SIZE,
    DRUM,
    DRUM_STEPS,
    MAX_SHIFT,
    OFF,
    ON,
    PLAIN_SIZE,
    PROGRAM,
    SHIFT,
    STEPS_PER_SECOND,
    VELOCITY,
)

_NONE = -1


class MidiGrammar:
    """The state of a sequence of ids, from its start. A note's key is program * 128 + pitch.

    seconds: no end before this time, and everything closed and ended at it. max_silence: the longest time, in seconds,
    with nothing sounding. max_note: the longest time, in seconds, that a note sounds; one step more where its off is no
    longer in order. All count from the start of the sequence, a primer included; a primer that breaks a limit is taken
    as it is. Without `restrikes`, a note that sounds cannot be struck again before its off. `mask` always has an entry
    that is allowed.
    """

    def __init__(
        self, band: bool, seconds: float | None = None, max_silence: float | None = None,
        max_note: float | None = None, restrikes: bool = True,
    ) -> None:  # fmt: skip
        for name, value in (("seconds", seconds), ("max_silence", max_silence), ("max_note", max_note)):
            if value is not None and not 0 <= value < float("inf"):
                raise ConfigError(f"{name}={value}: a time in seconds, 0 or more")
        self._band, self._restrikes = band, restrikes
        self._size = BAND_SIZE if band else PLAIN_SIZE
        self._limit = None if seconds is None else int(seconds * STEPS_PER_SECOND + 0.5)
        self._silence = None if max_silence is None else int(max_silence * STEPS_PER_SECOND + 0.5)
        self._longest = None if max_note is None else max(1, int(max_note * STEPS_PER_SECOND + 0.5))
        self._step = 0
        self._quiet_since = 0  # the step from which nothing sounds, drum hits counted with their length
        self._sounding: dict[int, tuple[int, ...]] = {}  # key: the onsets of notes begun before this step
        self._fresh: list[int] = []  # keys of notes begun in this step
        self._last_off, self._last_on, self._last_drum = _NONE, _NONE, _NONE  # keys, in this step
        self._program = _NONE if band else 0
        self._velocity = _NONE
        self._after_program = self._after_velocity = False
        self._may_shift, self._ended_by_event = True, True  # after a shift below 100 comes no other

    @property
    def seconds(self) -> float:
        """The time reached."""
        return self._step / STEPS_PER_SECOND

    def copy(self) -> Self:
        """A grammar in the same state that goes its own way."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._sounding, other._fresh = self._sounding.copy(), self._fresh.copy()
        return other

    def clip(self, id: int) -> int:
        """A time shift that would pass `seconds`, or the end of a note by `max_note`, is cut to end there.

        Such shifts are allowed, since a model that wants time to pass would otherwise be left with nothing but notes.
        Every other id is itself.
        """
        if not SHIFT <= id < VELOCITY:
            return id
        stops = [] if self._limit is None else [self._limit]
        if self._longest is not None and (self._sounding or self._fresh):
            oldest = min((onsets[0] for onsets in self._sounding.values()), default=self._step)
            stops.append(max(self._step + 1, oldest + self._longest))
        return min([id] + [SHIFT + stop - self._step - 1 for stop in stops if stop > self._step])

    def advance(self, id: int) -> None:
        """Takes one id, an allowed one or a primer's."""
        if SHIFT <= id < VELOCITY:
            self._advance_time(id - SHIFT + 1)
            return
        if VELOCITY <= id < PROGRAM:
            self._velocity, self._after_velocity = id - VELOCITY, True
            return
        if PROGRAM <= id < DRUM:
            self._program, self._after_program = id - PROGRAM, True
            return
        self._after_program = self._after_velocity = False
        self._may_shift = self._ended_by_event = True
        if id < OFF:
            self._last_on = max(self._program, 0) * 128 + id
            self._fresh.append(self._last_on)
        elif id < SHIFT:
            key = self._last_off = max(self._program, 0) * 128 + id - OFF
            onsets = self._sounding.pop(key, ())
            if len(onsets) > 1:
                self._sounding[key] = onsets[1:]
            elif onsets and not self._sounding:
                self._quiet_since = max(self._quiet_since, self._step)
        else:
            self._last_drum = id - DRUM
            self._quiet_since = max(self._quiet_since, self._step + DRUM_STEPS)

    def _advance_time(self, steps: int) -> None:
        for key in self._fresh:
            self._sounding[key] = (*self._sounding.get(key, ()), self._step)
        self._fresh.clear()
        self._step += steps
        self._last_off = self._last_on = self._last_drum = _NONE
        self._after_program = self._after_velocity = False
        self._may_shift, self._ended_by_event = steps == MAX_SHIFT, False

    def mask(self) -> np.ndarray:
        """Bool (vocab_size + 1,): the ids allowed next; the last entry is the end."""
        mask = np.zeros(self._size + 1, bool)
        if self._after_velocity:
            self._allow_notes(mask, drums=not self._after_program)
        elif self._limit is not None and self._step >= self._limit:
            self._allow_closing(mask)
        elif (key := self._overdue()) >= 0:
            self._allow_off(mask, key)
        else:
            self._allow_offs(mask)
            self._allow_onsets(mask)
            if not self._after_program:
                self._allow_programs(mask)
                self._allow_shifts(mask)
                if self._limit is None and self._ended_by_event:
                    mask[-1] = not self._sounding and not self._fresh
        return mask

    def _allow_offs(self, mask: np.ndarray) -> None:
        if self._last_on >= 0 or self._last_drum >= 0:
            return
        first = self._program * 128
        for key in self._sounding:
            if first <= key < first + 128 and key >= self._last_off:
                mask[OFF + key - first] = True

    def _allow_onsets(self, mask: np.ndarray) -> None:
        """Notes at the velocity that holds, and the other velocities where a note can follow."""
        if self._velocity >= 0:
            self._allow_notes(mask, drums=not self._after_program)
        if self._can_start() or (self._band and not self._after_program and self._last_drum < 127):
            mask[VELOCITY:PROGRAM] = True
            if self._velocity >= 0:
                mask[VELOCITY + self._velocity] = False

    def _allow_notes(self, mask: np.ndarray, drums: bool) -> None:
        mask[ON + self._first_pitch() : ON + 128] = True
        if not self._restrikes:
            for key in self._sounding:
                if key // 128 == self._program:
                    mask[ON + key % 128] = False
        if self._band and drums:
            mask[DRUM + self._last_drum + 1 : DRUM + 128] = True

    def _can_start(self) -> bool:
        """Whether the program that holds has a pitch that may start in this step."""
        first = self._first_pitch()
        if self._restrikes or first == 128:
            return first < 128
        return any(self._program * 128 + pitch not in self._sounding for pitch in range(first, 128))

    def _first_pitch(self) -> int:
        """The lowest pitch that may start in this step with the program that holds; 128 for none."""
        if self._program < 0 or self._last_drum >= 0:
            return 128
        return min(max(self._last_on + 1 - self._program * 128, 0), 128)

    def _allow_programs(self, mask: np.ndarray) -> None:
        """The other programs for which a note can start in this step; for those, all offs in order are possible too."""
        if self._band and self._last_drum < 0:
            mask[PROGRAM + (self._last_on // 128 + 1 if self._last_on >= 0 else 0) : DRUM] = True
            if self._program >= 0:
                mask[PROGRAM + self._program] = False
            if not self._restrikes and len(self._sounding) >= 128:
                for program in {key // 128 for key in self._sounding}:
                    if all(program * 128 + pitch in self._sounding for pitch in range(128)):  # only offs are possible
                        mask[PROGRAM + program] &= self._last_on < 0 and self._last_off <= program * 128 + 127

    def _allow_shifts(self, mask: np.ndarray) -> None:
        if not self._may_shift:
            return
        steps = MAX_SHIFT
        if self._silence is not None and not self._sounding and not self._fresh:
            steps = min(steps, self._quiet_since + self._silence - self._step)
        if steps > 0:
            mask[SHIFT : SHIFT + steps] = True

    def _allow_closing(self, mask: np.ndarray) -> None:
        """At the limit: the lowest note-off still in order, or the end; one step more where neither is possible."""
        if not self._sounding and not self._fresh and not self._after_program:
            mask[-1] = True
            return
        key = min(filter(self._can_close, self._sounding), default=_NONE)
        if key >= 0:
            self._allow_off(mask, key)
        elif self._after_program:  # a primer that stops right there
            self._allow_onsets(mask)
        else:
            mask[SHIFT] = True

    def _overdue(self) -> int:
        """The lowest note that has sounded for `max_note` and can be closed in this step."""
        if self._longest is None:
            return _NONE
        late = self._step - self._longest
        overdue = (key for key, onsets in self._sounding.items() if onsets[0] <= late and self._can_close(key))
        return min(overdue, default=_NONE)

    def _can_close(self, key: int) -> bool:
        """Whether the off of a sounding note is still in order in this step, with the program that has been named."""
        if self._last_on >= 0 or self._last_drum >= 0 or key < self._last_off:
            return False
        return not self._after_program or key // 128 == self._program

    def _allow_off(self, mask: np.ndarray, key: int) -> None:
        if key // 128 == self._program:
            mask[OFF + key % 128] = True
        else:
            mask[PROGRAM + key // 128] = True
