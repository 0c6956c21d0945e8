"""A run, for a verb that its recipe brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from seqmodal.errors import BadInput


def open_run(run: str, verb: str) -> tuple[Any, Any, Any]:
    """The recipe of a run, which has a function `verb`, its configuration and its model.

    Raises:
        BadInput: for a folder that is no run, or one of another recipe.
    """
    from seqmodal.model import load
    from seqmodal.training.recipe import recipe_of_run

    module, config = recipe_of_run(Path(run))
    if not hasattr(module, verb):
        raise BadInput(run, f"it was trained by {module.__name__}, which does not {verb}", "see `generate`")
    return module, config, load(run, tokenizers=getattr(module, "TOKENIZERS", None))
