"""The image tokenizer: patches against slow ones, any ids, sizes, settings, what it stores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers import check, load_tokenizers, save_tokenizers, tokenizer
from seqmodal.tokenizers.protocol import Distorting, Featured, Grammatical, Located
from tokenizers_ext import _codebook
from tokenizers_ext._codebook import ResidualCodebook
from tokenizers_ext.image import ImageTokenizer


def scenes(n: int, size: tuple[int, int] = (16, 12), seed: int = 0) -> list[Image.Image]:
    """Soft spots of colour; size is (height, width)."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(size[0])[:, None, None], np.arange(size[1])[None, :, None]
    pictures = []
    for _ in range(n):
        at, colour = rng.uniform(0, max(size), (3, 2)), rng.uniform(0, 255, (3, 3))
        spots = sum(np.exp(-((y - a) ** 2 + (x - b) ** 2) / 40) * c for (a, b), c in zip(at, colour, strict=True))
        pictures.append(Image.fromarray(np.clip(spots, 0, 255).astype(np.uint8)))
    return pictures


def fitted(**options: Any) -> ImageTokenizer:
    made = ImageTokenizer(**{"size": (16, 12), "codes": 24} | options)
    made.fit(scenes(30))
    return made


VARIANTS = [
    {},
    {"levels": 3},
    {"color": False, "levels": 2},
    {"fixed": False},
    {"fixed": False, "levels": 2, "color": False, "codes": 5},
    {"patch": 1, "codes": 7},
    {"patch": 2, "size": (2, 6), "codes": 1},
]
variants = pytest.mark.parametrize("options", VARIANTS, ids=str)


@pytest.mark.parametrize("fit", [False, True], ids=["on its examples", "on pictures"])
@variants
def test_keeps_the_laws(options: dict[str, Any], fit: bool, tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.png", "b.jpg", "c.gif")]
    for path, scene in zip(files, scenes(3, (20, 33)), strict=True):
        scene.save(path)
    made = fitted(**options) if fit else ImageTokenizer(**{"size": (16, 12), "codes": 24} | options)
    assert check(made, files, runs=30) == []
    for ability in (Distorting, Featured, Grammatical, Located):
        assert isinstance(made, ability)


def slow_encode(made: ImageTokenizer, picture: Image.Image) -> list[int]:
    """For a picture of the right size and mode. What the codebook makes of a patch is tested with the codebook."""
    pixels = np.asarray(picture).astype(np.float32) / 255
    p, codes, book = made.patch, made.to_dict()["codes"], ResidualCodebook(made.to_dict()["centroids"])
    rows, cols = pixels.shape[0] // p, pixels.shape[1] // p
    first = book.levels * codes
    ids = [] if made.fixed else [first + rows - 1, first + made.size[0] // p + cols - 1]
    for row in range(rows):
        for col in range(cols):
            patch = pixels[row * p : row * p + p, col * p : col * p + p].reshape(1, -1)
            ids += [level * codes + int(code) for level, code in enumerate(book.encode(patch)[0])]
    return ids


@variants
def test_encodes_as_the_slow_one_does(options: dict[str, Any]) -> None:
    made = fitted(**options)
    for picture in scenes(3, made.size, seed=5):
        picture = picture if made.color else picture.convert("L")
        ids = made.encode(picture)
        assert ids.dtype == np.int32 and ids.tolist() == slow_encode(made, picture)


def slow_decode(made: ImageTokenizer, ids: list[int]) -> np.ndarray:
    """An id at place n of the patches is a code of patch n // levels and level n % levels, or else nothing."""
    p, book, codes, channels = made.patch, made.to_dict()["centroids"], made.to_dict()["codes"], 3 if made.color else 1
    most_rows, most_cols = made.size[0] // p, made.size[1] // p
    rows, cols = most_rows, most_cols
    if not made.fixed:
        first = len(book) * codes
        if ids and first <= ids[0] < first + most_rows:
            rows = ids[0] - first + 1
        if len(ids) > 1 and first + most_rows <= ids[1]:
            cols = ids[1] - first - most_rows + 1
        ids = ids[2:]
    pixels = np.zeros((rows * p, cols * p, channels))
    for place, id in enumerate(ids[: rows * cols * len(book)]):
        patch, level = divmod(place, len(book))
        row, col = divmod(patch, cols)
        if id // codes == level:
            pixels[row * p : row * p + p, col * p : col * p + p] += book[level][id % codes].reshape(p, p, channels)
    return np.rint(pixels.clip(0, 1) * 255).astype(np.uint8)


TOTAL = [fitted(**options) for options in VARIANTS]


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(TOTAL), st.data())
def test_any_ids_are_a_picture(made: ImageTokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, made.vocab_size - 1), max_size=60))
    if not made.fixed and data.draw(st.booleans()):  # seldom met by chance
        cols = made.vocab_size - made.size[1] // made.patch
        ids = [data.draw(st.integers(cols - made.size[0] // made.patch, cols - 1)), cols, *ids]
    picture = made.decode(np.array(ids, np.int32))
    assert picture.mode == ("RGB" if made.color else "L")
    slow = slow_decode(made, ids)
    got = np.asarray(picture).reshape(slow.shape)
    assert np.abs(got.astype(int) - slow).max() <= 1  # halves are rounded either way
    assert made.distortion(picture, made.decode(made.encode(picture))) <= 1


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TOTAL), st.integers(0, 2**32 - 1))
def test_what_the_grammar_lets_through_is_whole(made: ImageTokenizer, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grammar, ids = made.grammar(), []
    while True:
        mask = grammar.mask()
        assert mask.shape == (made.vocab_size + 1,) and mask.dtype == bool and mask.any()
        assert not mask[-1] or mask.sum() == 1  # the end, and then nothing else
        branch = grammar.copy()
        id = int(rng.choice(np.flatnonzero(mask)))
        if id == made.vocab_size:
            break
        branch.advance(id)
        np.testing.assert_array_equal(grammar.mask(), mask)  # a copy's steps are its own
        grammar.advance(grammar.clip(id))
        ids.append(id)
    rows, cols, _, found = made._grid.split(np.array(ids))
    assert found.all() and len(ids) == rows * cols * made.to_dict()["levels"] + (0 if made.fixed else 2)
    picture = made.decode(np.array(ids))
    assert picture.size == (cols * made.patch, rows * made.patch)
    assert len(made.encode(picture)) == len(ids)


@variants
def test_coordinates_are_row_and_column(options: dict[str, Any]) -> None:
    made = fitted(**options)
    ids = made.encode(scenes(1, made.size)[0])
    places = made.coordinates(ids)
    assert places.shape == (len(ids), 2) and places.dtype == np.int32
    rows, cols = made.size[0] // made.patch, made.size[1] // made.patch
    slow = [(0, 0)] * (0 if made.fixed else 2)
    slow += [(row, col) for row in range(rows) for col in range(cols) for _ in range(made.to_dict()["levels"])]
    assert [tuple(place) for place in places.tolist()] == slow
    for n in range(len(ids)):
        np.testing.assert_array_equal(made.coordinates(ids[:n]), places[:n])
    assert made.coordinates(np.append(ids, ids)).max(0).tolist() == [rows - 1, cols - 1]


def test_features_are_patches_normalised_by_what_was_fitted() -> None:
    made, pictures = fitted(), scenes(30)
    rows = np.concatenate([made.features(picture) for picture in pictures])
    assert rows.shape == (30 * 12, 48) and rows.dtype == np.float32
    channels = rows.reshape(-1, 3)
    np.testing.assert_allclose(channels.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(channels.std(0), 1, atol=1e-3)
    pixels = np.stack([np.asarray(picture) for picture in pictures]) / 255
    patch = (pixels[7, 4:8, 8:12] - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
    np.testing.assert_allclose(made.features(pictures[7])[1 * 3 + 2], patch.ravel(), atol=1e-4)
    again = ImageTokenizer.from_dict(made.to_dict())
    np.testing.assert_array_equal(again.features(pictures[3]), made.features(pictures[3]))
    flat = ImageTokenizer((16, 12), codes=2)
    flat.fit([Image.new("RGB", (12, 16), (9, 9, 9))])
    assert np.isfinite(flat.features(pictures[0])).all()


def test_more_levels_come_nearer_and_a_second_trip_loses_little() -> None:
    pictures, errors = scenes(20, seed=9), []
    for levels in (1, 2, 4):
        made = fitted(levels=levels, codes=64)
        back = [made.decode(made.encode(picture)) for picture in pictures]
        errors.append(np.mean([made.distortion(a, b) ** 2 for a, b in zip(pictures, back, strict=True)]))
        for picture, once in zip(pictures, back, strict=True):
            assert made.distortion(picture, made.decode(made.encode(once))) <= 1.5 * made.distortion(picture, once)
    assert errors[1] < 0.6 * errors[0] and errors[2] < 0.6 * errors[1]
    assert -10 * np.log10(errors[0]) > 18


def test_distortion_is_the_root_of_the_mean_square() -> None:
    made = fitted()
    black, grey = Image.new("RGB", (12, 16)), Image.new("RGB", (12, 16), (51, 51, 51))
    assert made.distortion(black, black) == 0 and made.distortion(black, grey) == pytest.approx(0.2)
    assert fitted(fixed=False).distortion(black, Image.new("RGB", (8, 16))) == 1


@pytest.mark.parametrize(("given", "box", "expected"), [
    ((16, 12), (16, 12), (16, 12)),
    ((8, 12), (16, 12), (8, 12)),  # never enlarged
    ((32, 24), (16, 12), (16, 12)),
    ((64, 24), (16, 12), (16, 8)),  # 6 wide: nearest whole patches
    ((5, 5), (16, 12), (4, 4)),
    ((1, 1000), (16, 12), (4, 12)),
    ((1, 1), (16, 12), (4, 4)),
    ((300, 2), (16, 12), (16, 4)),
], ids=str)  # fmt: skip
def test_a_free_size_keeps_its_shape(given: tuple, box: tuple, expected: tuple) -> None:
    made = fitted(size=box, fixed=False)
    picture = scenes(1, given)[0]
    back = made.decode(made.encode(picture))
    assert (back.height, back.width) == expected
    assert len(made.encode(picture)) == 2 + expected[0] * expected[1] // 16
    assert len(made.features(picture)) == expected[0] * expected[1] // 16


def test_a_fixed_size_is_filled_and_cut_at_the_edges() -> None:
    made = ImageTokenizer(4, patch=4, codes=2)
    made.fit([Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")])
    wide = Image.new("RGB", (12, 4), "blue")
    wide.paste((255, 0, 0), (4, 0, 8, 4))  # only the middle is kept
    assert made.decode(made.encode(wide)).getpixel((0, 0)) == (255, 0, 0)


def test_unfitted_refuses(tmp_path: Path) -> None:
    made, picture = ImageTokenizer(8), Image.new("RGB", (8, 8))
    for call in (
        lambda: made.vocab_size, lambda: made.encode(picture), lambda: made.decode(np.zeros(1, int)),
        lambda: made.features(picture), made.to_dict,
    ):  # fmt: skip
        with pytest.raises(NotFitted, match="fit"):
            call()


def test_fitting_needs_pictures_takes_files_and_starts_anew(tmp_path: Path) -> None:
    made = ImageTokenizer(8, codes=3)
    with pytest.raises(BadInput, match="no pictures"):
        made.fit([])
    with pytest.raises(NotFitted):
        made.encode(Image.new("RGB", (8, 8)))
    Image.new("RGB", (8, 8), "red").save(tmp_path / "red.png")
    made.fit(path for path in [tmp_path / "red.png"])
    assert made.decode(made.encode(Image.new("RGB", (8, 8)))).getpixel((3, 3)) == (255, 0, 0)
    made.fit([Image.new("RGB", (8, 8), "blue")])
    assert made.decode(made.encode(str(tmp_path / "red.png"))).getpixel((3, 3)) == (0, 0, 255)


def test_a_fit_on_many_pictures_sees_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_codebook, "SAMPLE", 200)
    colours = [(40 * k, 0, 255 - 40 * k) for k in range(6)]
    made = [ImageTokenizer(8, codes=6, seed=seed) for seed in (0, 0, 1)]
    for one in made:  # 2,400 patches in order of colour, of which 200 stay
        one.fit(Image.new("RGB", (8, 8), colour) for colour in colours for _ in range(100))
    for colour in colours:
        assert made[0].decode(made[0].encode(Image.new("RGB", (8, 8), colour))).getpixel((0, 0)) == colour
    np.testing.assert_array_equal(made[0].to_dict()["centroids"], made[1].to_dict()["centroids"])
    np.testing.assert_allclose(made[0].to_dict()["mean"], np.mean(colours, 0) / 255, atol=1e-5)


@pytest.mark.parametrize("options", [
    {"size": 30}, {"size": (32, 30)}, {"size": 0}, {"size": 4096}, {"patch": 0}, {"patch": 64}, {"codes": 0},
    {"levels": 0}, {"colour": True},
], ids=str)  # fmt: skip
def test_settings_without_meaning_raise(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        tokenizer("image", **options)


def test_rebuilt_from_a_folder(tmp_path: Path) -> None:
    made = fitted(levels=2, fixed=False, color=False, seed=3)
    save_tokenizers([made], tmp_path)
    (again,) = load_tokenizers(tmp_path)
    picture = scenes(1, (9, 14))[0]
    np.testing.assert_array_equal(again.encode(picture), made.encode(picture))
    assert (again.size, again.patch, again.color, again.fixed, again.seed) == ((16, 12), 4, False, False, 3)


def test_writes_and_shows(tmp_path: Path) -> None:
    made, picture = fitted(), scenes(1)[0]
    made.write(picture, tmp_path / "a.png")
    np.testing.assert_array_equal(np.asarray(made.read(tmp_path / "a.png")), np.asarray(picture))
    made.write(Image.new("RGBA", (20, 20)), tmp_path / "b.JPG")
    assert Image.open(tmp_path / "b.JPG").size == (20, 20)
    with pytest.raises(ConfigError, match=r"c\.txt.*\.png"):
        made.write(picture, tmp_path / "c.txt")
    (path,) = made.show(picture, tmp_path / "step_1.5")
    large = Image.open(path)
    assert path == tmp_path / "step_1.5_large.png" and large.size == (12 * 16, 16 * 16)
    assert large.getpixel((5 * 16 + 9, 3 * 16 + 2)) == picture.getpixel((5, 3))
    (path,) = made.show(Image.new("RGB", (900, 30)), tmp_path / "wide")
    assert Image.open(path).size == (900, 30)
