"""The sound tokenizer: its spectrogram against a slow one, tones that come back, any ids, settings, what it stores."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from seqmodal.errors import BadInput, ConfigError, NotFitted
from seqmodal.tokenizers import check, load_tokenizers, save_tokenizers
from seqmodal.tokenizers.protocol import Distorting, Featured, Grammatical, Timed, Writable
from tokenizers_ext import _sound_mel, sound
from tokenizers_ext._sound_item import Resampler, resampled
from tokenizers_ext._sound_mel import FLOOR, Mel
from tokenizers_ext._torchaudio import import_torchaudio
from tokenizers_ext.sound import Sound, SoundGrammar, SoundTokenizer

RATE = 8000


def tone(hertz: float, seconds: float = 0.5, level: float = 0.3, rate: int = RATE) -> Sound:
    return Sound(level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate), rate)


def noise(seconds: float = 0.5, level: float = 0.1, seed: int = 0, rate: int = RATE) -> Sound:
    return Sound(level * np.random.default_rng(seed).standard_normal(round(seconds * rate)), rate)


def tones() -> list[Sound]:
    """Three octaves in semitones, loud and soft."""
    return [tone(110 * 2 ** (n / 12), 0.4, level) for n in range(37) for level in (0.3, 0.003)]


def decibels(a: np.ndarray, b: np.ndarray) -> float:
    """How much louder a is than b."""
    return float(10 * np.log10(np.mean(np.square(a, dtype=float)) / np.mean(np.square(b, dtype=float))))


def peak(made: Sound) -> float:
    """Hertz of the strongest partial."""
    spectrum = np.abs(np.fft.rfft(made.samples * np.hanning(len(made.samples))))
    return float(spectrum.argmax() * made.rate / len(made.samples))


@pytest.fixture(scope="module")
def plain() -> SoundTokenizer:
    made = SoundTokenizer(codes=256)
    made.fit(tones())
    return made


VARIANTS = [
    {"codes": 32},
    {"codes": 16, "levels": 3},
    {"codes": 24, "patch": 1, "hop": 128},
    {"codes": 9, "patch": 7, "bands": 13, "window": 64, "hop": 20},
    {"codes": 12, "sample_rate": 16000, "hop": 512, "bands": 80, "window": 1024, "patch": 1},
]


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_keeps_the_laws(options: dict[str, Any], tmp_path: Path) -> None:
    files = [tmp_path / "a.wav", tmp_path / "b.flac"]
    for path, rate in zip(files, (44100, 8000), strict=True):
        soundfile.write(path, np.stack([tone(300, rate=rate).samples] * 2, axis=1), rate)
    made = SoundTokenizer(**options)
    assert check(made, files, runs=8) == []
    for ability in (Distorting, Featured, Grammatical, Timed, Writable):
        assert isinstance(made, ability)


def slow_spectrogram(samples: np.ndarray, mel: Mel) -> np.ndarray:
    """By the definition: frame by frame, bin by bin; triangles on the mel scale."""
    frames, half, bins = -(-len(samples) // mel.hop), mel.window // 2, np.arange(mel.window // 2 + 1)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(mel.window) / mel.window)
    corners = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + mel.rate / 1400), mel.bands + 2) / 2595) - 1)
    hertz = bins * mel.rate / mel.window
    out = np.zeros((frames, mel.bands))
    for frame in range(frames):
        seen = np.zeros(mel.window)
        for i in range(mel.window):
            at = frame * mel.hop - half + i
            seen[i] = samples[at] if 0 <= at < len(samples) else 0
        wave = np.exp(-2j * np.pi * np.outer(bins, np.arange(mel.window)) / mel.window)
        power = np.abs(wave @ (seen * hann)) ** 2
        for band in range(mel.bands):
            low, centre, high = corners[band : band + 3]
            weight = np.minimum((hertz - low) / (centre - low), (high - hertz) / (high - centre))
            out[frame, band] = np.log10((np.maximum(weight, 0) * power).sum() + FLOOR)
    return out


@pytest.mark.parametrize("mel", [Mel(8000, 80, 40, 256), Mel(16000, 50, 20, 100)], ids=str)
@pytest.mark.parametrize("n", [0, 1, 79, 80, 81, 1000])
def test_spectrogram_by_its_definition(mel: Mel, n: int) -> None:
    samples = noise(1).samples[:n] + tone(440, 1).samples[:n]
    found = mel.spectrogram(samples)
    assert found.dtype == np.float32 and found.shape == (-(-n // mel.hop), mel.bands)
    np.testing.assert_allclose(found, slow_spectrogram(samples, mel), atol=1e-4)


def test_blocks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    mel, samples = Mel(8000, 80, 40, 256), noise(1).samples
    whole = mel.spectrogram(samples)
    monkeypatch.setattr(_sound_mel, "CHUNK", 7)
    np.testing.assert_allclose(mel.spectrogram(samples), whole, atol=1e-6)
    (more,) = mel.blocks(samples, 104, 200)
    assert np.array_equal(more[:100], whole) and np.all(more[102:] == np.float32(np.log10(FLOOR)))


def test_long_sounds_have_no_seams(monkeypatch: pytest.MonkeyPatch) -> None:
    mel, samples = Mel(8000, 80, 40, 256), noise(4).samples
    wanted = mel.spectrogram(samples)
    monkeypatch.setattr(_sound_mel, "CHUNK", 60)
    made = mel.sound(wanted)
    assert len(made) == len(samples)
    apart = 10 * np.sqrt(np.mean((mel.spectrogram(made) - wanted) ** 2, axis=1))
    assert apart[5:-5].max() < 6 and np.mean(apart) < 2
    level = [decibels(made[at : at + 800], samples[at : at + 800]) for at in range(0, len(made), 800)]
    assert np.abs(level).max() < 2


def test_power_is_that_of_the_bands_and_never_negative() -> None:
    filters = _sound_mel._transform(Mel(8000, 80, 40, 256)).mel_scale.fb
    true = torch.zeros(129, 3, dtype=torch.float64)
    true[14, 0] = true[60, 1] = 100.0
    true[:, 2] = torch.rand(129, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _sound_mel._power(filters.T @ true, filters)
    assert found.min() >= 0
    np.testing.assert_allclose(filters.T @ found, filters.T @ true, rtol=0.15, atol=0.5)
    assert abs(int(found[:, 0].argmax()) - 14) <= 1 and abs(int(found[:, 1].argmax()) - 60) <= 3


@pytest.mark.parametrize("hertz", [150, 440, 880])
@pytest.mark.parametrize("level", [0.3, 0.003])
def test_a_tone_comes_back(plain: SoundTokenizer, hertz: float, level: float) -> None:
    given_, back = tone(hertz, 1, level), plain.decode(plain.encode(tone(hertz, 1, level)))
    band = np.interp(hertz, plain._mel.centres, np.gradient(plain._mel.centres))
    assert abs(peak(back) - hertz) < band
    assert abs(decibels(back.samples, given_.samples)) < 3


def test_without_codes_little_is_lost() -> None:
    mel = Mel(8000, 80, 40, 256)
    for given_, most in ((noise(1), 1.5), (tone(440, 1), 4.0)):
        wanted = mel.spectrogram(given_.samples)
        made = mel.sound(wanted)
        assert 10 * np.sqrt(np.mean((mel.spectrogram(made) - wanted) ** 2)) < most
        assert abs(decibels(made, given_.samples)) < 0.5


def test_decoding_leaves_chance_alone(plain: SoundTokenizer) -> None:
    ids = np.arange(9)
    torch.manual_seed(5)
    first, after = plain.decode(ids).samples, torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert np.array_equal(first, plain.decode(ids).samples)


def test_silence_is_silent_whatever_was_fitted() -> None:
    made = SoundTokenizer(codes=8)
    made.fit([noise(2)])
    back = made.decode(made.encode(Sound(np.zeros(RATE), RATE)))
    assert len(back.samples) == RATE and np.abs(back.samples).max() < 1e-3


@pytest.mark.parametrize("samples", [np.zeros(0), np.array([1.0]), np.full(500, 40.0), 1e4 * noise(0.1).samples])
def test_odd_sounds(plain: SoundTokenizer, samples: np.ndarray) -> None:
    ids = plain.encode((samples, RATE))
    assert ids.dtype == np.int32 and len(ids) == -(-len(samples) // 320)
    back = plain.decode(ids)
    assert len(back.samples) == 320 * len(ids) and np.isfinite(back.samples).all()


@pytest.fixture(scope="module")
def layered() -> SoundTokenizer:
    made = SoundTokenizer(codes=6, levels=3)
    made.fit([noise(1), tone(300)])
    return made


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 17), max_size=40))
def test_any_ids(layered: SoundTokenizer, ids: list[int]) -> None:
    back = layered.decode(np.array(ids, np.int32))
    whole = len(ids) // 3
    assert back.rate == RATE and len(back.samples) == whole * 320 and np.isfinite(back.samples).all()
    assert layered.duration(np.array(ids)) == pytest.approx(back.seconds) == pytest.approx(whole * 0.04)
    assert len(layered.encode(back)) == 3 * whole
    centroids = layered.to_dict()["centroids"]
    patches = [sum(centroids[level][ids[3 * n + level] % 6] for level in range(3)) for n in range(whole)]
    found = layered.decode_spectrogram(np.array(ids, np.int32)).reshape(whole, 160)
    for one, patch in zip(found, patches, strict=True):
        np.testing.assert_allclose(one, np.clip(patch, np.log10(FLOOR), layered._loudest), atol=1e-5)


def test_codes_are_the_codebooks(layered: SoundTokenizer) -> None:
    item = noise(1)  # one that the codebook was fitted on
    ids = layered.encode(item).reshape(-1, 3)
    assert np.array_equal(ids // 6, np.broadcast_to([0, 1, 2], ids.shape)) and layered.vocab_size == 18
    coarse = SoundTokenizer(codes=6, levels=1)
    coarse.fit([noise(1), tone(300)])
    wanted = coarse.spectrogram(item)
    errors = [np.mean((t.decode_spectrogram(t.encode(item)) - wanted) ** 2) for t in (layered, coarse)]
    assert errors[0] < errors[1] < np.mean((wanted - wanted.mean()) ** 2)
    nearest = [np.square(coarse.to_dict()["centroids"][0] - patch).sum(1).argmin() for patch in wanted.reshape(-1, 160)]
    assert coarse.encode(item).tolist() == nearest


def test_time(layered: SoundTokenizer) -> None:
    ids = layered.encode(noise(1))
    assert layered.duration(ids) == pytest.approx(1.0)
    for seconds, patches in ((0.0, 0), (0.039, 0), (0.04, 1), (0.12, 3), (0.5, 12), (1.0, 25), (7.0, 25)):
        assert np.array_equal(layered.trim(ids, seconds), ids[: 3 * patches])


@pytest.mark.parametrize("seconds", [None, 0.0, 0.1, 0.12])
def test_the_grammar_by_brute_force(layered: SoundTokenizer, seconds: float | None) -> None:
    grammar = layered.grammar(seconds)
    patches = {None: 5, 0.0: 0, 0.1: 2, 0.12: 3}[seconds]
    for taken in range(3 * patches):
        level = taken % 3
        wanted = [id // 6 == level for id in range(18)] + [level == 0]
        assert grammar.mask().tolist() == wanted
        other = grammar.copy()
        other.advance(6 * level)
        assert grammar.mask().tolist() == wanted and grammar.clip(6 * level) == 6 * level
        grammar.advance(6 * level + 5)
        assert grammar.seconds == pytest.approx((taken + 1) // 3 * 0.04)
    assert grammar.mask().tolist() == [seconds is None and id < 6 for id in range(18)] + [True]


def test_grammar_shares_no_state() -> None:
    one = SoundGrammar(2, 2, 0.04)
    two = one.copy()
    one.advance(0)
    assert one.mask().tolist() == [False, False, True, True, False]
    assert two.mask().tolist() == [True, True, False, False, True]


def test_features() -> None:
    made, items = SoundTokenizer(codes=8), [noise(1), tone(300, 0.4)]
    with pytest.raises(NotFitted):
        made.features(items[0])
    made.fit(items)
    features = [made.features(item) for item in items]
    assert [f.shape for f in features] == [(25, 160), (10, 160)] and features[0].dtype == np.float32
    values = np.concatenate(features)
    assert abs(values.mean()) < 1e-4 and abs(values.std() - 1) < 1e-4
    raw = np.concatenate([made.spectrogram(item).reshape(-1, 160) for item in items])
    np.testing.assert_allclose(values, (raw - raw.mean()) / raw.std(), atol=1e-4)


def test_fitting_from_a_stream_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "PER_CODE", 4)
    seen: list[int] = []
    fit = sound.ResidualCodebook.fit
    monkeypatch.setattr(
        sound.ResidualCodebook, "fit", lambda vectors, **options: seen.append(len(vectors)) or fit(vectors, **options)
    )
    made = [SoundTokenizer(codes=10), SoundTokenizer(codes=10)]
    for one in made:
        one.fit(noise(1, seed=seed) for seed in range(9))
    assert seen == [40 + 4] * 2  # 225 patches, of which forty are kept, and silence
    assert np.array_equal(made[0].to_dict()["centroids"], made[1].to_dict()["centroids"])
    with pytest.raises(BadInput, match="no sounds"):
        made[0].fit([Sound(np.zeros(0), RATE)])


def test_not_fitted() -> None:
    for use in (lambda t: t.vocab_size, lambda t: t.encode(tone(440)), lambda t: t.decode([0]), lambda t: t.to_dict()):
        with pytest.raises(NotFitted, match="fit"):
            use(SoundTokenizer())


@pytest.mark.parametrize("options", [
    {"sample_rate": 10}, {"hop": 0}, {"hop": 129}, {"window": 257}, {"window": 8}, {"bands": 0}, {"bands": 129},
    {"patch": 0}, {"codes": 0}, {"levels": 0},
], ids=str)  # fmt: skip
def test_settings_that_mean_nothing(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        SoundTokenizer(**options)


@pytest.mark.parametrize(("item", "says"), [
    ((np.array([0.0, np.nan]), RATE), "sample 1 is nan"),
    ((np.array([np.inf]), RATE), "sample 0 is inf"),
    ((np.array([1e6]), RATE), "full scale"),
    ((np.array([1, 2], np.int16), RATE), "int16"),
    ((np.zeros((2, 2, 2)), RATE), "shape"),
    ((np.zeros((2, 0)), RATE), "shape"),
    ((np.zeros(5), 0), "0 samples a second"),
    ((np.zeros(5), 8000.5), "8000.5 samples a second"),
    (np.zeros(5), "ndarray"),
    (None, "NoneType"),
    ("no such file.wav", "no such file.wav"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_what_is_no_sound(plain: SoundTokenizer, item: Any, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        plain.encode(item)


def test_channels_are_mixed() -> None:
    left, right = tone(300).samples, noise().samples
    both = Sound(np.stack([left, right], axis=1), RATE)
    np.testing.assert_allclose(both.samples, (left + right) / 2, atol=1e-7)
    assert both.seconds == 0.5 and both.samples.dtype == np.float32


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 44101, 192000, 1234])
def test_resampling(rate: int) -> None:
    found, wanted = resampled(tone(440, 1, rate=rate), 8000), tone(440, 1).samples
    assert len(found) == 8000
    np.testing.assert_allclose(found[500:-500], wanted[500:-500], atol=2e-3)
    assert len(resampled(Sound(np.array([0.5]), rate), 8000)) == -(-8000 // rate)


def test_resampling_block_by_block() -> None:
    samples = noise(2, rate=44100).samples
    stream = Resampler(44100, 8000)
    parts = [stream.take(samples[at : at + 1000]) for at in range(0, len(samples), 1000)]
    np.testing.assert_allclose(np.concatenate([*parts, stream.rest()]), resampled(Sound(samples, 44100), 8000))


def test_high_tones_do_not_fold() -> None:
    assert np.abs(resampled(tone(9000, 1, rate=44100), 8000)[500:-500]).max() < 1e-3


def test_saved_and_loaded(layered: SoundTokenizer, tmp_path: Path) -> None:
    save_tokenizers([layered], tmp_path)
    (loaded,) = load_tokenizers(tmp_path)
    item = noise(0.3, seed=9)
    assert np.array_equal(loaded.encode(item), layered.encode(item))
    assert np.array_equal(loaded.features(item), layered.features(item))
    assert np.array_equal(loaded.decode(np.arange(6)).samples, layered.decode(np.arange(6)).samples)
    with pytest.raises(BadInput, match="do not fit"):
        SoundTokenizer.from_dict(layered.to_dict() | {"bands": 20})
    with pytest.raises(TypeError, match="hopp"):
        SoundTokenizer.from_dict(layered.to_dict() | {"hopp": 20})


def test_distortion_counts_what_is_missing(layered: SoundTokenizer) -> None:
    whole = noise(1)
    assert layered.distortion(whole, whole) == 0
    half = Sound(whole.samples[:4000], RATE)
    missing = layered.spectrogram(whole)[52:] - np.log10(FLOOR)
    assert layered.distortion(whole, half) == layered.distortion(half, whole)
    assert layered.distortion(whole, half) > 9 * np.sqrt(np.sum(missing**2) / (100 * 40))
    louder = Sound(whole.samples * 10, RATE)
    assert layered.distortion(whole, louder) == pytest.approx(20, abs=0.5)


def test_shown(layered: SoundTokenizer, tmp_path: Path) -> None:
    written = layered.show(tone(1000, 1, rate=44100), tmp_path / "step_1.2")
    assert [path.name for path in written] == ["step_1.2.wav", "step_1.2.png"]
    assert soundfile.info(str(written[0])).samplerate == 44100
    grey = np.asarray(Image.open(written[1]).convert("L"), float)
    inside = grey[30:450, 200:2100]  # away from the frame and the labels
    row = int(inside.mean(axis=1).argmin()) + 30
    centres = layered._mel.centres
    band = int(np.abs(centres - 1000).argmin())
    wanted = 460 - (band + 0.5) / len(centres) * 436
    assert abs(row - wanted) < 436 / len(centres)
    layered.show(Sound(np.zeros(0), RATE), tmp_path / "empty")
    layered.show(Sound(np.zeros(900), RATE), tmp_path / "silent")
    assert np.asarray(Image.open(tmp_path / "silent.png").convert("L"))[100:300, 200:2000].min() == 255


def test_torchaudio_beside_any_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_torchaudio()
    assert module is import_torchaudio() is sys.modules["torchaudio"]
    assert module.__version__.startswith("2.11")

    def broken(name: str) -> None:
        raise OSError(f"{name} is broken in another way")

    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.delitem(sys.modules, "torchaudio._extension.utils", raising=False)
    with pytest.raises(OSError, match="in another way"):
        import_torchaudio()
