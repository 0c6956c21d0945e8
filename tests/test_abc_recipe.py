"""The recipe abc: windows of bars in both spellings, and a small model from there to tunes either way."""

from __future__ import annotations

import csv
import io
from contextlib import redirect_stderr
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import seqmodal
from seqmodal.cli import main
from seqmodal.data.abc import read_bars
from seqmodal.data.melodies import melodies
from seqmodal.data.store import Store
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import abc
from seqmodal.recipes.abc import QUARTER, Config, corpus, judge, to_abc, to_midi
from tokenizers_ext.midi import Notes
from tokenizers_ext.transcript import STEPS, TranscriptTokenizer

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


def test_what_is_learned_from_has_a_window_at_each_bar(tmp_path: Path) -> None:
    notes = [(float(at), at + 1.0, 60 + at) for at in range(12)]
    for split, key in (("train", "C"), ("valid", "G")):
        text = f"X:1\nM:3/4\nL:1/4\nK:{key}\nCDE|FGA|[M:6/8]GEC|DEF|\n"
        write(tmp_path / "data" / split, "tune", text, notes)
    made = corpus(Config(data=str(tmp_path / "data"), bars=2))
    spelled: dict[str, list[str]] = {"train": [], "valid": []}
    for document in list(made.documents)[1::2]:  # from notes to text
        spelled[document.split].append(made.tokenizers[0].decode(document.segments[2].ids))
    assert spelled == {"train": ["CDE|FGA|", "FGA|", "GEC|DEF|", "DEF|"], "valid": ["CDE|FGA|", "GEC|DEF|"]}


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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run on made tunes, and what training said."""
    base, said = tmp_path_factory.mktemp("abc"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said):
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        patch.setattr(abc, "TUNES", 20)
        seqmodal.train("abc", out=base / "run", **SMALLEST)
    return base / "run", said.getvalue()


def test_from_made_tunes_to_a_model_that_spells(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = trained
    assert "next: seqmodal convert" in said
    assert {p.suffix for p in (run / "samples").iterdir()} == {".png", ".txt"}
    with open(run / "data" / "skipped.csv", newline="") as file:
        assert list(csv.DictReader(file)) == []
    model, store, config = seqmodal.load(run), Store(run / "data" / "valid"), Config()
    tune = next(melodies(1))
    assert to_midi(model, config, tune.abc).get_tempo_changes()[1].tolist() == [120]
    write(tmp_path, "x", tune.abc, tune.melody)
    text = to_abc(model, config, tmp_path / "x.mid")
    assert text.startswith("X:1\nT:x\nQ:1/4=90\nM:4/4\nL:1/8\nK:C\n")
    with pytest.raises(BadInput):
        to_midi(model, config, "words")
    letters = model.tokenizer("characters")
    truth = list(abc._kept(store, letters, config.sampling.count))
    monkeypatch.setattr(abc, "_to_ids", lambda model, tunes: [part.ids for part in truth])
    monkeypatch.setattr(abc, "_to_text", lambda model, parts: ["z|" + part.text.split("|", 1)[1] for part in truth])
    found = judge(model, replace(config, model=model.decoder.config), {"valid": store}, run)
    assert found["bars_right_to_midi"] == 1  # it says the truth
    assert found["bars_right_to_abc"] == found["bars_right_to_abc_melody"] == 1 - len(truth) / found["bars"]


BOOK = """\
M:3/4
X:1
T:one
Q:1/4=150
L:1/4
K:G
GAB|c3|d3|e3|f3|
X:2
T:two
L:1/4
K:G
G$A|

X:3
M:C
K:Am
A8|c8|
"""


def says_the_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that strikes middle C where a bar of text begins, and writes a bar for each note that it is given."""
    written = TranscriptTokenizer()

    def to_ids(model: object, tunes: list[str]) -> list[np.ndarray]:
        made = []
        for tune in tunes:
            ends = np.cumsum([float(bar.length) for bar in read_bars(tune, "x")]) * QUARTER / STEPS
            onset, end = [0.0, *ends], [*ends, ends[-1] + 1]  # the last one is beyond the window
            made.append(written.encode(Notes.of(onset, end, [60] * len(onset), 90)))
        return made

    def to_text(model: object, parts: list[tuple[str, np.ndarray]]) -> list[str]:
        return ["z|" * len(written.decode_notes(ids)) for _, ids in parts]

    monkeypatch.setattr(abc, "_to_ids", to_ids)
    monkeypatch.setattr(abc, "_to_text", to_text)


def test_files_are_converted_either_way_through_the_command(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import pretty_midi

    says_the_truth(monkeypatch)
    folder, out = tmp_path / "tunes", tmp_path / "out"
    tune = next(melodies(1))
    write(folder, "tune", tune.abc, tune.melody)
    (folder / "book.abc").write_text(BOOK)
    (folder / "bad.mid").write_bytes(b"MThd no more")
    (folder / "song.wav").write_bytes(b"")
    files = [*sorted(folder.iterdir()), folder / "gone.abc"]
    how = ["convert", str(trained[0]), *map(str, files), "--out", str(out)]
    assert main(how) == 0
    said = capsys.readouterr()
    assert said.out.split() == [str(out / n) for n in ("book-1.mid", "book-3.mid", "tune.mid", "tune.abc")]
    assert sorted(path.name for path in out.iterdir()) == ["book-1.mid", "book-3.mid", "tune.abc", "tune.mid"]
    told = [line for line in said.err.splitlines() if line.startswith("left out: ")]
    names, reasons = ("bad.mid", "book.abc, tune 2", "song.wav", "gone.abc"), ("", "line 12", "ends in .wav", "No such")
    for line, name, why in zip(told, names, reasons, strict=True):
        assert name in line and why in line
    first, third = (pretty_midi.PrettyMIDI(str(out / f"book-{number}.mid")) for number in (1, 3))
    (piano,) = first.instruments
    bar = 3 * 60 / 150
    assert [note.start for note in piano.notes] == pytest.approx([number * bar for number in range(5)])
    assert [note.end for note in piano.notes] == pytest.approx([number * bar for number in range(1, 6)])
    (time,), (key,) = first.time_signature_changes, first.key_signature_changes
    assert (time.numerator, time.denominator, key.key_number) == (3, 4, 7)
    assert third.key_signature_changes[0].key_number == 21 and third.time_signature_changes[0].numerator == 4
    assert to_abc(seqmodal.load(trained[0]), Config(), out / "book-1.mid") == (
        "X:1\nT:book-1\nQ:1/4=150\nM:3/4\nL:1/8\nK:G\nz|z|z|z|\nz|\n"
    )


def test_what_is_converted_replaces_nothing(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    says_the_truth(monkeypatch)
    tune = next(melodies(1))
    for name in ("a", "b"):
        write(tmp_path / name, "tune", tune.abc, tune.melody)
    held = (tmp_path / "a" / "tune.mid").read_bytes()
    one, other, how = *(str(tmp_path / name / "tune.abc") for name in ("a", "b")), ["convert", str(trained[0])]
    for more, code, why in (
        ([one, "--out", str(tmp_path / "a")], 1, "there already"),
        ([one, "--out", str(tmp_path / "a" / "tune.mid")], 1, "there already"),
        ([one, "--out", str(tmp_path / "x.abc")], 1, "becomes .mid"),
        ([one, "--out", str(tmp_path / "x.wav")], 1, "written as .abc or .mid"),
        ([one, other, "--out", str(tmp_path / "x.mid")], 2, "is one file"),
        ([one, other, "--out", str(tmp_path / "new")], 0, f"{other} would replace it"),
        ([one, "--out", str(tmp_path / "a" / "x.mid")], 0, ""),
        ([one], 0, ""),
    ):
        assert main([*how, *more]) == code and why in capsys.readouterr().err
    assert (tmp_path / "a" / "tune.mid").read_bytes() == held
    assert [(tmp_path / name).is_file() for name in ("new/tune.mid", "a/x.mid")] == [True, True]
    assert (trained[0] / "samples" / "tune.mid").is_file()


@pytest.mark.parametrize(
    "settings",
    [{"bars": 0}, {"sampling": abc.SamplingConfig(seconds=5.0)}, {"objective": seqmodal.config.Causal()}],
)
def test_settings_without_a_meaning_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Config(**settings)  # type: ignore[arg-type]
