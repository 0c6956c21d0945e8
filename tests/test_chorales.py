"""The built-in corpus: what is kept of a score, and a split that stays as it is."""

from __future__ import annotations

import importlib.metadata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from seqmodal.data import chorales as module
from seqmodal.data.chorales import COLUMNS, chorales
from seqmodal.errors import BadInput

pytest.importorskip("music21")

HEAD = """<score-partwise version="3.1"><part-list>{}</part-list>{}</score-partwise>"""
NOTE = """<note>{}<pitch><step>{}</step><octave>4</octave></pitch><duration>{}</duration>{}</note>"""


def score(path: Path, parts: int = 4) -> Path:
    """A pickup of one quarter, a tie across the bar line, a grace note, a chord, a repeat."""
    ties = '<tie type="start"/>', '<tie type="stop"/>'
    first = "<attributes><divisions>2</divisions><time><beats>4</beats><beat-type>4</beat-type></time></attributes>"
    bars = [
        first + NOTE.format("", "C", 2, ""),
        "<note><grace/><pitch><step>A</step><octave>4</octave></pitch></note>"
        + NOTE.format("", "D", 4, "") + NOTE.format("", "E", 4, ties[0]),
        NOTE.format("", "E", 3, ties[1]) + NOTE.format("", "E", 1, "")
        + NOTE.format("", "F", 4, "") + NOTE.format("<chord/>", "A", 4, "")
        + '<barline location="right"><repeat direction="backward"/></barline>',
    ]
    measures = "".join(
        f'<measure number="{i}"{" implicit=" + chr(34) + "yes" + chr(34) if not i else ""}>{bar}</measure>'
        for i, bar in enumerate(bars)
    )
    names = "".join(f'<score-part id="P{i}"><part-name>v{i}</part-name></score-part>' for i in range(parts))
    path.write_text(HEAD.format(names, "".join(f'<part id="P{i}">{measures}</part>' for i in range(parts))))
    return path


def test_a_score_as_arrays(tmp_path: Path) -> None:
    found = module._convert(score(tmp_path / "bwv1.xml"))
    assert found is not None
    for part in range(4):
        own = found["part"] == part
        rows = sorted(zip(*(found[c][own].tolist() for c in ("onset", "end", "pitch")), strict=True))
        assert rows == [(0, 1, 60), (1, 3, 62), (3, 6.5, 64), (6.5, 7, 64), (7, 9, 65), (7, 9, 69)]


def test_other_than_four_parts_are_left_out(tmp_path: Path) -> None:
    assert module._convert(score(tmp_path / "bwv1.xml", parts=3)) is None


@pytest.fixture()
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that holds 300 short chorales; every third is the one before with its end changed."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(300):
        pitch = rng.integers(50, 70, 80).astype(np.int16)
        if number % 3 == 2:
            pitch = np.concatenate([rows[-1]["pitch"][:75], pitch[75:]])
        onset = np.arange(80, dtype=np.float32)
        rows.append({"onset": onset, "end": onset + 1, "pitch": pitch, "part": np.zeros(80, np.int8)})
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path))
    joined = {column: np.concatenate([row[column] for row in rows]) for column in COLUMNS}
    np.savez(
        tmp_path / f"chorales-music21-{importlib.metadata.version('music21')}.npz",
        names=np.array([f"bwv{i}" for i in range(300)]), cuts=np.cumsum([80] * 300)[:-1], **joined,
    )
    return tmp_path


@pytest.mark.usefixtures("cached")
def test_near_duplicates_are_on_one_side_and_the_split_stays() -> None:
    found = chorales()
    assert [c.name for c in found] == [f"bwv{i}" for i in range(300)]
    assert all(len(c.onset) == len(c.end) == len(c.pitch) == len(c.part) == 80 for c in found)
    assert all(found[i].split == found[i - 1].split for i in range(2, 300, 3))
    shares = Counter(c.split for c in found)
    assert 200 <= shares["train"] <= 270 and shares["valid"] >= 12 and shares["test"] >= 12
    assert [c.split for c in chorales()] == [c.split for c in found]
    assert [found[i].split for i in (0, 1, 3, 4, 6)] == [module._split_of(f"bwv{i}") for i in (0, 1, 3, 4, 6)]


def test_without_music21_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(BadInput, match=r"seqmodal\[demo\]"):
        chorales()
