"""The sounds recipe: what it takes of a folder, good and bad, what it measures, and a model from there to sounds."""

from __future__ import annotations

import csv
import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import seqmodal
from seqmodal.cli import main
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.data.tones import tones
from seqmodal.errors import BadInput, ConfigError
from seqmodal.recipes import sounds
from seqmodal.recipes.sounds import Config
from seqmodal.training.judge import judge_run
from tokenizers_ext.sound import Sound

SMALL: dict[str, Any] = {"codes": 16}
SMALLEST: dict[str, Any] = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1},
    "training": {"steps": 4, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
    "sampling": {"seconds": 0.4},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


def write(place: Path, count: int, seed: int = 3) -> Path:
    """Made sounds of three kinds of files."""
    place.mkdir()
    for number, samples in enumerate(tones(count, 8000, seed)):
        soundfile.write(place / f"{number:02}.{('wav', 'flac', 'ogg')[number % 3]}", samples, 8000)
    return place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "sounds", 12)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("sounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(base / "cache"))
        seqmodal.train("sounds", data=str(write(base / "sounds", 12)), out=base / "run", levels=2, **SMALL, **SMALLEST)
    return base / "run"


def skipped(place: Path) -> dict[str, str]:
    with open(place / "skipped.csv", newline="", encoding="utf-8") as file:
        return {Path(row["path"]).name: row["reason"] for row in csv.DictReader(file)}


def used(prepared: Prepared) -> set[str]:
    return {Path(name).name for store in prepared.stores.values() for name in store.names}


def test_the_good_are_used_and_the_bad_listed_through_the_command(folder: Path, tmp_path: Path, capsys: Any) -> None:
    good, flac = (folder / "00.wav").read_bytes(), (folder / "01.flac").read_bytes()
    flipped = bytearray(flac)
    flipped[len(flac) // 2] ^= 255
    bad = {
        "empty.wav": b"", "header.wav": good[:30], "text.mp3": b"not a sound\n" * 20, "flipped.flac": bytes(flipped),
        "cut.flac": flac[: len(flac) // 2], "rate.wav": good[:24] + b"\xff" * 4 + good[28:],
    }  # fmt: skip
    fine = {"short.wav": good[: len(good) // 2], "wrong_ending.ogg": (folder / "03.wav").read_bytes()[:-200]}
    for name, data in {**bad, **fine, "same.wav": good}.items():
        (folder / name).write_bytes(data)
    soundfile.write(folder / "high.wav", np.sin(np.arange(4800)), 48000)
    (folder / "gone.wav").symlink_to(folder / "nowhere.wav")
    (folder / "folder.wav").mkdir()
    (folder / "05.ogg").rename(folder / "05")
    (folder / "04.flac").rename(folder / "04.txt")
    (folder / "mono.raw").write_bytes(bytes(range(256)))
    (folder / "notes.txt").write_text("no sound")
    (folder / ".DS_Store").write_text("hidden")
    assert main(["prepare", "sounds", "--data", str(folder), "--codes", "16"]) == 0
    place = Path(capsys.readouterr().out.splitlines()[-1])
    reasons = skipped(place)
    assert set(reasons) == {*bad, "same.wav", "gone.wav", "mono.raw", "notes.txt"}
    assert reasons["notes.txt"].startswith("it neither ends like a sound nor is one: cannot be read as sound")
    assert (
        reasons["same.wav"] == f"the same sound as {folder / '00.wav'}" and reasons["empty.wav"] == "the file is empty"
    )
    assert all(reasons.values())
    names = {path.name for path in folder.iterdir() if path.is_file()}
    assert used(Prepared.open(place)) == names - {*reasons, ".DS_Store"}


def test_one_bad_file_ends_it_where_that_is_asked_for(folder: Path) -> None:
    (folder / "bad.wav").write_bytes(b"bad")
    with pytest.raises(BadInput, match=r"bad\.wav"):
        prepare(sounds, Config(data=str(folder), strict=True, **SMALL))


def test_a_long_sound_becomes_several_and_the_codebook_is_of_the_training_part(folder: Path) -> None:
    soundfile.write(folder / "00.wav", np.sin(np.arange(8000 * 3) ** 1.2 / 9), 8000)
    found = prepare(sounds, Config(data=str(folder), longest=0.8, levels=2, valid_share=0.3, **SMALL))
    (held,) = found.tokenizers
    own, files = Config(levels=2, **SMALL).tokenizer(), {}
    for split, store in found.stores.items():
        files[split] = list(dict.fromkeys(name.split(",")[0] for name in store.names))
    own.fit(files["train"])
    np.testing.assert_array_equal(held.to_dict()["centroids"], own.to_dict()["centroids"])
    apart = [10 * (held.decode_spectrogram(held.encode(f)) - held.spectrogram(f)).ravel() for f in files["valid"]]
    assert found.facts["distortion_db"] == pytest.approx(np.sqrt(np.mean(np.concatenate(apart) ** 2)), abs=0.006)
    whole = held.encode(folder / "00.wav")
    for store in found.stores.values():
        parts = [n for n, name in enumerate(store.names) if "00.wav" in name]
        if parts:
            ids = [store[number].segments[0].ids for number in parts]
            np.testing.assert_array_equal(np.concatenate(ids), whole)
            assert [len(part) for part in ids] == [38, 38, 38, 36]  # of 75 patches, 20 at most
            assert store.names[parts[1]] == f"{folder / '00.wav'}, part 2 of 4"
            break
    else:
        raise AssertionError("the long sound is in no store")
    assert max(store.lengths.max() for store in found.stores.values()) <= 42


def test_a_long_sound_is_encoded_part_by_part() -> None:
    tokenizer = Config(**SMALL).tokenizer()
    tokenizer.fit([Sound(samples, 8000) for samples in tones(5, 8000)])
    sound = Sound(np.sin(np.arange(8000 * 600) ** 1.1), 8000)
    tracemalloc.start()
    ids, numbers, squares = sounds._encode(tokenizer, sound)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    whole = tokenizer.spectrogram(sound)
    assert most < whole.nbytes < sound.samples.nbytes
    apart = 10 * (tokenizer.decode_spectrogram(ids) - whole)
    assert numbers == whole.size and squares == pytest.approx(float(np.square(apart).sum(dtype=np.float64)))


def test_of_a_single_sound_the_end_is_held_out(tmp_path: Path) -> None:
    path = tmp_path / "one.wav"
    soundfile.write(path, np.sin(np.arange(8000 * 20) ** 1.2 / 9), 8000)
    found = prepare(sounds, Config(data=str(path), longest=1.0, **SMALL))
    assert [len(found.stores[split]) for split in ("train", "valid")] == [18, 2]
    assert found.stores["valid"].names == [f"{path}, part {n} of 20" for n in (19, 20)]
    assert found.facts["distortion_db"] > 0


def test_a_run_is_judged_beside_a_unigram_of_each_level(run: Path) -> None:
    judged = json.loads((run / "judged.json").read_text())
    stores = Prepared.open(run / "data").stores
    ids = {s: np.concatenate([stores[s][n].segments[0].ids for n in range(len(stores[s]))]) for s in stores}
    total = 0.0
    for level in range(2):
        of = {split: row[row // 16 == level] for split, row in ids.items()}
        total -= sum(math.log(((of["train"] == id).sum() + 1) / (len(of["train"]) + 16)) for id in of["valid"])
    assert judged["unigram_nats_per_token"] == pytest.approx(total / len(ids["valid"]))
    seconds = len(ids["valid"]) / 2 * 0.04
    assert judged["unigram_nats_per_second"] == pytest.approx(total / seconds)
    assert judged["nats_per_second"] == pytest.approx(judged["nats_per_token"] * 50)
    assert judge_run(run) == pytest.approx(judged)


def test_a_run_shows_a_sound_and_its_spectrogram(run: Path) -> None:
    samples, rate = soundfile.read(run / "samples" / "step_000004.wav")
    assert rate == 8000 and len(samples) <= 3200
    assert Image.open(run / "samples" / "step_000004.png").size == (2200, 520)


def test_generate_makes_seconds_and_goes_on_from_a_sound(run: Path, tmp_path: Path, capsys: Any) -> None:
    out, given = tmp_path / "out.flac", tmp_path / "given.wav"
    soundfile.write(given, tones(1, 8000, seed=9)[0], 8000)
    how = ["generate", str(run), "--out", str(out), "--seed", "2"]
    assert main([*how, "--seconds", "0.4"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / f"out.{s}") for s in ("flac", "wav", "png")]
    assert 0 < len(soundfile.read(out)[0]) <= 3200
    assert main([*how, "--prompt", str(given), "--prompt-seconds", "0.2", "--seconds", "0.4"]) == 0
    model = seqmodal.load(run)
    (made,) = model.sample(str(given), prompt_seconds=0.2, seconds=0.4, seed=2, temperature=0.95, top_p=0.98)
    np.testing.assert_array_equal(made.ids[:10], model.tokenizer().encode(given)[:10])
    assert len(soundfile.read(out)[0]) == len(made.ids) // 2 * 320
    assert main(["generate", str(run), "--out", str(tmp_path / "out.xyz")]) == 1
    assert "wav or" in capsys.readouterr().err.replace(".", "")


def test_a_run_is_evaluated_on_other_sounds_and_gone_on_from(run: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "bad.wav").write_bytes(b"bad")
    found = judge_run(run, data=str(folder))
    assert set(found) == set(json.loads((run / "judged.json").read_text()))
    with pytest.raises(ConfigError, match="levels is 1, and sounds of the model have 2"):
        sounds.corpus(Config(data=str(folder), **SMALL), seqmodal.load(run).tokenizers)


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ConfigError, match="sample_rate is 100; it must be at least 2500"):
        Config(sample_rate=100)
    with pytest.raises(ConfigError, match="longest is 0"):
        Config(longest=0)
    with pytest.raises(ConfigError, match="count means nothing"):
        Config(sampling=replace(Config().sampling, count=3))
    with pytest.raises(ConfigError, match="strict means nothing to the built-in"):
        sounds.corpus(Config(strict=True))


def test_without_a_folder_tones_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sounds, "MADE", 20)
    found = prepare(sounds, Config(**SMALL))
    assert [len(found.stores[split]) for split in ("train", "valid")] == [18, 2]
    made = tones(20, 8000)
    np.testing.assert_array_equal(
        found.stores["valid"][1].segments[0].ids, found.tokenizers[0].encode(Sound(made[19], 8000))
    )
    assert all(samples.dtype == np.float32 and 0.3 < np.abs(samples).max() <= 0.5 for samples in made)
    assert len({samples.tobytes() for samples in made}) == 20
