"""Reading pictures: every mode and orientation, every kind of damage; what cannot be read says so and nothing worse."""

from __future__ import annotations

import pickle
import struct
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from seqmodal.errors import BadInput
from tokenizers_ext import _image_read
from tokenizers_ext._image_read import flatten
from tokenizers_ext.image import ImageTokenizer

COLOUR = (200, 100, 40)
GREY = 124  # of that colour, by ITU-R 601-2 as Pillow rounds it


@pytest.fixture
def tokenizer() -> ImageTokenizer:
    return ImageTokenizer(8)


def pattern(width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels)


def palette(mode: str) -> Image.Image:
    picture = Image.new(mode, (4, 4), 7 if mode == "P" else (7, 255))
    picture.putpalette([0] * 21 + list(COLOUR))
    return picture


MODES = {
    "RGB": lambda: Image.new("RGB", (4, 4), COLOUR),
    "RGBA": lambda: Image.new("RGBA", (4, 4), (*COLOUR, 255)),
    "RGBX": lambda: Image.new("RGBX", (4, 4), (*COLOUR, 0)),
    "RGBa": lambda: Image.new("RGBA", (4, 4), (*COLOUR, 255)).convert("RGBa"),
    "P": lambda: palette("P"),
    "PA": lambda: palette("PA"),
    "CMYK": lambda: Image.new("RGB", (4, 4), COLOUR).convert("CMYK"),
    "YCbCr": lambda: Image.new("RGB", (4, 4), COLOUR).convert("YCbCr"),
    "HSV": lambda: Image.new("RGB", (4, 4), COLOUR).convert("HSV"),
    "LAB": lambda: Image.new("LAB", (4, 4), (136, 165, 179)),  # L 53.5, a 37, b 51: that colour, by the formulas
}
GREYS = {
    "1": (lambda: Image.new("1", (4, 4), 1), 255),
    "L": (lambda: Image.new("L", (4, 4), 99), 99),
    "LA": (lambda: Image.new("LA", (4, 4), (99, 255)), 99),
    "La": (lambda: Image.new("La", (4, 4), (99, 255)), 99),
    "I;16": (lambda: Image.new("I;16", (4, 4), 99 * 257), 99),
    "I;16B": (lambda: Image.new("I;16B", (4, 4), 99 * 257), 99),
    "I;16, dark": (lambda: Image.new("I;16", (4, 4), 200), 1),
    "I": (lambda: Image.new("I", (4, 4), 99 * 257), 99),
    "F, to 1": (lambda: Image.new("F", (4, 4), 99 / 255), 99),
    "F, to 255": (lambda: Image.new("F", (4, 4), 99.2), 99),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_colour(mode: str) -> None:
    picture = MODES[mode]()
    assert picture.mode == mode
    got = np.asarray(flatten(picture, "RGB"))
    assert got.shape == (4, 4, 3) and np.abs(got.astype(int) - COLOUR).max() <= 5
    got = np.asarray(flatten(picture, "L"))
    assert got.shape == (4, 4) and np.abs(got.astype(int) - GREY).max() <= 4


@pytest.mark.parametrize("mode", GREYS)
def test_every_mode_of_grey(mode: str) -> None:
    make, value = GREYS[mode]
    assert (np.asarray(flatten(make(), "L")) == value).all()
    assert (np.asarray(flatten(make(), "RGB")) == value).all()


def test_numbers_without_a_usual_range_are_spread_over_their_own() -> None:
    for picture in (
        Image.fromarray(np.array([[-5.0, 0.0, 5.0]], np.float32)),
        Image.fromarray(np.array([[0, 10**8, 2 * 10**8]], np.int32)),
    ):
        assert np.asarray(flatten(picture, "L")).tolist() == [[0, 128, 255]]
    odd = Image.fromarray(np.array([[np.nan, np.inf, 1.0]], np.float32))
    assert np.asarray(flatten(odd, "L")).tolist() == [[0, 0, 255]]


def test_what_is_transparent_lies_on_white(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 51))
    half.save(tmp_path / "half.png")
    picked = Image.new("P", (8, 8), 1)
    picked.putpalette([0, 0, 0, 9, 9, 9])
    picked.save(tmp_path / "picked.png", transparency=1)
    Image.new("L", (8, 8), 5).save(tmp_path / "grey.png", transparency=5)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(tmp_path / "colour.png", transparency=(1, 2, 3))
    for name, value in (("half", 204), ("picked", 255), ("grey", 255), ("colour", 255)):
        assert (np.asarray(tokenizer.read(tmp_path / f"{name}.png")) == value).all(), name


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(orientation: int, tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    """A picture stored turned by each of the eight ways comes back as it was."""
    picture, turn = pattern(), Image.Transpose
    stored = {
        1: [], 2: [turn.FLIP_LEFT_RIGHT], 3: [turn.ROTATE_180], 4: [turn.FLIP_TOP_BOTTOM], 5: [turn.TRANSPOSE],
        6: [turn.ROTATE_90], 7: [turn.TRANSVERSE], 8: [turn.ROTATE_270],
    }[orientation]  # fmt: skip
    turned = picture
    for way in stored:
        turned = turned.transpose(way)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "webp", "tif"):
        options = {"lossless": True} if suffix == "webp" else {}
        turned.save(tmp_path / f"a.{suffix}", exif=exif, **options)
        np.testing.assert_array_equal(np.asarray(tokenizer.read(tmp_path / f"a.{suffix}")), np.asarray(picture))
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(flatten(opened, "RGB")), np.asarray(picture))


def test_broken_exif_says_nothing(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    for number, exif in enumerate(
        (b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01")
    ):
        path = tmp_path / f"{number}.jpg"
        pattern().save(path, exif=exif)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tokenizer.read(path).size == (8, 8)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "dib", "tif", "webp", "ppm", "ico"])
def test_every_format_whatever_the_name_ends_in(suffix: str, tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    pattern(16, 16).save(tmp_path / f"a.{suffix}")
    assert f".{suffix}" in tokenizer.suffixes
    right = np.asarray(tokenizer.read(tmp_path / f"a.{suffix}"))
    assert right.shape == (8, 8, 3)
    for other in ("wrong.jpg", "wrong.png", "wrong.txt", "wrong"):
        (tmp_path / other).write_bytes((tmp_path / f"a.{suffix}").read_bytes())
        np.testing.assert_array_equal(np.asarray(tokenizer.read(str(tmp_path / other))), right)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_the_first_frame_of_an_animation(suffix: str, tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **options)
    assert tokenizer.read(tmp_path / f"a.{suffix}").getpixel((3, 3)) == (255, 0, 0)


def test_what_is_read_is_pixels_alone_and_small(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    pattern(640, 480).save(tmp_path / "a.jpg", comment="a long story")
    picture = tokenizer.read(tmp_path / "a.jpg")
    assert type(picture) is Image.Image and picture.size == (8, 8) and not picture.info
    assert len(pickle.dumps(picture)) < 1000


def test_a_large_jpeg_is_decoded_at_part_of_its_size(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    smooth = np.add.outer(np.arange(1600), np.arange(1600)) * 255 // 3200
    Image.fromarray(smooth.astype(np.uint8)).convert("RGB").save(tmp_path / "a.jpg", quality=95)
    small = _image_read.read(tmp_path / "a.jpg", "RGB", 16)
    assert small.size == (200, 200) and _image_read.read(tmp_path / "a.jpg", "RGB", 1600).size == (1600, 1600)
    whole = np.asarray(ImageTokenizer(2048, fixed=False).read(tmp_path / "a.jpg").resize((8, 8), Image.Resampling.BOX))
    assert np.abs(np.asarray(tokenizer.read(tmp_path / "a.jpg")).astype(int) - whole).max() <= 4


def png_header(width: int, height: int) -> bytes:
    """A PNG that says how large it is, with data for almost nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b"\0" * 999))]
    body = b"".join(
        struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in [*chunks, (b"IEND", b"")]
    )
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("size", [(8000, 6251), (20_000, 20_000), (2**31 - 1, 2**31 - 1)], ids=str)
def test_a_bomb_is_refused_from_its_header(size: tuple[int, int], tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(*size))
    tracemalloc.start()
    with pytest.raises(BadInput, match=r"bomb\.png.*50,000,000") as caught:
        tokenizer.read(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()
    assert "more than" in caught.value.reason


def test_a_bomb_in_an_icon_is_refused_from_its_header(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    bomb = png_header(11_000, 11_000)
    head = struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 0, 0, 0, 0, 1, 32, len(bomb), 22)
    (tmp_path / "bomb.ico").write_bytes(head + bomb)
    with pytest.raises(BadInput, match=r"bomb\.ico.*more than the 50,000,000"):
        tokenizer.read(tmp_path / "bomb.ico")



def test_the_limit_itself_is_read(tmp_path: Path, tokenizer: ImageTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pattern(30, 20).save(tmp_path / "a.png")
    monkeypatch.setattr(_image_read, "MAX_PIXELS", 600)
    assert tokenizer.read(tmp_path / "a.png").size == (8, 8)
    monkeypatch.setattr(_image_read, "MAX_PIXELS", 599)
    with pytest.raises(BadInput, match="30x20 pixels.*reduce"):
        tokenizer.read(tmp_path / "a.png")


def test_rubbish_and_what_is_not_there(tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    rubbish = {
        "empty.png": b"", "text.jpg": b"no picture\n" * 9, "start.png": b"\x89PNG\r\n\x1a\n",
        "start.jpg": b"\xff\xd8\xff", "noise.gif": np.random.default_rng(0).bytes(500),
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    }  # fmt: skip
    for name, data in rubbish.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.png").mkdir()
    for name in [*rubbish, "folder.png", "nothing.png"]:
        with pytest.raises(BadInput) as caught:
            tokenizer.read(tmp_path / name)
        assert str(tmp_path / name) == caught.value.where and caught.value.reason


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "bmp", "tif", "webp", "ppm", "ico"])
def test_damaged_files_are_read_or_refused(suffix: str, tmp_path: Path, tokenizer: ImageTokenizer) -> None:
    pattern(24, 17).save(tmp_path / f"good.{suffix}")
    good, path = (tmp_path / f"good.{suffix}").read_bytes(), tmp_path / f"bad.{suffix}"
    rng, refused = np.random.default_rng(1), 0
    for number in range(60):
        data = bytearray(good)
        if number % 2:
            data = data[: int(rng.integers(len(data)))]
        else:
            for at in rng.integers(len(data), size=4):
                data[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)
        try:
            picture = tokenizer.read(path)
        except BadInput as error:
            refused += 1
            assert str(path) in str(error)
        else:
            assert picture.size == (8, 8)
    assert refused >= 15


def test_no_picture_is_no_crash(tmp_path: Path) -> None:
    made = ImageTokenizer(8, codes=2)
    made.fit([pattern()])
    for item in (None, 3, np.zeros((8, 8)), Image.new("RGB", (0, 8))):
        with pytest.raises(BadInput, match="Pillow picture"):
            made.encode(item)
    pattern(64, 64).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    with Image.open(tmp_path / "cut.png") as opened, pytest.raises(BadInput, match=r"cut\.png"):
        made.encode(opened)
