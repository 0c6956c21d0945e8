"""Music from a folder of MIDI files, or from Bach's chorales where none is given."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from seqmodal.config import RecipeConfig
from seqmodal.data.chorales import chorales
from seqmodal.data.corpus import Corpus, shared
from seqmodal.data.duplicates import minhash
from seqmodal.data.files import Described, find_usable
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.music import STATISTICS, copying, overlap, statistics_of
from seqmodal.sequence import Document, Segment
from seqmodal.tokenizers import tokenizer
from tokenizers_ext.midi import MidiTokenizer, Notes, Summary, choose, read, summary

QUARTER = 0.72
"""Seconds of a quarter note of the built-in chorales."""
COMPARED = 1000
"""Pieces of a store whose statistics are taken, at most: these are held in memory."""


@dataclass(frozen=True)
class Config(RecipeConfig):
    """Learn music from MIDI files: one instrument as performance events, or a band with programs and drums."""

    tokenizer: Literal["auto", "midi", "band"] = "auto"
    """midi: one instrument, 388 events; band: programs and drums as well; auto: what the files need."""


def corpus(config: Config, tokenizers: Sequence[Any] = (), evaluated: bool = False) -> Corpus:
    """Read all files once to describe them, drop copies, split by piece, choose the tokenizer; encode on demand.

    `tokenizers` are those of a trained model. Where the pieces are there for it to be `evaluated` on, they are those of
    the folder's own test part where it has one, else all; none is dropped.
    """
    if config.data is None:
        return _built_in(config, tokenizers)
    found = find_usable(config, MidiTokenizer.suffixes, _describe, "MIDI file", evaluated=evaluated)
    pieces: list[_Piece] = [one.more for one in found.described.values()]
    if evaluated:
        chosen = _midi(tokenizers)
    else:
        chosen = choose([piece.summary for piece in pieces])
        if config.tokenizer not in ("auto", chosen.name):
            chosen = tokenizer(config.tokenizer, restrikes=False, longest=chosen.longest)
        chosen = shared(tokenizers, chosen.name, *(["band"] if config.tokenizer == "auto" else [])) or chosen
    facts: dict[str, Any] = {
        "files": len(pieces),
        "repaired": sum(piece.repaired for piece in pieces),
        "notes": sum(piece.summary.notes for piece in pieces),
        "notes_struck_twice": 0,  # at one step; they become one, and are counted as they are met
        "hours": round(sum(piece.summary.seconds for piece in pieces) / 3600, 2),
        "tokenizer": f"{chosen.name}, {chosen.vocab_size} events",
    }

    def documents() -> Iterator[Document]:
        for path, (ids, doubled) in found.each(partial(_encode, chosen)):
            facts["notes_struck_twice"] += doubled
            yield Document((Segment(chosen.name, ids),), str(path), found.splits[path])

    return Corpus([chosen], documents(), found.skipped, facts)


def judge(model: Any, config: Config, stores: Mapping[str, Store], folder: Path) -> dict[str, float]:
    """How well the held-out pieces are predicted, and how samples compare with them and with the training data.

    Of a model that was not trained to go from left to right, how well it predicts what its objective asks for.
    Draws the distributions of samples and held-out pieces as `statistics.png` in `folder`.
    """
    # Here, so that worker processes need no torch.
    from seqmodal.evaluation.likelihood import likelihood_of, objective_metrics
    from seqmodal.show.curves import distributions

    held = stores.get("valid")
    if held is None:
        return {}
    if not config.objective.left_to_right:
        return objective_metrics(model, held, config.objective)
    midi = _midi(model.tokenizers)
    found = likelihood_of(model, held)
    notes, seconds = np.sum([(len(p), p.duration) for p in _pieces(held, midi)], axis=0).tolist()
    metrics = {
        "nats_per_event": found.nats / found.count,
        "nats_per_note": found.nats / max(1, notes),
        "bits_per_second": found.nats / math.log(2) / max(1e-9, seconds),
        "next_event_accuracy": found.correct / found.count,
    }
    sampled = [midi.decode_notes(one.ids) for one in _sample(model, config, config.sampling.count)]
    pieces = list(_pieces(held, midi, COMPARED))
    ours, theirs, known = (statistics_of(some) for some in (sampled, pieces, _pieces(stores["train"], midi, COMPARED)))
    told = [name for name in STATISTICS if len(theirs[name])]  # drums alone have neither pitch nor length
    for name in told:
        metrics[f"overlap_{name}"] = overlap(ours[name], theirs[name])
        metrics[f"overlap_{name}_of_training_data"] = overlap(known[name], theirs[name])
    distributions(
        {name.replace("_", " "): (ours[name], theirs[name]) for name in told}, folder / "statistics.png",
        title="samples and held-out pieces",
    )  # fmt: skip
    return metrics | copying(sampled, pieces, _pieces(stores["train"], midi))


def show(model: Any, config: Config, folder: Path, step: int) -> list[Path]:
    """A sample as MIDI file, sound and picture; none of a model that was not trained to go from left to right."""
    if not config.objective.left_to_right:
        return []
    (sample,) = _sample(model, config, 1)
    path = folder / f"step_{step:06}.mid"
    midi = _midi(model.tokenizers)
    midi.write(sample.item, path)
    return [path, *midi.show(sample.item, path.with_suffix(""))]


def _midi(tokenizers: Sequence[Any]) -> MidiTokenizer:
    """The one for music; of two, the one that came last."""
    return next(tokenizer for tokenizer in reversed(tokenizers) if tokenizer.name in ("midi", "band"))


def _sample(model: Any, config: Config, count: int) -> list[Any]:
    how = config.sampling
    return model.sample(
        to=_midi(model.tokenizers).name, seconds=how.seconds, variations=count, seed=config.training.seed,
        temperature=how.temperature, top_p=how.top_p,
    )  # fmt: skip


def _pieces(store: Store, midi: MidiTokenizer, most: int | None = None) -> Iterator[Notes]:
    """The notes of a store's pieces, one after the other; with `most`, of so many at most, evenly taken."""
    for number in np.linspace(0, len(store) - 1, min(len(store), most or len(store))).astype(int).tolist():
        yield midi.decode_notes(store[number].segments[0].ids)


@dataclass(frozen=True)
class _Piece:
    """What is kept of a file after the first reading."""

    summary: Summary  # without its pitches, which would take most of the memory
    repaired: bool


def _describe(path: Path) -> Described:
    """Runs in a worker process, as `_encode` does."""
    notes = read(path)
    found = summary(notes)
    piece = _Piece(replace(found, pitches=found.pitches[:0]), bool(notes.repairs))
    return Described(found.content_hash, float(found.notes), minhash(found.pitches), piece)


def _encode(midi: MidiTokenizer, path: Path) -> tuple[np.ndarray, int]:
    ids, doubled = midi.encode_report(path)
    if not len(ids):
        raise BadInput(path, f"it has drums only, which the tokenizer {midi.name} leaves out")
    return ids, doubled


def _built_in(config: Config, tokenizers: Sequence[Any]) -> Corpus:
    """Bach's chorales, four voices on an organ at one tempo."""
    config.without_files("chorales")
    if config.tokenizer == "band":
        raise ConfigError("tokenizer is 'band'; the chorales are for one instrument: give --data, or leave it out")
    pieces = chorales()
    notes = [
        Notes.of(onset=c.onset * QUARTER, end=c.end * QUARTER, pitch=c.pitch, velocity=np.full(len(c.pitch), 80))
        for c in pieces
    ]
    longest = choose(map(summary, notes)).longest
    own = tokenizer("midi", program=19, stretch=0.0, restrikes=False, longest=longest)  # one tempo, one keyboard
    chosen = shared(tokenizers, "midi", *(["band"] if config.tokenizer == "auto" else [])) or own
    documents = (
        Document((Segment(chosen.name, chosen.encode(n)),), c.name, c.split) for n, c in zip(notes, pieces, strict=True)
    )
    facts = {
        "files": len(pieces),
        "notes": sum(map(len, notes)),
        "hours": round(sum(n.duration for n in notes) / 3600, 2),
        "tokenizer": f"{chosen.name}, {chosen.vocab_size} events",
        "source": "Bach's chorales, from music21",
    }
    return Corpus([chosen], documents, [], facts)
