"""Metre and key of a tune: the fields of ABC notation, and what a MIDI file says of them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any

KEYS = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


def read_fields(midi: Any, unit: str) -> tuple[str, Fraction]:
    """The fields M, L and K, a line each, and the quarter notes of a bar, by the first time and key signature of a
    `PrettyMIDI`; 4/4 and C where it has none."""
    time, key = midi.time_signature_changes[:1], midi.key_signature_changes[:1]
    metre = f"{time[0].numerator}/{time[0].denominator}" if time else "4/4"
    number = key[0].key_number if key else 0
    name = KEYS[number % 12] + ("m" if number >= 12 else "")
    return f"M:{metre}\nL:{unit}\nK:{name}\n", Fraction(metre) * 4


def write_fields(midi: Any, headers: Iterable[tuple[float, str]]) -> None:
    """Into a `PrettyMIDI`, the metres and the first key of headers as `read_fields` makes them, each from a second on.
    What MIDI cannot say, such as a metre of thirds or a mode, is left out."""
    import pretty_midi

    last = ""
    for seconds, header in headers:
        metre, key = re.findall(r"^[MK]:(.*)$", header, re.M)
        upper, lower = map(int, metre.split("/"))
        if metre != last and 0 < upper < 256 and lower & (lower - 1) == 0:
            midi.time_signature_changes.append(pretty_midi.TimeSignature(upper, lower, seconds))
        if not last:
            with suppress(ValueError):
                number = pretty_midi.key_name_to_key_number(key)
                midi.key_signature_changes.append(pretty_midi.KeySignature(number, seconds))
        last = metre
