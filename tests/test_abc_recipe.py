"""The recipe abc: windows of bars in both spellings, and a small model from there to tunes either way."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import seqmodal
from seqmodal.data.melodies import melodies
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import abc
from seqmodal.recipes.abc import QUARTER, Config, corpus, judge, to_abc, to_notes
from tokenizers_ext.midi import Notes
from tokenizers_ext.transcript import STEPS

SMALLEST = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1},
    "training": {"steps": 2, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
    "sampling": {"count": 1},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(abc, "TUNES", 20)


def write(folder: Path, name: str, text: str, notes: list[tuple[float, float, int]], tempo: int = 90) -> None:
    """A pair; times of notes in quarters."""
    import pretty_midi

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.abc").write_text(text, encoding="utf-8")
    midi = pretty_midi.PrettyMIDI(resolution=480, initial_tempo=tempo)
    instrument = pretty_midi.Instrument(0)
    instrument.notes = [pretty_midi.Note(90, p, on * 60 / tempo, off * 60 / tempo) for on, off, p in notes]
    midi.instruments.append(instrument)
    midi.write(str(folder / f"{name}.mid"))


def test_windows_stand_in_both_spellings_whatever_the_tempo(tmp_path: Path) -> None:
    text = "X:1\nM:3/4\nL:1/4\nK:C\nCDE|F2 z|GAB|\n"
    notes = [(0.0, 1.0, 60), (1.0, 2.0, 62), (2.0, 3.0, 64), (3.0, 5.0, 65)]
    notes += [(6.0, 7.0, 67), (7.0, 8.0, 69), (8.0, 9.0, 71)]
    write(tmp_path / "data", "tune", text, notes)
    made = corpus(Config(data=str(tmp_path / "data"), bars=2), evaluated=True)
    documents = list(made.documents)
    letters, written = made.tokenizers
    assert [len(one.segments) for one in documents] == [2, 3, 2, 3]
    to_midi, back = documents[:2]
    assert letters.decode(to_midi.segments[0].ids) == "M:3/4\nL:1/4\nK:C\nCDE|F2z|"
    assert letters.decode(back.segments[0].ids) == "M:3/4\nL:1/4\nK:C\n"
    assert letters.decode(back.segments[2].ids) == "CDE|F2z|"
    assert np.array_equal(to_midi.segments[1].ids, back.segments[1].ids)
    found = written.decode_notes(to_midi.segments[1].ids)
    assert (found.onset * STEPS).round().tolist() == [0, QUARTER, 2 * QUARTER, 3 * QUARTER]
    assert (found.end * STEPS).round().tolist() == [QUARTER, 2 * QUARTER, 3 * QUARTER, 5 * QUARTER]
    assert [one.loss for one in back.segments] == [0, 0, 1] and back.segments[1].coordinates is not None
    later = written.decode_notes(documents[2].segments[1].ids)
    assert later.pitch.tolist() == [67, 69, 71] and later.onset[0] == 0


def test_what_cannot_be_used_is_listed_and_the_good_beside_it_is_used(tmp_path: Path) -> None:
    folder, tunes = tmp_path / "data", list(melodies(3))
    for number, tune in enumerate(tunes[:2]):
        write(folder, f"good{number}", tune.abc, tune.melody)
    half = tunes[2]
    write(folder, "half", half.abc, [note for note in half.melody if note[0] < 6])
    (folder / "alone.abc").write_text(half.abc)
    (folder / "words.abc").write_text("no tune at all")
    (folder / "words.mid").write_bytes((folder / "half.mid").read_bytes())
    made = corpus(Config(data=str(folder)), evaluated=True)
    names = {Path(one.name).stem for one in made.documents}
    assert names == {"good0", "good1", "half"}
    told = {s.path.stem: s.reason for s in made.skipped}
    assert set(told) == {"half", "alone", "words"} and "part ways" in told["half"]
    assert 0 < made.facts["bars_left_out"] < 8


def test_from_made_tunes_to_a_model_that_spells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    seqmodal.train("abc", out=run, **SMALLEST)
    assert {p.suffix for p in (run / "samples").iterdir()} == {".png", ".txt"}
    with open(run / "data" / "skipped.csv", newline="") as file:
        assert list(csv.DictReader(file)) == []
    model, store, config = seqmodal.load(run), Store(run / "data" / "valid"), Config()
    tune = next(melodies(1))
    assert isinstance(to_notes(model, config, tune.abc), Notes)
    write(tmp_path, "x", tune.abc, tune.melody)
    text = to_abc(model, config, tmp_path / "x.mid")
    assert text.startswith("X:1\nT:x\nM:4/4\nL:1/8\nK:C\n")
    with pytest.raises(BadInput):
        to_notes(model, config, "words")
    letters = model.tokenizer("characters")
    truth = list(abc._kept(store, letters, config.sampling.count))
    monkeypatch.setattr(abc, "_to_ids", lambda model, tunes: [part.ids for part in truth])
    monkeypatch.setattr(abc, "_to_text", lambda model, parts: ["z|" + part.text.split("|", 1)[1] for part in truth])
    found = judge(model, replace(config, model=model.decoder.config), {"valid": store}, run)
    assert found["bars_right_to_midi"] == 1  # it says the truth
    assert found["bars_right_to_abc"] == found["bars_right_to_abc_melody"] == 1 - len(truth) / found["bars"]


@pytest.mark.parametrize(
    "settings",
    [{"bars": 0}, {"sampling": abc.SamplingConfig(seconds=5.0)}, {"objective": seqmodal.config.Causal()}],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)  # type: ignore[arg-type]
