"""Tunes in ABC notation: the bars as they are played, repeats written out, and where notes are struck in them.

What a note sounds like is not read here: that is for a model to learn. After the ABC standard 2.1 (abcnotation.com), of
which folk tunes use little: notes, chords, rests, ties, triplets and their like, repeats with endings, chord symbols,
and the fields M, L, Q and K. Graces, decorations and words are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from seqmodal.errors import BadInput

LENGTH = r"(\d*)(/*)(\d*)"
TOKENS = re.compile(
    r'"(?P<chord>[^"\n]*)"|\[(?P<inline>[A-Za-z]:[^\]\n]*)\]|(?P<grace>\{[^}\n]*\}|![^!\n]*!)'
    r"|(?P<bar>:*\|[|\]:]*|\[\||:+)\s*(?P<ending>[1-9]?)(?![\d/])|\[(?P<other>[1-9])"
    rf"|\[(?P<notes>[-+_=^A-Ga-g,'\d/ ]+)\](?P<times>{LENGTH})|(?P<note>[_=^]*[A-Ga-g][,']*)(?P<long>{LENGTH})"
    rf"|[zx](?P<rest>{LENGTH})|\((?P<tuplet>[2-9])|(?P<tie>-)|(?P<nothing>[\s~.()\\`*]|[H-Wh-w])"
)
NOTE = re.compile(rf"([_=^]*[A-Ga-g][,']*)({LENGTH})")
SYMBOL = re.compile(r"\(?[A-G][#b]?[^\s]*$")
IN_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
"""Notes of a tuplet and in the time of how many they are played; other tuplets depend on the metre."""
FIELDS = "MLQK"
TEMPI = Fraction(4), Fraction(1000)
"""Quarter notes a minute: what a field Q may ask for. MIDI files can say no slower one."""
MOST = 10_000
"""Bars of a tune, repeats written out, at most."""


@dataclass(frozen=True)
class Bar:
    """What stands between two bar lines.

    Attributes:
        header: the fields that hold here, a line each: metre, unit of length and key.
        text: notes and chord symbols, without spaces, lengths in their shortest spelling.
        length: quarter notes that it lasts.
        onsets: where notes are struck, in quarter notes from its beginning.
        ties: where notes go on that were tied to the one before, which some programs strike again.
        tempo: quarter notes a minute; None: nothing says it.
    """

    header: str
    text: str
    length: Fraction
    onsets: tuple[Fraction, ...]
    ties: tuple[Fraction, ...] = ()
    tempo: Fraction | None = None


@dataclass
class _Making:
    """A bar that is being read, and what goes on from bar to bar."""

    metre: str = "4/4"
    unit: Fraction | None = None
    key: str = "C"
    tempo: str = ""
    text: list[str] = field(default_factory=list)
    length: Fraction = Fraction(0)
    onsets: list[Fraction] = field(default_factory=list)
    ties: list[Fraction] = field(default_factory=list)
    tied: set[str] = field(default_factory=set)
    last: set[str] = field(default_factory=set)
    tuplet: tuple[int, Fraction] = (0, Fraction(1))

    @property
    def per(self) -> Fraction:
        """The unit of length: where no field says it, an eighth, or a sixteenth in metres below 3/4."""
        if self.unit is not None:
            return self.unit
        return Fraction(1, 16) if _metre(self.metre) < Fraction(3, 4) else Fraction(1, 8)

    def take(self, name: str, value: str) -> None:
        """A field."""
        if name == "M":
            self.metre = {"C": "4/4", "C|": "2/2"}.get(value, value)
            _metre(self.metre)
        elif name == "L":
            self.unit = Fraction(value)
        elif name == "K":
            self.key = value
        elif name == "Q":
            self.tempo = value

    def play(self, written: str, spelled: str, pitches: set[str]) -> None:
        """A note, a chord, or with no pitches a rest, of a length as it is written."""
        times = _length(written)
        count, share = self.tuplet
        if pitches:
            (self.ties if pitches & self.tied else self.onsets).append(self.length)
        self.length += times * self.per * 4 * (share if count else 1)
        self.tuplet = max(0, count - 1), share
        self.text.append(spelled + _spelled(times))
        self.tied, self.last = set(), pitches

    def tie(self) -> None:
        """What was played last goes on into what follows at its pitch."""
        self.tied = self.last
        self.text.append("-")

    def end(self) -> Bar | None:
        """The bar, and a new one is begun; None where nothing stands."""
        made, self.tuplet = None, (0, Fraction(1))
        if self.length:
            header = f"M:{self.metre}\nL:{self.per}\nK:{self.key}\n"
            tempo = _tempo(self.tempo, self.per)
            made = Bar(header, "".join(self.text), self.length, tuple(self.onsets), tuple(self.ties), tempo)
        self.text, self.length, self.onsets, self.ties = [], Fraction(0), [], []
        return made


def split_tunes(text: str) -> list[str]:
    """The tunes of a book, each from its field X: on, behind what stands before the first of them; that may be a tune
    of its own. Lines keep their numbers: empty ones stand in the place of other tunes."""
    lines = text.splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip().startswith("X:")]
    head = lines[: starts[0]] if starts else lines
    if any(line.strip().startswith("K:") for line in head) or not starts:
        head, starts = [], [0, *starts]
    parts = zip(starts, [*starts[1:], len(lines)], strict=True)
    return ["\n".join([*head, *[""] * (start - len(head)), *lines[start:stop]]) for start, stop in parts]


def read_bars(tune: str, where: str) -> list[Bar]:
    """The bars of a tune in the order in which they are played.

    Raises:
        BadInput: for what is no tune; it names `where`, and the line.
    """
    items: list[Bar | str] = []
    making, begun = _Making(), False
    for number, line in enumerate(tune.splitlines(), 1):
        line = re.split(r"(?<!\\)%", line)[0].strip()
        try:
            if found := re.match(r"([A-Za-z+]):", line):
                if begun and found[1] == "X":
                    break  # the next tune of a book
                if found[1] in FIELDS:
                    items += _whole(making.end() if begun else None)
                    making.take(found[1], line[2:].strip())
                begun = begun or found[1] == "K"
            elif begun:
                items += _items(line, making)
        except (ValueError, ZeroDivisionError) as error:
            raise BadInput(where, f"line {number}: {error}") from None
    items += _whole(making.end())
    if not any(isinstance(item, Bar) for item in items):
        raise BadInput(where, "no notes behind a field K:, so it is no tune in ABC notation")
    played = []
    for bar in _played(items):
        played.append(bar)
        if len(played) > MOST:
            raise BadInput(where, f"more than {MOST:,} bars")
    return played


def align(bars: Sequence[Bar], onsets: np.ndarray, per_quarter: int) -> list[int]:
    """At which step each bar begins in a performance, as far as the two agree.

    It is found by the onsets in their order and not by lengths alone: some programs lengthen the bar of an upbeat.

    Args:
        bars: as they are played.
        onsets: int (n,), steps at which the melody strikes, rising.
        per_quarter: steps of a quarter note.
    """
    starts: list[int] = []
    at = after = 0
    for bar in bars:
        for struck in (bar.onsets, tuple(sorted({*bar.onsets, *bar.ties}))):
            places = np.array([round(onset * per_quarter) for onset in struck], np.int64)
            found = onsets[at : at + len(places)]
            start = int(found[0] - places[0]) if len(found) else after
            end = start + round(bar.length * per_quarter)
            fits = len(found) == len(places) and np.abs(found - start - places).max(initial=0) <= 1
            if fits and start >= after - 1 and (onsets[at + len(places) :][:1] >= end - 1).all():
                break
        else:
            break
        starts.append(start)
        at, after = at + len(places), end
    return starts


def _items(line: str, making: _Making) -> Iterator[Bar | str]:
    """Bars that a line ends, and the marks between them: "(" and ")" of a repeat, and numbers of endings."""
    at = 0
    while at < len(line):
        found = TOKENS.match(line, at)
        if found is None:
            raise ValueError(f"{line[at : at + 10]!r} is not known")
        at = found.end()
        token = found.groupdict()
        if token["chord"] is not None:
            if SYMBOL.match(token["chord"]):
                making.text.append(f'"{token["chord"]}"')
        elif token["inline"]:
            yield from _whole(making.end())
            making.take(token["inline"][0], token["inline"][2:].strip())
        elif token["bar"]:
            yield from _whole(making.end())
            sign = token["bar"]
            if sign.startswith(":"):
                yield ")"
            if sign.endswith(":"):
                yield "("
            if token["ending"]:
                yield token["ending"]
        elif token["other"]:
            yield from _whole(making.end())
            yield token["other"]
        elif token["notes"]:
            inside = NOTE.findall(token["notes"])
            if not inside:
                raise ValueError(f"{found[0]!r} is no chord")
            pitches = [note[0] for note in inside]
            first = str(_length(inside[0][1]) * _length(token["times"]))
            making.play(first, f"[{''.join(pitches)}]", {pitch.lstrip("_=^") for pitch in pitches})
            if "-" in token["notes"]:
                making.tie()
        elif token["note"]:
            making.play(token["long"], token["note"], {token["note"].lstrip("_=^")})
        elif token["rest"] is not None:
            making.play(token["rest"], "z", set())
        elif token["tuplet"]:
            count = int(token["tuplet"])
            compound = _metre(making.metre).numerator % 3 == 0 and _metre(making.metre).denominator == 8
            making.tuplet = count, Fraction(IN_TIME.get(count, 3 if compound else 2), count)
            making.text.append(f"({count}")
        elif token["tie"]:
            making.tie()


def _whole(bar: Bar | None) -> list[Bar]:
    return [] if bar is None else [bar]


def _played(items: Sequence[Bar | str]) -> Iterator[Bar]:
    """Bars in the order in which repeats and endings have them."""
    at = start = 0
    time, repeated = 1, set[int]()
    while at < len(items):
        item = items[at]
        at += 1
        if isinstance(item, Bar):
            yield item
        elif item == "(":
            start, time = (at, 1) if at != start else (start, time)
        elif item == ")":
            if at not in repeated:
                repeated.add(at)
                at, time = start, 2
            else:
                start, time = at, 1
        elif time == 2 and item == "1":  # an ending of the first time only: on behind its repeat
            at = start = next((place + 1 for place in range(at, len(items)) if items[place] == ")"), at)


def _metre(text: str) -> Fraction:
    if not re.fullmatch(r"\d+/\d+", text):
        raise ValueError(f"the metre {text!r} is no fraction")
    return Fraction(text)


def _tempo(field: str, unit: Fraction) -> Fraction | None:
    """Quarter notes a minute of a field Q: 1/4=120, 1/4 3/8=60, or 120 of the unit; None for others, such as words."""
    beats, equals, number = re.sub(r'"[^"]*"', "", field).rpartition("=")
    try:
        beat = sum((Fraction(part) for part in beats.split()), Fraction(0)) if equals else unit
        tempo = Fraction(number.strip()) * beat * 4
    except (ValueError, ZeroDivisionError):
        return None
    return tempo if TEMPI[0] <= tempo <= TEMPI[1] else None


def _length(written: str) -> Fraction:
    """2, 3/2, /2, / and //, as a share of the unit."""
    found = re.fullmatch(LENGTH, written)
    if found is None:
        raise ValueError(f"the length {written!r} is no number")
    over = int(found[3]) if found[3] else 2 ** len(found[2])
    length = Fraction(int(found[1] or 1), over if found[2] else 1)
    if not length:
        raise ValueError("a note of no length")
    return length


def _spelled(times: Fraction) -> str:
    """Its shortest spelling: nothing, 2, 3/2, /2."""
    over = f"/{times.denominator}" if times.denominator > 1 else ""
    return (str(times.numerator) if times.numerator > 1 else "") + over
