"""Picture files and pictures of any mode, as upright 8-bit pictures in grey ("L") or colour ("RGB").

The kind of a file is found in its content, whatever its name ends in. What is transparent lies on white. Levels of
more than 8 bits are scaled down: whole numbers of 16 bits by their full range, others by what they hold. Of an
animation, the first frame.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from seqmodal.errors import BadInput

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "ICO")
"""Pillow knows more. These are found by their first bytes, run no other program, and need less than a gigabyte."""
SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp",
    ".ppm", ".pgm", ".pbm", ".pnm", ".ico", ".mpo", ".dib",
)  # fmt: skip
MAX_PIXELS = 50_000_000
"""Larger pictures are refused: at 4 bytes a pixel, a few copies at a time would take a gigabyte."""
WHITE = (255, 255, 255)


def read(path: Path, mode: str, least: int) -> Image:
    """The picture in a file, in `mode` "L" or "RGB".

    A large JPEG is decoded at a half, a quarter or an eighth of its size, but no side below `least` pixels.

    Raises:
        BadInput: for what is no picture, is damaged or is too large, with the name of the file; too large is known from
            its header, before any pixel is decoded.
    """
    from PIL import Image, UnidentifiedImageError

    if not path.is_file():
        raise BadInput(path, "no such file")
    Image.init()  # all of Pillow's formats; some are found only then
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, on oddities in files that it can read
            warnings.simplefilter("error", Image.DecompressionBombWarning)  # an icon is decoded while it is opened
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    reason = f"{width}x{height} pixels, more than the {MAX_PIXELS:,} that are read"
                    raise BadInput(path, reason, "reduce it first")
                image.draft(None, (least, least))
                image.load()
                return flatten(image, mode)
    except BadInput:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadInput(path, f"more than the {MAX_PIXELS:,} pixels that are read") from error
    except UnidentifiedImageError as error:
        raise BadInput(path, f"no picture in a format that is read, or a damaged one ({', '.join(FORMATS)})") from error
    except Exception as error:  # decoders of damaged files raise whatever they come across
        raise BadInput(path, f"cannot be read as a picture: {type(error).__name__}: {error}") from error


def flatten(image: Image, mode: str) -> Image:
    """An upright copy in `mode` "L" or "RGB", or `image` itself where it is that already."""
    image = _upright(image)
    if image.mode == mode and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    elif image.mode == "LAB":
        image = _from_lab(image)
    elif image.has_transparency_data:
        image = _on_white(image)
    return image if image.mode == mode else image.convert("RGB").convert(mode)


def _upright(image: Image) -> Image:
    """Turned as its EXIF says; what cannot be understood there says nothing."""
    from PIL import ImageOps

    try:
        if image.getexif().get(0x0112, 1) == 1:
            return image
        return ImageOps.exif_transpose(image)
    except Exception:  # EXIF is a format of its own, and its reader raises whatever it comes across
        return image


def _eight_bits(image: Image) -> Image:
    """Grey, from whole numbers of 16 bits, or from others and from fractions, whose range is a guess."""
    from PIL import Image

    values = np.nan_to_num(np.asarray(image).astype(np.float32), copy=False, posinf=0, neginf=0)
    low, high = float(values.min()), float(values.max())
    usual = (1.0, 255.0) if image.mode == "F" else (65535.0,)
    if low >= 0 and high <= usual[-1]:
        low, high = 0.0, next(most for most in usual if high <= most)
    values -= low
    values *= 255 / ((high - low) or 1.0)
    return Image.fromarray(np.rint(values, out=values).clip(0, 255).astype(np.uint8))


def _from_lab(image: Image) -> Image:
    from PIL import ImageCms

    to_rgb = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    turned = ImageCms.applyTransform(image, to_rgb)
    assert turned is not None  # it is None only for a transform in place
    return turned


def _on_white(image: Image) -> Image:
    from PIL import Image

    clear = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    paper = Image.new("RGB", image.size, WHITE)
    paper.paste(clear, mask=clear)
    return paper
