"""Settings: unknown ones raise and say what is near, known ones come back as they went."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqmodal.config import (
    PRESETS,
    Alibi,
    DecoderConfig,
    Learned,
    RecipeConfig,
    Rotary,
    TrainingConfig,
    from_dict,
    preset,
    to_dict,
)
from seqmodal.errors import ConfigError


def test_a_configuration_comes_back_as_it_went() -> None:
    config = RecipeConfig(
        data="x", exclude=("*a*", "b"), model=preset("small").model, training=TrainingConfig(steps=7, matrix_lr=0.5)
    )
    assert from_dict(RecipeConfig, to_dict(config)) == config


def test_one_place_of_data_or_several() -> None:
    several = from_dict(RecipeConfig, {"data": ["a", Path("b")]}, base=RecipeConfig(data="c"))
    assert several == RecipeConfig(data=("a", "b"))
    assert from_dict(RecipeConfig, to_dict(several)) == several
    assert from_dict(RecipeConfig, {"data": Path("d")}, base=several) == RecipeConfig(data="d")
    with pytest.raises(ConfigError, match="data is 3"):
        from_dict(RecipeConfig, {"data": 3}, base=several)


@pytest.mark.parametrize(
    "wrong, near",
    [
        ({"training": {"step": 3}}, "training.step; did you mean steps"),
        ({"modle": {}}, "modle; did you mean model"),
        ({"model": {"zzz": 1}}, "it may be one of: activation, bias, d_ff"),
        ({"model": 3}, "model is a group of settings"),
        ({"training": {"steps": "many"}}, "training.steps is 'many'; it must be of type int"),
        ({"training": {"steps": True}}, "must be of type int"),
    ],
)
def test_what_is_unknown_raises(wrong: dict[str, object], near: str) -> None:
    with pytest.raises(ConfigError, match=near):
        from_dict(RecipeConfig, wrong)


def test_whole_numbers_serve_as_floats() -> None:
    assert from_dict(TrainingConfig, {"minutes": 2}).minutes == 2.0


def test_presets() -> None:
    for name in PRESETS:
        assert isinstance(preset(name).model, DecoderConfig)
        TrainingConfig(**preset(name).training)
    with pytest.raises(ConfigError, match="there are: tiny"):
        preset("huge")


@pytest.mark.parametrize(
    "wrong",
    [
        {"matrix_lr": 0.0},
        {"warmup": 0.7, "decay": 0.6},
        {"final_lr": 2.0},
        {"steps": -1},
    ],
)
def test_training_settings_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        TrainingConfig(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"d_model": 10, "num_heads": 4}, "does not divide"),
        ({"d_model": 12, "num_heads": 4}, "even width"),
        ({"num_heads": 4, "num_kv_heads": 3, "d_model": 16}, "num_kv_heads"),
        ({"window": 64, "max_seq_len": 32}, "wider than"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_layers": -1}, "num_layers"),
        ({"norm": "batchnorm"}, "it is one of rmsnorm, layernorm"),
        ({"activation": "tanh"}, "it is one of relu, gelu"),
        ({"memory": 8, "position": {"kind": "learned"}}, "memory 8 and position learned do not go together"),
        ({"memory": 8, "position": {"kind": "sinusoidal"}}, "memory 8 and position sinusoidal"),
        ({"memory": 8, "window": 4}, "memory 8 and window 4 do not go together"),
        ({"position": {"kind": "relative", "max_distance": 0}}, "max_distance is 0"),
        ({"position": {"kind": "t5", "buckets": 7}}, "buckets are even"),
        ({"position": {"kind": "rotary", "base": 1.0}}, "must be above 1"),
        ({"position": {"kind": "spiral"}}, "it is one of none, learned, sinusoidal"),
        ({"position": {"kind": "alibi", "base": 3.0}}, "unknown setting position.base"),
        ({"position": 3}, "position is a group of settings"),
        ({"position": {"kind": "sinusoidal"}, "d_model": 7}, "even d_model"),
        ({"stack": {"kind": "universal", "threshold": 1.0}}, "between 0 and 1"),
    ],
)
def test_meaningless_shapes_raise(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(DecoderConfig, wrong)


def test_a_choice_is_laid_over_what_was_chosen() -> None:
    start = DecoderConfig(position=Rotary(base=7.0))
    assert from_dict(DecoderConfig, {"position": {"base": 9.0}}, base=start).position == Rotary(base=9.0)
    assert from_dict(DecoderConfig, {"position": "alibi"}, base=start).position == Alibi()
    assert from_dict(DecoderConfig, {"position": Learned()}, base=start).position == Learned()
    again = {"position": {"kind": "rotary"}}
    assert from_dict(DecoderConfig, again, base=start).position == Rotary(base=7.0)
    for chosen in PRESETS.values():
        assert from_dict(DecoderConfig, to_dict(chosen.model)) == chosen.model


def test_training_settings_that_mean_nothing_raise() -> None:
    with pytest.raises(ConfigError, match="decay means nothing to cosine"):
        TrainingConfig(schedule="cosine", decay=0.3)
    with pytest.raises(ConfigError, match="matrix_lr means nothing to adamw"):
        TrainingConfig(optimizer="adamw", matrix_lr=0.1)
    with pytest.raises(ConfigError, match="schedule is 'step'"):
        TrainingConfig(schedule="step")  # type: ignore[arg-type]


def test_gpt2_sizes() -> None:
    counts = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200}
    assert {name: preset(name).model.num_parameters for name in counts} == counts
