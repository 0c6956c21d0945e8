"""Tunes in ABC notation: the bars as they are played, repeats written out, and where notes are struck in them.

What a note sounds like is not read here: that is for a model to learn. After the ABC standard 2.1 (abcnotation.com), of
which folk tunes use little: notes, chords, rests, ties, triplets and their like, broken rhythm, repeats with endings,
chord symbols, and the fields M, L, Q and K. Graces, decorations and words are left out; more than one voice is refused.
Parts are played as they stand: an order of parts in a field P is not read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import numpy as np

from seqmodal.data.repeats import played
from seqmodal.errors import BadInput

LENGTH = r"(\d*)(/*)(\d*)"
METRE = r"[1-9]\d{0,2}/[1-9]\d{0,2}"
UNIT = r"[1-9]\d{0,2}(?:/[1-9]\d{0,2})?"
TEMPO = re.compile(rf"(?:({UNIT}(?:\s+{UNIT}){{0,3}})\s*=\s*)?(\d{{1,4}}(?:\.\d{{0,6}})?)")
ENDING = "[1-9](?:[,-][1-9])*"
TOKENS = re.compile(
    r'"(?P<chord>[^"\n]*)"|\[(?P<inline>[A-Za-z]:[^\]\n]*)\]|(?P<grace>\{[^}\n]*\}|![^!\n]*!)'
    rf"|(?P<bar>:*\[?\|[|\]:]*|:+)\s*(?P<ending>(?:{ENDING})?)(?![\d/])|\[(?P<other>{ENDING})"
    rf"|\[(?P<notes>[-+_=^A-Ga-g,'\d/ ]+)\](?P<times>{LENGTH})|(?P<note>[_=^]{{0,2}}[A-Ga-g][,']*)(?P<long>{LENGTH})"
    rf"|[zx](?P<rest>{LENGTH})|[ZX](?P<bars>\d*)|\((?P<tuplet>[2-9])(?P<said>(?::[1-9]?){{0,2}})|(?P<tie>-)"
    r"|(?P<broken><{1,3}|>{1,3})|(?P<nothing>[\s~.()\\`*]|[H-Wh-w]|y[\d/]*)"
    r"|(?P<old>\+(?:f+|\d|[^+\s|]{0,30}[H-Zh-z<>.][^+\s|]{0,30})\+)"  # a name, and no chord of ABC 1.6
)
NOTE = re.compile(rf"([_=^]{{0,2}}[A-Ga-g][,']*)({LENGTH})")
FIELD = re.compile(r"(?![A-Ga-gxzXZ]:[|:])([A-Za-z+]):")
SYMBOL = re.compile(r"\(?[A-G][#b]?[^\s]*$")
IN_TIME = {2: 3, 3: 2, 4: 3, 6: 2, 8: 3}
"""Notes of a tuplet and in the time of how many they are played; other tuplets depend on the metre."""
FIELDS = "MLK"
"""Those that end a bar."""
LONG = 200
"""Letters of a key or a tempo at most: they are read anew for each bar."""
TEMPI = Fraction(4), Fraction(1000)
"""Quarter notes a minute: what a field Q may ask for. MIDI files can say no slower one."""
MOST = 10_000
"""Bars of a tune, repeats written out, at most."""
LAST = 999
"""The greatest number in the length of a note: times of a tune stay fractions that are quickly added."""


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
    played: tuple[int, str, Fraction, Fraction] | None = None
    broken: Fraction = Fraction(1)
    voices: set[str] = field(default_factory=set)

    @property
    def per(self) -> Fraction:
        """The unit of length: where no field says it, an eighth, or a sixteenth in metres below 3/4."""
        if self.unit is not None:
            return self.unit
        return Fraction(1, 16) if _metre(self.metre) < Fraction(3, 4) else Fraction(1, 8)

    def take(self, name: str, value: str) -> list[Bar]:
        """A field, and the bar that it ends."""
        ended = self.end() if name in FIELDS else []
        if name == "M":
            self.metre = {"C": "4/4", "C|": "2/2"}.get(value, value)
            _metre(self.metre)
        elif name == "L":
            self.unit = _fraction(UNIT, value, "unit of length")
        elif name == "K":
            if len(value) > LONG:
                raise ValueError(f"a key of more than {LONG} letters")
            self.key = value
        elif name == "Q":
            self.tempo = value if len(value) <= LONG else ""
        elif name == "V":
            self.voices.update(value.split()[:1])
            if len(self.voices) > 1:
                raise ValueError(f"more than one voice ({', '.join(sorted(self.voices))}); a tune of one is read")
        return ended

    def play(self, times: Fraction, spelled: str, pitches: set[str]) -> None:
        """A note, a chord, or with no pitches a rest, that lasts so many units."""
        count, share = self.tuplet
        unit, times = self.per * 4 * (share if count else 1), times * self.broken
        if pitches:
            (self.ties if pitches & self.tied else self.onsets).append(self.length)
        self.length += times * unit
        self.tuplet = max(0, count - 1), share
        self.played, self.broken = (len(self.text), spelled, times, unit), Fraction(1)
        self.text.append(spelled + _spelled(times))
        self.tied, self.last = set(), pitches

    def lean(self, sign: str) -> None:
        """Broken rhythm: at ">" the second of two notes gives half of its length to the first, at ">>" three quarters;
        at "<" the first gives. The text has the lengths that come of it."""
        if self.played is None or self.broken != 1:
            raise ValueError(f"{sign!r} stands between no two notes")
        less = Fraction(1, 2 ** len(sign))
        first, self.broken = (2 - less, less) if sign[0] == ">" else (less, 2 - less)
        at, spelled, times, unit = self.played
        self.length += times * (first - 1) * unit
        self.text[at] = spelled + _spelled(times * first)

    def tie(self) -> None:
        """What was played last goes on into what follows at its pitch."""
        self.tied = self.last
        self.text.append("-")

    def end(self) -> list[Bar]:
        """The bar, or none where nothing stands, and a new one is begun."""
        if self.broken != 1:
            raise ValueError("broken rhythm at the end of a bar, with no second note")
        made: list[Bar] = []
        if self.length:
            header = f"M:{self.metre}\nL:{self.per}\nK:{self.key}\n"
            tempo = _tempo(self.tempo, self.per)
            made = [Bar(header, "".join(self.text), self.length, tuple(self.onsets), tuple(self.ties), tempo)]
        self.text, self.length, self.onsets, self.ties = [], Fraction(0), [], []
        self.tuplet, self.played = (0, Fraction(1)), None
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

    An empty line behind music ends it, and what follows is left out, unless a bar line stands further on: then the tune
    goes on, as in collections that space out their lines.

    Raises:
        BadInput: for what is no tune; it names `where`, and the line.
    """
    items: list[Bar | str] = []
    making, number = _Making(), 0
    try:
        for number, line, begun in _lines(tune):
            if found := FIELD.match(line):
                items += making.take(found[1], line[2:].strip())
            elif begun:
                for item in _items(line, making):
                    items.append(item)
                    if len(items) > 4 * MOST:  # a bar, and three marks of its bar line
                        raise BadInput(where, f"line {number}: more than {MOST:,} bars")
        items += making.end()
    except ValueError as error:
        raise BadInput(where, f"line {number}: {error}") from None
    if not any(isinstance(item, Bar) for item in items):
        raise BadInput(where, "no notes behind a field K:, so it is no tune in ABC notation")
    bars = list(islice(played(items), MOST + 1))
    if len(bars) > MOST:
        raise BadInput(where, f"more than {MOST:,} bars")
    return bars


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


def _lines(tune: str) -> Iterator[tuple[int, str, bool]]:
    """Lines of a tune up to its end, as `read_bars` says, or the next tune of a book: their numbers, what stands before
    a comment, and whether the field K: stands above."""
    begun = music = ended = False
    behind: list[tuple[int, str, bool]] = []
    for number, whole in enumerate(tune.splitlines(), 1):
        line = re.split(r"(?<!\\)%", whole, maxsplit=1)[0].strip()
        name = found[1] if (found := FIELD.match(line)) else ""
        if begun and name == "X":
            return
        music = music or (begun and bool(line) and not name)
        ended = ended or (music and not whole.strip())
        behind.append((number, line, begun))
        begun = begun or name == "K"
        if not ended or ("|" in line and not name):
            yield from behind
            behind, ended = [], False


def _items(line: str, making: _Making) -> Iterator[Bar | str]:
    """Bars that a line ends, and the marks between them: "(" and ")" of a repeat, and numbers of endings."""
    at = 0
    while at < len(line):
        found = TOKENS.match(line, at)
        if found is None and line[at] == "&":
            raise ValueError("two voices in one bar, by '&', are not read")
        if found is None:
            raise ValueError(f"{line[at : at + 10]!r} is not known")
        at = found.end()
        token = found.groupdict()
        if token["chord"] is not None:
            if SYMBOL.match(token["chord"]):
                making.text.append(f'"{token["chord"]}"')
        elif token["inline"]:
            yield from making.take(token["inline"][0], token["inline"][2:].strip())
        elif token["bar"]:
            yield from making.end()
            sign = token["bar"]
            if re.search(r"\|::|::+\||:::", sign):
                raise ValueError(f"{sign!r}: what is played three times is not read; write it out")
            if sign.startswith(":"):
                yield ")"
            if sign.endswith(":"):
                yield "("
            elif not sign.startswith(":") and len(sign) > 1:
                yield "|"
            if token["ending"]:
                yield token["ending"]
        elif token["other"]:
            yield from making.end()
            yield token["other"]
        elif token["notes"]:
            inside = NOTE.findall(token["notes"])
            if not inside:
                raise ValueError(f"{found[0][:20]!r} is no chord")
            pitches = [note[0] for note in inside]
            times = _length(inside[0][1]) * _length(token["times"])
            making.play(times, f"[{''.join(pitches)}]", {pitch.lstrip("_=^") for pitch in pitches})
            if "-" in token["notes"]:
                making.tie()
        elif token["note"]:
            making.play(_length(token["long"]), token["note"], {token["note"].lstrip("_=^")})
        elif token["rest"] is not None:
            making.play(_length(token["rest"]), "z", set())
        elif token["bars"] is not None:
            for number in range(int(_length(token["bars"]))):
                yield from making.end() if number else []
                making.play(_metre(making.metre) / making.per, "z", set())
        elif token["tuplet"]:
            count = int(token["tuplet"])
            compound = _metre(making.metre).numerator % 3 == 0 and _metre(making.metre).denominator == 8
            usual = IN_TIME.get(count, 3 if compound else 2)
            _, time, notes = (token["said"] + "::").split(":")[:3]
            said = int(time or usual), int(notes or count)
            making.tuplet = said[1], Fraction(said[0], count)
            making.text.append(f"({count}" + ("" if said == (usual, count) else f":{said[0]}:{said[1]}"))
        elif token["broken"]:
            making.lean(token["broken"])
        elif token["tie"]:
            making.tie()


def _fraction(form: str, text: str, what: str) -> Fraction:
    if not re.fullmatch(form, text):
        raise ValueError(f"the {what} {text[:20]!r} is no fraction, such as 4/4")
    return Fraction(text)


def _metre(text: str) -> Fraction:
    return _fraction(METRE, text, "metre")


def _tempo(field: str, unit: Fraction) -> Fraction | None:
    """Quarter notes a minute of a field Q: 1/4=120, 1/4 3/8=60, or 120 of the unit; None for others, such as words."""
    found = TEMPO.fullmatch(re.sub(r'"[^"]*"', "", field).strip())
    if found is None:
        return None
    tempo = Fraction(found[2]) * sum((Fraction(beat) for beat in (found[1] or str(unit)).split()), Fraction(0)) * 4
    return tempo if TEMPI[0] <= tempo <= TEMPI[1] else None


def _length(written: str) -> Fraction:
    """2, 3/2, /2, / and //, as a share of the unit."""
    found = re.fullmatch(LENGTH, written)
    if found is None or len(written) > 9:
        raise ValueError(f"the length {written[:20]!r} is no number up to {LAST}")
    over = int(found[3]) if found[3] else 2 ** len(found[2])
    upper, over = int(found[1] or 1), over if found[2] else 1
    if not (upper and over):
        raise ValueError("a note of no length")
    return Fraction(upper, over)


def _spelled(times: Fraction) -> str:
    """Its shortest spelling: nothing, 2, 3/2, /2."""
    if max(times.numerator, times.denominator) > LAST:
        raise ValueError(f"a note of {times} units; numbers up to {LAST} are read")
    over = f"/{times.denominator}" if times.denominator > 1 else ""
    return (str(times.numerator) if times.numerator > 1 else "") + over
