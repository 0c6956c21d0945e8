"""The names that users import."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

import seqmodal

NAMES = {
    "Document": "seqmodal.sequence",
    "Model": "seqmodal.model",
    "Segment": "seqmodal.sequence",
    "load": "seqmodal.model",
    "tokenizer": "seqmodal.tokenizers.registry",
    "train": "seqmodal.training",
}


def test_the_list_of_names():
    assert seqmodal.__all__ == [*sorted([*NAMES, "__version__"])]
    assert set(dir(seqmodal)) >= set(seqmodal.__all__)
    assert re.fullmatch(r"\d+\.\d+\.\d+", seqmodal.__version__)


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_name_is_the_one_of_its_home(name):
    assert getattr(seqmodal, name) is getattr(importlib.import_module(NAMES[name]), name)


def test_names_come_alone():
    code = "import seqmodal, sys; seqmodal.tokenizer; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        seqmodal.trian  # noqa: B018
