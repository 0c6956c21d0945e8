"""`evaluate`: a run's own measures, on its validation part or on other files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from seqmodal.data.corpus import Prepared, prepare
from seqmodal.model import load
from seqmodal.training.recipe import recipe_of_run


def judge_run(
    folder: Path, *, data: str | Sequence[str] | None = None, exclude: tuple[str, ...] = ()
) -> dict[str, float]:
    """What the recipe's `judge` says of a run.

    Args:
        folder: the run.
        data: files to judge it on with the run's own tokenizers: its test folder where it has one, else all of them;
            pictures go to `evaluated/`. None: the run's validation part.
        exclude: patterns of file names to leave out of `data`.
    """
    module, config = recipe_of_run(folder)
    own = getattr(module, "TOKENIZERS", None)
    model = load(folder, tokenizers=own)
    stores = Prepared.open(folder / "data", tokenizers=own).stores
    if data is not None:
        given = data if isinstance(data, str) else tuple(data)
        config = replace(config, data=given, exclude=exclude, strict=False)
        other = prepare(module, config, model.tokenizers, model.vocabulary, evaluated=True)
        if other.facts["skipped"]:
            listed = other.folder / "skipped.csv"
            print(f"{other.facts['skipped']} files were not used; {listed} says why", file=sys.stderr)
        stores = {"train": stores["train"], "valid": other.stores["valid"]}
        folder = folder / "evaluated"
        folder.mkdir(exist_ok=True)
    return dict(module.judge(model, config, stores, folder))
