"""Folders full of odd files, with damaged copies of the good ones, through the recipes: all are used or listed."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from seqmodal.data.corpus import Prepared

DATA = Path(__file__).parents[2] / "shared" / "data"
MEMORY_MB = 1000


def opens_as_picture(path: Path) -> bool:
    from PIL import Image

    try:
        with warnings.catch_warnings(), Image.open(path) as image:
            warnings.simplefilter("ignore")
            image.convert("RGB").load()
    except Exception:  # Pillow has no common base of what it raises
        return False
    return True


def opens_as_sound(path: Path) -> bool:
    import soundfile

    try:
        return len(soundfile.read(path)[0]) > 0
    except Exception:  # likewise
        return False


def damaged(good: list[Path], place: Path) -> None:
    """Beside one another: each file cut short, with bits flipped, and for some an empty one, one of another kind, and
    one whose name says nothing."""
    rng = np.random.default_rng(0)
    endings = sorted({path.suffix for path in good})
    for number, path in enumerate(good):
        data = path.read_bytes()
        (place / f"{number}_cut_{path.name}").write_bytes(data[: int(rng.integers(1, len(data)))])
        flipped = bytearray(data)
        for _ in range(3):
            flipped[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        (place / f"{number}_flipped_{path.name}").write_bytes(flipped)
        if number % 10 == 0:
            (place / f"{number}_empty{path.suffix}").write_bytes(b"")
            (place / f"{number}_wrong{endings[number // 10 % len(endings)]}").write_bytes(data + b"\0")
            (place / f"{number}_named{('', '.txt', '.dat')[number // 10 % 3]}").write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(("recipe", "zoo", "opens"), [
    ("images", "image_zoo", opens_as_picture), ("sounds", "audio_zoo", opens_as_sound),
])  # fmt: skip
def test_all_of_a_zoo_is_used_or_listed(recipe: str, zoo: str, opens: Callable[[Path], bool], tmp_path: Path) -> None:
    if not (DATA / zoo).is_dir():
        pytest.skip(f"needs {zoo}")
    place = tmp_path / "damaged"
    place.mkdir()
    (tmp_path / "zoo").symlink_to(DATA / zoo)
    files = sorted(path for path in (tmp_path / "zoo").rglob("*") if path.is_file())
    good = [path for path in files if opens(path)]
    assert len(good) > 50
    damaged(good, place)
    good += place.glob("*_named*")
    files += place.iterdir()
    environment = {**os.environ, "SEQMODAL_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "seqmodal", "prepare", recipe, "--data", str(tmp_path), "--codes", "64",
         "--exclude", "cache/*"],
        env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024 < MEMORY_MB  # of each process
    folder = Path(done.stdout.splitlines()[-1])
    used = {Path(n.split(", part ")[0]) for store in Prepared.open(folder).stores.values() for n in store.names}
    with open(folder / "skipped.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        reasons = {Path(row["path"]): row["reason"] for row in csv.DictReader(file)}
    assert all(reasons.values()) and not used & set(reasons)
    assert used | set(reasons) == set(files)
    lost = {path.name: reasons[path] for path in good if path not in used and not reasons[path].startswith("the same")}
    assert not lost
