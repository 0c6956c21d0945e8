"""The recipe for files of any kind: any tokenizer that reads them, fitted where need be, judged beside a unigram."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import seqmodal
from seqmodal.cli import main
from seqmodal.data.corpus import Prepared, prepare
from seqmodal.errors import BadInput, ConfigError
from seqmodal.model import Model
from seqmodal.recipes import files
from seqmodal.recipes.files import Config
from seqmodal.training.judge import judge_run

LONGER = replace(Config().sampling, seconds=3.0)
SMALLEST: dict[str, Any] = {
    "model": {"d_model": 16, "num_layers": 1, "num_heads": 1},
    "training": {"steps": 4, "batch_size": 2, "samples": 1, "evaluations": 1, "threads": 1},
}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty waves of numbers, a copy, and two files that are none."""
    place = tmp_path / "waves"
    place.mkdir()
    for number in range(20):
        np.savetxt(place / f"{number:02}.csv", np.sin(np.arange(60) / (3 + number)))
    (place / "copy.csv").write_bytes((place / "07.csv").read_bytes())
    (place / "words.csv").write_text("1\nsix\n")
    (place / "empty.txt").write_text("")
    (place / "other.png").write_bytes(b"not asked for")
    return place


def test_the_good_are_used_and_the_others_listed(folder: Path) -> None:
    found = prepare(files, Config(data=str(folder), tokenizer="series", options=("bins=8",)))
    assert sum(map(len, found.stores.values())) == 20 and len(found.stores["valid"]) == 2
    skipped = (found.folder / "skipped.csv").read_text()
    for part in ("words.csv,\"line 2 ends in 'six'", "empty.txt,no numbers", "copy.csv,the same series file as"):
        assert part in skipped
    assert skipped.count("\n") == 4 and "other.png" not in skipped


def test_it_is_fitted_on_the_training_part_alone(folder: Path) -> None:
    found = prepare(files, Config(data=str(folder), tokenizer="series", options=("bins=8",)))
    (held,) = found.tokenizers
    again = seqmodal.tokenizer("series", bins=8)
    again.fit(np.loadtxt(name) for name in found.stores["train"].names)
    np.testing.assert_array_equal(held.values, again.values)
    every = seqmodal.tokenizer("series", bins=8)
    every.fit(np.loadtxt(name) for store in found.stores.values() for name in store.names)
    assert not np.array_equal(held.values, every.values)
    for store in found.stores.values():
        for number, name in enumerate(store.names):
            np.testing.assert_array_equal(store[number].segments[0].ids, held.encode(np.loadtxt(name)))


def test_a_run_is_judged_gone_on_from_and_evaluated(
    folder: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, more, new = tmp_path / "run", tmp_path / "more", tmp_path / "new.csv"
    seqmodal.train("files", data=str(folder), out=run, tokenizer="series", options=("bins=8",), **SMALLEST)
    judged = json.loads((run / "judged.json").read_text())
    ids = [Prepared.open(run / "data").stores[split] for split in ("train", "valid")]
    train, valid = (np.concatenate([s[n].segments[0].ids for n in range(len(s))]) for s in ids)
    share = np.array([(train == id).sum() + 1 for id in range(8)]) / (len(train) + 8)
    assert judged["unigram_nats_per_token"] == pytest.approx(-np.log(share[valid]).mean())
    assert (run / "samples" / "step_000004.csv").is_file()
    assert main(["generate", str(run), "--out", str(new), "--max-new-tokens", "5", "--seed", "1"]) == 0
    assert set(np.loadtxt(new).astype(np.float32)) <= set(seqmodal.load(run).tokenizer().values)
    assert judge_run(run) == pytest.approx(judged)
    assert set(judge_run(run, data=str(folder))) == set(judged)
    seqmodal.train(
        "files", data=str(folder), out=more, tokenizer="series", init=str(run), training=SMALLEST["training"]
    )
    assert len(seqmodal.load(more).tokenizer().values) == 8
    monkeypatch.setattr(Model, "maker", lambda self, to=None: SimpleNamespace(name="series", vocab_size=8))
    assert main(["generate", str(run)]) == 2 and "the tokenizer series writes no files" in capsys.readouterr().err


@pytest.mark.parametrize(("settings", "says"), [
    ({}, "give --tokenizer a name; there are: band"),
    ({"tokenizer": "serie"}, "no tokenizer is called 'serie'"),
    ({"tokenizer": "series", "options": ("bin=8",)}, "unexpected keyword argument 'bin'"),
    ({"tokenizer": "series", "options": ("bins=[1",)}, r"the options bins=\[1 hold a value that is no YAML"),
    ({"tokenizer": "image", "options": ("size=[1,2,3]",)}, "tokenizer 'image' cannot be made: ValueError"),
    ({"tokenizer": "series", "options": ("bins=0",)}, "bins=0: at least 1"),
    ({"tokenizer": "series"}, "files has no corpus of its own"),
    ({"tokenizer": "series", "data": ".", "sampling": LONGER}, "seconds means nothing"),
])  # fmt: skip
def test_settings_without_meaning_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        files.corpus(Config(**settings))


def test_more_settings_without_meaning(folder: Path) -> None:
    with pytest.raises(ConfigError, match="'8'; an option is NAME=VALUE"):
        Config(options=("8",))
    with pytest.raises(ConfigError, match="count means nothing"):
        Config(sampling=replace(Config().sampling, count=3))
    held = seqmodal.tokenizer("series", bins=8)
    held.fit([np.arange(9.0)])
    with pytest.raises(ConfigError, match="options mean nothing"):
        files.corpus(Config(data=str(folder), tokenizer="series", options=("bins=8",)), [held])
    with pytest.raises(BadInput, match="none of 1 series files can be used"):
        files.corpus(Config(data=str(folder / "words.csv"), tokenizer="series"))
