"""The cache of corpora: found again, made anew when anything it depends on changes or it is damaged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from toy import Digits

from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus, prepare
from seqmodal.sequence import Document, Segment


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A recipe that learns from files of digits, and counts how often it is asked to."""
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "digits.py"
    file.write_text("")
    made = SimpleNamespace(__file__=str(file), __name__="digits", TOKENIZERS={"digits": Digits}, asked=0)

    def corpus(config: RecipeConfig, tokenizers: object = None) -> Corpus:
        made.asked += 1
        digits = Digits()

        def documents() -> Iterator[Document]:
            for path in sorted(Path(str(config.data)).rglob("*.digits")):
                yield Document((Segment("digits", np.array(digits.read(path), np.int32)),), path.name)

        return Corpus([digits], documents())

    made.corpus = corpus
    return made


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.digits").write_text("12345")
    return folder


def test_it_is_made_once(recipe: SimpleNamespace, data: Path) -> None:
    first, again = (prepare(recipe, RecipeConfig(data=str(data))) for _ in range(2))
    assert recipe.asked == 1 and first.folder == again.folder
    assert again.stores["train"][0].segments[0].ids.tolist() == [1, 2, 3, 4, 5]
    assert not list(first.folder.parent.glob("*.part"))


def test_files_settings_and_code_change_it(recipe: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (data / "link").symlink_to(elsewhere)
    (data / "nowhere.digits.txt").symlink_to(tmp_path / "absent")
    folders = [prepare(recipe, RecipeConfig(data=str(data))).folder]

    def changed(**settings: object) -> bool:
        folders.append(prepare(recipe, RecipeConfig(data=str(data), **settings)).folder)  # type: ignore[arg-type]
        return len(set(folders)) == len(folders)

    (elsewhere / "b.digits").write_text("1")  # in a folder that is linked to
    assert changed()
    os.utime(data / "a.digits", (1, 1))
    assert changed()
    assert changed(strict=True)
    Path(recipe.__file__).write_text("# another recipe")
    assert changed()


@pytest.mark.parametrize("damaged", ["train/tokens.bin", "corpus.json", "tokenizers.json"])
def test_damage_is_mended(recipe: SimpleNamespace, data: Path, damaged: str) -> None:
    config = RecipeConfig(data=str(data))
    path = prepare(recipe, config).folder / damaged
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    assert len(prepare(recipe, config).stores["train"]) == 1 and recipe.asked == 2
    path.unlink()
    assert len(prepare(recipe, config).stores["train"]) == 1 and recipe.asked == 3


def test_a_cache_that_cannot_be_written_says_so(recipe: SimpleNamespace, data: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the cache should be")
    with pytest.raises(OSError, match="cache"):
        prepare(recipe, RecipeConfig(data=str(data)))
