"""The command line as a user types it: what it prints where, its exit codes, and a clear word for each mistake."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from midi_pieces import files_below, melody, write_midi

from seqmodal.cli import main

VERBS = ("train", "generate", "next", "evaluate", "prepare", "tokenizers", "demo")
SMALLEST = (
    "--model.d-model=16", "--model.num-layers=1", "--model.num-heads=1", "--model.max-seq-len=64", "--model.window=16",
    "--steps=4", "--training.batch-size=2", "--training.samples=0", "--training.evaluations=1", "--training.threads=1",
    "--sampling.seconds=2", "--sampling.count=1",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """How a command ended; `err` without the frames that long messages are drawn in."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `midi` in it, and the cache beside it."""
    folder = tmp_path_factory.mktemp("cli")
    for number in range(5):
        write_midi(folder / f"midi/{number}.mid", melody(number, count=60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(folder / "cache"))
        patch.delenv("SEQMODAL_DEBUG", raising=False)
        yield folder


@pytest.fixture(scope="module")
def run(base: Path) -> Path:
    """The smallest run."""
    out = base / "run"
    assert main(["train", "music", "--data", str(base / "midi"), "--out", str(out), *SMALLEST]) == 0
    return out


@pytest.fixture
def cli(base: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Calls the command line in this process; whatever it writes, to Python's streams or past them, is caught."""

    def call(*words: object) -> Said:
        capfd.readouterr()
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return Said(code, out, re.sub(r"[\s│╭╮╰╯─]+", " ", err))

    return call


def test_help_names_the_verbs_and_a_wrong_verb_ends_with_2() -> None:
    command = [sys.executable, "-m", "seqmodal"]
    helped = subprocess.run([*command, "--help"], capture_output=True, text=True, check=False, timeout=60)
    assert helped.returncode == 0 and not helped.stderr
    assert all(f"seqmodal {verb}" in helped.stdout for verb in VERBS)
    wrong = subprocess.run([*command, "trian"], capture_output=True, text=True, check=False, timeout=60)
    assert wrong.returncode == 2 and not wrong.stdout
    assert wrong.stderr.startswith("error: ") and "'trian'" in wrong.stderr and wrong.stderr.count("\n") == 1


def test_a_reader_that_has_had_enough() -> None:
    command = [sys.executable, "-m", "seqmodal", "tokenizers"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate(timeout=60)
    assert process.returncode == 141 and not err


def test_nothing_said_is_a_call_for_help(cli: Cli) -> None:
    said = cli()
    assert said.code == 0 and said == cli("-h")


def test_version(cli: Cli) -> None:
    import seqmodal

    assert cli("--version").out.strip() == seqmodal.__version__


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli: Cli, verb: str) -> None:
    said = cli(verb, "--help")
    assert said.code == 0 and f"usage: seqmodal {verb}" in said.out


def test_help_of_train_names_its_flags(cli: Cli) -> None:
    text = cli("train", "music", "--help").out
    names = ("minutes", "steps", "seed", "data", "out", "exclude", "preset", "config", "tokenizer", "training.minutes")
    for flag in (f"--{name}" for name in names):
        assert flag in text
    assert cli("train", "--help").out == text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("trian", "train, generate, translate, summarize, transcribe, convert, next, evaluate"),
        ("train", "needs a recipe"),
        ("train --steps 3", "needs a recipe"),
        ("train musik", "there are: abc, digits, files, images, language, music, "),
        ("train music --stepz 3", "--steps"),
        ("train music --steps many", "many"),
        ("train music --preset huge", "tiny, small, base"),
        ("train music --training.warmup 2", "warmup 2.0"),
        ("train music --training.steps -1", "not negative"),
        ("train music --model.d-model 30 --model.num-heads 4", "does not divide"),
        ("train music more", "more"),
        ("prepare music --out there", "--out"),
        ("generate", "RUN"),
        ("next", "RUN"),
        ("train language --tokenizer words", "text, characters, bytes"),
        ("generate here --temprature 1", "--temperature"),
        ("evaluate here --exclude *a*", "--data"),
        ("tokenizers list", "check NAME"),
        ("tokenizers check", "midi, band"),
        ("tokenizers check midy", "there are: band, "),
        ("tokenizers check ./mine.py", "docs/new-modality.md"),
    ],
)
def test_a_wrong_word_ends_with_2_and_tells_what_is_right(cli: Cli, words: str, told: str) -> None:
    said = cli(*words.split())
    assert said.code == 2 and not said.out
    assert told in said.err


def test_no_data(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "out"
    said = cli("train", "music", "--data", tmp_path / "none", "--out", out)
    assert said.code == 1 and "none: there is no such file or folder" in said.err
    (tmp_path / "a.txt").write_text("no music")
    said = cli("train", "music", "--data", tmp_path, "--out", out)
    assert said.code == 1 and "no MIDI file here" in said.err
    (tmp_path / "a.mid").write_text("no music")
    said = cli("prepare", "music", "--data", tmp_path)
    assert said.code == 1 and "none of 1 MIDI files can be used" in said.err and "a.mid" in said.err
    assert not out.exists() and not said.out


def test_no_recipe_or_configuration_there(cli: Cli, tmp_path: Path) -> None:
    said = cli("train", tmp_path / "mine.py")
    assert said.code == 1 and "no such recipe file" in said.err
    said = cli("train", "music", "--config", tmp_path / "none.yaml")
    assert said.code == 1 and "none.yaml" in said.err
    (tmp_path / "wrong.yaml").write_text("training: {stepz: 3}")
    said = cli("train", "music", "--config", tmp_path / "wrong.yaml")
    assert said.code == 2 and "training.stepz; did you mean steps" in said.err


def test_flags_win_over_config_and_config_over_preset(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr("seqmodal.training.train", lambda recipe, **rest: seen.update(rest, recipe=recipe))
    file = tmp_path / "mine.yaml"
    settings = {"recipe": "music", "exclude": ["*x*"], "model": {"d_model": 64}, "training": {"steps": 7, "seed": 3}}
    file.write_text(yaml.safe_dump(settings))
    said = cli(
        "train", "music", f"--config={file}", "--preset", "tiny", "--steps=9", "--seed", "0", "--minutes", "1.5",
        "--data", "a", "--out", "b",
    )  # fmt: skip
    assert said.code == 0, said.err
    config = seen.pop("config")
    assert seen == {"recipe": "music", "out": "b"}
    assert (config.model.d_model, config.model.num_layers, config.model.num_heads) == (64, 4, 4)
    assert (config.training.steps, config.training.seed, config.training.minutes) == (9, 0, 1.5)
    assert (config.data, config.exclude, config.tokenizer) == ("a", ("*x*",), "auto")


def test_several_patterns_are_excluded(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, object] = {}
    monkeypatch.setattr("seqmodal.training.train", lambda recipe, **rest: seen.update(rest))
    assert cli("train", "music", "--exclude", "*score*", "b/*", "--strict", "--tokenizer", "band").code == 0
    assert seen["out"] is None
    config = seen["config"]
    assert (config.exclude, config.strict, config.tokenizer) == (("*score*", "b/*"), True, "band")


def test_a_run_is_never_overwritten(cli: Cli, base: Path, run: Path) -> None:
    before = {name: (run / name).stat().st_mtime_ns for name in files_below(run)}
    said = cli("train", "music", "--data", base / "midi", "--out", run, *SMALLEST)
    assert said.code == 1 and "exists already" in said.err and "--resume" in said.err
    assert {name: (run / name).stat().st_mtime_ns for name in files_below(run)} == before
    said = cli("train", run)
    assert said.code == 2 and f"seqmodal train {run} --resume" in said.err
    assert cli("train", run, "--resume", "--steps", "9").code == 2


def test_prepare_prints_what_it_found(cli: Cli, base: Path, run: Path) -> None:
    said = cli("prepare", "music", "--data", base / "midi")
    lines = said.out.splitlines()
    assert said.code == 0 and "files: 5" in lines and "notes: 300" in lines and "tokenizer: midi, 388 events" in lines
    assert any(re.fullmatch(r"train: 4 documents, [\d,]+ tokens", line) for line in lines)
    folder = Path(lines[-1])
    assert {"corpus.json", "skipped.csv", "train/tokens.bin", "valid/tokens.bin"} <= files_below(folder)
    assert folder.parent == base / "cache" / "corpora" and len(list(folder.parent.iterdir())) == 1  # as `run` made it


def test_tokenizers_are_listed_and_checked(cli: Cli, base: Path, tmp_path: Path) -> None:
    listed = cli("tokenizers")
    assert listed.code == 0 and not listed.err
    assert {"midi", "band"} <= {line.split()[0] for line in listed.out.splitlines()}
    said = cli("tokenizers", "check", "midi", base / "midi" / "0.mid")
    assert said.code == 0 and "midi keeps all laws" in said.out
    said = cli("tokenizers", "check", "series", "bins=4")
    assert said.code == 0 and "series keeps all laws" in said.out
    said = cli("tokenizers", "check", "series", "bin=4")
    assert said.code == 2 and "unexpected keyword argument 'bin'" in said.err
    said = cli("tokenizers", "check", "midi", tmp_path / "none.mid")
    assert said.code == 1 and "none.mid: No such file" in said.err and not said.out
    said = cli("tokenizers", "check", "tags", tmp_path / "none.txt")
    assert said.code == 2 and "tags reads no files" in said.err and not said.out


def test_generate_writes_and_prints_its_files(cli: Cli, run: Path, tmp_path: Path) -> None:
    songs = [tmp_path / name / "song.mid" for name in "ab"]
    for song in songs:
        said = cli("generate", run, "--seconds", 2, "--seed", 0, "--out", song)
        assert said.code == 0 and said.err.strip().endswith("seed 0")
        assert {Path(line) for line in said.out.splitlines()} == {song.with_suffix(s) for s in (".mid", ".wav", ".png")}
        assert files_below(song.parent) == {"song.mid", "song.wav", "song.png"}
    assert songs[0].read_bytes() == songs[1].read_bytes()


def test_generate_goes_on_from_a_prompt(cli: Cli, base: Path, run: Path, tmp_path: Path) -> None:
    from tokenizers_ext.midi import read

    prompt, song = base / "midi" / "0.mid", tmp_path / "song.MID"
    said = cli("generate", run, "--seconds", 2, "--prompt", prompt, "--prompt-seconds", 3, "--out", song)
    assert said.code == 0, said.err
    given, made = read(prompt), read(song)
    kept = int((given.onset < 2.9).sum())
    assert (made.pitch[:kept] == given.pitch[:kept]).all()
    assert 2.9 <= made.duration <= 5.02  # what was made may end in silence


def test_generate_fills_where_masks_were_learned(cli: Cli, base: Path, run: Path) -> None:
    prompt = base / "midi" / "0.mid"
    for flags, told in (
        (("--fill", 1, 2), "give the file with --prompt"),
        (("--prompt", prompt, "--fill", 1, 2, "--seconds", 3), "--seconds and --fill do not go together"),
        (("--prompt", prompt, "--fill", 1, 2), "learned the objective causal"),
    ):
        said = cli("generate", run, *flags)
        assert said.code == 2 and told in " ".join(said.err.split()), said.err


def test_variations_lie_side_by_side_in_the_run(cli: Cli, run: Path) -> None:
    said = cli("generate", run, "--seconds", 1, "--variations", 2)
    assert said.code == 0
    seed = said.err.split()[-1]
    files = [Path(line) for line in said.out.splitlines()]
    assert all(file.is_file() and file.parent == run / "samples" for file in files)
    assert {f"generated_{seed}-1.mid", f"generated_{seed}-2.mid"} <= {file.name for file in files}
    assert files[-1].suffix == ".html"


@pytest.mark.parametrize(
    ("flags", "code", "told"),
    [
        ("--out {tmp}/song.mp3", 1, "try song.mid"),
        ("--prompt {tmp}/none.mid", 1, "none.mid: there is no such file"),
        ("--prompt {tmp}/none", 1, "none"),
        ("--prompt {tmp}/words.mid", 1, "words.mid"),
        ("--prompt {tmp}/words.txt", 1, "words.txt"),
        ("--prompt {tmp}", 1, "{tmp}"),
        ("--prompt-seconds 3", 2, "without a prompt"),
        ("--seconds -1", 2, "must be a positive number"),
        ("--temperature -1", 2, "temperature"),
        ("--variations 0", 2, "at least 1"),
    ],
)
def test_generate_refuses(cli: Cli, run: Path, tmp_path: Path, flags: str, code: int, told: str) -> None:
    for name in ("words.mid", "words.txt"):
        (tmp_path / name).write_text("These are words, and no music at all.")
    before = files_below(run) | files_below(tmp_path)
    words = ["--seconds", "1", *flags.format(tmp=tmp_path).split()]
    said = cli("generate", run, *words)
    assert said.code == code and not said.out
    assert told.format(tmp=tmp_path) in said.err
    assert files_below(run) | files_below(tmp_path) == before


@pytest.mark.parametrize("verb", ["generate", "next", "evaluate"])
def test_a_folder_that_is_no_run(cli: Cli, tmp_path: Path, verb: str) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        said = cli(verb, folder)
        assert said.code == 1 and str(folder) in said.err and not said.out


def test_a_model_of_text_goes_on_and_shows_what_may_come_next(cli: Cli, base: Path, run: Path) -> None:
    out, book = base / "text", base / "book.txt"
    book.write_text("The sea was grey and the boat went over it.\n" * 60)
    assert cli("train", "language", "--data", book, "--out", out, *SMALLEST[:-2]).code == 0
    said = cli("generate", out, "--prompt", "The sea", "--max-new-tokens", 5, "--seed", 1)
    assert said.code == 0 and said.out.startswith("The sea") and "seed 1" in said.err
    said = cli("next", out, "--prompt", "The sea")
    lines = said.out.splitlines()
    assert said.code == 0 and lines[0] == "The sea" and len(lines) == 12 and "all others" in lines[-1]
    assert [line.split()[0] for line in lines[1:11]] == [str(number) for number in range(1, 11)]
    said = cli("evaluate", out)
    assert said.code == 0 and "bits per byte" in said.out and "perplexity" in said.out
    said = cli("next", run)
    assert said.code == 2 and "midi makes no text" in said.err


def test_evaluate_prints_a_table(cli: Cli, run: Path) -> None:
    said = cli("evaluate", run)
    assert said.code == 0
    values = dict(re.split(r"\s{2,}", line) for line in said.out.splitlines() if not Path(line).exists())
    judged = json.loads((run / "judged.json").read_text())
    assert {name.replace(" ", "_") for name in values} == set(judged)
    assert float(values["nats per note"]) == pytest.approx(judged["nats_per_note"], abs=1e-3)


def test_evaluate_json_is_all_that_stands_on_standard_output(cli: Cli, run: Path, tmp_path: Path) -> None:
    for number in range(2):
        write_midi(tmp_path / f"{number}.mid", melody(20 + number))
    said = cli("evaluate", run, "--json", "--data", tmp_path, "--exclude", "1*")
    values = json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert said.code == 0 and 0 < values["nats_per_event"] < 1.2 * math.log(392)
    (tmp_path / "1.mid").unlink()
    assert json.loads(cli("evaluate", run, "--json", "--data", tmp_path).out) == values


def test_a_run_without_validation_has_to_be_told_what_to_evaluate_on(cli: Cli, run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "data" / "valid")
    said = cli("evaluate", tmp_path / "run")
    assert said.code == 1 and "--data" in said.err and not said.out
