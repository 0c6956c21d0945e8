"""Recordings to MIDI, learned from MIDI files made audible, or from Bach's chorales where none is given."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import Objective, Prefix, RecipeConfig, SamplingConfig
from seqmodal.data.cache import cache_folder, made_once
from seqmodal.data.chorales import chorales
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.duplicates import minhash
from seqmodal.data.files import Described, find_usable
from seqmodal.data.source import partner
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from tokenizers_ext.midi import MidiTokenizer, Notes, read, summary
from tokenizers_ext.sound import Sound, SoundTokenizer
from tokenizers_ext.transcript import STEPS, TranscriptTokenizer

NEXT = "transcribe"
"""The verb that uses a run."""
QUARTER = 0.72
"""Seconds of a quarter note of the built-in chorales."""
RATE, HOP, SPECTRUM, BANDS, FRAMES = 16000, 320, 2048, 229, 2
"""What is heard: samples a second, a frame every 20 ms that sees 2,048 of them in 229 bands, two frames a position."""
PATCH = FRAMES * HOP * STEPS // RATE
"""Steps of 10 ms that a position lasts."""
WINDOW, MARGIN = 512, 32
"""Steps of a window, 5.12 s. At either end as much as the margin is left to the window beside it."""
STRIDE = WINDOW - 2 * MARGIN
MOST = 512
"""Ids that are made of a window, at most."""
FITTED = 48
"""Pieces that the loudness of bands is measured on."""
KEYS, TEMPO = (-5, 6), 0.15
"""Semitones and share of the tempo by which a piece is varied, from and to."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn to hear notes: from MIDI files, each rendered by pretty_midi, or with a recording of the same name beside
    it (x.wav and x.mid)."""

    longest: float = 40.0
    """Seconds of a training piece that are learned from, from its start; 0: all. An hour takes about 100 MB."""
    versions: int = 2
    """Times that a training piece is rendered, each at a tempo of its own, and from the second on in another key too.
    Recordings stay as they are."""
    objective: Objective = field(default_factory=Prefix)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(count=20))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.objective, Prefix):
            raise ConfigError(f"objective is {self.objective.kind}; sound is heard both ways, which prefix is for")
        if not 0 <= self.longest < float("inf"):
            raise ConfigError(f"longest is {self.longest}; it is in seconds, or 0 for no limit")
        if self.versions < 1:
            raise ConfigError(f"versions is {self.versions}; it must be at least 1")
        self.means_nothing("a transcript", "sampling.seconds", "sampling.temperature", "sampling.top_p")


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to describe them, drop copies, split by piece; render on demand, in worker processes.

    `tokenizers` are those of a trained model. Where the pieces are there for it to be `evaluated` on, they are those of
    the folder's own test part where it has one, else all; none is dropped or varied.
    """
    source = {}
    if config.data is None:
        config.without_files("chorales")
        config, source = replace(config, data=str(chorale_files())), {"source": "Bach's chorales, from music21"}
    found = find_usable(config, MidiTokenizer.suffixes, _describe, "MIDI file", evaluated=evaluated)
    heard, written = shared(tokenizers, "sound"), shared(tokenizers, "transcript") or TranscriptTokenizer()
    if heard is None:
        heard = SoundTokenizer(RATE, HOP, BANDS, SPECTRUM, FRAMES, codes=1)
        heard.fit(_sound(path, read(path)) for path in found.training(FITTED))
    if (heard.sample_rate, heard.hop, heard.patch) != (RATE, HOP, FRAMES):
        raise ConfigError(
            f"the model hears {heard.sample_rate} samples a second, {heard.hop * heard.patch} a position; a transcript "
            f"takes {RATE} and {HOP * FRAMES}: leave --init out"
        )
    learned = frozenset(path for path, split in found.splits.items() if split == "train")
    facts: dict[str, Any] = {
        "files": len(found.described), "notes": int(sum(one.weight for one in found.described.values())),
        "hours": 0.0, "windows": 0, **source,
    }  # fmt: skip
    seconds = 0.0

    def documents() -> Iterator[Document]:
        nonlocal seconds
        made = partial(_render, heard, written, config.longest, config.versions, learned)
        for path, versions in found.each(made, "rendering"):
            for number, (features, ids) in enumerate(versions):
                name = str(path) if not number else f"{path}, version {number + 1}"
                seconds += len(features) * PATCH / STEPS
                for given, wanted in windows(written, features, ids):
                    facts["windows"] += 1
                    yield Document((given, Segment(written.name, wanted)), name, found.splits[path])
        facts["hours"] = round(seconds / 3600, 2)

    return Corpus([heard, written], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well held-out transcripts are predicted, and precision, recall and F1 of the notes that are found in
    `sampling.count` held-out pieces at most, evenly taken (`note_scores`)."""
    from seqmodal.evaluation.likelihood import likelihood_of
    from seqmodal.evaluation.transcription import note_scores

    held = stores.get("valid")
    if held is None:
        return {}
    loss = likelihood_of(model, held, config.objective)
    truth, found = zip(*_pieces(model, held, config.sampling.count), strict=True)
    return {"nats_per_token": loss.nats / loss.count, "pieces": float(len(truth)), **note_scores(truth, found)}


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """What is heard of a held-out piece: its piano roll, below that of the truth, and both as MIDI files."""
    from seqmodal.show.compare import piano_rolls

    place = folder.parent / "data" / "valid"
    if not place.is_dir():
        return []
    ((truth, found),) = _pieces(model, Store(place), 1)
    paths = []
    for name, notes in (("truth", truth), ("transcript", found)):
        paths.append(folder / f"step_{step:06}_{name}.mid")
        model.tokenizer("transcript").write(notes, paths[-1])
    return [piano_rolls({"truth": truth, "transcript": found}, folder / f"step_{step:06}.png"), *paths]


def transcribe(model: Any, sound: Sound | str | Path, progress: Callable[[float, float], None] | None = None) -> Notes:
    """The notes of a recording of any length: windows that overlap are heard, and what they tell is joined.

    Raises:
        BadInput: for a file that cannot be read.
        ConfigError: for a model that learned something else.
    """
    heard, written = model.tokenizer("sound"), model.tokenizer("transcript")
    features = heard.features(sound)
    given = [given for given, _ in windows(written, features, np.zeros(0, np.int32))]
    return _joined(written, _heard(model, given, progress))


def windows(
    tokenizer: TranscriptTokenizer, features: np.ndarray, ids: np.ndarray
) -> Iterator[tuple[Segment, np.ndarray]]:  # fmt: skip
    """Windows of a piece, one after the other: what is heard, features (n, F) with their times, and the ids of the
    notes that begin or end there."""
    last = max(0, -(-(len(features) * PATCH - WINDOW) // STRIDE))
    for start in range(0, last * STRIDE + 1, STRIDE):
        part = features[start // PATCH : (start + WINDOW) // PATCH]
        times = np.arange(len(part), dtype=np.int32)[:, None] * PATCH
        segment = Segment("sound", loss=0.0, both_ways=True, features=part, coordinates=times)
        yield segment, tokenizer.window(ids, start, start + WINDOW)


def chorale_files() -> Path:
    """A folder of the built-in chorales as MIDI files, train, valid and test; written once, and kept in the cache.

    Raises:
        BadInput: when music21 is not installed.
    """
    return made_once(cache_folder() / f"chorales-midi-{QUARTER}", _write_chorales)


def _write_chorales(folder: Path) -> None:
    midi = MidiTokenizer(program=19)
    for one in chorales():
        (folder / one.split).mkdir(parents=True, exist_ok=True)
        notes = Notes.of(one.onset * QUARTER, one.end * QUARTER, one.pitch, np.full(len(one.pitch), 80), 19)
        midi.write(notes, folder / one.split / f"{one.name}.mid")


def _heard(model: Any, given: Sequence[Segment], progress: Callable[[float, float], None] | None = None) -> list[Any]:
    """The likeliest ids of each window."""
    made = model.sample_each(
        [[one] for one in given], to="transcript", temperature=0.0, max_new_tokens=MOST, seed=0, progress=progress
    )  # fmt: skip
    return [one.ids for one in made]


def _joined(tokenizer: TranscriptTokenizer, parts: Sequence[np.ndarray]) -> Notes:
    return tokenizer.join(parts, STRIDE, MARGIN, WINDOW)


def _pieces(model: Any, store: Store, most: int) -> list[tuple[Notes, Notes]]:
    """Truth and transcript of some pieces of a store, evenly taken."""
    chosen = store.items(most)
    documents = [store[number] for piece in chosen for number in piece]
    found, written = _heard(model, [document.segments[0] for document in documents]), model.tokenizer("transcript")
    pairs, at = [], 0
    for piece in chosen:
        part = slice(at, at := at + len(piece))
        truth = [document.segments[1].ids for document in documents[part]]
        pairs.append((_joined(written, truth), _joined(written, found[part])))
    return pairs


def _describe(path: Path) -> Described:
    """Runs in a worker process, as `_render` does."""
    notes = read(path)
    notes = notes.select(~notes.drum)
    if not len(notes):
        raise BadInput(path, "it has no notes but drums, which pretty_midi does not play")
    if (recording := _recording(path)) is not None:
        try:
            _read(recording)
        except BadInput as error:
            raise BadInput(path, f"{recording.name}, the recording of it: {error.reason}") from error
    return Described(summary(notes).content_hash, float(len(notes)), minhash(notes.pitch))


def _render(
    heard: SoundTokenizer, written: TranscriptTokenizer, longest: float, versions: int, learned: frozenset[Path],
    path: Path,
) -> list[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Of each version of a piece, features float16 (n, F) and ids."""
    made, notes = [], read(path)
    notes, recorded = notes.select(~notes.drum), _recording(path) is not None
    vary = path in learned and not recorded
    for number in range(versions if vary else 1):
        rng = np.random.default_rng([number, *hashlib.sha256(path.name.encode()).digest()[:8]])
        piece = _varied(notes, rng, number > 0) if vary else notes
        if longest and path in learned:
            piece = piece.select(piece.onset < longest)
        features, ids = heard.features(_sound(path, piece)), written.encode(piece)
        if longest and path in learned:
            features = features[: int(longest * STEPS / PATCH)]
            ids = written.window(ids, 0, len(features) * PATCH)
        made.append((features.astype(np.float16), ids))
    return made


def _recording(path: Path) -> Path | None:
    """The sound file beside a MIDI file, of the same name."""
    return partner(path, SoundTokenizer.suffixes)


def _sound(path: Path, notes: Notes) -> Sound:
    """The recording beside a MIDI file; else its notes, rendered."""
    recording = _recording(path)
    if recording is not None:
        return _read(recording)
    return Sound(notes.to_pretty_midi().synthesize(RATE).astype(np.float32), RATE)


def _read(recording: Path) -> Sound:
    return SoundTokenizer(RATE, HOP, BANDS, SPECTRUM, FRAMES).read(recording)


def _varied(notes: Notes, rng: np.random.Generator, moved: bool) -> Notes:
    """At another tempo, and, if moved, in another key, as far as the piano's keys reach.

    Where all pieces have one tempo, as files made from notation often do, the beats of window k fall on the same places
    in each of them, and a model learns these by heart instead of listening; on later windows it is then wrong.
    """
    stretch, move = 1 + TEMPO * float(rng.uniform(-1, 1)), 0
    if moved:
        down, up = max(KEYS[0], 21 - int(notes.pitch.min())), min(KEYS[1], 108 - int(notes.pitch.max()))
        move = int(rng.integers(min(0, down), max(0, up) + 1))
    return replace(notes, onset=notes.onset * stretch, end=notes.end * stretch, pitch=notes.pitch + move)
