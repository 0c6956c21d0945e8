"""The images recipe: what it takes of a folder, what it measures, and a model from there to pictures on disk."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import seqmodal
from seqmodal.cli import main
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.data.shapes import shapes
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.unigram import unigram_nats
from seqmodal.recipes import images
from seqmodal.recipes.images import Config
from seqmodal.show.sheet import sheet
from seqmodal.training.judge import judge_run

SMALL: dict[str, Any] = {"size": 8, "codes": 16}
SMALLEST: dict[str, Any] = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1},
    "training": {"steps": 4, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
    "sampling": {"count": 5},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty pictures of three suffixes."""
    place = tmp_path / "pictures"
    place.mkdir()
    for number, picture in enumerate(shapes(20, 16, seed=3)):
        picture.save(place / f"{number:02}.{('png', 'bmp', 'TIFF')[number % 3]}")
    return place


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("images")
    (base / "pictures").mkdir()
    for number, picture in enumerate(shapes(30, 16, seed=4)):
        picture.save(base / "pictures" / f"{number:02}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        seqmodal.train("images", data=str(base / "pictures"), out=base / "run", **SMALL, **SMALLEST)
    return base / "run"


def names(prepared: Prepared, split: str) -> set[str]:
    return {Path(name).name for name in prepared.stores[split].names}


def skipped(place: Path) -> dict[str, str]:
    with open(place / "skipped.csv", newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def test_bad_files_are_listed_and_the_good_ones_beside_them_are_used(folder: Path) -> None:
    whole = (folder / "00.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.gif").write_text("no picture")
    shutil.copyfile(folder / "03.png", folder / "copy.webp")  # of another ending, which says nothing
    for name, other in (("10.bmp", "b.dat"), ("12.png", "c.txt"), ("13.bmp", "none")):  # so are these, and are found
        (folder / name).rename(folder / other)
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden").mkdir()
    for name in (".DS_Store", ".hidden/object"):
        (folder / name).write_text("not listed")
    found = prepare(images, Config(data=str(folder), **SMALL))
    reasons = skipped(found.folder)
    assert set(reasons) == {"cut.png", "empty.jpg", "text.gif", "copy.webp", "notes.txt"}
    assert reasons["notes.txt"].startswith("it neither ends like a picture nor is one: no picture in a format")
    assert "03.png" in reasons["copy.webp"] and "same picture" in reasons["copy.webp"]
    assert len(names(found, "train") | names(found, "valid")) == 20 and len(names(found, "valid")) == 2
    assert found.facts["pictures"] == 20 and found.facts["skipped"] == 5
    assert {"b.dat", "c.txt", "none"} < names(found, "train") | names(found, "valid")
    with pytest.raises(BadInput, match=r"cut\.png.*leave out --strict"):
        prepare(images, Config(data=str(folder), strict=True, **SMALL))
    strict = prepare(images, Config(data=str(folder), strict=True, exclude=("cut*", "empty*", "text*"), **SMALL))
    assert set(skipped(strict.folder)) == {"copy.webp", "notes.txt"}  # which does not claim to be one


def test_a_folder_without_a_picture_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    with pytest.raises(BadInput, match=r"none of 1 pictures can be used[^$]*bad\.png"):
        prepare(images, Config(data=str(tmp_path)))
    (tmp_path / "bad.png").unlink()
    with pytest.raises(BadInput, match=r"there is no picture here \(\.png"):
        prepare(images, Config(data=str(tmp_path)))


def test_the_codebook_is_fitted_on_the_training_part_alone(folder: Path) -> None:
    for split in ("train", "valid"):
        (folder / split).mkdir()
        for path in folder.glob("*1.*" if split == "valid" else "*0.*"):
            path.rename(folder / split / path.name)
    for path in folder.glob("*.*"):
        path.unlink()
    found = prepare(images, Config(data=str(folder), **SMALL))
    alone = Config(**SMALL).tokenizer(color=True)
    alone.fit(sorted((folder / "train").iterdir()))
    np.testing.assert_array_equal(found.tokenizers[0].to_dict()["centroids"], alone.to_dict()["centroids"])
    assert names(found, "valid") == {path.name for path in (folder / "valid").iterdir()}


def test_psnr_is_of_all_held_out_pixels_together(folder: Path) -> None:
    found = prepare(images, Config(data=str(folder), valid_share=0.4, fixed=False, **SMALL))
    held, errors = found.tokenizers[0], []
    for name in found.stores["valid"].names:
        picture = held.read(name)
        back = held.decode(held.encode(picture))
        errors.append(((np.asarray(picture) / 255 - np.asarray(back) / 255) ** 2).ravel())
    assert len(errors) == 8
    assert found.facts["psnr_db"] == pytest.approx(-10 * math.log10(np.concatenate(errors).mean()), abs=0.006)


@pytest.mark.parametrize(("color", "last"), [("auto", (5, 5, 5)), ("auto", (9, 5, 5)), ("grey", (9, 5, 5))])
def test_color_is_taken_where_a_picture_has_some(tmp_path: Path, color: Any, last: tuple[int, ...]) -> None:
    for shade in range(10):
        Image.new("RGB", (8, 8), (20 * shade,) * 3).save(tmp_path / f"{shade}.png")
    Image.new("RGB", (8, 8), last).save(tmp_path / "last.png")  # type: ignore[arg-type]
    found = prepare(images, Config(data=str(tmp_path), color=color, **SMALL))
    assert found.tokenizers[0].color == (color == "auto" and last[0] == 9)


def test_unigram_against_counting(folder: Path) -> None:
    found = prepare(images, Config(data=str(folder), levels=2, fixed=False, valid_share=0.3, **SMALL))
    kinds = images._kinds(found.tokenizers[0])
    assert kinds.tolist() == [0] * 16 + [1] * 16 + [2] * 2 + [3] * 2
    stores = found.stores
    rows = {s: [stores[s][n].segments[0].ids.tolist() for n in range(len(stores[s]))] for s in ("train", "valid")}
    counts, total = Counter(id for row in rows["train"] for id in row), 0.0
    for id in (id for row in rows["valid"] for id in row):
        same = [other for other in range(36) if kinds[other] == kinds[id]]
        total -= math.log((counts[id] + 1) / sum(counts[other] + 1 for other in same))
    assert unigram_nats(stores["train"], stores["valid"], kinds) == pytest.approx(total)


def test_what_does_not_go_together_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="size=30"):
        Config(size=30)
    with pytest.raises(ConfigError, match="color is 'blue'"):
        Config(color="blue")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="seconds means nothing"):
        Config(sampling=replace(Config().sampling, seconds=3.0))
    with pytest.raises(ConfigError, match="strict means nothing to the built-in"):
        images.corpus(Config(strict=True))


def test_without_a_folder_shapes_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "DRAWN", 50)
    found = prepare(images, Config(**SMALL))
    assert [len(found.stores[split]) for split in ("train", "valid")] == [45, 5] and found.facts["psnr_db"] > 10
    drawn = shapes(50, 8)
    back = found.tokenizers[0].decode(found.stores["valid"][0].segments[0].ids)
    assert found.tokenizers[0].distortion(back, drawn[45]) < 0.25
    assert len({picture.tobytes() for picture in drawn}) == 50


def test_a_run_sees_whole_pictures_and_is_judged(run: Path) -> None:
    model = seqmodal.load(run)
    longest = int(Prepared.open(run / "data").stores["train"].lengths.max())
    assert model.decoder.config.window == 0 and model.decoder.config.max_seq_len == longest - 1
    judged = json.loads((run / "judged.json").read_text())
    assert judged["tokens_per_picture"] == 4 and judged["psnr_db"] > 5
    assert judged["nats_per_picture"] == pytest.approx(4 * judged["nats_per_token"])
    assert judged["unigram_nats_per_picture"] == pytest.approx(4 * judged["unigram_nats_per_token"])
    assert 0 < judged["nats_per_token"] < 2 * math.log(16)
    picture = run / "samples" / "step_000004.png"
    assert Image.open(picture).size == (3 * 120 + 8, 2 * 120 + 8)
    again = judge_run(run)
    assert again == pytest.approx(judged)


def test_a_run_is_evaluated_on_other_pictures(run: Path, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"bad")
    found = judge_run(run, data=str(folder))
    assert set(found) == set(json.loads((run / "judged.json").read_text())) and found["tokens_per_picture"] == 4


def test_generate_writes_a_picture_or_several_with_a_sheet(run: Path, tmp_path: Path, capsys: Any) -> None:
    one = tmp_path / "one.png"
    assert main(["generate", str(run), "--out", str(one), "--seed", "1"]) == 0
    assert capsys.readouterr().out.split() == [str(one), str(tmp_path / "one_large.png")]
    assert Image.open(one).size == (8, 8) and Image.open(tmp_path / "one_large.png").size == (256, 256)
    several = tmp_path / "several.png"
    assert main(["generate", str(run), "--out", str(several), "--seed", "1", "--variations", "3"]) == 0
    parts = [tmp_path / f"several-{number}.png" for number in (1, 2, 3)]
    assert capsys.readouterr().out.split() == [*map(str, parts), str(several)]
    assert parts[0].read_bytes() == one.read_bytes()
    assert Image.open(several).size == (2 * 120 + 8, 2 * 120 + 8)


def test_the_upper_half_of_a_picture_is_kept(run: Path, tmp_path: Path, capsys: Any) -> None:
    given, out = tmp_path / "given.png", tmp_path / "out.png"
    shapes(1, 8, seed=9)[0].save(given)
    how = ["generate", str(run), "--prompt", str(given), "--out", str(out), "--seed", "2"]
    assert main([*how, "--prompt-share", "0.5"]) == 0
    held = seqmodal.load(run).tokenizer()
    kept = np.asarray(held.decode(held.encode(held.read(given))))
    np.testing.assert_array_equal(np.asarray(Image.open(out))[:4], kept[:4])
    assert "nothing was added" not in capsys.readouterr().err
    assert main(how) == 0
    np.testing.assert_array_equal(np.asarray(Image.open(out)), kept)
    assert "--prompt-share 0.5" in capsys.readouterr().err
    assert main([*how, "--prompt-share", "2"]) == 2 and "prompt_share is 2.0" in capsys.readouterr().err
    assert main(["generate", str(run), "--prompt-share", "0.5"]) == 2


def test_a_sheet_puts_each_picture_in_its_place(tmp_path: Path) -> None:
    small = np.full((2, 4), 7, np.uint8)
    other = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    drawn = np.asarray(Image.open(sheet([other, small, other], tmp_path / "a.png", columns=2)))
    assert drawn.shape == (2 * 120 + 8, 2 * 120 + 8, 3)
    np.testing.assert_array_equal(drawn[8:120, 8:120], other.repeat(28, 0).repeat(28, 1))
    np.testing.assert_array_equal(drawn[128:240, 8:120], other.repeat(28, 0).repeat(28, 1))
    assert (drawn[8 + 28 : 8 + 84, 128:240] == 7).all() and (drawn[8:36, 128:240] == 236).all()
    assert (drawn[128:240, 128:240] == 236).all()
    assert Image.open(sheet([], tmp_path / "none.png")).size[0] > 0
