"""A decoder and its objective: answers do not leak, rows are read as each alone, each objective is learned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from objectives import EACH, KINDS, tensors
from toy import Digits

import seqmodal
from seqmodal.config import (
    Alibi,
    Bucketed,
    Causal,
    DecoderConfig,
    Learned,
    Masked,
    NoPosition,
    Objective,
    Permutation,
    Prefix,
    Relative,
    Rotary,
    Sinusoidal,
    TransformerXL,
)
from seqmodal.data.loader import Batches, windows
from seqmodal.data.store import Store, write_store
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.evaluation.likelihood import likelihood
from seqmodal.objective import (
    Arranged,
    arrange,
    with_marks,
)
from seqmodal.recipes import music
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers import Vocabulary
from seqmodal.training.recipe import find_recipe
from seqmodal.training.record import read_metrics

DIGITS = Vocabulary.of([Digits("a", 10)])
SHAPE = DecoderConfig(d_model=16, num_layers=2, num_heads=2, max_seq_len=64)


def a_decoder(objective: Objective, **shape: object) -> Decoder:
    """With random weights everywhere, in float64."""
    torch.manual_seed(0)
    size = with_marks(DIGITS, objective).size
    decoder = Decoder(replace(SHAPE, vocab_size=size, **shape)).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for weight in decoder.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return decoder


def hidden(decoder: Decoder, found: Arranged) -> torch.Tensor:
    ids = torch.from_numpy(found.ids.astype(np.int64))[None]
    at = None if found.positions is None else torch.from_numpy(found.positions.astype(np.int64))[None]
    with torch.no_grad():
        return decoder(ids, at, mask=tensors(found)).hidden[0]


def prediction_does_not_depend_on_the_answer(objective: Objective, decoder: Decoder) -> None:
    vocabulary, rng = with_marks(DIGITS, objective), np.random.default_rng(0)
    before = rng.integers(0, 10, 24)
    checked = 0
    for place in range(24):
        after = before.copy()
        after[place] = (before[place] + 5) % 10
        one, two = (
            arrange(objective, compose(Document((Segment("a", ids),)), DIGITS), np.random.default_rng(7), vocabulary)
            for ids in (before, after)
        )
        answers = (one.targets != two.targets) & (one.weight > 0)
        if isinstance(objective, Masked):
            answers &= one.ids == two.ids  # one of ten stays in sight
        if not answers.any():
            continue
        checked += 1
        a, b = hidden(decoder, one), hidden(decoder, two)
        assert float((a[answers] - b[answers]).abs().max()) < 1e-10
        if (one.ids != two.ids).any():
            assert float((a - b).abs().max()) > 1e-3  # and others do
    assert checked >= 2


@EACH
def test_a_prediction_does_not_depend_on_the_answer(objective: Objective) -> None:
    prediction_does_not_depend_on_the_answer(objective, a_decoder(objective))


@pytest.mark.parametrize(
    "position",
    [
        Learned(), Sinusoidal(), Rotary(), Alibi(), Relative(), Relative(values=True), Bucketed(), TransformerXL(),
        NoPosition(),
    ],
    ids=lambda p: p.kind,
)
def test_permutation_with_any_positions(position: object) -> None:
    prediction_does_not_depend_on_the_answer(Permutation(0.5), a_decoder(Permutation(), position=position))


@EACH
def test_pieces_that_share_a_row_are_read_as_each_alone(objective: Objective, tmp_path: Path) -> None:
    store = write_store(
        tmp_path, [Document((Segment("a", np.arange(n) % 10),)) for n in (9, 14, 4, 11, 6)], DIGITS
    )
    batches = Batches(store, context=64, batch_size=1, seed=3, objective=objective)
    batch = max(map(batches.batch, range(6)), key=lambda batch: batch.document.max())
    decoder, document = a_decoder(objective), batch.document[0]
    assert document.max() > 1
    parts = [None if p is None else p[0] for p in (batch.span, batch.order, batch.reveal, batch.positions)]
    whole = Arranged(batch.ids[0], batch.targets[0], batch.weight[0], *parts)
    with torch.no_grad():
        mask = replace(tensors(whole), document=torch.from_numpy(batch.document))
        at = None if batch.positions is None else torch.from_numpy(batch.positions)
        packed = decoder(torch.from_numpy(batch.ids), at, mask=mask).hidden[0]
    for number in range(document.max() + 1):
        inside = document == number
        alone = Arranged(*(None if part is None else part[inside] for part in vars(whole).values()))  # type: ignore[arg-type]
        if alone.positions is not None:
            assert alone.positions[0] == 0  # a piece begins anew wherever in its row it stands
        torch.testing.assert_close(packed[torch.from_numpy(inside)], hidden(decoder, alone), atol=1e-9, rtol=0)


def a_corpus(folder: Path) -> Store:
    rng = np.random.default_rng(0)
    documents = [Document((Segment("a", (np.arange(40) * step + rng.integers(10)) % 10),)) for step in (1, 3, 7) * 8]
    return write_store(folder, documents, DIGITS)


@pytest.mark.parametrize("objective", [Causal(), *KINDS], ids=str)
def test_a_small_decoder_learns_it(objective: Objective, tmp_path: Path) -> None:
    from seqmodal.training.lit import as_tensors, loss_and_memory

    store = a_corpus(tmp_path)
    torch.manual_seed(0)
    decoder = Decoder(replace(SHAPE, vocab_size=with_marks(DIGITS, objective).size, d_model=32))
    batches = Batches(store, context=64, batch_size=8, seed=0, objective=objective)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-2)
    losses = []
    for number in range(80):
        total, weight, _ = loss_and_memory(decoder, as_tensors(batches.batch(number)))
        (total / weight).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float((total / weight).detach()))
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:3]), losses[::20]


def test_the_likelihood_of_batches_is_that_of_their_objective(tmp_path: Path) -> None:
    from seqmodal.training.lit import as_tensors, loss_and_memory

    store = a_corpus(tmp_path)
    for objective in (Causal(), Prefix(), Masked(), Permutation()):
        decoder = a_decoder(objective).float()
        batches = list(windows(store, 64, 8, objective=objective))
        with torch.no_grad():
            totals = [loss_and_memory(decoder, as_tensors(batch))[:2] for batch in batches]
        found = likelihood(decoder, batches)
        assert found.nats == pytest.approx(float(sum(total for total, _ in totals)), rel=1e-5)
        assert found.count == sum(int(weight) for _, weight in totals)


def test_music_judges_a_model_that_cannot_play_by_its_own_objective(tmp_path: Path) -> None:
    config = music.Config(objective=Masked(), model=SHAPE)
    store, decoder = a_corpus(tmp_path), a_decoder(Masked()).float()
    model = SimpleNamespace(decoder=decoder, inputs=None, vocabulary=with_marks(store.vocabulary, Masked()))
    found = likelihood(model.decoder, windows(store, 64, objective=Masked()))
    judged = music.judge(model, config, {"valid": store}, tmp_path)
    assert judged["nats_per_target"] == pytest.approx(found.nats / found.count) and len(judged) == 2
    assert music.show(model, config, tmp_path, 3) == []


RECIPE = '''
"""Digits that count up."""
from dataclasses import dataclass
import numpy as np
from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus
from seqmodal.sequence import Document, Segment

@dataclass(frozen=True)
class Config(RecipeConfig):
    """Count."""

class Counting:
    name, vocab_size = "count", 10
    def encode(self, item): return np.asarray(item, np.int32)
    def decode(self, ids): return np.asarray(ids)
    def to_dict(self): return {}
    @classmethod
    def from_dict(cls, d): return cls()

TOKENIZERS = {"count": Counting}

def corpus(config, tokenizers=None):
    pieces = [((np.arange(60) + n) % 10).astype(np.int32) for n in range(12)]
    splits = ["valid" if n % 4 == 0 else "train" for n in range(12)]
    return Corpus([Counting()], [Document((Segment("count", p),), "", s) for p, s in zip(pieces, splits)], [], {})

def judge(model, config, stores, folder):
    return {"rows": float(model.vocabulary.size)}

def show(model, config, folder, step):
    return []
'''


@pytest.mark.parametrize(("objective", "marks"), [("masked", 1), ("prefix", 0)])
def test_a_run(objective: str, marks: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    recipe = tmp_path / "counting.py"
    recipe.write_text(RECIPE)
    (tmp_path / "mine.yaml").write_text(f"objective: {{kind: {objective}}}\n")
    run = seqmodal.train(
        recipe, out=tmp_path / "run", config=tmp_path / "mine.yaml",
        model={"d_model": 32, "num_layers": 2, "num_heads": 2, "max_seq_len": 32},
        training={"steps": 60, "batch_size": 4, "evaluations": 2, "samples": 0, "threads": 1},
    )  # fmt: skip
    losses = [row["valid_loss"] for row in read_metrics(run.folder / "metrics.csv") if "valid_loss" in row]
    assert len(losses) == 2 and min(losses) < 1.2  # log 10 is 2.3
    model = seqmodal.load(run.folder, tokenizers={"count": find_recipe(recipe).Counting})
    assert model.vocabulary.size == run.metrics["rows"] == 16 + marks == model.decoder.config.vocab_size
    assert ("marks" in model.vocabulary.names) == bool(marks) and model.decoder.config.window == 0
    if objective == "masked":
        with pytest.raises(ConfigError, match="the objective masked, which does not go from left to right"):
            model.generate(max_new_tokens=40, seed=0)
    else:
        made = model.generate(max_new_tokens=40, seed=0)
        assert len(made) and max(made) < 10
    assert f"| objective | {objective} |" in (run.folder / "model" / "README.md").read_text()
