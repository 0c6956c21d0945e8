"""One decoder, any modality. Names are imported when they are first used, so that `import seqmodal` stays light."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seqmodal.model import Model, load
    from seqmodal.sequence import Document, Segment
    from seqmodal.tokenizers.registry import tokenizer
    from seqmodal.training import train

__version__ = "0.1.0"

__all__ = ["Document", "Model", "Segment", "__version__", "load", "tokenizer", "train"]

_HOMES = {
    "Document": "seqmodal.sequence",
    "Model": "seqmodal.model",
    "Segment": "seqmodal.sequence",
    "load": "seqmodal.model",
    "tokenizer": "seqmodal.tokenizers.registry",
    "train": "seqmodal.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
