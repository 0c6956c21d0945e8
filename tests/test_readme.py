"""What the README tells a newcomer to type is typed here, in an empty folder, with `~/midi` and `~/books` made up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pretty_midi
import pytest
import soundfile

from seqmodal.data.shapes import shapes
from seqmodal.data.tones import tones

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^(?:<!-- (?P<mark>[^\n]*) -->\n)?```(?P<language>bash|python)\n(?P<code>.*?)^```$", re.M | re.S)
# The README speaks of minutes; a test has seconds.
SHORTER = {
    "--minutes 20": "--minutes 0.05",
    "--minutes 5 ": "--minutes 0.05 ",
    "seconds 60": "seconds 3",
    "seconds=60": "seconds=3",
}
LEAVES = ("song.mid", "song.wav", "song.png", "continued.mid", "runs/music/config.yaml", "runs/music/loss.png")
LEAVES += ("pictures.png", "pictures-9.png", "sound.wav", "sound.png", "translated.de")


def blocks() -> list[tuple[str, str, str]]:
    """(mark, language, code) of every block of commands."""
    text = README.read_text(encoding="utf-8")
    found = [(match["mark"] or "", match["language"], match["code"]) for match in BLOCK.finditer(text)]
    assert len(found) == len(re.findall(r"^```(?:bash|python)", text, re.M))
    return found


def write_midi(path: Path, seed: int) -> None:
    """Half a minute of a made-up melody over chords."""
    rng = np.random.default_rng(seed)
    piano = pretty_midi.Instrument(0)
    for beat in range(60):
        at, root = beat / 2, 48 + int(rng.choice([0, 2, 5, 7]))
        for pitch in (root, root + 4, root + 7, root + 12 + int(rng.integers(0, 12))):
            velocity, length = int(rng.integers(40, 110)), float(rng.uniform(0.2, 0.5))
            piano.notes.append(pretty_midi.Note(velocity, pitch, at, at + length))
    midi = pretty_midi.PrettyMIDI()
    midi.instruments.append(piano)
    midi.write(str(path))


def test_every_block_is_run_or_says_why_not():
    marks = [mark for mark, _, _ in blocks()]
    assert all(mark == "run" or mark.startswith("not run: ") for mark in marks), marks
    assert marks.count("run") >= 5


def test_the_readme_works_from_top_to_bottom(tmp_path):
    home, work = tmp_path / "home", tmp_path / "work"
    (home / "midi").mkdir(parents=True)
    work.mkdir()
    for seed in range(8):
        write_midi(home / "midi" / f"{'abcdefgh'[seed]}.mid", seed)
    (home / "books").mkdir()
    for number in range(4):
        (home / "books" / f"{number}.txt").write_text(f"The ship had {number} sails and a captain.\n" * 200)
    rows = [{"text": f"The ship had {n} sails. It sailed.", "summary": f"A ship of {n}."} for n in range(60)]
    (home / "articles.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (home / "pairs").mkdir()
    for part in ("train", "val", "test"):
        for language, words in (("en", "the ship has sails"), ("de", "das Schiff hat Segel")):
            lines = [f"{number} {words} and {len(part) * number}\n" for number in range(60)]
            (home / "pairs" / f"{part}.{language}").write_text("".join(lines))
    (home / "pictures").mkdir()
    for number, picture in enumerate(shapes(40, 40)):
        picture.save(home / "pictures" / f"{number}.png")
    (home / "sounds").mkdir()
    for number, samples in enumerate(tones(20, 8000)):
        soundfile.write(home / "sounds" / f"{number}.wav", samples, 8000)
    environment = {
        **os.environ,
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "OMP_NUM_THREADS": "1",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    text = "".join(code for _, _, code in blocks())
    for long in SHORTER:
        assert long in text, f"the README no longer says {long!r}: change SHORTER"
    for mark, language, code in blocks():
        if mark != "run":
            continue
        for long, short in SHORTER.items():
            code = code.replace(long, short)
        command = ["bash", "-euo", "pipefail", "-c", code] if language == "bash" else [sys.executable, "-c", code]
        try:
            done = subprocess.run(
                command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                timeout=300, check=False,
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"took more than 5 minutes:\n{code}")
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    for name in LEAVES:
        assert (work / name).is_file(), f"{name} is missing; there are {sorted(p.name for p in work.rglob('*'))[:60]}"


def test_links_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
