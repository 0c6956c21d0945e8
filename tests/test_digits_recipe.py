"""The recipe digits: its data, its tasks, its judges, and a run from end to end at a size that teaches nothing."""

from __future__ import annotations

import gzip
import json
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

import seqmodal
from seqmodal.cli import main
from seqmodal.config import Causal, TrainingConfig
from seqmodal.data.digits import HIGH, LOW, RATE, SIDE, WORDS, made_digits, read_digits, varied_picture, varied_sound
from seqmodal.errors import BadInput, ConfigError
from seqmodal.evaluation.reading import Classifier, heard
from seqmodal.recipes import digits
from seqmodal.tokenizers import tokenizer
from seqmodal.training.judge import judge_run
from tokenizers_ext.image import ImageTokenizer
from tokenizers_ext.sound import Sound


def few() -> dict[str, digits.Digits]:
    return made_digits(train=60, test=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(folder / "cache"))
        patch.setattr(digits, "made_digits", few)
        training = {
            "steps": 12, "batch_size": 4, "evaluations": 1, "samples": 0, "threads": 1, "condition_dropout": 0.1,
            "precision": "float32",
        }  # fmt: skip
        model = {"d_model": 16, "num_layers": 1, "num_heads": 1}
        seqmodal.train(
            "digits", out=folder / "run", copies=1, training=training, model=model, sampling={"count": 1}
        )  # fmt: skip
        yield folder / "run"


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Both data sets as they are published, with a handful of items."""
    for name in ("mnist", "fsdd/train", "fsdd/test"):
        (tmp_path / name).mkdir(parents=True)
    for start, count in (("train", 5), ("t10k", 3)):
        pictures = np.arange(count * SIDE**2, dtype=np.uint8).reshape(count, SIDE, SIDE)
        (tmp_path / "mnist" / f"{start}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(pictures)))
        (tmp_path / "mnist" / f"{start}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    for path in ("train/0_ann_5.wav", "train/7_bob_9.wav", "test/3_ann_0.wav"):
        soundfile.write(tmp_path / "fsdd" / path, np.zeros(800), RATE)
    return tmp_path


def test_the_published_files_are_read(folder: Path) -> None:
    parts = read_digits(folder)
    assert parts["train"].drawn.tolist() == [0, 1, 2, 3, 4] and parts["test"].pictures.shape == (3, SIDE, SIDE)
    assert parts["train"].pictures[1, 0, 0] == SIDE**2 % 256
    assert parts["train"].said.tolist() == [0, 7] and parts["test"].said.tolist() == [3]
    assert [path.name for path in parts["train"].sounds] == ["0_ann_5.wav", "7_bob_9.wav"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mnist/train-images-idx3-ubyte.gz", None),
        ("mnist/train-images-idx3-ubyte.gz", b""),
        ("mnist/train-images-idx3-ubyte.gz", b"not gzip at all"),
        ("mnist/train-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((5, 28, 28), np.uint8)))[:-9]),
        ("mnist/train-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((5, 28, 28), np.uint8))[:-1])),
        ("mnist/train-images-idx3-ubyte.gz", gzip.compress(idx(np.zeros((5, 27, 28), np.uint8)))),
        ("mnist/t10k-labels-idx1-ubyte", idx(np.zeros(4, np.uint8))),
        ("mnist/t10k-labels-idx1-ubyte", idx(np.full(3, 10, np.uint8))),
        ("mnist/t10k-labels-idx1-ubyte", b"\0\0\x08"),
        ("fsdd/test/seven.wav", b""),
        ("fsdd/test/3_ann_0.wav", None),
    ],
    ids=[
        "missing", "empty", "no-gzip", "gzip-cut", "cut", "other-shape", "more-labels", "wrong-label", "head-cut",
        "wrong-name", "no-test-sounds",
    ],
)  # fmt: skip
def test_what_is_not_as_published_is_named(folder: Path, name: str, content: bytes | None) -> None:
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(BadInput, match=str(folder)):
        read_digits(folder)


def test_the_made_ones_are_always_the_same_and_say_what_they_are() -> None:
    parts, again = few(), few()
    np.testing.assert_array_equal(parts["train"].pictures, again["train"].pictures)
    assert set(Counter(parts["train"].drawn.tolist())) == set(range(10))
    assert Counter(parts["train"].said.tolist()) == dict.fromkeys(range(10), 6)
    whole = made_digits()
    train, test = ((part.pictures.reshape(len(part.pictures), -1) / 255, part.drawn) for part in whole.values())
    assert Classifier(*train).right(*test) > 0.85
    assert not {picture.tobytes() for picture in train[0]} & {picture.tobytes() for picture in test[0]}
    for (samples, rate), digit in zip(parts["test"].sounds, parts["test"].said.tolist(), strict=True):
        power = np.abs(np.fft.rfft(samples, 8 * len(samples)))
        hertz = np.fft.rfftfreq(8 * len(samples), 1 / rate)
        found = [min(keys, key=lambda key: -power[np.abs(hertz - key) < 12].max()) for keys in (LOW, HIGH)]
        keys = {(LOW[n // 3], HIGH[n % 3]): str(n + 1) for n in range(9)} | {(LOW[3], HIGH[1]): "0"}
        assert keys[tuple(found)] == str(digit)


def test_varying_moves_a_picture_and_a_sound_a_little() -> None:
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[10:18, 10:18] = 200
    other = varied_picture(picture, np.random.default_rng(1))
    assert other.shape == picture.shape and (other != picture).any()
    assert abs(int(other.sum()) / int(picture.sum()) - 1) < 0.1
    samples = np.sin(np.arange(4000) / 10).astype(np.float32) * 0.9
    for seed in range(20):
        moved, rate = varied_sound(samples, RATE, np.random.default_rng(seed))
        assert rate == RATE and np.abs(moved).max() <= 1 and 3600 <= len(moved) <= 4000 / 0.9 + 0.04 * RATE + 1


def test_the_classifier_learns_what_can_be_learned_and_no_more() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(10, size=800)
    vectors = np.eye(10)[labels] + 0.1 * rng.standard_normal((800, 10))
    assert Classifier(vectors[:500], labels[:500]).right(vectors[500:], labels[500:]) > 0.99
    noise = rng.standard_normal((800, 10))
    assert Classifier(noise[:500], labels[:500]).right(noise[500:], labels[500:]) < 0.2


def test_what_is_heard_does_not_depend_on_silence_around() -> None:
    inside = np.random.default_rng(0).random((32, 5))
    around = np.pad(inside, ((10, 7), (0, 0)), constant_values=-8)
    np.testing.assert_allclose(heard(around), heard(inside), rtol=1e-6)
    assert heard(inside).shape == (16 * 5,)


def test_every_task_is_learned_and_nothing_held_back_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "made_digits", few)
    made = digits.corpus(digits.Config(copies=2))
    tasks, names = Counter[tuple[str, str, str]](), {"train": set(), "valid": set(), "test": set()}
    text = made.tokenizers[0]
    for document in made.documents:
        source, target = document.segments
        kind = "ids" if source.features is None else "features"
        tasks[document.split, f"{source.block} {kind}", target.block] += 1
        names[document.split].add(document.name)
        assert source.loss == 0 and source.both_ways and target.loss == 1 and not target.both_ways
        assert target.block != "text" or text.decode(target.ids) in WORDS
    train = {task[1:] for task in tasks if task[0] == "train"}
    assert train >= {(f"{block} {kind}", "text") for block in ("image", "sound") for kind in ("ids", "features")}
    assert train >= {("text ids", "image"), ("text ids", "sound")}
    assert {target for source, target in train if source.startswith("image")} == {"text", "sound"}
    assert {target for source, target in train if source.startswith("sound")} == {"text", "image"}
    assert tasks["test", "image features", "text"] == tasks["test", "image ids", "text"] == 20
    assert tasks["train", "sound features", "text"] == 2 * (60 - 3) and tasks["valid", "sound ids", "text"] == 3
    evaluated = digits.corpus(digits.Config(), tokenizers=made.tokenizers, evaluated=True)
    assert list(evaluated.tokenizers) == list(made.tokenizers)
    assert {document.split for document in evaluated.documents} == {"valid"}


def test_pictures_of_a_model_have_to_be_as_large_as_those_of_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "made_digits", few)
    other = ImageTokenizer(32, codes=4, color=False)
    other.fit(other.examples(np.random.default_rng(0)))
    with pytest.raises(ConfigError, match="32 × 32 pixels, grey, and those of digits 28 × 28, grey"):
        digits.corpus(digits.Config(), tokenizers=[other])


def test_a_damaged_sound_costs_no_other(folder: Path) -> None:
    (folder / "fsdd" / "train" / "5_bob_7.wav").write_bytes(b"RIFF no more")
    parts, (skipped,) = digits._heard(read_digits(folder), tokenizer("sound"))
    assert skipped.path.name == "5_bob_7.wav" and "cannot be read" in skipped.reason
    assert parts["train"].said.tolist() == [0, 7] and len(parts["train"].sounds) == 2 and len(parts["test"].sounds) == 1
    (folder / "fsdd" / "test" / "3_ann_0.wav").write_bytes(b"")
    with pytest.raises(BadInput, match=r"test: no sound of 1 can be read"):
        digits._heard(read_digits(folder), tokenizer("sound"))


@pytest.mark.parametrize("block", ["image", "sound"])
def test_one_of_which_nothing_is_heard_is_read_wrong(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "made_digits", few)
    made = digits.corpus(digits.Config(copies=1)).tokenizers
    nothing = {"image": Image.new("L", (SIDE, SIDE)), "sound": Sound(np.zeros(0, np.float32), RATE)}[block]
    monkeypatch.setattr(digits, "_made_from", lambda model, config, block, given: [nothing] * len(given))
    model = SimpleNamespace(tokenizer=lambda name: next(one for one in made if one.name == name))
    parts = digits._heard(few(), made[2])[0]
    found = digits._read_right(model, digits.Config(), parts, block, 1)
    other = {"image": "sound", "sound": "image"}[block]
    assert found[f"{block}_from_word"] <= 0.1 and found[f"{block}_from_{other}"] <= 0.3 < found[f"real_{block}"]


def test_items_are_written_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "made_digits", few)
    before, counts = torch.get_num_threads(), set()
    torch.set_num_threads(2)
    try:
        for _ in digits.corpus(digits.Config(copies=1)).documents:
            counts.add(torch.get_num_threads())
        assert counts == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_settings_that_mean_nothing_are_refused() -> None:
    for settings in (
        {"strict": True}, {"copies": 0}, {"guidance": -1.0}, {"objective": Causal()},
        {"training": TrainingConfig(condition_dropout=0.0)},
    ):  # fmt: skip
        with pytest.raises(ConfigError):
            digits.Config(**settings)  # type: ignore[arg-type]
    digits.Config(guidance=1.0, training=TrainingConfig())


def test_a_run_is_judged_and_shown(run: Path) -> None:
    judged = json.loads((run / "judged.json").read_text())
    words = {f"word_from_{block}_{kind}" for block in ("image", "sound") for kind in ("features", "ids")}
    made = {f"{name}" for block, other in (("image", "sound"), ("sound", "image")) for name in (
        f"{block}_from_word", f"{block}_from_{other}", f"real_{block}", f"real_{block}_after_round_trip",
    )}  # fmt: skip
    nats = {f"nats_per_token_{name}" for name in ("text", "image", "sound")}
    assert set(judged) == words | made | nats
    assert all(0 <= judged[name] <= 1 for name in words | made) and all(judged[name] > 0 for name in nats)
    assert (run / "samples" / "step_000012.png").is_file() and (run / "samples" / "step_000012.wav").is_file()


def test_other_data_are_judged_and_not_those_of_before(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard_of: list[int] = []

    def read_right(model: object, config: object, parts: dict[str, digits.Digits], *how: object) -> dict[str, float]:
        heard_of.append(len(parts["test"].sounds))
        return {}

    monkeypatch.setattr(digits, "_read_right", read_right)
    judge_run(run, data=str(folder))
    assert heard_of == [1, 1]  # of a folder with one test sound


def test_each_is_made_from_each_on_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture, sound, other = tmp_path / "seven.png", tmp_path / "seven.wav", tmp_path / "other.png"
    assert not main(["generate", str(run), "--prompt", "seven", "--to", "image", "--out", str(picture), "--seed", "1"])
    assert Image.open(picture).size == (SIDE, SIDE)
    said = ["generate", str(run), "--prompt", "seven", "--to", "sound", "--out", str(sound), "--guidance", "2"]
    assert not main([*said, "--seed", "1"])
    assert sound.is_file()
    capsys.readouterr()
    assert not main(["next", str(run), "--prompt", str(picture), "--to", "text"])
    assert capsys.readouterr().out.count("%") >= 10
    assert not main(["generate", str(run), "--prompt", str(sound), "--to", "image", "--out", str(other), "--seed", "1"])
    assert Image.open(other).size == (SIDE, SIDE)
    capsys.readouterr()
    same = ["generate", str(run), "--prompt", str(picture), "--to", "sound", "--out", str(sound), "--seed", "1"]
    drawn = picture.read_bytes()
    assert not main(same) and picture.read_bytes() == drawn  # what is shown beside the sound is called otherwise
    assert {"seven_made.png", "seven_made.wav"} <= {path.name for path in tmp_path.iterdir()}
    assert main(["generate", str(run), "--prompt", str(picture), "--to", "image", "--out", str(picture)]) == 1
    assert "is the file that was given, and would be lost" in capsys.readouterr().err and picture.read_bytes() == drawn
    for flags, code, told in (
        (["--prompt-share", "0.5"], 2, "prompt_share is for a prompt to go on from"),
        (["--out", "x.rf64"], 1, "written as"),
    ):
        assert main(["generate", str(run), "--prompt", str(picture), "--to", "sound", *flags]) == code
        assert told in capsys.readouterr().err
    how = ["--to", "text", "--seed", "1", "--max-new-tokens", "6"]
    assert not main(["generate", str(run), "--prompt", str(picture), *how])
    streamed = capsys.readouterr().out
    model = seqmodal.load(run)
    (whole,) = model.sample(picture, to="text", seed=1, max_new_tokens=6, temperature=0.95, top_p=0.98)
    assert streamed == f"{whole.item}\n"
