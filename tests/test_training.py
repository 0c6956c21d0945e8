"""Training: it learns, resumes exactly where it was killed, keeps its files whole, and never overwrites a run."""

from __future__ import annotations

import math
import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

import seqmodal
from seqmodal.errors import BadInput, ConfigError, RunExists, SeqmodalError
from seqmodal.training.keep import DurableCheckpointIO
from seqmodal.training.record import read_metrics

RECIPE = '''
"""A toy: digits that count up."""
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus
from seqmodal.sequence import Document, Segment

@dataclass(frozen=True)
class Config(RecipeConfig):
    """Count."""
    pieces: int = 12

class Counting:
    name, vocab_size = "count", 10
    def encode(self, item): return np.asarray(item, np.int32)
    def decode(self, ids): return np.asarray(ids)
    def to_dict(self): return {}
    @classmethod
    def from_dict(cls, d): return cls()

TOKENIZERS = {"count": Counting}

def corpus(config, tokenizers=None):
    def documents():
        for n in range(config.pieces):
            ids = ((np.arange(60) + n) % 10).astype(np.int32)
            yield Document((Segment("count", ids),), str(n), "valid" if n % 4 == 0 else "train")
    return Corpus([Counting()], documents(), [], {"pieces": config.pieces})

def judge(model, config, stores, folder):
    return {"documents": float(len(stores["valid"]))}

def show(model, config, folder, step):
    path = Path(folder) / f"step_{step}.txt"
    path.write_text("shown")
    return [path]
'''
SMALL = {"model": {"d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 16, "window": 8, "dropout": 0.1}}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "counting.py"
    path.write_text(RECIPE)
    return path


def training(**changes: float) -> dict[str, float]:
    return {"steps": 30, "batch_size": 2, "evaluations": 3, "samples": 1, "threads": 1, **changes}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_leaves_what_it_promises(recipe: Path, tmp_path: Path) -> None:
    run = seqmodal.train(recipe, out=tmp_path / "run", training=training(steps=60), **SMALL)
    names = {str(p.relative_to(run.folder)) for p in run.folder.rglob("*") if p.is_file()}
    assert {
        "config.yaml",
        "metrics.csv",
        "loss.png",
        "skipped.csv",
        "recipe.py",
        "environment.json",
        "judged.json",
        "checkpoints/last.ckpt",
        "model/model.safetensors",
        "model/config.json",
        "model/tokenizers.json",
        "model/README.md",
        "samples/step_30.txt",
        "samples/step_60.txt",
    } <= names
    assert run.metrics == {"documents": 3.0}
    rows = read_metrics(run.folder / "metrics.csv")
    assert [row["step"] for row in rows if "valid_loss" in row] == [20, 40, 60]
    assert rows[-1]["valid_loss"] < 0.5 * math.log(14) and rows[-1]["tokens"] == 60 * 2 * 16
    held = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert held["training"]["steps"] == 60 and held["model"]["vocab_size"] == 16 and held["pieces"] == 12


def test_the_same_seed_gives_the_same_weights(recipe: Path, tmp_path: Path) -> None:
    runs = [seqmodal.train(recipe, out=tmp_path / f"run{i}", training=training(steps=8), **SMALL) for i in range(2)]
    first, second = (weights(run.folder) for run in runs)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_config_yaml_repeats_a_run(recipe: Path, tmp_path: Path) -> None:
    first = seqmodal.train(recipe, out=tmp_path / "first", training=training(steps=8), **SMALL)
    again = seqmodal.train(recipe, out=tmp_path / "again", config=first.folder / "config.yaml")
    assert all(
        torch.equal(a, b) for a, b in zip(weights(first.folder).values(), weights(again.folder).values(), strict=True)
    )


KILL = """
import os, sys, signal, seqmodal
from seqmodal.training.lit import LitDecoder
step, number = int(sys.argv[3]), int(sys.argv[4])
before = LitDecoder.on_train_batch_start
def at(self, batch, index):
    if self.global_step == step:
        os.kill(os.getpid(), number)
    before(self, batch, index)
LitDecoder.on_train_batch_start = at
seqmodal.train(sys.argv[1], out=sys.argv[2], training={training}, **{small})
"""


def killed(recipe: Path, out: Path, step: int, number: int) -> int:
    code = KILL.replace("{training}", repr(training())).replace("{small}", repr(SMALL))
    done = subprocess.run(
        [sys.executable, "-c", code, str(recipe), str(out), str(step), str(number)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_stopped_run_goes_on_exactly(recipe: Path, tmp_path: Path, number: int, code: int) -> None:
    whole = seqmodal.train(recipe, out=tmp_path / "whole", training=training(), **SMALL)
    assert killed(recipe, tmp_path / "cut", 17, number) == code
    run = seqmodal.train(tmp_path / "cut", resume=True)
    expected, found = weights(whole.folder), weights(run.folder)
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    steps = [row["step"] for row in read_metrics(run.folder / "metrics.csv")]
    assert steps == sorted(set(steps)) and steps[-1] == 30


def test_a_finished_run_that_is_resumed_stays_as_it_is(recipe: Path, tmp_path: Path) -> None:
    run = seqmodal.train(recipe, out=tmp_path / "run", training=training(steps=8), **SMALL)
    rows, before = read_metrics(run.folder / "metrics.csv"), weights(run.folder)
    again = seqmodal.train(run.folder, resume=True)
    assert again.metrics == run.metrics and read_metrics(run.folder / "metrics.csv") == rows
    assert all(torch.equal(before[key], value) for key, value in weights(run.folder).items())


def test_a_run_is_not_overwritten(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "mine.txt").write_text("keep")
    with pytest.raises(RunExists, match="--resume"):
        seqmodal.train(recipe, out=out, training=training(), **SMALL)
    assert (out / "mine.txt").read_text() == "keep"


def test_resume_takes_no_other_settings(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave the others out"):
        seqmodal.train(recipe, out=tmp_path, resume=True, data="x")
    with pytest.raises(BadInput, match="no run"):
        seqmodal.train(recipe, out=tmp_path / "none", resume=True)


def test_minutes_become_steps(recipe: Path, tmp_path: Path) -> None:
    start = time.monotonic()
    run = seqmodal.train(recipe, out=tmp_path / "run", training=training(steps=0, minutes=0.03), **SMALL)
    assert time.monotonic() - start < 60
    assert yaml.safe_load((run.folder / "config.yaml").read_text())["training"]["steps"] > 0


def test_a_loss_that_is_not_finite_ends_the_training(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from seqmodal.training import lit

    real = lit.loss_and_memory

    def broken(*given: Any) -> tuple[torch.Tensor, torch.Tensor, object]:
        total, weight, memory = real(*given)
        calls.append(1)
        return (total * float("nan") if len(calls) > 20 else total), weight, memory

    calls: list[int] = []
    monkeypatch.setattr(lit, "loss_and_memory", broken)
    with pytest.raises(SeqmodalError, match="not finite"):
        seqmodal.train(recipe, out=tmp_path / "run", training=training(evaluations=0), **SMALL)
    assert all(bool(torch.isfinite(w).all()) for w in weights(tmp_path / "run").values())


def test_threads_are_the_cores_there_are_or_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    from seqmodal.training.hardware import cores

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert cores() == 3
    for asked, wanted in (("2", 2), ("8", 3), ("0", 3), ("", 3), ("2,1", 3)):
        monkeypatch.setenv("OMP_NUM_THREADS", asked)
        assert cores() == wanted


def test_a_failed_write_keeps_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep, path = DurableCheckpointIO(), tmp_path / "last.ckpt"
    keep.save_checkpoint({"a": torch.ones(3)}, path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SeqmodalError, match="No space left"):
        keep.save_checkpoint({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/owned",)

    torch.save({"x": Evil()}, tmp_path / "evil.ckpt")
    with pytest.raises(Exception, match="weights_only|Unsupported|unsafe"):
        DurableCheckpointIO().load_checkpoint(tmp_path / "evil.ckpt", weights_only=False)
    assert not (tmp_path / "owned").exists()


def test_the_loss_of_a_batch_is_the_mean_over_weighted_targets() -> None:
    from seqmodal.config import DecoderConfig
    from seqmodal.decoder import Decoder
    from seqmodal.training.lit import loss_and_memory

    torch.manual_seed(0)
    decoder = Decoder(DecoderConfig(vocab_size=7, d_model=8, num_layers=1, num_heads=2, max_seq_len=8)).eval()
    torch.nn.init.normal_(decoder.head.weight)
    ids, targets = torch.randint(7, (2, 5)), torch.randint(7, (2, 5))
    weight = torch.tensor([[1.0, 0, 2, 1, 0], [0, 0, 0.5, 0, 1]])
    batch = {"ids": ids, "targets": targets, "weight": weight, "document": torch.zeros(2, 5, dtype=torch.int32)}
    total, count, _ = loss_and_memory(decoder, batch)
    p = torch.softmax(decoder.logits(decoder(ids).hidden), -1).detach().numpy()
    nats = -np.log(np.take_along_axis(p, targets.numpy()[..., None], -1)[..., 0])
    assert total.item() == pytest.approx(float((nats * weight.numpy()).sum()), rel=1e-5)
    assert count.item() == pytest.approx(5.5)


def test_a_sample_that_fails_costs_no_training_and_a_judge_that_fails_no_model(recipe: Path, tmp_path: Path) -> None:
    text = recipe.read_text().replace("    path = ", "    raise ValueError('no show')\n    path = ")
    recipe.write_text(text.replace('    return {"doc', "    raise RuntimeError('no judge')\n" + '    return {"doc'))
    with pytest.raises(RuntimeError, match="no judge"):
        seqmodal.train(recipe, out=tmp_path / "run", training=training(steps=4, samples=2), **SMALL)
    assert weights(tmp_path / "run").keys() and (tmp_path / "run" / "model" / "model.safetensors").is_file()


FREED = """
import torch
from pathlib import Path
from seqmodal.training.hardware import keep_freed_memory, release_freed_memory

def left():
    before = held()
    for size in (40, 60):
        blocks = [torch.ones(size, 2**18) for _ in range(4)]
        del blocks
    return held() - before

def held(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024  # MB resident

print(left())
keep_freed_memory()
before = held()
print(left())
release_freed_memory()
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="about glibc")
def test_freed_memory_is_kept_for_the_next_step_until_it_is_released() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], check=True, capture_output=True, text=True)
    plain, kept, released = map(int, done.stdout.split())
    assert plain < 100 < 200 < kept < 400 and released < 100


SHAPES = """
import sys, torch
from pathlib import Path
if len(sys.argv) > 1:
    import seqmodal.training.hardware

def held(): return int(Path("/proc/self/statm").read_text().split()[1]) * 4 // 1024  # MB resident

def use(rows):
    x = torch.randn(rows, 256, dtype=torch.bfloat16)
    torch.nn.functional.linear(x, weight), torch.randn(512, rows, dtype=torch.bfloat16) @ x

torch.set_num_threads(1)
weight = torch.randn(512, 256, dtype=torch.bfloat16)
for rows in range(1, 10): use(rows)
before = held()
for rows in range(10, 260): use(rows)
print(held() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_kernels_of_many_shapes_do_not_add_up() -> None:
    free = {name: value for name, value in os.environ.items() if not name.endswith("CACHE_CAPACITY")}
    command = [sys.executable, "-c", SHAPES]
    found = [
        int(subprocess.run([*command, *more], check=True, capture_output=True, text=True, env=free).stdout)
        for more in ([], ["bounded"])
    ]
    assert found[1] < max(100, found[0] / 2)
