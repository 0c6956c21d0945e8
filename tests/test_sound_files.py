"""Sound files of every kind and in every kind of damage, where only BadInput or a sound may come."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqmodal.errors import BadInput
from tokenizers_ext import _sound_files
from tokenizers_ext._sound_files import read, write
from tokenizers_ext._sound_item import LOUDEST, Sound, resampled

KINDS = [
    ("wav", "WAV", "PCM_16"), ("wav", "WAV", "PCM_24"), ("wav", "WAV", "FLOAT"), ("wav", "WAV", "DOUBLE"),
    ("wav", "WAV", "PCM_U8"), ("wav", "WAVEX", "PCM_32"), ("wav", "RF64", "PCM_16"), ("flac", "FLAC", "PCM_24"),
    ("aiff", "AIFF", "PCM_16"), ("w64", "W64", "PCM_16"), ("caf", "CAF", "PCM_16"), ("au", "AU", "PCM_16"),
    ("ogg", "OGG", "VORBIS"), ("mp3", "MP3", "MPEG_LAYER_III"), ("opus", "OGG", "OPUS"),
]  # fmt: skip
LOSSY = ("VORBIS", "MPEG_LAYER_III", "OPUS")


def tone(rate: int, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def made(folder: Path, kind: tuple[str, str, str], rate: int = 48000, channels: int = 1, seconds: float = 1.0) -> Path:
    """A file of a tone; every channel after the first is a quarter of it, upside down."""
    suffix, format, subtype = kind
    path, mono = folder / f"{subtype}_{format}_{rate}_{channels}.{suffix}", tone(rate, seconds)
    samples = np.stack([mono] + [-mono / 4] * (channels - 1), axis=1)
    soundfile.write(path, samples, rate, format=format, subtype=subtype)
    return path


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_kind_is_read(kind: tuple[str, str, str], tmp_path: Path) -> None:
    found = read(made(tmp_path, kind), 8000)
    assert found.rate == 8000 and found.samples.dtype == np.float32
    assert abs(len(found.samples) - 8000) < (400 if kind[2] in LOSSY else 1)
    middle = found.samples[2000:6000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(4000)))
    assert spectrum.argmax() == 220  # 440 Hz
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 96000, 192000])
def test_every_rate_and_number_of_channels(rate: int, channels: int, tmp_path: Path) -> None:
    found = read(made(tmp_path, ("wav", "WAV", "PCM_24"), rate, channels), 8000)
    wanted = tone(8000) * (1 - (channels - 1) / 4) / channels
    assert len(found.samples) == 8000
    np.testing.assert_allclose(found.samples[200:-200], wanted[200:-200], atol=2e-3)


def test_one_sample_and_a_few(tmp_path: Path) -> None:
    for number, count in enumerate((1, 2, 23, 24, 25)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.full(count, 0.5), 192000)
        assert len(read(path, 8000).samples) >= 1
    soundfile.write(tmp_path / "one.wav", np.array([0.25]), 8000)
    assert read(tmp_path / "one.wav", 8000).samples.tolist() == [0.25]


def test_read_in_blocks_as_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "noise.flac"
    samples = np.clip(np.random.default_rng(0).standard_normal((70000, 3)) * 0.1, -1, 1)
    soundfile.write(path, samples, 44100)
    whole = read(path, 8000).samples
    monkeypatch.setattr(_sound_files, "BLOCK", 3000)
    np.testing.assert_allclose(read(path, 8000).samples, whole, atol=1e-6)
    other = resampled(Sound(samples, 44100), 8000)[: len(whole)]
    np.testing.assert_allclose(whole, other, atol=1e-4)


def test_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path, ("flac", "FLAC", "PCM_16"), 8000)
    monkeypatch.setattr(_sound_files, "MAX_SAMPLES", 8000)
    assert len(read(path, 8000).samples) == 8000
    monkeypatch.setattr(_sound_files, "MAX_SAMPLES", 7999)
    with pytest.raises(BadInput, match="cut it into several"):
        read(path, 8000)


def test_the_header_is_not_believed(tmp_path: Path) -> None:
    path = made(tmp_path, ("wav", "WAV", "PCM_16"), 8000)
    data = bytearray(path.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0xFFFFFFF0)  # four gigabytes, it says
    path.write_bytes(data)
    assert len(read(path, 8000).samples) == 8000


@pytest.mark.parametrize("rate", [0, 7, 999, 768001, 0x7FFFFFFF, 0xFFFFFFFF])
def test_rates_that_are_none(rate: int, tmp_path: Path) -> None:
    path = made(tmp_path, ("wav", "WAV", "PCM_16"), 8000, seconds=0.1)
    data = bytearray(path.read_bytes())
    data[24:28] = struct.pack("<I", rate)
    path.write_bytes(data)
    with pytest.raises(BadInput, match=path.name):
        read(path, 8000)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -2 * LOUDEST])
def test_samples_that_are_none(value: float, tmp_path: Path) -> None:
    samples = tone(8000)
    samples[5000] = value
    soundfile.write(tmp_path / "bad.wav", samples, 8000, subtype="FLOAT")
    with pytest.raises(BadInput, match=r"bad\.wav.*no number or beyond"):
        read(tmp_path / "bad.wav", 8000)


def test_beyond_full_scale_is_read_and_written_quieter(tmp_path: Path) -> None:
    loud = tone(8000) * 6
    soundfile.write(tmp_path / "loud.wav", loud, 8000, subtype="FLOAT")
    found = read(tmp_path / "loud.wav", 8000)
    np.testing.assert_allclose(found.samples, loud, atol=1e-6)
    write(found, tmp_path / "quiet.wav")
    np.testing.assert_allclose(soundfile.read(tmp_path / "quiet.wav")[0], loud / 3, atol=1e-4)


@pytest.mark.parametrize("suffix", [*_sound_files.LOSSLESS, *_sound_files.LOSSY, ".WAV"])
def test_written_and_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"out{suffix}"
    rate = 48000 if suffix == ".opus" else 8000
    write(Sound(tone(rate), rate), path)
    assert soundfile.info(str(path)).channels == 1 and soundfile.info(str(path)).samplerate == rate
    found = read(path, rate).samples
    if suffix.lower() in _sound_files.LOSSLESS:
        np.testing.assert_allclose(found, tone(rate), atol=1e-4)
    else:
        assert np.sqrt(np.mean(found[rate // 4 : rate // 2] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.05)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    sound = Sound(tone(12345, 0.1), 12345)
    for name, says in (("a.mid", r"\.mid"), ("a", "without a suffix"), ("a.opus", "a.opus"), ("no/a.wav", "a.wav")):
        with pytest.raises(BadInput, match=says):
            write(sound, tmp_path / name)
    write(Sound(np.zeros(0), 8000), tmp_path / "empty.wav")
    with pytest.raises(BadInput, match="no samples"):
        read(tmp_path / "empty.wav", 8000)


@pytest.mark.parametrize("kind", [KINDS[0], KINDS[7], KINDS[12], KINDS[13]], ids=str)
@pytest.mark.parametrize("ending", ["wav", "flac", "mp3", "ogg", "aif"])
def test_wrong_endings(kind: tuple[str, str, str], ending: str, tmp_path: Path) -> None:
    wrong = tmp_path / f"wrong.{ending}"
    wrong.write_bytes(made(tmp_path, kind).read_bytes())
    assert abs(len(read(wrong, 8000).samples) - 8000) < 400


@pytest.mark.parametrize("content", [
    b"", b"\0" * 5000, b"\xff" * 5000, b"MThd\0\0\0\6\0\0\0\1\1\xe0", b"RIFF\x24\0\0\0WAVE", b"fLaC" + b"\0" * 100,
    b"OggS" + b"\0" * 200, b"Only a text.\n" * 50,
], ids=lambda content: repr(content[:6]))  # fmt: skip
@pytest.mark.parametrize("ending", ["wav", "mp3", "raw", "vox", "gsm", "au"])
def test_what_is_no_sound(content: bytes, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"none.{ending}"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"none.{ending}") as caught:
        read(path, 8000)
    assert "does not exist" not in str(caught.value)


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder.wav").mkdir()
    for name in ("folder.wav", "absent.wav"):
        with pytest.raises(BadInput, match=name):
            read(tmp_path / name, 8000)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("good")
    return {kind[0]: made(folder, kind, channels=2, seconds=0.3).read_bytes() for kind in KINDS}


@settings(max_examples=150, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files(good: dict[str, bytes], tmp_path: Path, data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(good)))
    content = bytearray(good[suffix])
    for _ in range(data.draw(st.integers(0, 8))):
        reach = data.draw(st.sampled_from((60, 300, len(content))))
        content[data.draw(st.integers(0, min(reach, len(content)) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(content)
    try:
        found = read(path, 8000)
    except BadInput as error:
        assert path.name in str(error) and error.reason
    else:
        assert found.samples.size and np.isfinite(found.samples).all()
