"""A model from a folder: of a run, of a model, or of GPT-2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqmodal.checkpoint import load_model
from seqmodal.errors import BadInput, Mismatch
from seqmodal.gpt2 import load_gpt2
from seqmodal.model.core import Model
from seqmodal.tokenizers.registry import find
from seqmodal.tokenizers.vocabulary import ADDED, Vocabulary


def load(path: str | Path, tokenizers: Mapping[str, type] | None = None) -> Model:
    """A model from a run folder, a model folder, or a folder of GPT-2 as Hugging Face lays it out.

    Args:
        path: the folder. One of GPT-2 has config.json, model.safetensors, and vocab.json with merges.txt or
            tokenizer.json; its ids are kept, and its end of a text is where a text begins as well.
        tokenizers: classes by name that no plug-in registers.

    Raises:
        BadInput: when there is no whole model.
        Mismatch: when its parts do not belong together.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise BadInput(path, "there is no such folder", "give the folder that `seqmodal train` made")
    if (path / "config.yaml").is_file() and not (path / "model").is_dir():
        raise BadInput(path, "this run has no model yet", f"finish it with: seqmodal train {path} --resume")
    folder = path / "model" if (path / "model").is_dir() else path
    if _is_gpt2(folder):
        return _load_gpt2(folder, tokenizers)
    decoder, vocabulary, held, facts, inputs = load_model(folder, tokenizers)
    drops = float(facts.get("condition_dropout", 0.0))
    return Model(decoder, vocabulary, held, path, facts.get("objective", "causal"), inputs, drops)


def _is_gpt2(folder: Path) -> bool:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and "model_type" in found and "seqmodal" not in found


def _load_gpt2(folder: Path, tokenizers: Mapping[str, type] | None) -> Model:
    """One block at 0; rows beyond the tokenizer's ids, if the file has some, are never drawn."""
    text: Any = (tokenizers or {}).get("text") or find("text").cls
    decoder, held = load_gpt2(folder), text.load(folder)
    size, rows = held.vocab_size, decoder.config.vocab_size
    if size > rows:
        raise Mismatch(f"{folder}: the tokenizer has {size} ids, the weights {rows} rows; they are not of one model")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    bos, eos = (config.get(key) for key in ("bos_token_id", "eos_token_id"))
    bos, eos = (held.end_of_text if id is None else id for id in (bos, eos))
    if not all(isinstance(id, int) and 0 <= id < size for id in (bos, eos)):
        raise BadInput(
            folder / "config.json", f"bos_token_id is {bos!r} and eos_token_id {eos!r}, not from 0 to {size - 1}",
            "they say where a text begins and ends",
        )  # fmt: skip
    vocabulary = Vocabulary.single(held.name, size, bos=bos, eos=eos)
    if size < rows:
        vocabulary = vocabulary.append(ADDED, rows - size, marked=False)
    return Model(decoder, vocabulary, [held], folder)
