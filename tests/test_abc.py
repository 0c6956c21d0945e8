"""ABC notation: bars as they are played, and where they begin in a performance; made-up tunes in both spellings."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmodal.data.abc import align, read_bars, split_tunes
from seqmodal.data.melodies import melodies
from seqmodal.errors import BadInput
from seqmodal.recipes.abc import _partner

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
        ("[|:A:|B[|]", ["A", "A", "B"]),
        ("A|\nB:|\nC|", ["A", "B", "A", "B", "C"]),  # B: is no field here
        ("|:A|1,3B:|2,4C:|D|", ["A", "B", "A", "C", "A", "B", "A", "C", "D"]),
        ("|:A|[1-3B:|[4C|D|", ["A", "B", "A", "B", "A", "B", "A", "C", "D"]),
        ("|:A|1B:|2C:|3D|", ["A", "B", "A", "C", "A", "D"]),
        ("|:A|1,2B:|C|", ["A", "B", "A", "B", "C"]),
        ("|:A|1B:|2C:|D|", ["A", "B", "A", "C", "D"]),
        ("|:A|1B:|2C||D|1E:|2F|]", ["A", "B", "A", "C", "D", "E", "D", "F"]),
        ("A|1B:|2C||D:|", ["A", "B", "A", "C", "D", "D"]),
        ("A||B:|", ["A", "B", "A", "B"]),
        ("|:A|1B:|2C|D:|", ["A", "B", "A", "C", "D", "D"]),
        ("|:A|1B:|2C|D|1E:|2F|]", ["A", "B", "A", "C", "D", "E", "D", "F"]),
        ("|:A|1B|c:|2C|d:|e|", ["A", "B", "c", "A", "C", "d", "e"]),
        ("A|\nz:|\nc|", ["A", "z", "A", "z", "c"]),  # z: is no field here
        ("A2B2\n[Q:1/4=80]c4|", ["A2B2c4"]),
        ("|:A||B|1C:|2D||", ["A", "B", "C", "A", "B", "D"]),
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


@pytest.mark.parametrize(
    ("body", "spelled"),
    [
        ("A>B c<d", "A3/2B/2c/2d3/2"),
        ("A>>B c<<d", "A7/4B/4c/4d7/4"),
        ("A<<<B", "A/8B15/8"),
        ('(A2 > "G"{c}.B2)', 'A3"G"B'),
        ("A->A", "A3/2-A/2"),
        ("[CE]>z", "[CE]3/2z/2"),
        ("(3A>Bc", "(3A3/2B/2c"),
        ("A>B>c", "A3/2B3/4c/2"),
    ],
)
def test_broken_rhythm_is_spelled_by_lengths(body: str, spelled: str) -> None:
    (bar,) = read_bars(HEAD + body + "|", "x")
    assert [bar] == read_bars(HEAD + spelled + "|", "x") and bar.text == spelled


def test_onsets_of_broken_rhythm() -> None:
    bars = read_bars(HEAD + "A>B c<<d|A>-A B2|", "x")
    assert [float(onset) for onset in bars[0].onsets] == [0, 0.75, 1, 1.125]
    assert [bar.length for bar in bars] == [2, 2] and bars[1].ties == (Fraction(3, 4),)
    assert align(bars, np.array([0, 36, 48, 54, 96, 144]), 48) == [0, 96]


@pytest.mark.parametrize("body", [">A|", "A>|B|", "A>", "A><B|", "A>>>>B|", "A|>B|"])
def test_broken_rhythm_of_no_two_notes_is_told(body: str) -> None:
    with pytest.raises(BadInput, match="line 6: .*(no two notes|no second note)"):
        read_bars(HEAD + body, "x")


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("AyBy2c|y", ["ABc"]),
        ("A2x/2|", ["A2z/2"]),
        ("A|Z|B|Z2:|", ["A", "z8", "B", "z8", "z8"] * 2),
        ("X2|[M:3/4][L:1/4]Z|", ["z8", "z8", "z3"]),
        ("+trill+A +f+B +>+c +D.C.+|", ["ABc"]),
        ("!trill!A uB vc Td LA HB Mc Od PA SB ~c .d|", ["ABcdABcdABcd"]),
        ('"^slowly"[CEG]2"_x""@1,2 y"A "Am"B|', ['[CEG]2A"Am"B']),
        ("AB\\\n cd|", ["ABcd"]),
        ("AB % and\n%%MIDI program 1\ncd|", ["ABcd"]),
        ("AB|\nw:la la | la\ns: * !f! |\nW:la\ncd|", ["AB", "cd"]),
        ("(A{/gf}B)(c (3def)|", ["ABc(3def"]),
        ("A-|A -|A-A|", ["A-", "A-", "A-A"]),
        ("V:1 clef=treble\nA|\n[V:1]B[r:a remark]c|", ["A", "Bc"]),
        ("(3:2:3ABc (3::2AB (6:4AAAAAA (3:2:4AAAA|", ["(3ABc(3:2:2AB(6:4:6AAAAAA(3:2:4AAAA"]),
    ],
)
def test_what_is_read_and_left_out(body: str, played: list[str]) -> None:
    assert texts(body) == played


@pytest.mark.parametrize(
    ("body", "played"),
    [
        ("A|B|\n\nPlayed in C: 3/4 of them $\nM: a waltz\n", ["A", "B"]),
        ("\nA|\n \nB|\n\nP:C\nc|\n", ["A", "B", "c"]),  # the lines are spaced out
        ("A|\n\nsome words\n\nX:2\nK:C\nB|", ["A"]),
        ("A\n%\nB", ["AB"]),  # no empty line
    ],
)
def test_an_empty_line_ends_a_tune_unless_bars_follow(body: str, played: list[str]) -> None:
    assert texts(body) == played


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
        ("1/4=1e2", None), ("1/4=1e9999999999", None), ("1e-1=100", None), ("1e9999999999=100", None),
        ("slow " * 50, None),
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
        (HEAD + "|::A::|", "line 6.*three times"),
        ("M:waltz\nK:C\nA|", "line 1"),
        ("L:1/0\nK:C\nA|", "line 1"),
        ("L:1e-1\nK:C\nA|", "line 1: the unit of length"),
        ("L:1e9999999999\nK:C\nA|", "line 1: the unit of length"),
        ("M:1000/4\nK:C\nA|", "line 1: the metre"),
        (f"K:{'C' * 201}\nA|", "line 1: a key"),
        (HEAD + "A99999999999999999|", "line 6: the length"),
        (HEAD + "A1000|", "line 6: a note of 1000 units"),
        (HEAD + "A|B/1000|", "line 6"),
        (HEAD + "A" + "/" * 99 + "|", "line 6: the length"),
        (HEAD + "A|Z99999999|", "line 6: more than 10,000 bars"),
        (HEAD + "AB&cd|", "line 6: two voices in one bar"),
        (HEAD + "V:1\nA|\nV:2\nB|", r"line 8: more than one voice \(1, 2\)"),
        ("V:S\nV:B\nK:C\nA|", "line 2: more than one voice"),
        (HEAD + "[V:1]A|\n[V:2]B|", "line 7: more than one voice"),
        (HEAD + "+CEG+A|", "line 6"),  # a chord of ABC 1.6
        (HEAD + "A|\n\n$ B|", "line 8"),
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


@given(st.text(alphabet='ABcz2/3:|[]()"-_^=\n {}1<>,Zy+&', max_size=60))
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


def test_the_midi_file_is_found_by_a_suffix_in_capitals_too(tmp_path: Path) -> None:
    tune = tmp_path / "y.abc"
    (tmp_path / "x.mid").touch()
    (tmp_path / "y.MID.txt").touch()
    with pytest.raises(BadInput, match="no MIDI file"):
        _partner(tune)
    for name in ("y.KAR", "y.MID", "y.mid"):  # the last is the likeliest
        (tmp_path / name).touch()
        assert _partner(tune).samefile(tmp_path / name)
