"""The recipe transcription: what is heard beside what is written, and from there to a MIDI file of a recording."""

from __future__ import annotations

import csv
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import soundfile

import seqmodal
from seqmodal.cli import main
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import transcription
from seqmodal.recipes.transcription import MARGIN, PATCH, RATE, STRIDE, WINDOW, Config, corpus, transcribe
from seqmodal.show.compare import piano_rolls
from tokenizers_ext.midi import MidiTokenizer, Notes
from tokenizers_ext.sound import Sound
from tokenizers_ext.transcript import TranscriptTokenizer

SMALLEST = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1},
    "training": {"steps": 2, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
    "sampling": {"count": 1},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


def scale(seed: int, seconds: float = 7.0) -> Notes:
    """Notes one after the other, a pitch drawn for each, half a second long."""
    onset = np.arange(0.25, seconds, 0.5)
    pitch = np.random.default_rng(seed).permutation(np.arange(50, 90))[: len(onset)]
    return Notes.of(onset, onset + 0.4, pitch, 90)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pieces, the last with a recording of another note, drums alone, and rubbish."""
    place = tmp_path / "midi"
    for split in ("train", "valid"):
        (place / split).mkdir(parents=True)
    midi = MidiTokenizer()
    for name, seed in (("train/a", 0), ("train/b", 1), ("valid/c", 2)):
        midi.write(scale(seed), place / f"{name}.mid")
    midi.write(Notes.of([0.0], [1.0], [40], 100, 0, True), place / "train" / "drums.mid")
    (place / "train" / "rubbish.mid").write_bytes(b"MThd no more")
    sine = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
    soundfile.write(place / "train" / "b.wav", 0.5 * sine, RATE)
    return place


def test_windows_hold_what_is_heard_and_written_at_its_time(folder: Path) -> None:
    made = corpus(Config(data=str(folder), longest=0.0, versions=1))
    documents = list(made.documents)
    names = [Path(name).stem for name, _ in groupby(documents, key=lambda one: one.name)]
    assert sorted(names) == ["a", "b", "c"]
    assert {s.path.name for s in made.skipped} == {"drums.mid", "rubbish.mid"}
    written = TranscriptTokenizer()
    piece = [one for one in documents if one.name.endswith("c.mid")]
    assert {one.split for one in piece} == {"valid"} and len(piece) == 2
    truth = written.join([one.segments[1].ids for one in piece], STRIDE, MARGIN, WINDOW)
    assert np.array_equal(written.encode(truth), written.encode(scale(2)))
    heard = piece[0].segments[0]
    assert heard.both_ways and heard.loss == 0 and len(heard) == WINDOW // PATCH
    assert heard.coordinates is not None and heard.features is not None
    onsets = [time for time, id in zip(written.coordinates(piece[0].segments[1].ids)[:, 0],
                                       piece[0].segments[1].ids, strict=True) if id < 128]  # fmt: skip
    loud = heard.features.max(axis=1)
    for onset in onsets[:8]:  # before each there is silence, and then there is sound
        at = int(np.searchsorted(heard.coordinates[:, 0], onset))
        assert loud[at + 2] > loud[max(0, at - 3)]
    (recorded,) = [one for one in documents if one.name.endswith("b.mid")]  # which is heard, and not its notes
    sound = made.tokenizers[0].features(Sound(*soundfile.read(folder / "train" / "b.wav")))
    assert recorded.segments[0].features is not None
    assert np.allclose(recorded.segments[0].features, sound, atol=2e-3)
    (folder / "train" / "b.wav").rename(folder / "train" / "b.WAV")
    (again,) = [one for one in corpus(Config(data=str(folder))).documents if one.name.endswith("b.mid")]
    assert again.segments[0].features is not None
    assert np.array_equal(again.segments[0].features, recorded.segments[0].features)


def test_a_recording_that_cannot_be_read_is_listed_and_costs_no_other(folder: Path) -> None:
    midi = folder / "train" / "odd.mid"
    MidiTokenizer().write(scale(5), midi)
    midi.with_suffix(".flac").write_bytes(b"no sound at all")
    made = corpus(Config(data=str(folder), versions=1))
    assert {Path(one.name).name for one in made.documents} == {"a.mid", "b.mid", "c.mid"}
    (told,) = [one.reason for one in made.skipped if one.path == midi]
    assert told.startswith("odd.flac, the recording of it: cannot be read as sound")
    with pytest.raises(BadInput, match=r"odd\.flac"):
        corpus(Config(data=str(folder), strict=True, exclude=("rubbish*", "drums*")))


def test_training_pieces_are_cut_and_varied_and_others_are_not(folder: Path) -> None:
    documents = list(corpus(Config(data=str(folder), longest=2.0, versions=3)).documents)
    names = [one.name.rsplit("/", 1)[1] for one in documents]
    assert sorted(set(names)) == ["a.mid", "a.mid, version 2", "a.mid, version 3", "b.mid", "c.mid"]
    ids = {name: one.segments[1].ids for name, one in zip(names, documents, strict=True)}
    written = TranscriptTokenizer()
    first, second = (written.decode_notes(ids[name]) for name in ("a.mid", "a.mid, version 2"))
    assert len(first) == 4 and first.duration <= 2.0
    assert np.array_equal(first.pitch[:3], scale(0).pitch[:3])
    tempi = [float(notes.onset[2] / scale(0).onset[2]) for notes in (first, second)]  # 10 ms of 1.25 s: 0.008
    assert all(0.008 < abs(tempo - 1) < transcription.TEMPO + 0.008 for tempo in tempi), tempi
    assert abs(tempi[0] - tempi[1]) > 0.016
    moved = second.pitch[:3] - first.pitch[:3]
    assert (moved == moved[0]).all() and not np.array_equal(ids["a.mid"], ids["a.mid, version 2"])
    assert not np.array_equal(ids["a.mid, version 2"], ids["a.mid, version 3"])
    assert names.count("c.mid") == 2


def test_from_files_to_notes_of_a_recording(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    seqmodal.train("transcription", data=str(folder), out=run, **SMALLEST)
    with open(run / "data" / "skipped.csv", newline="") as file:
        skipped = {Path(row["path"]).name for row in csv.DictReader(file)}
    assert skipped == {"drums.mid", "rubbish.mid"}
    assert (run / "samples" / "step_000002.png").is_file()
    model, store, written = seqmodal.load(run), Store(run / "data" / "valid"), TranscriptTokenizer()
    for share in (1, 0):  # a model that says the truth has all notes right, one that says nothing has none
        with monkeypatch.context() as patched:
            ids = [store[n].segments[1].ids[: share * 9999] for n in range(len(store))]
            patched.setattr(transcription, "_heard", lambda model, given, ids=ids: ids)
            ((truth, found),) = transcription._pieces(model, store, 5)
        assert len(truth) == len(scale(2)) and len(found) == share * len(truth)
        assert np.array_equal(written.encode(truth), written.encode(scale(2)))
    sound = Sound(scale(4, 12.0).to_pretty_midi().synthesize(RATE).astype(np.float32), RATE)
    assert isinstance(transcribe(model, sound), Notes)
    soundfile.write(tmp_path / "x.wav", sound.samples, RATE)
    assert main(["transcribe", str(run), str(tmp_path / "x.wav"), "--out", str(tmp_path / "heard.mid")]) == 0
    assert (tmp_path / "heard.mid").is_file() and "heard.png" in capsys.readouterr().out
    recorded = (tmp_path / "x.wav").read_bytes()
    assert main(["transcribe", str(run), str(tmp_path / "x.wav"), "--out", str(tmp_path / "x.mid")]) == 0
    assert (tmp_path / "x.wav").read_bytes() == recorded and (tmp_path / "x_made.wav").is_file()
    assert main(["transcribe", str(run), str(tmp_path / "x.wav"), "--out", str(tmp_path / "x.txt")]) == 1
    assert main(["generate", str(run), "--prompt", str(tmp_path / "x.wav"), "--to", "transcript"]) == 2
    assert "seqmodal transcribe" in capsys.readouterr().err


@pytest.mark.parametrize(
    "settings",
    [{"longest": -1.0}, {"versions": 0}, {"sampling": transcription.SamplingConfig(temperature=0.5)},
     {"objective": seqmodal.config.Causal()}],
)  # fmt: skip
def test_settings_without_a_meaning_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)  # type: ignore[arg-type]


def test_a_folder_without_music_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="MIDI file"):
        corpus(Config(data=str(tmp_path)))


def test_rolls_above_each_other(tmp_path: Path) -> None:
    from PIL import Image

    alone = piano_rolls({"one": scale(0)}, tmp_path / "one.png")
    both = piano_rolls({"one": scale(0), "other": scale(0)}, tmp_path / "two.png")
    with Image.open(alone) as first, Image.open(both) as second:
        assert second.height == 2 * first.height and second.width == first.width
