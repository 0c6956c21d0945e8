"""How well pictures come back from their tokens: PSNR, tokens a picture, seconds of the fit.

    python benchmarks/image_codebook.py --mnist FOLDER              # the four IDX files, gzip
    python benchmarks/image_codebook.py --photos FOLDER             # any pictures, cut to squares of 32x32

PSNR is pooled: of the mean squared error over all test pixels, with 1 as the peak. MNIST is split as published. Of
photographs, squares are cut side by side (`--square` pixels, scaled down to 32); every fifth file is for testing.
"""

from __future__ import annotations

import argparse
import gzip
import time
from pathlib import Path

import numpy as np
from PIL import Image

from seqmodal.errors import BadInput
from tokenizers_ext._image_read import SUFFIXES, flatten
from tokenizers_ext.image import ImageTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, help="folder of the IDX files")
    parser.add_argument("--photos", type=Path, help="folder of pictures, searched with its subfolders")
    parser.add_argument("--square", type=int, default=64, help="pixels of a side of the squares cut from photographs")
    parser.add_argument("--most", type=int, default=20_000, help="at most so many pictures of a kind in a split")
    given = parser.parse_args()
    if not given.mnist and not given.photos:
        parser.error("give --mnist FOLDER, --photos FOLDER or both")
    print(f"{'data':8}{'codes':>6}{'levels':>7}{'tokens':>8}{'bits':>7}{'PSNR dB':>9}{'again':>8}{'used':>7}"
          f"{'fit s':>7}{'encode/s':>10}")  # fmt: skip
    if given.mnist:
        train, test = (mnist(given.mnist, split)[: given.most] for split in ("train", "t10k"))
        for codes, levels in ((256, 1), (512, 1), (256, 2), (256, 4)):
            measure("mnist", ImageTokenizer(28, codes=codes, levels=levels, color=False), train, test)
    if given.photos:
        train, test = photos(given.photos, given.square, given.most)
        for codes, levels in ((512, 1), (256, 2), (256, 4)):
            measure("photos", ImageTokenizer(32, codes=codes, levels=levels), train, test)


def measure(data: str, tokenizer: ImageTokenizer, train: list[Image.Image], test: list[Image.Image]) -> None:
    """One line of the table; `again` is the PSNR after a second round trip, `used` the share of ids that occur."""
    start = time.perf_counter()
    tokenizer.fit(train)
    fitted = time.perf_counter() - start
    start = time.perf_counter()
    ids = [tokenizer.encode(picture) for picture in test]
    rate = len(test) / (time.perf_counter() - start)
    back = [tokenizer.decode(row) for row in ids]
    twice = [tokenizer.decode(tokenizer.encode(picture)) for picture in back]
    settings = tokenizer.to_dict()
    tokens = float(np.mean([len(row) for row in ids]))
    used = len(np.unique(np.concatenate(ids))) / tokenizer.vocab_size
    bits = tokens * np.log2(settings["codes"])
    print(f"{data:8}{settings['codes']:6}{settings['levels']:7}{tokens:8.0f}{bits:7.0f}"
          f"{psnr(test, back):9.2f}{psnr(test, twice):8.2f}{used:7.0%}{fitted:7.1f}{rate:10.0f}",
          flush=True)  # fmt: skip


def psnr(pictures: list[Image.Image], others: list[Image.Image]) -> float:
    """Decibels over all pixels together."""
    pairs = zip(pictures, others, strict=True)
    errors = [np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2) for a, b in pairs]
    return float(-10 * np.log10(np.mean(errors) / 255**2))


def mnist(folder: Path, split: str) -> list[Image.Image]:
    """The pictures of one IDX file."""
    data = gzip.decompress((folder / f"{split}-images-idx3-ubyte.gz").read_bytes())
    return [Image.fromarray(picture) for picture in np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)]


def photos(folder: Path, square: int, most: int) -> tuple[list[Image.Image], list[Image.Image]]:
    """(training, test) squares of 32x32; no file is in both."""
    splits: tuple[list[Image.Image], list[Image.Image]] = ([], [])
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    used = 0
    for path in files:
        try:
            picture = whole(path)
        except BadInput as error:
            print(f"left out: {error}")
            continue
        for top in range(0, picture.height - square + 1, square):
            for left in range(0, picture.width - square + 1, square):
                cut = picture.crop((left, top, left + square, top + square))
                splits[used % 5 == 4].append(cut.resize((32, 32), Image.Resampling.LANCZOS))
        used += 1
    print(f"{used} photographs: {len(splits[0])} squares to fit on, {len(splits[1])} to test with")
    rng = np.random.default_rng(0)
    train, test = ([split[i] for i in rng.permutation(len(split))[:most]] for split in splits)
    return train, test


def whole(path: Path) -> Image.Image:
    """A photograph in its own size."""
    try:
        with Image.open(path) as image:
            image.load()
            return flatten(image, "RGB")
    except (OSError, SyntaxError) as error:
        raise BadInput(path, str(error)) from error


if __name__ == "__main__":
    main()
