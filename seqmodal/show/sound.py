"""MIDI made audible: a soundfont where a synthesiser is installed, else an additive piano that needs nothing."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pretty_midi import PrettyMIDI

TAIL = 1.0  # seconds after the last note end
PEAK = 10 ** (-1 / 20)  # -1 dBFS
SOUNDFONT_FOLDERS = (
    *("/usr/share/sounds/sf2", "/usr/share/sounds/sf3"),
    *("/usr/share/soundfonts", "/usr/local/share/soundfonts"),
)

_LONGEST = 12.0  # seconds a struck string is heard, at most
_RELEASE = 0.12  # seconds a note fades after its end
_ATTACK = 0.003
# Strengths of the partials, decay of the fundamental in 1/s (higher partials decay sooner), share that never decays.
_STRUCK = (np.array([1.0, 0.55, 0.32, 0.2, 0.12, 0.08, 0.05, 0.03]), 1.1, 0.0)
_HELD = (np.array([1.0, 0.4, 0.3, 0.12, 0.1, 0.04]), 2.0, 0.55)


def render_wav(midi: PrettyMIDI, path: str | Path, sample_rate: int = 22050) -> str:
    """Write `midi` as mono 16-bit WAV, peak -1 dBFS, `TAIL` seconds longer than its last note.

    Returns which synthesiser was used: "fluidsynth", "tinysoundfont" or "additive". The first two need their Python
    package and a soundfont: $SEQMODAL_SOUNDFONT, one in the system's usual folders, or the one pretty_midi carries.
    """
    import soundfile

    samples = _samples(midi, sample_rate)
    name, wave = "additive", None
    for candidate, render in (("fluidsynth", _fluidsynth), ("tinysoundfont", _tinysoundfont)):
        font = find_soundfont() if _importable(candidate) else None
        if font is not None:
            name, wave = candidate, render(midi, font, sample_rate, samples)
            break
    if wave is None:
        wave = additive(midi, sample_rate)
    out = np.zeros(samples, np.float32)
    out[: min(samples, len(wave))] = wave[:samples]
    fade = min(samples, int(0.05 * sample_rate))
    out[samples - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    soundfile.write(str(path), _normalised(out), sample_rate, format="WAV", subtype="PCM_16")
    return name


def find_soundfont() -> Path | None:
    """The soundfont to play with; None when there is none. A $SEQMODAL_SOUNDFONT that is no file raises."""
    chosen = os.environ.get("SEQMODAL_SOUNDFONT")
    if chosen:
        if not Path(chosen).is_file():
            raise FileNotFoundError(f"SEQMODAL_SOUNDFONT={chosen} is no file")
        return Path(chosen)
    return next(_soundfonts(), None)


def additive(midi: PrettyMIDI, sample_rate: int) -> np.ndarray:
    """A plain synthesiser, float32 (samples,), not normalised: decaying partials for notes, shaped noise for drums.

    The waveform of a pitch is computed once, as long as its longest note, and cut to each note's length.
    """
    out = np.zeros(_samples(midi, sample_rate), np.float32)
    for instrument in midi.instruments:
        if instrument.is_drum:
            _add_drums(out, instrument.notes, sample_rate)
        else:
            _add_notes(out, instrument.notes, _HELD if _is_held(instrument.program) else _STRUCK, sample_rate)
    return out


def _samples(midi: PrettyMIDI, rate: int) -> int:
    end = max((note.end for instrument in midi.instruments for note in instrument.notes), default=0.0)
    return int(np.ceil((end + TAIL) * rate))


def _add_notes(out: np.ndarray, notes: list, timbre: tuple[np.ndarray, float, float], rate: int) -> None:
    by_pitch: dict[int, list] = {}
    for note in notes:
        by_pitch.setdefault(note.pitch, []).append(note)
    release = np.cos(np.linspace(0, np.pi / 2, int(_RELEASE * rate), dtype=np.float32)) ** 2
    for pitch, group in by_pitch.items():
        longest = min(max(note.end - note.start for note in group), _LONGEST) + _RELEASE
        tone = _tone(pitch, int(longest * rate) + 2, timbre, rate)
        for note in group:
            start = int(round(note.start * rate))
            held = min(int((note.end - note.start) * rate), len(tone) - len(release))
            sound = tone[: held + len(release)] * np.float32((note.velocity / 127) ** 1.6)
            sound[held:] *= release
            end = min(start + len(sound), len(out))
            out[start:end] += sound[: end - start]


def _tone(pitch: int, length: int, timbre: tuple[np.ndarray, float, float], rate: int) -> np.ndarray:
    """The sound of one pitch at full velocity: partials below Nyquist, higher ones dying sooner."""
    strengths, decay, kept = timbre
    frequency = 440.0 * 2 ** ((pitch - 69) / 12)
    seconds = np.arange(length) / rate
    phase = 2 * np.pi * (seconds * frequency % 1.0)  # float64: a float32 phase drifts after some seconds
    first, twice_cos = np.sin(phase).astype(np.float32), (2 * np.cos(phase)).astype(np.float32)
    decay *= 2 ** ((pitch - 60) / 24)  # short strings fade sooner
    envelope = np.exp(-decay * seconds).astype(np.float32)
    step = np.exp(-0.45 * decay * seconds).astype(np.float32)
    before, partial, tone = np.zeros_like(first), first, np.zeros_like(first)
    for number, strength in enumerate(strengths, start=1):
        if number * frequency > 0.45 * rate:
            break
        tone += np.float32(strength) * ((1 - kept) * envelope + kept) * partial
        envelope *= step
        before, partial = partial, twice_cos * partial - before  # sin((n+1)x) = 2 cos(x) sin(nx) - sin((n-1)x)
    attack = min(length, max(1, int(_ATTACK * rate)))
    tone[:attack] *= np.linspace(0, 1, attack, dtype=np.float32)
    return tone * np.float32(2 ** ((60 - pitch) / 48))  # ears hear high tones as louder


def _add_drums(out: np.ndarray, notes: list, rate: int) -> None:
    hits: dict[int, np.ndarray] = {}
    for note in notes:
        if note.pitch not in hits:
            hits[note.pitch] = _hit(note.pitch, rate)
        start = int(round(note.start * rate))
        end = min(start + len(hits[note.pitch]), len(out))
        out[start:end] += hits[note.pitch][: end - start] * np.float32((note.velocity / 127) ** 1.3)


def _hit(pitch: int, rate: int) -> np.ndarray:
    """One stroke of a General MIDI drum: a falling tone for skins, noise for what rattles, bright noise for metal."""
    skins = {35: 50, 36: 55, 41: 80, 43: 95, 45: 115, 47: 135, 48: 160, 50: 190, 60: 300, 61: 220, 64: 180}
    snares = {37: 0.05, 38: 0.16, 39: 0.12, 40: 0.16}
    metal = {42: 0.05, 44: 0.04, 46: 0.3, 49: 0.9, 51: 0.5, 52: 0.8, 53: 0.5, 55: 0.5, 57: 0.9, 59: 0.5}
    noise = np.random.default_rng(pitch).standard_normal(rate)
    seconds = np.arange(rate) / rate
    if pitch in skins:
        low = skins[pitch]
        sweep = np.cumsum(low * (1 + 1.5 * np.exp(-seconds * 40))) / rate
        sound = 1.6 * np.sin(2 * np.pi * sweep) * np.exp(-seconds * 9) + 0.15 * noise * np.exp(-seconds * 120)
    elif pitch in snares:
        sound = (0.5 * noise + 0.5 * np.sin(2 * np.pi * 190 * seconds)) * np.exp(-seconds * 3 / snares[pitch])
    else:
        bright = np.diff(noise, prepend=0.0)
        sound = 0.3 * bright * np.exp(-seconds * 3 / metal.get(pitch, 0.1))
    return sound.astype(np.float32) * np.linspace(1, 0, rate, dtype=np.float32)


def _is_held(program: int) -> bool:
    """Programs that sound for as long as they are held: organs, bowed strings, voices, wind, synthesisers."""
    return 16 <= program < 24 or 40 <= program < 45 or 48 <= program < 104


def _normalised(wave: np.ndarray) -> np.ndarray:
    """Float64 with peak -1 dBFS; silence stays silence."""
    loudest = float(np.abs(wave).max(initial=0.0))
    return wave * (PEAK / loudest) if loudest > 0 else wave.astype(np.float64)


def _importable(package: str) -> bool:
    if importlib.util.find_spec(package) is None:
        return False
    try:
        __import__(package)
    except (ImportError, OSError, AttributeError):  # pyfluidsynth without the C library it wraps
        return False
    return True


def _soundfonts() -> Iterator[Path]:
    for folder in SOUNDFONT_FOLDERS:
        yield from sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in (".sf2", ".sf3"))
    spec = importlib.util.find_spec("pretty_midi")
    if spec is not None and spec.origin is not None:
        yield from Path(spec.origin).parent.glob("*.sf2")


def _fluidsynth(midi: PrettyMIDI, font: Path, rate: int, samples: int) -> np.ndarray:
    return np.asarray(midi.fluidsynth(fs=rate, synthesizer=str(font)), np.float32)


def _tinysoundfont(midi: PrettyMIDI, font: Path, rate: int, samples: int) -> np.ndarray:
    """Notes on and off at their own sample; a channel for each instrument, 9 for drums."""
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=-6, samplerate=rate)
    sfid = synth.sfload(str(font))
    events: list[tuple[int, int, int, int, int]] = []  # sample, 0 off / 1 on, channel, pitch, velocity
    melodic = [channel for channel in range(16) if channel != 9]
    for number, instrument in enumerate(midi.instruments):
        channel = 9 if instrument.is_drum else melodic[number % len(melodic)]
        synth.program_select(channel, sfid, 128 if instrument.is_drum else 0, instrument.program, instrument.is_drum)
        for note in instrument.notes:
            start = round(note.start * rate)
            events.append((start, 1, channel, note.pitch, note.velocity))
            events.append((max(start + 1, round(note.end * rate)), 0, channel, note.pitch, 0))
    wave, now = np.zeros(samples, np.float32), 0
    for at, on, channel, pitch, velocity in [*sorted(events), (samples, 0, 0, 0, 0)]:
        if at > now:
            stereo = np.frombuffer(bytes(synth.generate(at - now)), np.float32)  # left, right, left, …
            wave[now:at] = stereo.reshape(-1, 2).mean(axis=1)[: len(wave) - now]
            now = at
        if on:
            synth.noteon(channel, pitch, velocity)
        elif at < samples:
            synth.noteoff(channel, pitch)
    return wave
