"""Pictures and sounds: the figures behind them, not only that files appear."""

from __future__ import annotations

import sys
import types

import numpy as np
import pretty_midi
import pytest
import soundfile
from PIL import Image

from seqmodal.show import sound
from seqmodal.show.curves import distributions, loss_curve
from seqmodal.show.page import Item, page
from seqmodal.show.piano_roll import PALETTE, PROMPT, piano_roll

RATE = 22050


@pytest.fixture
def no_synthesiser(monkeypatch):
    monkeypatch.setattr(sound, "_importable", lambda package: False)


def midi(*notes: tuple[float, float, int, int], program: int = 0, drum: bool = False) -> pretty_midi.PrettyMIDI:
    """A piece of (onset, end, pitch, velocity)."""
    instrument = pretty_midi.Instrument(program, is_drum=drum)
    instrument.notes = [pretty_midi.Note(velocity, pitch, onset, end) for onset, end, pitch, velocity in notes]
    piece = pretty_midi.PrettyMIDI()
    piece.instruments.append(instrument)
    return piece


def render(piece: pretty_midi.PrettyMIDI, path) -> np.ndarray:
    assert sound.render_wav(piece, path, RATE) == "additive"
    facts = soundfile.info(str(path))
    assert (facts.samplerate, facts.channels, facts.subtype) == (RATE, 1, "PCM_16")
    return soundfile.read(str(path))[0]


def loudest_frequency(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 1 << 18))
    return float(np.fft.rfftfreq(1 << 18, 1 / RATE)[spectrum.argmax()])


@pytest.mark.parametrize("program", [0, 19, 48])
@pytest.mark.parametrize("pitch", [45, 69, 88])
def test_a_note_sounds_at_its_pitch_and_only_while_it_lasts(tmp_path, no_synthesiser, pitch, program):
    wave = render(midi((0.5, 2.0, pitch, 100), program=program), tmp_path / "a.wav")
    assert len(wave) == pytest.approx((2.0 + sound.TAIL) * RATE, abs=2)
    assert not wave[: int(0.5 * RATE) - 1].any()
    assert not wave[int(2.3 * RATE) :].any()
    heard = loudest_frequency(wave[int(0.5 * RATE) : int(2 * RATE)])
    assert heard == pytest.approx(440 * 2 ** ((pitch - 69) / 12), rel=2e-3)
    assert np.abs(wave).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)


def test_a_struck_note_decays_and_loud_is_louder_than_soft(tmp_path, no_synthesiser):
    wave = render(midi((0.0, 2.0, 60, 120), (3.0, 5.0, 60, 40)), tmp_path / "a.wav")
    power = [float(np.sqrt((wave[int(t * RATE) : int((t + 0.3) * RATE)] ** 2).mean())) for t in (0.1, 1.5, 3.1)]
    assert power[1] < 0.6 * power[0]
    assert power[2] < 0.4 * power[0]


def test_many_voices_stay_below_the_ceiling(tmp_path, no_synthesiser):
    rng = np.random.default_rng(0)
    onsets = rng.uniform(0, 10, 400)
    piece = midi(*((t, t + rng.uniform(0.01, 3), int(rng.integers(0, 128)), int(rng.integers(1, 128))) for t in onsets))
    wave = render(piece, tmp_path / "a.wav")
    assert np.isfinite(wave).all()
    assert np.abs(wave).max() == pytest.approx(10 ** (-1 / 20), abs=1e-3)
    assert np.sqrt((wave**2).mean()) > 0.03


@pytest.mark.parametrize("pitch", [36, 38, 42, 45, 49, 75])
def test_drums_are_heard(tmp_path, no_synthesiser, pitch):
    wave = render(midi((0.25, 0.3, pitch, 100), drum=True), tmp_path / "a.wav")
    assert not wave[: int(0.25 * RATE) - 1].any()
    assert np.abs(wave[int(0.25 * RATE) : int(0.35 * RATE)]).max() > 0.5


def test_silence_stays_silence(tmp_path, no_synthesiser):
    wave = render(pretty_midi.PrettyMIDI(), tmp_path / "a.wav")
    assert len(wave) == sound.TAIL * RATE
    assert not wave.any()


def test_an_installed_synthesiser_is_used_and_no_note_hangs(tmp_path, monkeypatch):
    sounding: set[tuple[int, int]] = set()
    selected = {}

    class Synth:
        def __init__(self, gain, samplerate):
            self.rate = samplerate

        def sfload(self, path):
            assert path == str(font)
            return 7

        def program_select(self, channel, sfid, bank, program, drums):
            selected[channel] = (sfid, program, drums)

        def noteon(self, channel, pitch, velocity):
            sounding.add((channel, pitch))

        def noteoff(self, channel, pitch):
            sounding.remove((channel, pitch))

        def generate(self, samples):
            return memoryview(np.full((samples, 2), float(len(sounding)), np.float32).tobytes())

    font = tmp_path / "own.sf2"
    font.touch()
    monkeypatch.setenv("SEQMODAL_SOUNDFONT", str(font))
    monkeypatch.setitem(sys.modules, "tinysoundfont", types.SimpleNamespace(Synth=Synth))
    monkeypatch.setattr(sound, "_importable", lambda package: package == "tinysoundfont")
    piece = midi((0.5, 1.0, 60, 90), (1.0, 1.5, 60, 90), (1.5, 1.5, 62, 90), program=5)
    piece.instruments.append(midi((0.5, 1.0, 38, 90), drum=True).instruments[0])
    assert sound.render_wav(piece, tmp_path / "a.wav", RATE) == "tinysoundfont"
    assert not sounding
    assert selected == {0: (7, 5, False), 9: (7, 0, True)}
    wave, _ = soundfile.read(str(tmp_path / "a.wav"))
    assert not wave[: int(0.5 * RATE) - 1].any()
    assert wave[int(0.75 * RATE)] == pytest.approx(2 * wave[int(1.25 * RATE)], rel=1e-3)


def test_a_soundfont_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEQMODAL_SOUNDFONT", str(tmp_path / "gone.sf2"))
    with pytest.raises(FileNotFoundError, match=r"gone\.sf2"):
        sound.find_soundfont()


def draw(tmp_path, *notes, **options) -> np.ndarray:
    columns = [np.array(column) for column in zip(*notes, strict=True)] if notes else [np.zeros(0)] * 4
    path = piano_roll(*columns, path=tmp_path / "roll.png", **options)
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def where(picture: np.ndarray, color: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns below the header where `color` stands at full strength."""
    rows, columns = np.nonzero((np.abs(picture[80:] - color) <= 2).all(axis=2))
    return rows + 80, columns


def test_the_prompt_lies_left_of_what_was_generated(tmp_path):
    notes = [(t, t + 0.8, 60 + t % 5, 127) for t in range(20)]
    picture = draw(tmp_path, *notes, prompt_notes=8, title="A title that is far too long for the picture " * 5)
    prompt, new = where(picture, PROMPT)[1], where(picture, PALETTE[0])[1]
    assert len(prompt) and len(new)
    assert prompt.max() < new.min()


def test_higher_is_above_and_softer_is_paler(tmp_path):
    picture = draw(tmp_path, (0.0, 1.0, 72, 127), (2.0, 3.0, 48, 127), (4.0, 5.0, 60, 10))
    rows, columns = where(picture, PALETTE[0])
    high, low = rows[columns < columns.mean()], rows[columns > columns.mean()]
    assert high.max() < low.min()
    assert columns.max() < picture.shape[1] * 0.7  # the soft note at 4 s has another shade


def test_a_long_piece_is_wrapped_and_every_row_holds_its_notes(tmp_path):
    short = draw(tmp_path, (0.0, 1.0, 60, 127))
    long = draw(tmp_path, *((float(t), t + 0.5, 60, 127) for t in range(240)))
    assert long.shape[0] > 2 * short.shape[0]
    rows = np.unique(where(long, PALETTE[0])[0])
    assert 1 + int((np.diff(rows) > 50).sum()) == 8


def test_drums_have_lanes_below_the_keys_and_families_have_colours(tmp_path):
    picture = draw(
        tmp_path,
        *((0.0, 1.0, 60, 127), (0.5, 1.5, 62, 127), (1.0, 1.1, 36, 127), (2.0, 3.0, 64, 127)),
        drum=[False, False, True, False],
        program=[0, 0, 0, 40],
    )
    piano, drums, violin = (where(picture, color)[0] for color in PALETTE[:3])
    assert len(violin)
    assert piano.max() < drums.min()


@pytest.mark.parametrize("notes", [(), ((0.0, 0.0, 0, 0),), ((280_000.0, 280_001.0, 127, 127),)])
def test_odd_input_gives_a_picture_of_a_readable_size(tmp_path, notes):
    picture = draw(tmp_path, *notes)
    assert picture.shape[1] == 2200
    assert 300 < picture.shape[0] < 6000


def test_loss_curve_reads_csv_rows_and_shows_both_curves(tmp_path):
    rows = [{"step": str(s), "train_loss": str(5 - s / 50), "valid_loss": "" if s % 50 else "3.5"} for s in range(100)]
    rows.append({"step": "100", "train_loss": "nan", "valid_loss": ""})
    full = Image.open(loss_curve(rows, tmp_path / "both.png", "music"))
    train_only = Image.open(loss_curve([{**row, "valid_loss": ""} for row in rows], tmp_path / "one.png", "music"))
    assert full.size == train_only.size == (1200, 660)
    assert len(where(np.asarray(full.convert("RGB")).astype(int), (84, 104, 138))[0]) > 200
    assert not len(where(np.asarray(train_only.convert("RGB")).astype(int), (84, 104, 138))[0])


def test_pictures_of_nothing_are_pictures(tmp_path):
    Image.open(loss_curve([], tmp_path / "a.png")).verify()
    Image.open(loss_curve([{"step": 1, "train_loss": 2.0, "seconds": 3.0}], tmp_path / "b.png")).verify()
    Image.open(distributions({}, tmp_path / "c.png")).verify()
    Image.open(distributions({"velocity": ([], [3.0, np.nan]), "polyphony": ([], [])}, tmp_path / "d.png")).verify()


def test_distributions_put_larger_values_to_the_right(tmp_path):
    rng = np.random.default_rng(0)
    pairs = {"velocity": (rng.normal(90, 3, 500), rng.normal(30, 3, 500))}
    picture = np.asarray(Image.open(distributions(pairs, tmp_path / "a.png")).convert("RGB")).astype(int)
    sample, data = where(picture, (226, 88, 52))[1], where(picture, (84, 104, 138))[1]
    assert np.median(data) < np.median(sample)


def test_the_page_carries_everything_and_asks_no_network(tmp_path, no_synthesiser):
    wav, picture = tmp_path / "a.wav", tmp_path / "a.png"
    sound.render_wav(midi((0.0, 0.5, 60, 90)), wav)
    piano_roll([0.0], [0.5], [60], [90], path=picture)
    items = [Item("One <b>", wav, picture, "seed 1"), Item("Two", wav)]
    text = page(items, tmp_path / "listen.html", "A & B").read_text(encoding="utf-8")
    assert text.count("<audio") == 2
    assert text.count("<img") == 1
    assert "One &lt;b&gt;" in text and "A &amp; B" in text
    assert "http:" not in text and "https:" not in text and 'src="a' not in text
