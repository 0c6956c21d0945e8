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


def stem_beside(out: Path, given: Any = None) -> Path:
    """What pictures and sounds that are shown beside `out` are called, without a suffix: as it is, or something else
    where that would be called like the file that was given.

    Raises:
        BadInput: where `out` is the file that was given.
    """
    stem = out.with_suffix("")
    if not isinstance(given, str | Path) or not _is_file(given):
        return stem
    source = Path(given).expanduser().resolve()
    if source == out.resolve():
        raise BadInput(out, "is the file that was given, and would be lost", "give --out another name")
    return stem.with_name(f"{stem.name}_made") if source.with_suffix("") == stem.resolve() else stem


def _is_file(name: str | Path) -> bool:
    try:
        return Path(name).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # a text, and no name
        return False
