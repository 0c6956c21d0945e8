"""ABC notation: bars as they are played, and where they begin in a performance; made-up tunes in both spellings."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmodal.data.abc import align, read_bars, split_tunes
from seqmodal.data.melodies import melodies
from seqmodal.errors import BadInput

HEAD = "X:1\nT:A tune\nM:4/4\nL:1/8\nK:G\n"


def texts(body: str, head: str = HEAD) -> list[str]:
    return [bar.text for bar in read_bars(head + body, "x")]


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("A|B|", ["A", "B"]),
        ("A|:B|C:|D|", ["A", "B", "C", "B", "C", "D"]),
        ("A|B:|C|D:|", ["A", "B", "A", "B", "C", "D", "C", "D"]),
        ("|:A|B::C|D:|", ["A", "B", "A", "B", "C", "D", "C", "D"]),
        ("|:A|[1B:|[2C|D|", ["A", "B", "A", "C", "D"]),
        ("|:A|1B:|2C||D|", ["A", "B", "A", "C", "D"]),
        ("|:A:|\nP:B\n|:B:|", ["A", "A", "B", "B"]),
        ("A|B", ["A", "B"]),
    ],
)
def test_repeats_are_written_out(body: str, played: list[str]) -> None:
    assert texts(body) == played


def test_a_bar_is_spelled_without_spaces_and_ornaments() -> None:
    assert texts('"G"~A2/4 {gf}B/ | "From here" !trill![ce]2 z (3ABc .d-d | % the end') == [
        '"G"A/2B/2', "[ce]2z(3ABcd-d",
    ]  # fmt: skip


def test_lengths_and_onsets() -> None:
    (bar,) = read_bars(HEAD + "A2 (3BcB z d-d/ [eg]3/2|", "x")
    eighth = Fraction(1, 2)
    assert bar.length == eighth * (2 + 2 + 1 + 1 + Fraction(1, 2) + Fraction(3, 2))
    assert bar.onsets == (0, 1, 1 + eighth * 2 / 3, 1 + eighth * 4 / 3, eighth * 5, eighth * Fraction(13, 2))
    assert bar.ties == (eighth * 6,)
    assert bar.header == "M:4/4\nL:1/8\nK:G\n"


def test_fields_hold_from_where_they_stand() -> None:
    bars = read_bars("X:1\nM:2/4\nK:C\nA|[K:D]B|\nM:6/8\nL:1/4\nC|", "x")
    assert [bar.header for bar in bars] == [
        "M:2/4\nL:1/16\nK:C\n", "M:2/4\nL:1/16\nK:D\n", "M:6/8\nL:1/4\nK:D\n",
    ]  # fmt: skip
    assert [bar.length for bar in bars] == [Fraction(1, 4), Fraction(1, 4), 1]


@pytest.mark.parametrize(
    ("field", "tempo"),
    [
        ("1/4=120", 120), ("3/8=60", 90), ("1/4 1/8 = 80", 120), ('"Allegro" 1/2=100', 200), ("1/4=90.5", 90.5),
        ("120", 60), ("Allegro", None), ('"Allegro"', None), ("1/4=0", None), ("1/4=99999", None), ("1/0=3", None),
    ],
)  # fmt: skip
def test_tempi(field: str, tempo: float | None) -> None:
    first, second = read_bars(f"X:1\nQ:{field}\nL:1/8\nK:C\nA|[Q:1/4=100]B|", "x")
    assert first.tempo == tempo and second.tempo == 100


@pytest.mark.parametrize(
    ("tune", "told"),
    [
        ("", "no notes"),
        ("just words", "no notes"),
        (HEAD, "no notes"),
        (HEAD + "A|$%&|", "line 6"),
        (HEAD + "A/0|", "line 6"),
        ("M:waltz\nK:C\nA|", "line 1"),
        ("L:1/0\nK:C\nA|", "line 1"),
    ],
)
def test_what_is_no_tune_is_told(tune: str, told: str) -> None:
    with pytest.raises(BadInput, match=told):
        read_bars(tune, "tune.abc")


def test_a_book_is_split_into_its_tunes() -> None:
    book = "% a book\nM:3/4\n\nX:1\nK:C\nA3|\n\nX:2\nL:1/4\nK:D\nB3|\nX:3\nK:C\n?\n"
    first, second, third = split_tunes(book)
    assert [bar.text for bar in read_bars(first, "x")] == ["A3"]
    assert read_bars(second, "x")[0].header == "M:3/4\nL:1/4\nK:D\n"
    with pytest.raises(BadInput, match="line 14"):
        read_bars(third, "x")
    assert [read_bars(tune, "x")[0].text for tune in split_tunes("K:C\nA|\nX:2\nK:C\nB|")] == ["A", "B"]
    assert split_tunes("no tune") == ["no tune"] and split_tunes(HEAD + "A|") == [HEAD + "A|"]


@given(st.text(alphabet='ABcz2/3:|[]()"-_^=\n {}1<', max_size=60))
def test_any_body_is_read_or_told(body: str) -> None:
    try:
        bars = read_bars(HEAD + body, "x")
    except BadInput:
        return
    assert bars and all(bar.length > 0 for bar in bars)
    again = read_bars(bars[0].header + "".join(bar.text + "|" for bar in bars), "x")
    assert [bar.text for bar in again] == [bar.text for bar in bars]


def test_bars_are_found_in_a_performance() -> None:
    bars = read_bars(HEAD + "|:d|A2B2 c4:|z4 A4|", "x")  # an upbeat, which is played at the end of a whole bar
    onsets = np.array([168, 192, 240, 288, 552, 576, 624, 672, 768 + 96])
    assert align(bars, onsets, 48) == [168, 192, 552, 576, 768]
    assert align(bars, onsets[:6], 48) == [168, 192, 552]  # the rest is not played
    late = onsets + 10 * (onsets >= 624)
    assert align(bars, late, 48) == [168, 192, 552]  # here it goes its own way


def test_a_tie_may_be_struck_again() -> None:
    bars = read_bars(HEAD + "A4-A2 B2|-B4 c4|", "x")
    assert align(bars, np.array([0, 144, 288]), 48) == [0, 192]
    assert align(bars, np.array([0, 96, 144, 192, 288]), 48) == [0, 192]


def test_made_tunes_agree_with_themselves() -> None:
    """Pitches by a small reader of its own: letters, the key, and accidentals that hold to the bar line."""
    sharps = {"C": {}, "G": {"F": 1}, "D": {"F": 1, "C": 1}, "F": {"B": -1}}
    natural = dict(zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True))
    made = list(melodies(60, seed=3))
    assert made == list(melodies(60, seed=3))
    for tune in made:
        bars = read_bars(tune.abc, "x")
        onsets = np.array([round(48 * onset) for onset, _, _ in tune.melody])
        assert align(bars, onsets, 48) == [round(48 * sum(b.length for b in bars[:n])) for n in range(8)]
        key, pitches = bars[0].header.split("K:")[1].strip(), []
        for bar in bars:
            held: dict[str, int] = {}
            plain, sign = bar.text[bar.text.rindex('"') + 1 :], 0
            for at, letter in enumerate(plain):
                if letter.upper() in natural:
                    before = plain[at - 1] if at else ""
                    if before in ("^", "="):
                        held[letter] = 1 if before == "^" else 0
                    sign = held.get(letter, sharps[key].get(letter.upper(), 0))
                    pitches.append(60 + 12 * letter.islower() + natural[letter.upper()] + sign)
        assert pitches == [pitch for _, _, pitch in tune.melody]
