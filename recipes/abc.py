"""Tunes in ABC notation to MIDI and back, in one model: from pairs of files, or from made-up tunes where none is given.

A window is a few bars that follow each other in both spellings; each makes a document either way. Of what is learned
from, a window begins at each bar.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.config import Objective, Prefix, RecipeConfig, SamplingConfig
from seqmodal.data.abc import TEMPI, Bar, align, read_bars, split_tunes
from seqmodal.data.cache import cache_folder, made_once
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.files import Described, find_usable
from seqmodal.data.melodies import melodies
from seqmodal.data.signatures import read_fields, write_fields
from seqmodal.data.source import Skipped, partner
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from tokenizers_ext.midi import Notes
from tokenizers_ext.text import CharacterTokenizer
from tokenizers_ext.transcript import STEPS, TranscriptTokenizer

NEXT = "convert"
"""The verb that uses a run."""
SUFFIXES = (".abc",)
QUARTER = 48
"""Steps of 10 ms that a quarter note lasts in a document, whatever its tempo: thirds of sixteenths are whole steps."""
TUNES = 400
"""Tunes of the built-in corpus."""
MOST = 512
"""Ids that are made of a window, at most."""
TEMPO = 120
"""Quarter notes a minute of a tune that does not say it."""
UNIT = "1/8"
"""Unit of length of what is written from MIDI alone."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn ABC notation and MIDI from each other: from pairs of files x.abc and x.mid, the melody being the first
    instrument of the MIDI file."""

    bars: int = 4
    """Bars of a window."""
    objective: Objective = field(default_factory=Prefix)
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(count=50))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.objective, Prefix):
            raise ConfigError(f"objective is {self.objective.kind}; what is given is read both ways, as by prefix")
        if self.bars < 1:
            raise ConfigError(f"bars is {self.bars}; it must be at least 1")
        self.means_nothing(
            "what is made here, the likeliest", "sampling.seconds", "sampling.temperature", "sampling.top_p"
        )


@dataclass(frozen=True)
class Window:
    """Bars that follow each other: fields and bars as text, and the ids of the notes."""

    header: str
    text: str
    ids: np.ndarray


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all pairs, drop copies, split by whole tunes, align bars and notes; of equal windows one is learned.

    Of a pair that parts ways, the bars before that are used. `tokenizers` are those of a trained model. Where the tunes
    are there for it to be `evaluated` on, they are those of the folder's own test part where it has one, else all.
    """
    source = {}
    if config.data is None:
        config.without_files("tunes")
        config, source = replace(config, data=str(melody_files())), {"source": "made-up tunes"}
    found = find_usable(config, SUFFIXES, _describe, "ABC file", evaluated=evaluated)
    written = shared(tokenizers, "transcript") or TranscriptTokenizer()
    text = shared(tokenizers, "characters")
    learned = frozenset(path for path, split in found.splits.items() if split == "train")
    windows: list[tuple[Path, Window]] = []
    facts: dict[str, Any] = {"tunes": len(found.described), "bars": 0, "bars_left_out": 0, "windows": 0, **source}
    for path, (parts, bars, used) in found.each(partial(_windows, written, config.bars, learned), "aligning"):
        facts["bars"], facts["bars_left_out"] = facts["bars"] + used, facts["bars_left_out"] + bars - used
        if used < bars:
            found.skipped.append(Skipped(path, f"text and MIDI part ways in bar {used + 1} of {bars}"))
        windows += [(path, part) for part in parts]
    if text is None:
        text = CharacterTokenizer()
        text.fit(part.header + part.text for _, part in windows)

    def documents() -> Iterator[Document]:
        seen: set[bytes] = set()
        for path, part in windows:
            key = hashlib.sha256((part.header + part.text).encode() + part.ids.tobytes()).digest()
            if found.splits[path] == "train" and key in seen:
                continue
            seen.add(key)
            facts["windows"] += 1
            try:
                both = _documents(text, written, part, str(path), found.splits[path])
            except BadInput as error:  # a character that the model never saw
                found.skipped.append(Skipped(path, error.reason))
                continue
            yield from both

    return Corpus([text, written], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """Nats per token, and the share of bars that are exactly right, in `sampling.count` held-out tunes at most.

    To MIDI: all notes begin and end at the right place of the bar at the right pitch. To ABC: the text is the same,
    spaces aside; once more without chord symbols, the melody alone.
    """
    from seqmodal.evaluation.likelihood import likelihood_of

    held = stores.get("valid")
    if held is None:
        return {}
    loss = likelihood_of(model, held, config.objective)
    text, written = model.tokenizer("characters"), model.tokenizer("transcript")
    truth = list(_kept(held, text, config.sampling.count))
    notes = _to_ids(model, [part.header + part.text for part in truth])
    texts = _to_text(model, [(part.header, part.ids) for part in truth])
    right = {"to_midi": 0, "to_abc": 0, "to_abc_melody": 0}
    total = 0
    for part, ids, made in zip(truth, notes, texts, strict=True):
        bars, real, ours, start = read_bars(part.header + part.text, "window"), part.text.split("|"), made.split("|"), 0
        for number, bar in enumerate(bars):
            stop = start + round(bar.length * QUARTER)
            same = [written.window(one, start, stop, ends=True) for one in (part.ids, ids)]
            right["to_midi"] += np.array_equal(*same)
            theirs = ours[number] if number < len(ours) else ""
            right["to_abc"] += real[number] == theirs
            right["to_abc_melody"] += _melody(real[number]) == _melody(theirs)
            total, start = total + 1, stop
    shares = {f"bars_right_{name}": count / max(1, total) for name, count in right.items()}
    return {"nats_per_token": loss.nats / loss.count, "bars": float(total), **shares}


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """Of a held-out window, what is made of either spelling: a text, and the notes below the true ones."""
    from seqmodal.show.compare import piano_rolls

    place = folder.parent / "data" / "valid"
    if not place.is_dir():
        return []
    text, written = model.tokenizer("characters"), model.tokenizer("transcript")
    part, stem = next(_kept(Store(place), text, 1)), folder / f"step_{step:06}"
    (ids,) = _to_ids(model, [part.header + part.text])
    (made,) = _to_text(model, [(part.header, part.ids)])
    shown = {"truth": written.decode_notes(part.ids), "made from the text": written.decode_notes(ids)}
    stem.with_suffix(".txt").write_text(f"{part.header}truth: {part.text}\nmade:  {made}\n", encoding="utf-8")
    return [stem.with_suffix(".txt"), piano_rolls(shown, stem.with_suffix(".png"))]


def convert(model: Any, config: Config, path: Path) -> Iterator[Any]:
    """What a file becomes. One in ABC notation: each of its tunes as a `PrettyMIDI`, or a BadInput that says why not. A
    MIDI file: a text.

    Raises:
        BadInput: for a file that cannot be read, or is of another kind.
    """
    if path.suffix.lower() in TranscriptTokenizer.suffixes:
        yield to_abc(model, config, path)
        return
    if path.suffix.lower() not in SUFFIXES:
        kinds = " ".join((*SUFFIXES, *TranscriptTokenizer.suffixes))
        raise BadInput(path, f"it ends in {path.suffix or 'nothing'}, so it is no tune", f"give a file in {kinds}")
    tunes = split_tunes(_text(path))
    for number, tune in enumerate(tunes, 1):
        try:
            yield to_midi(model, config, tune)
        except BadInput as error:
            yield BadInput(f"{path}, tune {number}" if tunes[1:] else path, error.reason, error.hint)


def to_midi(model: Any, config: Config, tune: str) -> Any:
    """A tune in ABC notation as a `PrettyMIDI`, repeats written out, at its first tempo, or `TEMPO`.

    Raises:
        BadInput: for a text that is no tune, or that has characters which the model never saw.
    """
    import pretty_midi

    bars = read_bars(tune, "the tune")
    runs = list(_runs(bars, [0] * len(bars), config.bars, config.bars, follow=False))
    made = _to_ids(model, [_header_and_text(bars[first:last]) for first, last in runs])
    tempo = float(next((bar.tempo for bar in bars if bar.tempo), TEMPO))
    midi, step = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=tempo), 60 / tempo / QUARTER
    piano, written, at = pretty_midi.Instrument(0), model.tokenizer("transcript"), 0
    headers = []
    for (first, last), ids in zip(runs, made, strict=True):
        size = round(sum(bar.length for bar in bars[first:last]) * QUARTER)
        notes = written.decode_notes(written.window(ids, 0, size, ends=True))
        starts, ends = ((at + time * STEPS) * step for time in (notes.onset, notes.end))
        for pitch, start, end in zip(notes.pitch.tolist(), starts.tolist(), ends.tolist(), strict=True):
            piano.notes.append(pretty_midi.Note(90, pitch, start, end))
        headers.append((at * step, bars[first].header))
        at += size
    midi.instruments.append(piano)
    write_fields(midi, headers)
    return midi


def to_abc(model: Any, config: Config, path: Path) -> str:
    """A MIDI file as a tune in ABC notation: its first tempo, time and key signature, bars from its beginning on.

    Raises:
        BadInput: for a file that cannot be read, or has no notes.
    """
    written = model.tokenizer("transcript")
    midi, ids, _ = _read_midi(path, written)
    header, quarters = read_fields(midi, UNIT)
    steps, size = round(written.duration(ids) * STEPS), round(quarters * QUARTER) * config.bars
    parts = [written.window(ids, at, at + size, ends=True) for at in range(0, max(1, steps), size)]
    body = "\n".join(_to_text(model, [(header, part) for part in parts]))
    tempo = float(midi.get_tempo_changes()[1][0])
    said = f"Q:1/4={round(tempo, 2):g}\n" if TEMPI[0] <= tempo <= TEMPI[1] else ""
    return f"X:1\nT:{path.stem}\n{said}{header}{body}\n"


def melody_files() -> Path:
    """A folder of the built-in tunes as pairs of files, in parts train and valid; written once, kept in the cache."""
    return made_once(cache_folder() / f"melodies-{TUNES}", _write_melodies)


def _write_melodies(folder: Path) -> None:
    import pretty_midi

    for number, tune in enumerate(melodies(TUNES)):
        stem = folder / ("valid" if number % 10 == 9 else "train") / f"{number:03}"
        stem.parent.mkdir(parents=True, exist_ok=True)
        stem.with_suffix(".abc").write_text(tune.abc, encoding="utf-8")
        midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=120)
        for notes in (tune.melody, tune.chords):
            instrument = pretty_midi.Instrument(0)
            instrument.notes = [pretty_midi.Note(90, p, onset / 2, end / 2) for onset, end, p in notes]
            midi.instruments.append(instrument)
        midi.write(str(stem.with_suffix(".mid")))


def _describe(path: Path) -> Described:
    """Runs in a worker process, as `_windows` does."""
    bars = read_bars(_text(path), str(path))
    _read_midi(_partner(path), TranscriptTokenizer())
    return Described(hashlib.sha256("|".join(bar.header + bar.text for bar in bars).encode()).hexdigest(), len(bars))


def _windows(
    written: TranscriptTokenizer, count: int, learned: frozenset[Path], path: Path
) -> tuple[list[Window], int, int]:  # fmt: skip
    """The windows of a tune, how many bars it has, and how many of them are used. What is learned from has a window at
    each bar, so that a few tunes go further."""
    bars = read_bars(_text(path), str(path))
    _, ids, onsets = _read_midi(_partner(path), written)
    starts = align(bars, onsets, QUARTER)
    windows = []
    for first, last in _runs(bars, starts, count, 1 if path in learned else count):
        stop = starts[last - 1] + round(bars[last - 1].length * QUARTER)
        header, text = bars[first].header, "".join(bar.text + "|" for bar in bars[first:last])
        windows.append(Window(header, text, written.window(ids, starts[first], stop, ends=True)))
    return windows, len(bars), len(starts)


def _runs(
    bars: Sequence[Bar], starts: Sequence[int], count: int, every: int, follow: bool = True
) -> Iterator[tuple[int, int]]:  # fmt: skip
    """First and last (excluded) of at most `count` bars with one header that follow each other without a gap; behind a
    first one, the next begins `every` bars later."""
    first = 0
    for at in range(1, len(starts) + 1):
        whole = at == len(starts) or bars[at].header != bars[first].header
        if whole or (follow and abs(starts[at - 1] + round(bars[at - 1].length * QUARTER) - starts[at]) > 1):
            yield from ((place, min(at, place + count)) for place in range(first, at, every))
            first = at


def _documents(
    text: CharacterTokenizer, written: TranscriptTokenizer, part: Window, name: str, split: str
) -> list[Document]:  # fmt: skip
    """A window either way."""
    notes, tune = Segment(written.name, part.ids), Segment(text.name, text.encode(part.text))
    return [
        Document((*_given_text(text, part.header + part.text), notes), name, split),
        Document((*_given_notes(text, written, part.header, part.ids), tune), name, split),
    ]


def _given_text(text: CharacterTokenizer, tune: str) -> list[Segment]:
    """What stands before notes."""
    return [Segment(text.name, text.encode(tune), loss=0.0, both_ways=True)]


def _given_notes(
    text: CharacterTokenizer, written: TranscriptTokenizer, header: str, ids: np.ndarray
) -> list[Segment]:  # fmt: skip
    """What stands before bars of text: metre, unit of length and key are told as well."""
    notes = Segment(written.name, ids, loss=0.0, both_ways=True, coordinates=written.coordinates(ids))
    return [*_given_text(text, header), notes]


def _to_ids(model: Any, tunes: Sequence[str]) -> list[np.ndarray]:
    text = model.tokenizer("characters")
    return [one.ids for one in _made(model, [_given_text(text, tune) for tune in tunes], "transcript")]


def _to_text(model: Any, windows: Sequence[tuple[str, np.ndarray]]) -> list[str]:
    text, written = model.tokenizer("characters"), model.tokenizer("transcript")
    given = [_given_notes(text, written, header, ids) for header, ids in windows]
    return [one.item for one in _made(model, given, "characters")]


def _made(model: Any, given: Sequence[Sequence[Segment]], to: str) -> list[Any]:
    """The likeliest behind each of what is given."""
    made: list[Any] = model.sample_each(given, to=to, temperature=0.0, max_new_tokens=MOST, seed=0)
    return made


def _kept(store: Store, text: CharacterTokenizer, most: int) -> Iterator[Window]:
    """The windows of some tunes of a store, evenly taken."""
    for tune in store.items(most):
        for number in tune[1::2]:  # each window stands there either way; this one has all parts of it
            header, notes, bars = store[number].segments
            yield Window(text.decode(header.ids), text.decode(bars.ids), np.asarray(notes.ids, np.int32))


def _read_midi(path: Path, written: TranscriptTokenizer) -> tuple[Any, np.ndarray, np.ndarray]:
    """A file, the ids of its notes with QUARTER steps a quarter note, and the steps at which the melody strikes.

    Raises:
        BadInput: for one that is no MIDI file, or has no notes.
    """
    import pretty_midi

    written.read(path)  # names what is wrong with a damaged file
    midi = pretty_midi.PrettyMIDI(str(path))
    played = [instrument for instrument in midi.instruments if instrument.notes and not instrument.is_drum]
    if not played:
        raise BadInput(path, "it has no notes but drums")

    def steps(seconds: float) -> int:
        return round(midi.time_to_tick(seconds) * QUARTER / midi.resolution)

    rows = [(steps(n.start), steps(n.end), n.pitch) for instrument in played for n in instrument.notes]
    onset, end, pitch = np.array(rows).T
    notes = Notes.of(onset / STEPS, end / STEPS, pitch, 90)
    return midi, written.encode(notes), np.unique([steps(note.start) for note in played[0].notes])


def _partner(path: Path) -> Path:
    """The MIDI file beside a tune. Raises BadInput where there is none."""
    found = partner(path, TranscriptTokenizer.suffixes)
    if found is None:
        raise BadInput(path, "no MIDI file of the same name stands beside it", f"such as {path.stem}.mid")
    return found


def _text(path: Path) -> str:
    """A tune's text; old collections are in Latin-1."""
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _header_and_text(bars: Sequence[Bar]) -> str:
    return bars[0].header + "".join(bar.text + "|" for bar in bars)


def _melody(bar: str) -> str:
    """A bar without its chord symbols."""
    return re.sub(r'"[^"]*"', "", bar)
