"""Made-up tunes in two spellings: ABC notation, and the notes that it stands for. The built-in corpus of `abc`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LETTERS = "CDEFGABcdefgab"
NATURAL = (0, 2, 4, 5, 7, 9, 11)
KEYS = {"C": (), "G": ("F",), "D": ("F", "C"), "F": ("B",)}
"""Major keys, and the letters that are altered in them."""
CHORDS = {"C": "CFG", "G": "GCD", "D": "DGA", "F": "FBC"}
"""Letters of the chords of each: tonic, subdominant, dominant."""
RHYTHMS = {
    "4/4": ((2, 2, 2, 2), (3, 1, 2, 2), (1, 1, 1, 1, 2, 2), (4, 2, 2), (2, 1, 1, 4)),
    "3/4": ((2, 2, 2), (3, 1, 2), (4, 2), (1, 1, 2, 2)),
    "6/8": ((3, 3), (1, 1, 1, 3), (2, 1, 2, 1), (1, 1, 1, 1, 1, 1)),
}
"""Bars in eighths."""
BARS = 8
BASS = 48
"""Pitch that chords are built above."""


@dataclass(frozen=True)
class Melody:
    """A tune.

    Attributes:
        abc: its text.
        melody, chords: (onset, end, pitch) of notes, times in quarter notes.
    """

    abc: str
    melody: list[tuple[float, float, int]]
    chords: list[tuple[float, float, int]]


def melodies(count: int, seed: int = 0) -> Iterator[Melody]:
    """So many tunes of eight bars, the same for a seed: a walk along the scale over three chords."""
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        key, metre = str(rng.choice(list(KEYS))), str(rng.choice(list(RHYTHMS)))
        text, melody, chords = [], [], []
        degree, at = int(rng.integers(3, 10)), 0.0
        for bar in range(BARS):
            chord = CHORDS[key][0 if bar in (0, BARS - 1) else int(rng.integers(3))]
            root = _flat(chord, key)
            rhythm = RHYTHMS[metre][int(rng.integers(len(RHYTHMS[metre])))]
            end = at + sum(rhythm) / 2
            chords += [(at, end, BASS + (root - BASS) % 12 + third) for third in (0, 4, 7)]
            written = [f'"{chord}{"b" if (chord, key) == ("B", "F") else ""}"']
            for length in rhythm:
                degree = int(np.clip(degree + rng.integers(-2, 3), 0, len(LETTERS) - 1))
                raised = bool(rng.random() < 0.05) and LETTERS[degree].upper() in "FG"
                pitch = 60 + 12 * (degree // 7) + NATURAL[degree % 7] + raised
                pitch = pitch if raised else _flat(LETTERS[degree], key)
                written.append(("^" if raised else "") + LETTERS[degree] + (str(length) if length > 1 else ""))
                if not raised and f"^{LETTERS[degree]}" in "".join(written[:-1]):  # it would hold to the bar line
                    written[-1] = ("=" if LETTERS[degree].upper() not in KEYS[key] else "^") + written[-1]
                melody.append((at, at + length / 2, pitch))
                at += length / 2
            text.append("".join(written))
        head = f"X:{number + 1}\nT:Melody {number + 1}\nM:{metre}\nL:1/8\nK:{key}\n"
        yield Melody(head + "|".join(text) + "|\n", melody, chords)


def _flat(letter: str, key: str) -> int:
    """Pitch of a letter in a key, middle C being 60."""
    at = LETTERS.index(letter)
    altered = letter.upper() in KEYS[key]
    return 60 + 12 * (at // 7) + NATURAL[at % 7] + altered * (-1 if key == "F" else 1)
