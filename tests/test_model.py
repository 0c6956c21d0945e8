"""What a user does with a model: load it, make music, go on from a prompt."""

from __future__ import annotations

import numpy as np
import pretty_midi
import pytest
import torch

import seqmodal
from seqmodal.checkpoint import save_model
from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import BadInput, ConfigError
from seqmodal.model import Generated, Model, load
from seqmodal.tokenizers.registry import tokenizer
from seqmodal.tokenizers.vocabulary import Vocabulary


def model_of(held: list) -> Model:
    vocabulary = Vocabulary.of(held)
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=vocabulary.size, d_model=32, num_layers=2, num_heads=2, max_seq_len=64, window=32
    )
    decoder = Decoder(config)
    for parameter in decoder.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(decoder.eval(), vocabulary, held)


@pytest.fixture(scope="module", params=["midi", "band"])
def model(request) -> Model:
    return model_of([tokenizer(request.param)])


@pytest.fixture(scope="module")
def notes():
    return tokenizer("midi").examples(np.random.default_rng(0))[-1]


def test_seconds_hold_and_nothing_is_mended(model):
    made = model.sample(seconds=3, variations=2, seed=4)
    for one in made:
        found, repairs = model.tokenizers[0].decode_report(one.ids)
        assert repairs.total == 0
        assert one.finished
        assert model.tokenizers[0].duration(one.ids) == pytest.approx(3, abs=0.2)
        assert len(one.logprobs) == len(one.ids) + 1
        assert isinstance(one.item, pretty_midi.PrettyMIDI)
        assert len(found) == sum(len(i.notes) for i in one.item.instruments)
        assert one.seconds_taken > 0


def test_a_seed_and_a_number_make_a_variation(model):
    many = model.sample(seconds=3, variations=10, seed=4)
    few = model.sample(seconds=3, variations=2, seed=4)
    assert [one.ids.tolist() for one in few] == [one.ids.tolist() for one in many[:2]]
    assert len({tuple(one.ids) for one in many}) == 10
    assert many[0].seed == 4
    zero = [model.sample(seconds=0.5, seed=0)[0].ids.tolist() for _ in range(2)]
    assert zero[0] == zero[1]
    fresh = model.sample(seconds=0.5)[0]
    assert model.sample(seconds=0.5, seed=fresh.seed)[0].ids.tolist() == fresh.ids.tolist()


def test_the_prompt_comes_first(model, notes):
    held = model.tokenizers[0]
    ids = held.encode(notes)
    one = model.sample(notes, seconds=1, seed=1)[0]
    assert one.ids[: len(ids)].tolist() == one.prompt_ids.tolist() == ids.tolist()
    assert held.duration(one.ids) == pytest.approx(held.duration(ids) + 1, abs=0.2)
    short = model.sample(notes, seconds=1, prompt_seconds=2, seed=1)[0]
    assert held.duration(short.prompt_ids) <= 2
    assert held.decode_report(short.ids)[1].total == 0
    assert held.duration(short.ids) == pytest.approx(held.duration(short.prompt_ids) + 1, abs=0.2)


def test_a_prompt_is_an_item_a_file_or_ids(model, notes, tmp_path):
    held = model.tokenizers[0]
    held.write(notes, tmp_path / "a.mid")
    from_file = model.sample(str(tmp_path / "a.mid"), seconds=0.3, seed=1)[0]
    assert model.sample(tmp_path / "a.mid", seconds=0.3, seed=1)[0].ids.tolist() == from_file.ids.tolist()
    ids = from_file.prompt_ids
    assert ids.tolist() == held.encode(held.read(tmp_path / "a.mid")).tolist()
    assert model.sample(ids, seconds=0.3, seed=1)[0].ids.tolist() == from_file.ids.tolist()
    assert model.sample(ids.tolist(), seconds=0.3, seed=1)[0].ids.tolist() == from_file.ids.tolist()


def test_generate_gives_the_item_or_a_list(model):
    assert isinstance(model.generate(seconds=0.3, seed=1), pretty_midi.PrettyMIDI)
    assert len(model.generate(seconds=0.3, seed=1, variations=1)) == 1


def test_the_number_of_ids_can_be_bounded(model):
    one = model.sample(max_new_tokens=7, seed=1)[0]
    assert len(one.ids) <= 7
    assert len(one.logprobs) == len(one.ids) + one.finished


def test_progress_rises_to_the_whole(model):
    seen: list[tuple[float, float]] = []
    model.sample(seconds=0.5, variations=9, seed=1, progress=lambda done, total: seen.append((done, total)))
    done = [at for at, _ in seen]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(0.5, abs=0.02)
    assert {total for _, total in seen} == {0.5}


def test_a_model_in_training_goes_back_to_it(model):
    model.decoder.train()
    model.sample(max_new_tokens=2, seed=1)
    assert model.decoder.training
    model.decoder.eval()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"variations": 0}, "variations"), ({"seconds": 0}, "seconds"), ({"seconds": float("nan")}, "seconds"),
        ({"max_new_tokens": 0}, "max_new_tokens"), ({"temperature": -1}, "temperature"),
        ({"prompt_seconds": 3}, "without a prompt"), ({"to": "text"}, "this model makes"),
    ],
)
def test_what_cannot_be_asked(model, wrong, says):
    with pytest.raises(ConfigError, match=says):
        model.sample(**wrong)


def test_prompts_that_are_none(model, tmp_path):
    with pytest.raises(BadInput, match=r"there.mid.*no such file"):
        model.sample("there.mid", seconds=1)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(BadInput, match=r"a\.txt.*\.mid"):
        model.sample(tmp_path / "a.txt", seconds=1)
    with pytest.raises(BadInput, match="ids 700 to 700"):
        model.sample([700], seconds=1)


class Dice:
    """The smallest tokenizer: no time, no grammar, no files."""

    name, vocab_size = "dice", 6

    def encode(self, item) -> np.ndarray:
        return np.asarray(item, np.int32)

    def decode(self, ids) -> list[int]:
        return [int(id) for id in ids]

    def to_dict(self) -> dict:
        return {}

    @classmethod
    def from_dict(cls, d: dict) -> Dice:
        return cls()


def test_a_tokenizer_without_abilities(tmp_path):
    model = model_of([Dice(), tokenizer("midi")])
    one = model.sample((1, 2), to="dice", max_new_tokens=9, seed=1)[0]
    assert one.item[:2] == [1, 2]
    assert model.show(one, tmp_path / "x", to="dice") == []
    with pytest.raises(ConfigError, match="seconds means nothing"):
        model.sample(to="dice", seconds=2)
    with pytest.raises(ConfigError, match="dice, midi"):
        model.sample(seconds=2)
    save_model(tmp_path / "model", model.decoder, model.vocabulary, model.tokenizers, {})
    again = load(tmp_path, tokenizers={"dice": Dice})
    assert again.sample((1, 2), to="dice", max_new_tokens=9, seed=1)[0].item == one.item


def test_loading(model, tmp_path):
    save_model(tmp_path / "run" / "model", model.decoder, model.vocabulary, model.tokenizers, {})
    ids = model.sample(seconds=0.5, seed=1)[0].ids.tolist()
    for path in (tmp_path / "run", tmp_path / "run" / "model", str(tmp_path / "run")):
        assert seqmodal.load(path).sample(seconds=0.5, seed=1)[0].ids.tolist() == ids
    with pytest.raises(BadInput, match="no such folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="no model folder"):
        load(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(BadInput, match="--resume"):
        load(tmp_path)


def test_the_prompt_is_set_off_in_what_is_shown(model, notes, tmp_path, monkeypatch):
    one = model.sample(notes, seconds=0.3, seed=1)[0]
    asked = {}
    monkeypatch.setattr(type(model.tokenizers[0]), "show", lambda self, item, stem, prompt_notes=0: asked.update(
        item=item, stem=stem, notes=prompt_notes) or [stem])
    assert model.show(one, tmp_path / "a") == [tmp_path / "a"]
    assert asked["notes"] == len(model.tokenizers[0].decode_notes(one.prompt_ids)) > 0
    assert isinstance(one, Generated)
