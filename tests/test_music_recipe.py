"""The music recipe: what it takes of a folder of MIDI files, and a model from there to music that others can open."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pretty_midi
import pytest
from midi_pieces import files_below, melody, write_midi

import seqmodal
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import music
from seqmodal.recipes.music import Config, corpus
from tokenizers_ext.midi import MidiTokenizer, Notes, read

FAMILIES = 6
SMALLEST = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1, "max_seq_len": 64, "window": 16},
    "training": {"steps": 4, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
    "sampling": {"seconds": 2.0, "count": 2},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def varied(notes: Notes, seed: int) -> Notes:
    """The piece with two of its notes changed."""
    pitch = notes.pitch.copy()
    pitch[np.random.default_rng(seed).choice(len(pitch), 2, replace=False)] += 5
    return replace(notes, pitch=pitch)


def fill(folder: Path) -> Path:
    """Six pieces with a near-duplicate each, an exact copy in other bytes, broken files, and what is no music."""
    for number in range(FAMILIES):
        write_midi(folder / f"{number}a.mid", melody(number))
        write_midi(folder / f"more/{number}b.MID", varied(melody(number), number))
    copy = melody(3).to_pretty_midi()
    copy.instruments[0].name, copy.resolution = "another hand", 220
    copy.lyrics = [pretty_midi.Lyric("la", 0.0)]
    copy.write(str(folder / "more" / "copy.midi"))
    whole = write_midi(folder / "broken" / "cut.mid", melody(99)).read_bytes()
    (folder / "broken" / "cut.mid").write_bytes(whole[: len(whole) * 3 // 4])
    (folder / "broken" / "empty.mid").write_bytes(b"")
    (folder / "broken" / "words.mid").write_bytes(b"These are words, and no music at all. " * 20)
    pretty_midi.PrettyMIDI().write(str(folder / "broken" / "silent.kar"))
    (folder / "notes.txt").write_text("no music")
    return folder


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Prepared]]:
    """A folder of all sorts, and what `prepare` makes of it."""
    base = tmp_path_factory.mktemp("mixed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        folder = fill(base / "data")
        yield folder, prepare(music, Config(data=str(folder), valid_share=0.4))


def names(prepared: Prepared, split: str) -> list[str]:
    return [Path(name).name for name in prepared.stores[split].names]


def skipped(prepared: Prepared) -> dict[str, str]:
    with open(prepared.folder / "skipped.csv", newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def test_what_cannot_be_used_stands_in_skipped_csv_with_its_reason(mixed: tuple[Path, Prepared]) -> None:
    found = skipped(mixed[1])
    assert set(found) == {"copy.midi", "empty.mid", "words.mid", "silent.kar"}
    assert "the same MIDI file" in found["copy.midi"] and "3a.mid" in found["copy.midi"]
    assert "empty" in found["empty.mid"]
    assert all(len(reason) > 5 for reason in found.values())


def test_every_other_file_is_used_once_and_whole(mixed: tuple[Path, Prepared]) -> None:
    folder, prepared = mixed
    used = [name for store in prepared.stores.values() for name in store.names]
    expected = {str(folder / p) for p in files_below(folder)} - {str(p) for p in folder.glob("*.txt")}
    expected -= {name for name in expected if Path(name).name in skipped(prepared)}
    assert len(used) == len(set(used)) and set(used) == expected
    assert set(prepared.stores) == {"train", "valid"}
    midi = prepared.tokenizers[0]
    for store in prepared.stores.values():
        for number, name in enumerate(store.names):
            assert np.array_equal(store[number].segments[0].ids, midi.encode(name))


def test_near_duplicates_stand_on_one_side(mixed: tuple[Path, Prepared]) -> None:
    train, valid = ({name[0] for name in names(mixed[1], split)} - {"c"} for split in ("train", "valid"))
    assert train and valid and not train & valid
    assert train | valid == {str(number) for number in range(FAMILIES)}


def test_facts_count_what_is_used(mixed: tuple[Path, Prepared]) -> None:
    facts = mixed[1].facts
    pieces = [read(name) for store in mixed[1].stores.values() for name in store.names]
    assert facts["files"] == len(pieces) == 2 * FAMILIES + 1
    assert facts["notes"] == sum(map(len, pieces))
    assert facts["hours"] == round(sum(piece.duration for piece in pieces) / 3600, 2)
    assert facts["repaired"] == 1 and facts["skipped"] == 4
    assert facts["tokenizer"].startswith("midi") and "388" in facts["tokenizer"]


def test_strict_names_the_file(mixed: tuple[Path, Prepared]) -> None:
    with pytest.raises(BadInput, match=r"empty\.mid.*--strict"):
        corpus(Config(data=str(mixed[0]), strict=True))


def test_excluded_files_are_not_looked_at(mixed: tuple[Path, Prepared]) -> None:
    found = corpus(Config(data=str(mixed[0]), strict=True, exclude=("broken/*", "*b.MID", "copy*")))
    assert found.facts["files"] == FAMILIES and not found.skipped and not found.facts["repaired"]


def test_files_for_evaluation_are_all_kept_with_the_tokenizer_of_the_model(mixed: tuple[Path, Prepared]) -> None:
    midi = MidiTokenizer(program=19)
    found = corpus(Config(data=str(mixed[0])), [midi], evaluated=True)
    documents = list(found.documents)
    assert found.tokenizers[0] is midi
    assert len(documents) == found.facts["files"] == 2 * FAMILIES + 2 and {d.split for d in documents} == {"valid"}
    assert {Path(s.path).name for s in found.skipped} == {"empty.mid", "words.mid", "silent.kar"}


def test_a_folder_without_music(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such file or folder"):
        corpus(Config(data=str(tmp_path / "none")))
    (tmp_path / "a.txt").write_text("no music")
    with pytest.raises(BadInput, match=r"no MIDI file here.*\.mid"):
        corpus(Config(data=str(tmp_path)))
    (tmp_path / "a.mid").write_bytes(b"")
    with pytest.raises(BadInput, match=r"none of 1 MIDI files can be used[^$]*a\.mid: .*empty"):
        corpus(Config(data=str(tmp_path)))


def splits(folder: Path, **changes: object) -> dict[str, str]:
    """Name of each document to its split."""
    found = corpus(Config(data=str(folder), **changes))  # type: ignore[arg-type]
    return {Path(document.name).stem: document.split for document in found.documents}


def test_the_split_of_the_folder_is_taken(tmp_path: Path) -> None:
    for number, name in enumerate(["train/a", "train/b", "Validation/c", "test/d", "test/deep/e", "f"]):
        write_midi(tmp_path / f"{name}.mid", melody(number))
    expected = {"a": "train", "b": "train", "c": "valid", "d": "test", "e": "test", "f": "train"}
    assert splits(tmp_path, valid_share=0.5) == expected


def test_a_split_without_validation_gets_one_out_of_train(tmp_path: Path) -> None:
    for number in range(5):
        write_midi(tmp_path / f"train/{number}.mid", melody(number))
    for number in range(2):
        write_midi(tmp_path / f"test/t{number}.mid", melody(10 + number))
    found = splits(tmp_path)
    assert found.pop("t0") == found.pop("t1") == "test"
    assert sorted(found.values()) == ["train"] * 4 + ["valid"]


def test_a_copy_of_a_test_piece_does_not_come_into_training(tmp_path: Path) -> None:
    for name, seed in (("train/a", 1), ("train/b", 2), ("test/c", 2)):
        write_midi(tmp_path / f"{name}.mid", melody(seed))
    write_midi(tmp_path / "valid/d.mid", melody(3))
    assert splits(tmp_path) == {"a": "train", "c": "test", "d": "valid"}


def test_nothing_left_to_train_on(tmp_path: Path) -> None:
    write_midi(tmp_path / "valid/a.mid", melody(1))
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "broken.mid").write_bytes(b"MThd")
    with pytest.raises(BadInput, match=r"nothing here can be learned from[^$]*broken\.mid"):
        prepare(music, Config(data=str(tmp_path)))


def test_one_file_is_all_for_training(tmp_path: Path) -> None:
    prepared = prepare(music, Config(data=str(write_midi(tmp_path / "one.mid", melody(1)))))
    assert set(prepared.stores) == {"train"} and names(prepared, "train") == ["one.mid"]


def test_five_files_are_split(tmp_path: Path) -> None:
    for number in range(5):
        write_midi(tmp_path / f"{number}.mid", melody(number))
    assert sorted(splits(tmp_path).values()) == ["train"] * 4 + ["valid"]


@pytest.mark.parametrize(
    ("voices", "name", "program"),
    [
        ([{}], "midi", 0),
        ([{"program": 1}, {"program": 4}], "midi", 0),
        ([{"program": 40}], "midi", 40),
        ([{}, {"drum": True}], "band", None),
        ([{}, {"program": 33}], "band", None),
    ],
    ids=["piano", "pianos", "violin", "drums", "programs"],
)
def test_auto_takes_the_tokenizer_that_the_files_need(
    tmp_path: Path, voices: list[dict[str, int]], name: str, program: int | None
) -> None:
    write_midi(tmp_path / "a.mid", *(melody(seed, **voice) for seed, voice in enumerate(voices)))
    found = corpus(Config(data=str(tmp_path)))
    (chosen,) = found.tokenizers
    assert chosen.name == name and (chosen.low, chosen.high) == (21, 108)
    assert program is None or chosen.program == program
    (document,) = found.documents
    held = chosen.decode_notes(document.segments[0].ids)
    assert found.facts["notes"] == 120 * len(voices) == len(held) + found.facts["notes_struck_twice"]
    assert held.drum.sum() == 120 * sum("drum" in voice for voice in voices)


def test_notes_struck_twice_are_counted(tmp_path: Path) -> None:
    write_midi(tmp_path / "a.mid", melody(1), melody(1).select(np.arange(30)))
    prepared = prepare(music, Config(data=str(tmp_path)))
    assert prepared.facts["notes"] == 150 and prepared.facts["notes_struck_twice"] == 30


def test_drums_never_become_piano_notes(tmp_path: Path) -> None:
    piano, drums = melody(1), replace(melody(2, drum=True), pitch=np.full(120, 36))
    write_midi(tmp_path / "both.mid", piano, drums)
    write_midi(tmp_path / "drums.mid", drums)
    found = corpus(Config(data=str(tmp_path), tokenizer="midi"))
    (document,) = found.documents
    held = found.tokenizers[0].decode_notes(document.segments[0].ids)
    assert np.array_equal(held.pitch, piano.pitch) and not held.drum.any()
    (left,) = found.skipped
    assert left.path.name == "drums.mid" and "drums" in left.reason


def test_drums_alone_say_nothing_of_a_model_for_one_instrument(tmp_path: Path) -> None:
    write_midi(tmp_path / "drums.mid", melody(2, drum=True))
    config = Config(data=str(tmp_path))
    with pytest.raises(BadInput, match=r"nothing here can be evaluated on[^$]*drums"):
        prepare(music, config, [MidiTokenizer()], evaluated=True)
    with pytest.raises(BadInput, match=r"drums\.mid.*--strict"):
        prepare(music, replace(config, tokenizer="midi", strict=True))


def test_the_cache_is_used_until_a_file_changes(tmp_path: Path, own_cache: Path) -> None:
    write_midi(tmp_path / "data/a.mid", melody(1))
    write_midi(tmp_path / "data/b.mid", melody(2))
    calls = []

    def counted(*args: object) -> object:
        calls.append(args)
        return corpus(*args)  # type: ignore[arg-type]

    recipe = SimpleNamespace(corpus=counted, __file__=music.__file__, __name__="music")
    config = Config(data=str(tmp_path / "data"))
    first = prepare(recipe, config)
    again = prepare(recipe, replace(config, training=replace(config.training, seed=5, steps=7)))
    assert len(calls) == 1 and again.folder == first.folder and again.facts == first.facts
    write_midi(tmp_path / "data/b.mid", melody(2, count=80))
    changed = prepare(recipe, config)
    assert len(calls) == 2 and changed.facts["notes"] == 200
    assert sorted((own_cache / "corpora").iterdir()) == sorted([first.folder, changed.folder])


def test_a_corpus_that_fails_leaves_nothing_in_the_cache(tmp_path: Path, own_cache: Path) -> None:
    write_midi(tmp_path / "data/drums.mid", melody(2, drum=True))
    with pytest.raises(BadInput):
        prepare(music, Config(data=str(tmp_path / "data"), tokenizer="midi"))
    assert not list((own_cache / "corpora").iterdir())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> seqmodal.Run:
    """The smallest run; its files and the cache are gone when the tests get it."""
    base = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        for number in range(6):
            write_midi(base / f"data/{number}.mid", melody(number, count=60))
        (base / "data" / "broken.mid").write_bytes(b"")
        made = seqmodal.train("music", data=str(base / "data"), out=base / "run", **SMALLEST)
    shutil.rmtree(base / "data")
    shutil.rmtree(base / "cache")
    return made


def columns(notes: Notes) -> np.ndarray:
    return np.stack([notes.onset, notes.end, notes.pitch, notes.velocity, notes.program])


def test_a_run_judges_itself_and_shows_samples(run: seqmodal.Run) -> None:
    assert {"nats_per_event", "nats_per_note", "bits_per_second", "next_event_accuracy", "overlap_velocity"} <= set(
        run.metrics
    )
    assert all(np.isfinite(value) for value in run.metrics.values())
    assert 0 < run.metrics["nats_per_event"] < 1.2 * np.log(392)
    kept = files_below(run.folder)
    assert {"statistics.png", "loss.png", "skipped.csv", "config.yaml"} <= kept
    assert {f"samples/step_00000{step}.{kind}" for step in (2, 4) for kind in ("mid", "wav", "png")} <= kept
    assert "broken.mid" in (run.folder / "skipped.csv").read_text()


def test_what_is_generated_opens_everywhere(run: seqmodal.Run, tmp_path: Path) -> None:
    import mido
    import symusic

    path = tmp_path / "song.mid"
    seqmodal.load(run.folder).generate(seconds=3, seed=1).write(str(path))
    notes = read(path)
    assert not notes.repairs and len(notes) and notes.duration <= 3.02
    messages = [m for m in mido.MidiFile(path) if m.type == "note_on" and m.velocity]
    opened = [symusic.Score(path).note_num(), sum(len(i.notes) for i in pretty_midi.PrettyMIDI(str(path)).instruments)]
    assert [len(messages), *opened] == [len(notes)] * 3


def test_the_same_seed_gives_the_same_notes_and_nothing_to_repair(run: seqmodal.Run) -> None:
    model = seqmodal.load(run.folder)
    first, again, other = (model.sample(seconds=3, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.ids, again.ids) and not np.array_equal(first.ids, other.ids)
    for one in (first, other):
        notes, repairs = model.tokenizer().decode_report(one.ids)
        assert repairs.total == 0 and one.finished and len(notes)


def test_a_prompt_is_kept_and_continued(run: seqmodal.Run, tmp_path: Path) -> None:
    model = seqmodal.load(run.folder)
    prompt = melody(50, count=40)
    (made,) = model.sample(write_midi(tmp_path / "prompt.mid", prompt), seconds=3, seed=1)
    notes, repairs = model.tokenizer().decode_report(made.ids)
    given = model.tokenizer().decode_notes(made.prompt_ids)
    assert repairs.total == 0 and len(given) == len(prompt) and len(notes) > len(prompt)
    assert np.array_equal(columns(notes)[:, : len(prompt)], columns(given))
    assert np.array_equal(given.pitch, prompt.pitch) and np.allclose(given.onset, prompt.onset, atol=0.0051)
    assert prompt.duration + 2.98 <= model.tokenizer().duration(made.ids) <= prompt.duration + 3.02 >= notes.duration


def test_only_the_first_seconds_of_a_prompt(run: seqmodal.Run) -> None:
    model, prompt = seqmodal.load(run.folder), melody(50, count=40)
    (made,) = model.sample(prompt, prompt_seconds=1.0, seconds=2, seed=1)
    given = model.tokenizer().decode_notes(made.ids)
    kept = int((prompt.onset < 0.95).sum())
    assert np.array_equal(given.pitch[:kept], prompt.pitch[:kept])
    assert given.duration <= 3.02


@pytest.mark.parametrize("settings", [{"exclude": ("*x*",)}, {"valid_share": 0.2}, {"tokenizer": "band"}])
def test_settings_without_meaning_for_the_chorales_are_refused(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(music, "chorales", lambda: [])
    with pytest.raises(ConfigError, match=f"{next(iter(settings))}.*give --data"):
        corpus(Config(**settings))  # type: ignore[arg-type]
