"""Files are found; and what a file does to its parser costs that file only."""

from __future__ import annotations

import csv
import importlib.util
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
from worker_functions import modules, obey, plus

from seqmodal.data.source import Failure, Skipped, find_files, process_files, split_folders, write_skipped
from seqmodal.data.split import input_files, split_files
from seqmodal.errors import BadInput, ConfigError


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    for name in ("b.mid", "a.MID", "notes.txt", "deep/er/c.midi", "deep/midi_score.mid", "Score/d.mid"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def names(found: list[Path], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in found]


def test_files_are_found_everywhere_in_order(folder: Path) -> None:
    found = names(find_files(folder, (".mid", ".midi")), folder)
    assert found == ["Score/d.mid", "a.MID", "b.mid", "deep/er/c.midi", "deep/midi_score.mid"]


def test_patterns_leave_files_out(folder: Path) -> None:
    assert names(find_files(folder, (".mid",), ("*score*",)), folder) == ["Score/d.mid", "a.MID", "b.mid"]
    assert names(find_files(folder, (".mid",), ("deep/*", "b.mid")), folder) == ["Score/d.mid", "a.MID"]


def test_files_of_other_endings_follow_but_for_hidden_ones(folder: Path) -> None:
    for name in (".git/a", "deep/.DS_Store", "deep/.b.mid"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    found = names(find_files(folder, (".mid",), ("score/*", "a*"), others=True), folder)
    assert found == ["Score/d.mid", "b.mid", "deep/.b.mid", "deep/midi_score.mid", "deep/er/c.midi", "notes.txt"]


def test_a_file_is_taken_as_it_is(folder: Path) -> None:
    assert find_files(folder / "notes.txt", (".mid",)) == [folder / "notes.txt"]


def test_a_missing_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        find_files(tmp_path / "nowhere", (".mid",))


def test_a_folder_that_contains_itself_ends(folder: Path) -> None:
    (folder / "deep" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(find_files(folder, (".mid", ".midi"))) == 5


@pytest.mark.parametrize(("made", "wanted"), [
    (("train", "valid", "test"), {"train": "train", "valid": "valid", "test": "test"}),
    (("Train", "validation"), {"train": "Train", "valid": "validation"}),
    (("train",), None),
    (("valid", "test"), None),
    (("other",), None),
])
def test_the_folders_own_split(tmp_path: Path, made: tuple[str, ...], wanted: dict[str, str] | None) -> None:
    for name in made:
        (tmp_path / name).mkdir()
    found = split_folders(tmp_path)
    assert found == (None if wanted is None else {split: tmp_path / name for split, name in wanted.items()})


def test_skipped_files_are_listed(tmp_path: Path) -> None:
    odd = Path(os.fsdecode(b"caf\xe9, \"x\".mid"))  # a name that is not UTF-8
    write_skipped(tmp_path / "skipped.csv", [Skipped(Path("a.mid"), "no notes,\nreally"), Skipped(odd, "cut")])
    with open(tmp_path / "skipped.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file)) == [["path", "reason"], ["a.mid", "no notes,\nreally"], [str(odd), "cut"]]


def run(orders: list[str], folder: Path, **more: object) -> dict[str, object]:
    paths = [folder / f"{i}_{order}" for i, order in enumerate(orders)]
    found = list(process_files(paths, obey, **more))  # type: ignore[arg-type]
    assert [path for path, _ in found] == paths  # each once, in order
    return {path.name: result for path, result in found}


def test_a_bad_file_costs_itself(tmp_path: Path) -> None:
    orders = ["ok"] * 20 + ["bad", "raise", "lambda", "abort", "exit", "slow"] + ["ok"] * 20
    start = time.monotonic()
    found = run(orders, tmp_path, workers=2, timeout_s=20)
    assert found.pop("20_bad") == Failure("no notes in it")
    assert found.pop("21_raise") == Failure("ZeroDivisionError: ticks")
    unpicklable = found.pop("22_lambda")
    assert isinstance(unpicklable, Failure) and "pickle" in unpicklable.reason.lower()
    assert found.pop("23_abort") == Failure("the parser crashed")
    assert found.pop("24_exit") == Failure("the parser crashed")
    assert all(name == result for name, result in found.items())
    assert time.monotonic() - start < 15


def test_a_hang_costs_its_time_and_itself(tmp_path: Path) -> None:
    found = run(["ok", "hang", "ok", "slow", "slow", "slow", "slow", "ok"], tmp_path, workers=1, timeout_s=1)
    assert found.pop("1_hang") == Failure("it took longer than 1 s")
    assert all(name == result for name, result in found.items())


def test_a_crash_that_was_not_the_files_fault(tmp_path: Path) -> None:
    assert run(["ok", "once", "ok"], tmp_path) == {"0_ok": "0_ok", "1_once": "1_once", "2_ok": "2_ok"}


def test_no_files(tmp_path: Path) -> None:
    assert run([], tmp_path) == {}


def test_a_reader_that_pauses_is_no_hang(tmp_path: Path) -> None:
    found = []
    for path, result in process_files([tmp_path / f"{i}_slow" for i in range(6)], obey, workers=1, timeout_s=1):
        found.append(result == path.name)
        if len(found) == 2:
            time.sleep(1.5)
    assert found == [True] * 6


def test_workers_end_with_the_walk(tmp_path: Path) -> None:
    walk = process_files([tmp_path / f"{i}_ok" for i in range(100)], obey, workers=2)
    next(walk)
    assert children().count("seqmodal.data.worker") == 2
    walk.close()  # type: ignore[attr-defined]
    assert "seqmodal.data.worker" not in children()


def children() -> str:
    command = ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "args="]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_partial_functions_and_light_workers(tmp_path: Path) -> None:
    assert [r for _, r in process_files([tmp_path / "abc"], partial(plus, 4))] == [7]
    ((_, loaded),) = process_files([tmp_path / "abc"], modules)
    assert not {"torch", "numpy", "matplotlib", "lightning"} & loaded


def test_a_plain_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\nfrom worker_functions import obey\nfrom seqmodal.data.source import process_files\n"
        "print('once')\nprint([r for _, r in process_files([Path('0_ok'), Path('1_abort')], obey)])\n"
    )
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert done.stdout == "once\n['0_ok', Failure(reason='the parser crashed')]\n", done.stderr


def test_a_recipe_of_ones_own_outside_the_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def size(path):\n    return len(path.name)\n")
    spec = importlib.util.spec_from_file_location("a_recipe_of_mine", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    try:
        assert [r for _, r in process_files([Path("four")], module.size)] == [4]
    finally:
        del sys.modules[spec.name]


def test_functions_that_no_worker_can_find(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be sent"):
        list(process_files([tmp_path / "x"], lambda path: 1))
    hidden = ModuleType("a_module_that_is_nowhere")
    exec("def size(path): return 1", hidden.__dict__)
    sys.modules[hidden.__name__] = hidden
    try:
        with pytest.raises(ConfigError, match="cannot import .*a_module_that_is_nowhere"):
            list(process_files([tmp_path / "x"], hidden.size))
    finally:
        del sys.modules[hidden.__name__]


def test_several_files_and_folders(tmp_path: Path) -> None:
    for name in ("a/train/x.t", "a/valid/y.t", "b/z.t", "c.u"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def split(*given: str) -> dict[str, str]:
        places = [str(tmp_path / name) for name in given]
        roots, files = input_files(places, (".t",), (), "text", evaluated=False)
        splits = split_files(roots, dict.fromkeys(files, 1.0))
        return {path.name: splits[path] for path in files}

    assert split("a", "b", "c.u") == {"x.t": "train", "y.t": "valid", "z.t": "train", "c.u": "train"}
    assert split("a/valid", "a/train") == {"y.t": "valid", "x.t": "train"}  # folders that are called so themselves
    assert split("b", "b/z.t") == {"z.t": "train"}
    places = [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [path.name for path in input_files(places, (".t",), (), "text", evaluated=True)[1]] == ["x.t", "y.t", "z.t"]
    with pytest.raises(BadInput, match="a, .*b: there is no picture here"):
        input_files(places, (".png",), (), "picture", evaluated=False)


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "Val", "validation"):
        (tmp_path / name).mkdir()
    with pytest.raises(BadInput, match="Val and validation are both the valid part"):
        split_folders(tmp_path)
