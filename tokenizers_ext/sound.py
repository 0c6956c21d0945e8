"""Sounds as tokens: patches of a log-mel spectrogram, each a code a level of a codebook fitted on the user's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from seqmodal.errors import BadInput, ConfigError, NotFitted
from tokenizers_ext import _sound_files
from tokenizers_ext._codebook import ResidualCodebook
from tokenizers_ext._sound_grammar import SoundGrammar
from tokenizers_ext._sound_item import RATES, Sound, resampled
from tokenizers_ext._sound_mel import CHUNK, FLOOR, Mel

__all__ = ["Sound", "SoundGrammar", "SoundTokenizer"]

Item = Sound | tuple[Any, int] | str | PathLike[str]

PER_CODE = 100
"""Patches a code that the codebook is fitted on, drawn from all: more take longer and change little."""
SILENCE = float(np.log10(FLOOR))


class SoundTokenizer:
    """Sounds by patches of their log-mel spectrogram and a k-means codebook: 25 ids a second at 8 kHz.

    Levels are kept as they are, not normalised, and so a soft sound comes back soft. Outside of a sound is silence;
    what comes back lasts whole patches. At the defaults speech comes back rough, but a classifier that knows 98 in 100
    spoken digits still knows 94 or 95 of them (benchmarks/sound_codebook.py); more levels are smoother, at more ids.

    sample_rate: a second; sounds at other rates are resampled. hop: samples from frame to frame.
    bands: of the mel scale, from 0 to sample_rate / 2. window: samples that a frame sees.
    patch: frames of a patch. codes, levels: of the codebook. A patch takes `levels` ids.
    seed: of the fit.
    """

    name: ClassVar[str] = "sound"
    suffixes: ClassVar[tuple[str, ...]] = _sound_files.SUFFIXES
    writes: ClassVar[tuple[str, ...]] = (*_sound_files.LOSSLESS, *_sound_files.LOSSY)

    def __init__(
        self, sample_rate: int = 8000, hop: int = 80, bands: int = 40, window: int = 256, patch: int = 4,
        codes: int = 512, levels: int = 1, seed: int = 0,
    ) -> None:  # fmt: skip
        if not RATES[0] <= sample_rate <= RATES[1]:
            raise ConfigError(f"sample_rate={sample_rate}: from {RATES[0]} to {RATES[1]} a second")
        if not 16 <= window <= 1 << 16 or window % 2:
            raise ConfigError(f"window={window}: an even number of samples from 16 to {1 << 16}")
        if not 1 <= hop <= window // 2:
            raise ConfigError(f"hop={hop}: from 1 to half of the window, {window // 2}, or no sound can be made of it")
        if not 1 <= bands <= window // 2:
            raise ConfigError(f"bands={bands}: from 1 to half of the window, {window // 2}")
        if not 1 <= patch <= CHUNK:
            raise ConfigError(f"patch={patch}: from 1 to {CHUNK} frames")
        if codes < 1 or levels < 1:
            raise ConfigError(f"codes={codes}, levels={levels}: both are at least 1")
        self.sample_rate, self.hop, self.bands, self.window = sample_rate, hop, bands, window
        self.patch, self.codes, self.levels, self.seed = patch, codes, levels, seed
        self._mel = Mel(sample_rate, hop, bands, window)
        self._book: ResidualCodebook | None = None
        self._mean, self._std, self._loudest = 0.0, 1.0, 0.0

    @property
    def vocab_size(self) -> int:
        self._fitted()
        return self.codes * self.levels

    def fit(self, items: Iterable[Item]) -> None:
        """Learn the codebook, and the mean and deviation for `features`, from sounds; a second fit starts anew.

        A code's share of silence is added, so that it has a code in any case. Raises BadInput for no sounds.
        """
        rng = np.random.default_rng(self.seed)
        most = PER_CODE * self.codes
        kept, keys = np.empty((0, self._width), np.float32), np.empty(0)
        count, total, squares, loudest = 0, 0.0, 0.0, SILENCE
        for item in items:
            for patches in self.patches(item):
                kept, keys = np.concatenate([kept, patches]), np.concatenate([keys, rng.random(len(patches))])
                if len(keys) > most:  # those with the smallest keys stay: all patches are equally likely to
                    chosen = np.sort(np.argpartition(keys, most)[:most])
                    kept, keys = kept[chosen], keys[chosen]
                count, total = count + patches.size, total + float(patches.sum(dtype=np.float64))
                squares += float(np.square(patches, dtype=np.float64).sum())
                loudest = max(loudest, float(patches.max()))
        if not count:
            raise BadInput("fit", "no sounds, or only empty ones", "give the codebook at least one")
        silence = np.full((-(-len(kept) // self.codes), self._width), SILENCE, np.float32)
        self._book = ResidualCodebook.fit(
            np.concatenate([kept, silence]), codes=self.codes, levels=self.levels, seed=self.seed
        )
        self._mean, self._loudest = total / count, loudest
        deviation = float(np.sqrt(max(squares / count - self._mean**2, 0.0)))
        self._std = deviation if deviation > 1e-3 else 1.0

    def encode(self, item: Item) -> np.ndarray:
        """Ids int32 (patches * levels,) of a Sound, of (samples, rate) or of a file. Raises BadInput."""
        book, first = self._fitted(), np.arange(self.levels, dtype=np.int32) * self.codes
        parts = [(book.encode(patches) + first).ravel() for patches in self.patches(item)]
        return np.concatenate([np.empty(0, np.int32), *parts]).astype(np.int32)

    def decode(self, ids: np.ndarray) -> Sound:
        """A Sound of any ids in range, as long as their whole patches."""
        return Sound(self._mel.sound(self.decode_spectrogram(ids)), self.sample_rate)

    def decode_spectrogram(self, ids: np.ndarray) -> np.ndarray:
        """log10 power float32 (frames, bands) of any ids in range.

        Each id counts as a code of the level whose turn it is, which is its own in all that `grammar` allows. What is
        left after the last whole patch is not heard.
        """
        ids = np.asarray(ids)
        whole = ids[: len(ids) // self.levels * self.levels].reshape(-1, self.levels) % self.codes
        patches = self._fitted().decode(whole)
        return np.clip(patches, SILENCE, self._loudest).reshape(len(whole) * self.patch, self.bands)

    def spectrogram(self, item: Item) -> np.ndarray:
        """log10 power float32 (frames, bands) of an item, in whole patches, before any code."""
        parts = [patches.reshape(-1, self.bands) for patches in self.patches(item)]
        return np.concatenate([np.empty((0, self.bands), np.float32), *parts])

    def patches(self, item: Item) -> Iterator[np.ndarray]:
        """The same as patches float32 (n, patch * bands), a part at a time; the last patch ends in silence."""
        samples = self._samples(item)
        frames = -(-len(samples) // (self.hop * self.patch)) * self.patch
        for block in self._mel.blocks(samples, frames, CHUNK // self.patch * self.patch):
            yield block.reshape(-1, self._width)

    def features(self, item: Item) -> np.ndarray:
        """float32 (patches, patch * bands): the patches themselves, mean 0 and deviation 1 over what was fitted on."""
        self._fitted()
        features: np.ndarray = (self.spectrogram(item) - self._mean) / self._std
        return features.astype(np.float32).reshape(-1, self._width)

    def grammar(self, seconds: float | None = None) -> SoundGrammar:
        """What may come next: levels in order, an end after whole patches. seconds: where it ends. None: no limit."""
        return SoundGrammar(self.codes, self.levels, self._patch_seconds, seconds)

    def duration(self, ids: np.ndarray) -> float:
        """Seconds that the whole patches last."""
        return len(ids) // self.levels * self._patch_seconds

    def trim(self, ids: np.ndarray, seconds: float) -> np.ndarray:
        """The ids of the patches that lie in the first `seconds`."""
        return np.asarray(ids)[: int(seconds / self._patch_seconds + 1e-6) * self.levels]

    def read(self, path: str | PathLike[str]) -> Sound:
        """The sound in a file, mixed down, at the tokenizer's rate. Raises BadInput."""
        return _sound_files.read(path, self.sample_rate)

    def write(self, item: Item, path: str | PathLike[str]) -> None:
        """A sound to a file at its own rate; the suffix says which kind. Louder than full scale is made quieter."""
        _sound_files.write(self._sound(item), path)

    def show(self, item: Item, stem: str | PathLike[str], prompt_notes: int = 0) -> list[Path]:
        """The sound `stem`.wav and its spectrogram `stem`.png."""
        from seqmodal.show.spectrogram import spectrogram

        sound = self._sound(item)
        heard, picture = (Path(f"{Path(stem)}{suffix}") for suffix in (".wav", ".png"))
        _sound_files.write(sound, heard)
        decibels = 10 * self._mel.spectrogram(resampled(sound, self.sample_rate))
        spectrogram(decibels, self.hop / self.sample_rate, self._mel.centres, picture)
        return [heard, picture]

    def distortion(self, x: Item, y: Item) -> float:
        """Root mean square difference of the log-mel spectrograms in decibels; the shorter goes on in silence."""
        a, b = self.spectrogram(x), self.spectrogram(y)
        frames = max(len(a), len(b))
        a, b = (np.pad(s, ((0, frames - len(s)), (0, 0)), constant_values=SILENCE) for s in (a, b))
        return float(10 * np.sqrt(np.mean((a - b) ** 2))) if frames else 0.0

    def examples(self, rng: np.random.Generator) -> list[Sound]:
        """A gliding tone, noise that fades, silence, a single sample, and nothing."""
        time = np.arange(self.sample_rate) / self.sample_rate
        tone = 0.3 * np.sin(2 * np.pi * self.sample_rate / 40 * (time + time**2))
        noise = 0.1 * rng.standard_normal(len(time)) * np.exp(-3 * time)
        sounds = (tone, noise, np.zeros(len(time) // 2), np.array([0.5]), np.zeros(0))
        return [Sound(samples, self.sample_rate) for samples in sounds]

    def to_dict(self) -> dict[str, Any]:
        settings = {
            "sample_rate": self.sample_rate, "hop": self.hop, "bands": self.bands, "window": self.window,
            "patch": self.patch, "codes": self.codes, "levels": self.levels, "seed": self.seed,
        }  # fmt: skip
        fitted = {"mean": self._mean, "std": self._std, "loudest": self._loudest}
        return settings | self._fitted().to_dict() | fitted

    @classmethod
    def from_dict(cls, d: dict[str, Any]) -> Self:
        settings = dict(d)
        book = ResidualCodebook(settings.pop("centroids"))
        fitted = [float(settings.pop(key)) for key in ("mean", "std", "loudest")]
        new = cls(**settings)
        if book.centroids.shape != (new.levels, new.codes, new._width):
            raise BadInput("codebook", f"centroids of shape {book.centroids.shape} do not fit the settings {settings}")
        new._book, (new._mean, new._std, new._loudest) = book, fitted
        return new

    @property
    def _width(self) -> int:
        return self.patch * self.bands

    @property
    def _patch_seconds(self) -> float:
        return self.patch * self.hop / self.sample_rate

    def _fitted(self) -> ResidualCodebook:
        if self._book is None:
            raise NotFitted("the sound tokenizer has no codebook yet; call fit(sounds) first")
        return self._book

    def _sound(self, item: Item) -> Sound:
        if isinstance(item, Sound):
            return item
        if isinstance(item, tuple) and len(item) == 2:
            return Sound(*item)
        if isinstance(item, str | PathLike):
            return self.read(item)
        raise BadInput("sound", f"{type(item).__name__} is none", "give a Sound, (samples, rate) or a file")

    def _samples(self, item: Item) -> np.ndarray:
        """float32 (n,) at the tokenizer's rate."""
        return resampled(self._sound(item), self.sample_rate)


TOKENIZERS = {"sound": SoundTokenizer}
