"""Going on from a model: nothing is renumbered, every weight is carried over, and what does not fit is said by name."""

from __future__ import annotations

import shutil
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import variants
import yaml
from safetensors.torch import load_file
from test_text_model import END, SIZE, write_gpt2
from toy import Digits

import seqmodal
from seqmodal.cli import main
from seqmodal.config import (
    Causal,
    DecoderConfig,
    FillInTheMiddle,
    Learned,
    Masked,
    Prefix,
    RecipeConfig,
    Rotary,
    SpanCorruption,
    Universal,
)
from seqmodal.data.corpus import Corpus, Prepared, prepare, shared
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError, Mismatch
from seqmodal.objective import with_marks
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers import Vocabulary
from seqmodal.training.judge import judge_run
from seqmodal.training.recipe import find_recipe
from seqmodal.transfer import FREE, carry_over, choose_anew, laid_over, must_go_on, shape_from

DIGITS, MORE = Digits("digits", 7), Digits("more", 5)
OLD = Vocabulary.of([DIGITS])  # 4 marks, begin, end, 7 digits: 13
GROWN = OLD.append("marks", 3, marked=False).append(MORE.name, MORE.vocab_size)
SHAPE = DecoderConfig(vocab_size=13, d_model=16, num_layers=2, num_heads=2, max_seq_len=32)


def decoders() -> list[DecoderConfig]:
    return [replace(config, vocab_size=OLD.size) for config in variants.pairwise()]


@pytest.mark.parametrize("config", decoders(), ids=variants.described)
def test_a_model_that_takes_on_a_modality_computes_what_it_did(config: DecoderConfig) -> None:
    """On old ids the logits of old ids are the same, as the slow decoder would have them; nothing else of it moves."""
    old = variants.random_decoder(config)
    new = variants.random_decoder(replace(config, vocab_size=GROWN.size), seed=5)
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    carry_over(old, OLD, new, GROWN)
    if old.tally is not None and new.tally is not None:  # a table of the tokenizers, which training fills
        new.tally.effects[: OLD.size] = old.tally.effects
    ids = variants.ids_of(old, 2, 14)
    with torch.no_grad():
        expected, found = (decoder.logits(decoder(ids).hidden) for decoder in (old, new))
    np.testing.assert_allclose(found[..., : OLD.size].numpy(), expected.numpy(), atol=1e-5)
    for name, tensor in new.state_dict().items():
        if name != "tally.effects":
            kept = old.state_dict()[name]
            assert torch.equal(tensor[: len(kept)], kept) and torch.equal(tensor[len(kept) :], fresh[name][len(kept) :])


def test_rows_follow_their_blocks_by_name() -> None:
    """Also where the same block stands elsewhere."""
    torch.manual_seed(0)
    other = Vocabulary.of([MORE, DIGITS])
    old = variants.random_decoder(SHAPE)
    new = variants.random_decoder(replace(SHAPE, vocab_size=other.size), seed=2)
    carry_over(old, OLD, new, other)
    there, here = other.block("digits"), OLD.block("digits")
    for name in ("embedding.weight", "head.weight", "value_embeddings.0.weight"):
        moved, kept = new.state_dict()[name], old.state_dict()[name]
        assert torch.equal(moved[there.start : there.start + there.size], kept[here.start : here.start + here.size])
        assert torch.equal(moved[:4], kept[:4])


def test_counters_and_positions_are_carried_over_as_far_as_they_go() -> None:
    old = variants.random_decoder(replace(SHAPE, tally=3, position=Learned()))
    for counters, length in ((5, 32), (3, 20)):
        shape = replace(SHAPE, vocab_size=GROWN.size, tally=counters, position=Learned(), max_seq_len=length)
        must_go_on(shape, old.config)
        new = variants.random_decoder(shape, seed=2)
        carry_over(old, OLD, new, GROWN)
        assert new.tally is not None and old.tally is not None
        assert torch.equal(new.tally.weight[:3], old.tally.weight)
        assert torch.equal(new.state_dict()["position.weight"], old.state_dict()["position.weight"][:length])


OTHER: dict[str, Any] = {
    "d_model": 32, "num_layers": 3, "num_heads": 4, "num_kv_heads": 1, "d_ff": 20, "position": Learned(),
    "stack": Universal(), "norm": "layernorm", "norm_place": "post", "embedding_norm": True, "qk_norm": False,
    "activation": "relu2", "bias": True, "tied_head": True, "token_shift": 1, "value_embeddings": False,
    "logit_softcap": 3.0,
}  # fmt: skip


def test_every_field_that_must_fit_is_tried() -> None:
    assert set(OTHER) | set(FREE) == {field.name for field in fields(DecoderConfig)}


@pytest.mark.parametrize("name", OTHER)
def test_a_field_that_does_not_fit_is_named(name: str) -> None:
    must_go_on(replace(SHAPE, vocab_size=99, max_seq_len=64, window=8, tally=4, dropout=0.1), SHAPE)
    with pytest.raises(ConfigError, match=rf"model\.{name} is "):
        must_go_on(replace(SHAPE, **{name: OTHER[name]}), SHAPE)


def test_what_0_stands_for_fits() -> None:
    must_go_on(replace(SHAPE, d_ff=64, num_kv_heads=2), SHAPE)
    with pytest.raises(ConfigError, match="position"):
        must_go_on(replace(SHAPE, position=Rotary(base=500.0)), SHAPE)
    with pytest.raises(ConfigError, match="max_seq_len is 33.*each of 32 positions"):
        must_go_on(replace(SHAPE, position=Learned(), max_seq_len=33), replace(SHAPE, position=Learned()))


def test_settings_are_laid_over_the_older_shape() -> None:
    start = replace(SHAPE, window=8, tied_head=True)
    assert laid_over(start, DecoderConfig(dropout=0.2)) == replace(start, dropout=0.2)
    assert laid_over(start, replace(SHAPE, dropout=0.2)) == replace(SHAPE, dropout=0.2)  # sizes are given: as it is
    assert shape_from(replace(SHAPE, tally=0), [DIGITS]).tally is None  # of all its tokenizers; a new one may have some
    assert shape_from(replace(SHAPE, tally=7), [DIGITS]).tally == 7


@pytest.mark.parametrize(
    ("model", "objective", "whole", "expected"),
    [
        (replace(SHAPE, window=8), Causal(), False, (32, 8)),
        (SHAPE, Causal(), False, (32, 32)),  # it had no window; none is chosen
        (replace(SHAPE, position=Learned()), Causal(), False, (32, 0)),
        (replace(SHAPE, window=8), Prefix(), False, (32, 0)),
        (replace(SHAPE, window=8), Prefix(), True, (0, 0)),
        (replace(SHAPE, position=Learned()), Prefix(), True, (32, 0)),
    ],
)
def test_context_and_window_fit_the_new_task(
    model: DecoderConfig, objective: Any, whole: bool, expected: tuple[int, int]
) -> None:
    found = choose_anew(model, model, objective, whole)
    assert (found.max_seq_len, found.window) == expected
    given = choose_anew(replace(model, max_seq_len=24, window=6), model, objective, whole)
    assert (given.max_seq_len, given.window) == (24, 6)


def test_marks_stay_where_they_are() -> None:
    before = with_marks(OLD, FillInTheMiddle()).append(MORE.name, 5)
    for objective in (Causal(), Prefix(), Masked(), FillInTheMiddle()):
        assert with_marks(before, objective) is before
    with pytest.raises(ConfigError, match="span-corruption needs 104 marks.*has 4"):
        with_marks(before, SpanCorruption())


def recipe_of(tokenizer: Digits, file: Path) -> Any:
    def corpus(config: RecipeConfig, tokenizers: Any = (), evaluated: bool = False) -> Corpus:
        chosen = shared(tokenizers, tokenizer.name) or tokenizer
        segment = Segment(tokenizer.name, np.array([1, 2, 3], np.int32))
        return Corpus([chosen], [Document((segment,), "", s) for s in (["valid"] if evaluated else ["train", "valid"])])

    file.write_text("")
    kinds = {"digits": Digits, "more": Digits}
    return SimpleNamespace(corpus=corpus, __file__=str(file), __name__="toy", TOKENIZERS=kinds)


def test_a_corpus_is_laid_out_in_the_vocabulary_of_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))
    digits, more = (recipe_of(t, tmp_path / "r.py") for t in (DIGITS, MORE))
    marked = OLD.append("marks", 3, marked=False)
    grown = prepare(more, RecipeConfig(), [DIGITS], marked)
    assert grown.vocabulary == GROWN and [t.name for t in grown.tokenizers] == ["digits", "more"]
    again = prepare(digits, RecipeConfig(), grown.tokenizers, grown.vocabulary)
    assert again.vocabulary == GROWN and len(again.tokenizers) == 2
    judged = prepare(digits, RecipeConfig(), grown.tokenizers, grown.vocabulary, evaluated=True)
    assert judged.folder != again.folder and set(judged.stores) == {"valid"} and judged.vocabulary == GROWN
    assert Prepared.open(judged.folder, tokenizers=digits.TOKENIZERS).vocabulary == GROWN
    with pytest.raises(Mismatch, match="tokenizer digits of 7 ids, and the model has another of that name, of 8"):
        digits.corpus = lambda config, tokenizers: Corpus([DIGITS], [])  # without asking which the model has
        prepare(digits, RecipeConfig(), [Digits("digits", 8)])


RECIPE = '''
"""Counts up in one block of ids."""
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from seqmodal.config import RecipeConfig
from seqmodal.data.corpus import Corpus, shared
from seqmodal.sequence import Document, Segment

@dataclass(frozen=True)
class Config(RecipeConfig):
    """Count."""
    block: str = "count"
    size: int = 10

class Counting:
    def __init__(self, name, vocab_size): self.name, self.vocab_size = name, vocab_size
    def encode(self, item): return np.asarray(item, np.int32)
    def decode(self, ids): return np.asarray(ids)
    def to_dict(self): return {"name": self.name, "size": self.vocab_size}
    @classmethod
    def from_dict(cls, d): return cls(d["name"], d["size"])

TOKENIZERS = {"count": Counting, "steps": Counting}

def corpus(config, tokenizers=(), evaluated=False):
    chosen = shared(tokenizers, config.block) or Counting(config.block, config.size)
    def documents():
        for n in range(8):
            ids = ((np.arange(40) + n) % config.size).astype(np.int32)
            yield Document((Segment(config.block, ids),), str(n), "valid" if evaluated or n % 4 == 0 else "train")
    return Corpus([chosen], documents())

def judge(model, config, stores, folder):
    from seqmodal.evaluation.likelihood import likelihood
    found = likelihood(model.decoder, stores["valid"], config.model.max_seq_len, inputs=model.inputs)
    return {"nats": found.nats / found.count}

def show(model, config, folder, step):
    return []
'''
SMALL = {"model": {"d_model": 16, "num_layers": 2, "num_heads": 2, "max_seq_len": 16, "window": 8}}
TRAINING = {"steps": 20, "batch_size": 2, "evaluations": 2, "samples": 0, "threads": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEQMODAL_CACHE", str(folder / "cache"))
        (folder / "counting.py").write_text(RECIPE)
        seqmodal.train(folder / "counting.py", out=folder / "first", training=TRAINING, **SMALL)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQMODAL_CACHE", str(tmp_path / "cache"))


def test_a_run_goes_on_from_another_and_needs_it_no_more(place: Path, tmp_path: Path) -> None:
    first = place / "moved"
    shutil.copytree(place / "first", first)
    recipe, how = place / "counting.py", {"training": TRAINING, "block": "steps", "size": 6}
    whole = seqmodal.train(recipe, out=tmp_path / "whole", init=str(first), **how)
    old, start = load_file(first / "model" / "model.safetensors"), load_file(whole.folder / "start.safetensors")
    assert len(old["embedding.weight"]) == 16 and len(start["embedding.weight"]) == 16 + 8
    for name, tensor in old.items():
        rows = tensor.shape[0] if tensor.ndim else None
        assert torch.equal(start[name][:rows] if rows else start[name], tensor)
    held = yaml.safe_load((whole.folder / "config.yaml").read_text())
    assert held["init"] == str(first) and held["model"]["vocab_size"] == 24 and held["model"]["d_model"] == 16

    cut = tmp_path / "cut"  # as if it had been killed before the first checkpoint, and the older run were gone
    shutil.copytree(whole.folder, cut)
    for name in ("checkpoints", "model"):
        shutil.rmtree(cut / name)
    (cut / "metrics.csv").unlink()
    shutil.rmtree(first)
    again = seqmodal.train(cut, resume=True)
    assert again.metrics == whole.metrics
    ends = [load_file(run.folder / "model" / "model.safetensors") for run in (whole, again)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])

    model = seqmodal.load(whole.folder, kinds(recipe))
    assert [t.name for t in model.tokenizers] == ["count", "steps"]
    made = model.sample(to="steps", variations=4, seed=0, max_new_tokens=8)
    assert {id for one in made for id in one.ids} <= set(range(6))
    assert judge_run(whole.folder) == whole.metrics


def kinds(recipe: Path) -> dict[str, type]:
    return find_recipe(recipe).TOKENIZERS  # type: ignore[no-any-return]


def test_a_model_that_has_learned_begins_where_it_was(place: Path, tmp_path: Path) -> None:
    """One step at almost no learning rate: the new run is as good as the old one, and far better than from nothing."""
    still = TRAINING | {"steps": 1, "matrix_lr": 1e-9, "embedding_lr": 1e-9, "evaluations": 1}
    old = judge_run(place / "first")
    how: dict[str, Any] = {"init": str(place / "first" / "model"), "training": still}
    new = seqmodal.train(place / "counting.py", out=tmp_path / "new", **how)
    assert new.metrics["nats"] == pytest.approx(old["nats"], abs=1e-4) and old["nats"] < 2


def test_shapes_and_presets_that_do_not_fit(place: Path, tmp_path: Path) -> None:
    how: dict[str, Any] = {"init": str(place / "first"), "training": TRAINING, "out": tmp_path / "run"}
    with pytest.raises(ConfigError, match=r"model\.d_model is 32, and the model that is gone on from has 16"):
        seqmodal.train(place / "counting.py", model={"d_model": 32}, **how)
    with pytest.raises(ConfigError, match=r"model\.position"):
        seqmodal.train(place / "counting.py", model={"position": "alibi", "window": 0}, **how)
    with pytest.raises(ConfigError, match="preset tiny and init do not go together"):
        seqmodal.train(place / "counting.py", preset="tiny", **how)
    assert not (tmp_path / "run").exists()
    assert main(["train", str(place / "counting.py"), "--init", str(place / "first"), "--model.d-model", "32"]) == 2
    assert main(["train", "language", "--init", str(tmp_path / "none")]) == 1


def test_the_command_line_lays_flags_over_the_older_shape(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--init", str(place / "first"), "--model.dropout", "0.5", "--steps", "1", "--training.threads", "1"]
    assert main(["train", str(place / "counting.py"), *given, "--out", str(tmp_path / "run")]) == 0
    held = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
    assert held["d_model"] == 16 and held["window"] == 8 and held["max_seq_len"] == 16 and held["dropout"] == 0.5
    capsys.readouterr()
    assert main(["prepare", str(place / "counting.py"), "--init", str(place / "first"), "--block", "steps"]) == 0
    folder = Path(capsys.readouterr().out.split()[-1])
    prepared = Prepared.open(folder, tokenizers=kinds(place / "counting.py"))
    assert prepared.vocabulary.names == ("special", "count", "steps")


def test_gpt2_goes_on_with_its_own_ids(tmp_path: Path) -> None:
    """From a folder of Hugging Face: its rows, its tokens, its end of a text, and positions that have an end."""
    folder = write_gpt2(tmp_path / "gpt2")
    (tmp_path / "a.txt").write_text("The assert statement.\n" * 40)
    how = {"data": str(tmp_path / "a.txt"), "init": str(folder), "training": TRAINING | {"steps": 2}}
    run = seqmodal.train("language", out=tmp_path / "run", **how)
    model, before = seqmodal.load(run.folder), seqmodal.load(folder)
    assert model.vocabulary == before.vocabulary and model.vocabulary.bos == END
    assert model.decoder.config == replace(before.decoder.config, max_seq_len=32)
    start = load_file(run.folder / "start.safetensors")
    assert all(torch.equal(start[name], tensor) for name, tensor in before.decoder.state_dict().items())
    assert len(start["embedding.weight"]) == SIZE
    with pytest.raises(ConfigError, match="max_seq_len is 64.*positions"):
        seqmodal.train("language", out=tmp_path / "long", model={"max_seq_len": 64}, **how)
    with pytest.raises(ConfigError, match="vocab_size"):
        seqmodal.train("language", out=tmp_path / "more", vocab_size=400, **how)


def test_gpt2_learns_to_summarize(tmp_path: Path) -> None:
    """Its vocabulary has no marks between two texts; the cue stands there, and the end of a text ends a summary."""
    folder, data = write_gpt2(tmp_path / "gpt2"), tmp_path / "a.jsonl"
    data.write_text("".join(f'{{"text": "The assert. Number {n}.", "summary": "a {n}"}}\n' for n in range(12)))
    run = seqmodal.train(
        "summarization", out=tmp_path / "run", data=str(data), init=str(folder), article=6, summary_tokens=4,
        training=TRAINING | {"steps": 2}, sampling={"count": 1},
    )  # fmt: skip
    model = seqmodal.load(run.folder)
    assert model.vocabulary == seqmodal.load(folder).vocabulary and model.decoder.config.max_seq_len == 32
    store = Prepared.open(run.folder / "data").stores["train"]
    text, summary = store[0].segments
    assert text.ids.tolist()[-len(cue := model.tokenizers[0].encode("\nTL;DR:")) :] == cue.tolist()
    composed = compose(store[0], store.vocabulary)
    assert composed.ids.tolist() == [END, *text.ids, *summary.ids, END]
    assert composed.weight.tolist() == [0.0] * len(text.ids) + [1.0] * (len(summary.ids) + 1) + [0.0]


def test_text_is_shared_by_recipes(tmp_path: Path) -> None:
    """The block of text is the same in both, and another vocabulary of text comes beside it."""
    (tmp_path / "a.txt").write_text("One decoder, any modality.\n" * 60)
    shape = {"model": SMALL["model"], "training": TRAINING | {"steps": 2}}
    text = seqmodal.train("language", out=tmp_path / "text", data=str(tmp_path / "a.txt"), tokenizer="bytes", **shape)
    how: dict[str, Any] = {"training": TRAINING | {"steps": 2}, "tokenizer": "bytes", "data": str(tmp_path / "a.txt")}
    again = seqmodal.train("language", out=tmp_path / "again", init=str(text.folder), **how)
    one, two = (seqmodal.load(run.folder) for run in (text, again))
    assert one.vocabulary == two.vocabulary and len(two.tokenizers) == 1
    both = seqmodal.train("language", out=tmp_path / "both", init=str(text.folder), **how | {"tokenizer": "text"})
    grown = seqmodal.load(both.folder)
    assert [t.name for t in grown.tokenizers] == ["bytes", "text"]
    assert grown.vocabulary.block("bytes") == one.vocabulary.block("bytes")
    assert isinstance(grown.generate(to="text", max_new_tokens=5, seed=0), str)
    assert np.isfinite(list(judge_run(both.folder, data=str(tmp_path / "a.txt")).values())).all()


def test_decoders_are_built_from_the_carried_weights_only_where_they_are_old() -> None:
    """A zero-initialised head gives new ids a logit of 0: they are not ruled out, and not preferred."""
    torch.manual_seed(0)
    old, new = variants.random_decoder(SHAPE), Decoder(replace(SHAPE, vocab_size=GROWN.size)).double()
    carry_over(old, OLD, new, GROWN)
    with torch.no_grad():
        logits = new.logits(new(variants.ids_of(old, 1, 5)).hidden)
    assert (logits[..., OLD.size :] == 0).all()
