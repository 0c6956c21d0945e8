"""Several modalities in one model: cached equals full, guidance, prompts of another kind, a run from end to end."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from toy import Digits, Grid
from variants import BASE, POSITIONS, random_decoder

import seqmodal
from seqmodal.data.store import BlockShape, write_store
from seqmodal.data.whole import WholeBatches
from seqmodal.errors import BadInput, ConfigError
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.inputs import Inputs
from seqmodal.model import Model
from seqmodal.nn.mask import Mask
from seqmodal.sequence import NOTHING, Document, Segment, compose, located
from seqmodal.tokenizers import Vocabulary
from seqmodal.training.record import read_metrics

GRID, DIGITS = Grid(), Digits("a", 10)
VOCABULARY = Vocabulary.of([DIGITS, GRID])
SHAPES = {"a": BlockShape(given=True), "grid": BlockShape(2, 2, given=True, both_ways=True)}


def a_model(**shape: Any) -> Model:
    decoder = random_decoder(replace(BASE, vocab_size=VOCABULARY.size, num_layers=2, max_seq_len=64, **shape))
    inputs = Inputs(VOCABULARY, SHAPES, BASE.d_model)
    with torch.no_grad():
        for parameter in inputs.parameters():
            parameter.normal_(std=0.5)
    return Model(decoder, VOCABULARY, [DIGITS, GRID], objective="prefix", inputs=inputs, condition_dropout=0.1)


def picture(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((rows, 3))


GIVEN: dict[str, list[Segment]] = {
    "features": [Segment.of(GRID, picture(2), loss=0, both_ways=True, features=True)],
    "ids": [Segment.of(GRID, picture(2), loss=0, both_ways=True)],
    "both": [Segment("a", np.array([3, 1]), 0.0), Segment.of(GRID, picture(1), loss=0, both_ways=True, features=True)],
    "nothing": [],
}


@torch.no_grad()
def scores_after(model: Model, given: list[Segment], to: Any, ids: list[int]) -> np.ndarray:
    """Log-probabilities of what comes next, from the whole document read at once, as in training, where a null stands
    in place of what is not given."""
    given = given or [NOTHING]
    own = model.vocabulary.to_local(to.name, np.array(ids, np.int64)) if ids else np.zeros(0, np.int32)
    whole = compose(located(Document((*given, Segment(to.name, own))), [to]), model.vocabulary)
    whole = whole.part(0, len(whole.ids) - 2)
    names = ("ids", "block", "features", "coordinates")
    arrays = {name: torch.from_numpy(getattr(whole, name))[None] for name in names if getattr(whole, name) is not None}
    assert model.inputs is not None
    extra, mask = model.inputs(**arrays), Mask(span=torch.from_numpy(whole.span)[None])
    hidden = model.decoder(arrays["ids"].long(), mask=mask, extra=extra).hidden[0, -1]
    return model.decoder.logits(hidden).double().log_softmax(-1).numpy()


PLACES = {"all": {}, "ring": {"window": 9}, "learned": {"position": POSITIONS["learned"]}}


@pytest.mark.parametrize("shape", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("given", GIVEN.values(), ids=GIVEN.keys())
@pytest.mark.parametrize("to", [GRID, DIGITS], ids=["grid", "a"])
def test_generation_adds_what_training_adds(to: Any, given: list[Segment], shape: dict[str, Any]) -> None:
    """Cached equals full with features, modality vectors and coordinates, in a batch of different lengths."""
    model = a_model(**shape)
    block = VOCABULARY.block(to.name)
    starts = [model.start(to, np.arange(known), given) for known in (0, 4, 1)]
    found = generate(model.decoder, starts, sampler=Sampler(0), max_new_tokens=[9, 6, 9], stop_ids={block.end})
    for known, one in zip((0, 4, 1), found, strict=True):
        ids = [block.first_content + number for number in range(known)]
        for id, logprob in zip(one.ids.tolist(), one.logprobs.tolist(), strict=True):
            scores = scores_after(model, given, to, ids) if all(i in _content(block) for i in ids) else None
            if scores is not None:
                assert id == int(scores.argmax()) and logprob == pytest.approx(float(scores.max()), abs=1e-4)
            ids.append(id)


def _content(block: Any) -> range:
    return range(block.content_slice.start, block.content_slice.stop)


@pytest.mark.parametrize("how", [{"beams": 3}, {"draft": "lookup", "temperature": 0.0}, {"temperature": 0.8}])
def test_every_way_to_decode_adds_it(how: dict[str, Any]) -> None:
    model = a_model()
    (one,) = model.sample(given=GIVEN["features"], to="grid", max_new_tokens=12, seed=3, **how)
    ids: list[int] = []
    block = VOCABULARY.block("grid")
    allowed = np.zeros(VOCABULARY.size, bool)
    allowed[block.content_slice] = allowed[block.end] = True
    for local, logprob in zip(one.ids.tolist(), one.logprobs.tolist(), strict=False):
        scores = scores_after(model, GIVEN["features"], GRID, ids)
        scores = np.where(allowed, scores, -np.inf)
        expected = scores[block.first_content + local] - np.log(np.exp(scores).sum())
        assert logprob == pytest.approx(float(expected), abs=1e-4)
        ids.append(block.first_content + local)
    assert len(one.ids) > 2 and all(0 <= id < GRID.vocab_size for id in one.ids)


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_guidance_as_written_down(weight: float) -> None:
    """u + w (c - u), with a null in place of what is given; at 1 it is the model, at 0 the model without."""
    model, block = a_model(), VOCABULARY.block("grid")
    given = GIVEN["both"]
    null = Segment("special", np.array([VOCABULARY.null]), 0.0, True)
    found = model.sample(given=given, to="grid", max_new_tokens=7, seed=1, guidance=weight, variations=3)
    for one in found:
        ids: list[int] = []
        for local, logprob in zip(one.ids.tolist(), one.logprobs.tolist(), strict=False):
            c, u = (scores_after(model, before, GRID, ids) for before in (given, [null]))
            guided = (u + weight * (c - u))[[*_content(block), block.end]]
            expected = guided[local] - np.log(np.exp(guided).sum())
            assert logprob == pytest.approx(float(expected), abs=1e-4)
            ids.append(block.first_content + local)
    assert len({tuple(one.ids) for one in found}) > 1


def test_guidance_that_means_nothing_is_refused() -> None:
    model = a_model()
    for how, said in (
        ({"beams": 2}, "beams"), ({"draft": "lookup"}, "draft"), ({"guidance": -1.0}, "guidance is -1"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            model.sample(given=GIVEN["ids"], to="a", max_new_tokens=2, **{"guidance": 2.0, **how})
    with pytest.raises(ConfigError, match="nothing is given"):
        model.sample(to="a", max_new_tokens=2, guidance=2.0)
    with pytest.raises(ConfigError, match="condition_dropout"):
        replace(model, condition_dropout=0.0).sample(given=GIVEN["ids"], to="a", guidance=2.0)


def test_a_prompt_of_another_kind_is_given_and_one_of_the_same_is_gone_on_from(tmp_path: Path) -> None:
    model = a_model()
    (tmp_path / "seven.digits").write_text("7")
    how: dict[str, Any] = {"max_new_tokens": 6, "seed": 2}

    def same(a: Any, b: Any) -> None:
        assert a[0].ids.tolist() == b[0].ids.tolist()
        np.testing.assert_allclose(a[0].logprobs, b[0].logprobs, atol=1e-5)

    digits = [Segment("a", np.array([7]), 0.0)]
    same(model.sample(tmp_path / "seven.digits", to="grid", **how), model.sample(given=digits, to="grid", **how))
    same(model.sample(picture(2), to="a", **how), model.sample(given=GIVEN["features"], to="a", **how))
    (one,) = model.sample(tmp_path / "seven.digits", to="a", **how)
    assert one.ids[0] == 7 and one.prompt_ids.tolist() == [7]
    with pytest.raises(BadInput, match="no such file"):
        model.sample(str(tmp_path / "eight.digits"), to="grid", **how)
    with pytest.raises(ConfigError, match="this model makes a, grid"):
        model.sample(picture(2))
    with pytest.raises(ConfigError, match="prompt_seconds is for a prompt to go on from"):
        model.sample(tmp_path / "seven.digits", to="grid", prompt_seconds=1.0)
    unread = {"a": BlockShape(), "grid": BlockShape(2, 2)}
    with pytest.raises(ConfigError, match="never learned to make something from a"):
        replace(model, inputs=Inputs(VOCABULARY, unread, 16)).sample(tmp_path / "seven.digits", to="grid", **how)


def test_what_was_only_ever_read_is_not_made() -> None:
    model = a_model()
    read = {**SHAPES, "grid": replace(SHAPES["grid"], learned=False)}
    model = replace(model, inputs=Inputs(VOCABULARY, read, BASE.d_model))
    assert model.maker() is DIGITS and model.tokenizer("grid") is GRID
    with pytest.raises(ConfigError, match="to is 'grid'; say what to make: this model makes a$"):
        model.sample(to="grid")


def test_condition_dropout_replaces_all_that_is_given_by_one_null(tmp_path: Path) -> None:
    documents = [Document((*GIVEN["both"], Segment("a", np.array([n % 10])))) for n in range(60)]
    store = write_store(tmp_path, documents, VOCABULARY)
    make = {"context": 20, "batch_size": 4, "seed": 1, "objective": seqmodal.config.Prefix()}
    bare = total = 0
    for number in range(40):
        batch = WholeBatches(store, condition_dropout=0.3, **make).batch(number)
        assert batch.features is not None and batch.span is not None
        for ids, weight, span, features in zip(batch.ids, batch.weight, batch.span, batch.features, strict=True):
            total += 1
            a = VOCABULARY.block("a")
            if ids[1] != VOCABULARY.null:
                assert features.any() and weight.sum() == 4  # begin, number, end and eos
                continue
            bare += 1
            assert ids[:3].tolist() == [VOCABULARY.bos, VOCABULARY.null, a.begin] and not features.any()
            assert span[:3].tolist() == [0, 1, 0] and weight.sum() == 4
    assert 0.2 < bare / total < 0.4
    again = WholeBatches(store, condition_dropout=0.3, **make).batch(7)
    np.testing.assert_array_equal(again.ids, WholeBatches(store, condition_dropout=0.3, **make).batch(7).ids)


RECIPE = '''
"""A toy: a number, and a picture of it."""
from dataclasses import dataclass, field
import numpy as np
from toy import Digits, Grid
from seqmodal.config import Prefix, RecipeConfig
from seqmodal.data.corpus import Corpus
from seqmodal.sequence import Document, Segment

@dataclass(frozen=True)
class Config(RecipeConfig):
    """Numbers and pictures."""
    objective: Prefix = field(default_factory=Prefix)

TOKENIZERS = {"a": Digits, "grid": Grid}

def corpus(config, tokenizers=()):
    number, grid = Digits("a", 10), Grid()
    def documents():
        for n in range(60):
            picture = np.full((2, 3), n % 3 / 2)
            read = {"loss": 0.0, "both_ways": True}
            word = Segment("a", np.array([n % 3]))
            split = "valid" if n >= 50 else "train"
            yield Document((Segment.of(grid, picture, **read, features=True), word), str(n), split)
            yield Document((Segment("a", word.ids, **read), Segment("grid", grid.encode(picture))), str(n), split)
    return Corpus([number, grid], documents(), [], {})

def judge(model, config, stores, folder):
    from seqmodal.data.loader import windows
    from seqmodal.evaluation.likelihood import likelihood
    from seqmodal.outputs import Outputs
    outputs = Outputs(model.vocabulary, config.objective)
    held = windows(stores["valid"], config.model.max_seq_len, objective=config.objective)
    found = likelihood(model.decoder, held, inputs=model.inputs, outputs=outputs)
    return {"nats": found.nats, **{f"nats_{name}": part.nats for name, part in found.parts.items()}}

def show(model, config, folder, step):
    return []
'''


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(folder / "cache"))
        (folder / "pairs.py").write_text(RECIPE)
        training = {
            "steps": 120, "batch_size": 8, "evaluations": 2, "samples": 0, "threads": 1, "condition_dropout": 0.1,
            "precision": "float32",
        }  # fmt: skip
        model = {"d_model": 32, "num_layers": 2, "num_heads": 2}
        seqmodal.train(folder / "pairs.py", out=folder / "run", training=training, model=model)
    return folder / "run"


@pytest.fixture
def loaded(run: Path) -> Model:
    return seqmodal.load(run, tokenizers={"a": Digits, "grid": Grid})


def test_one_model_goes_both_ways(loaded: Model) -> None:
    for value in (0, 1, 2):
        (read,) = loaded.sample(np.full((2, 3), value / 2), to="a", temperature=0)
        assert read.item == [value] and read.finished
        word = [Segment("a", np.array([value]), 0.0, True)]
        (drawn,) = loaded.sample(given=word, to="grid", temperature=0, guidance=2)
        np.testing.assert_allclose(drawn.item, np.full((2, 3), value / 2), atol=1e-6)


def test_losses_of_each_modality_are_told(run: Path) -> None:
    rows = [row for row in read_metrics(run / "metrics.csv") if "valid_loss" in row]
    assert len(rows) == 2 and all(row["valid_loss_a"] > 0 and row["valid_loss_grid"] > 0 for row in rows)
    with open(run / "metrics.csv", newline="", encoding="utf-8") as file:
        assert {"valid_loss_a", "valid_loss_grid"} <= set(next(csv.reader(file)))
    judged = json.loads((run / "judged.json").read_text())
    begins_and_ends = judged["nats"] - judged["nats_a"] - judged["nats_grid"]
    assert judged["nats_a"] > 0 and judged["nats_grid"] > 0 and begins_and_ends > 0


def test_a_model_folder_keeps_what_is_added(run: Path, loaded: Model) -> None:
    assert loaded.inputs is not None and loaded.condition_dropout == 0.1
    assert loaded.inputs.shapes == SHAPES | {"a": BlockShape(given=True, both_ways=True)}
    trained = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in loaded.inputs.state_dict().items():
        np.testing.assert_array_equal(weight, trained[f"inputs.{name}"])
        assert weight.abs().sum() > 0


@pytest.mark.parametrize(("share", "said"), [(0.5, "nothing is given"), (1.0, "below 1")])
def test_condition_dropout_without_a_condition_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float, said: str
) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    whole = "yield Document((Segment.of(grid, picture, **read, features=True), word), str(n), split)"
    recipe = RECIPE.replace(whole, "")
    both = '(Segment("a", word.ids, **read), Segment("grid", grid.encode(picture)))'
    recipe = recipe.replace(both, '(Segment("grid", grid.encode(picture)),)')
    (tmp_path / "alone.py").write_text(recipe)
    with pytest.raises(ConfigError, match=said):
        seqmodal.train(tmp_path / "alone.py", out=tmp_path / "run", training={"steps": 2, "condition_dropout": share})
