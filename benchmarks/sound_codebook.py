"""How well speech comes back from its tokens: what a classifier of clean digits understands of it.

    python benchmarks/sound_codebook.py FOLDER [--seeds 3] [--levels 1 4]

FOLDER has `train` and `test` with spoken digits, as in the Free Spoken Digit Dataset (DIGIT_SPEAKER_TAKE.wav; takes 0
to 4 are the test clips). The classifier is logistic regression on log-mel spectrograms (40 bands, frames softer than
35 dB below the loudest cut off at both ends, means over 16 equal parts), trained on clean training clips only. Judged:
the clean test clips, the same after spectrogram and Griffin-Lim without codes, and after tokens; beside it, how far the
spectrograms are apart in decibels and how much louder what comes back is (median, 5 and 95 in 100).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from tokenizers_ext._sound_mel import Mel
from tokenizers_ext.sound import Sound, SoundTokenizer

HEARD = Mel(8000, 80, 40, 256)
CUT_DB, PARTS, DECAY = 35.0, 16, 1e-3


def heard(sound: Sound) -> np.ndarray:
    """float32 (PARTS * bands,): what the classifier is given of a sound."""
    spectrogram = HEARD.spectrogram(sound.samples)
    loudest = spectrogram.max(axis=1)
    inside = np.flatnonzero(loudest > loudest.max() - CUT_DB / 10)
    part = torch.from_numpy(spectrogram[inside[0] : inside[-1] + 1].T.copy())
    return torch.nn.functional.adaptive_avg_pool1d(part, PARTS).numpy().ravel()


class Classifier:
    """Logistic regression on standardised features."""

    def __init__(self, features: np.ndarray, digits: np.ndarray) -> None:
        self.mean, self.std = features.mean(axis=0), features.std(axis=0) + 1e-3
        given, wanted = self._scaled(features), torch.from_numpy(digits)
        self.linear = torch.nn.Linear(features.shape[1], 10)
        with torch.no_grad():
            for parameter in self.linear.parameters():
                parameter.zero_()
        solver = torch.optim.LBFGS(self.linear.parameters(), max_iter=100, line_search_fn="strong_wolfe")

        def loss() -> torch.Tensor:
            solver.zero_grad()
            value = torch.nn.functional.cross_entropy(self.linear(given), wanted)
            value = value + DECAY * self.linear.weight.square().sum()
            value.backward()
            return value

        solver.step(loss)

    def right(self, sounds: list[Sound], digits: np.ndarray) -> float:
        """The share of sounds whose digit is found."""
        with torch.no_grad():
            found = self.linear(self._scaled(np.stack([heard(sound) for sound in sounds]))).argmax(1).numpy()
        return float((found == digits).mean())

    def _scaled(self, features: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(((features - self.mean) / self.std).astype(np.float32))


def clips(folder: Path, tokenizer: SoundTokenizer) -> tuple[list[Sound], np.ndarray]:
    """The sounds of a folder and their digits."""
    paths = sorted(folder.glob("*.wav"))
    if not paths:
        sys.exit(f"{folder}: no .wav file there; give the folder that holds train and test")
    return [tokenizer.read(path) for path in paths], np.array([int(path.name[0]) for path in paths])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=1, help="fits of the codebook")
    parser.add_argument("--codes", type=int, default=512)
    parser.add_argument("--levels", type=int, nargs="+", default=[1])
    given = parser.parse_args()
    plain = SoundTokenizer()
    (train, train_digits), (test, test_digits) = (clips(given.data / split, plain) for split in ("train", "test"))
    classifier = Classifier(np.stack([heard(sound) for sound in train]), train_digits)
    print(f"{len(train)} clips to train on, {len(test)} to test")
    print(f"right of clean test clips                    {classifier.right(test, test_digits):.4f}")
    start = time.perf_counter()
    back = [Sound(HEARD.sound(HEARD.spectrogram(sound.samples)), 8000) for sound in test]
    seconds = sum(sound.seconds for sound in test)
    speed = seconds / (time.perf_counter() - start)
    right = classifier.right(back, test_digits)
    print(f"after log-mel and Griffin-Lim, without codes {right:.4f}   {speed:.0f} times real time")
    for levels in given.levels:
        for seed in range(given.seeds):
            tokenizer = SoundTokenizer(codes=given.codes, levels=levels, seed=seed)
            start = time.perf_counter()
            tokenizer.fit(train)
            fit = time.perf_counter() - start
            ids = [tokenizer.encode(sound) for sound in test]
            back = [tokenizer.decode(one) for one in ids]
            distortion = np.mean([tokenizer.distortion(x, y) for x, y in zip(test, back, strict=True)])
            energy = [float(np.square(s.samples, dtype=np.float64).sum()) for pair in (back, test) for s in pair]
            louder = 10 * np.log10(np.divide(energy[: len(test)], energy[len(test) :]))
            low, middle, high = np.percentile(louder, (5, 50, 95))
            print(
                f"{f'after {given.codes} codes x {levels} levels, seed {seed}':44s} "
                f"{classifier.right(back, test_digits):.4f}   "
                f"{sum(map(len, ids)) / seconds:.1f} ids a second, fit {fit:.1f} s, {distortion:.2f} dB apart, "
                f"louder by {middle:.1f} dB ({low:.1f} to {high:.1f})"
            )


if __name__ == "__main__":
    main()
