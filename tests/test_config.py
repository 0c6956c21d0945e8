"""Settings: unknown ones raise and say what is near, known ones come back as they went."""

from __future__ import annotations

import pytest

from seqmodal.config import PRESETS, DecoderConfig, RecipeConfig, TrainingConfig, from_dict, preset, to_dict
from seqmodal.errors import ConfigError


def test_a_configuration_comes_back_as_it_went() -> None:
    config = RecipeConfig(
        data="x", exclude=("*a*", "b"), model=preset("small"), training=TrainingConfig(steps=7, matrix_lr=0.5)
    )
    assert from_dict(RecipeConfig, to_dict(config)) == config


@pytest.mark.parametrize(
    "wrong, near",
    [
        ({"training": {"step": 3}}, "training.step; did you mean steps"),
        ({"modle": {}}, "modle; did you mean model"),
        ({"model": {"zzz": 1}}, "it may be one of: d_ff"),
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
        assert isinstance(preset(name), DecoderConfig)
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
