"""What a model goes on from: a prompt becomes ids, and the grammar stands where they end."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput, ConfigError
from seqmodal.tokenizers.protocol import Grammatical, Readable, Streamable, Timed
from seqmodal.tokenizers.until import UntilText, UntilTime


def prompt_ids(tokenizer: Any, prompt: Any, seconds: float | None) -> np.ndarray:
    """The tokenizer's ids of a prompt, int32 (n,).

    Args:
        tokenizer: of the block that goes on.
        prompt: an item, a file, or ids; None: from nothing. Where items are text, a str is a file if it names one that
            is there and has a suffix, else the text itself.
        seconds: use only the first of them; None: all of it.

    Raises:
        BadInput: for a prompt that cannot be read.
        ConfigError: for seconds without a meaning.
    """
    if prompt is None:
        if seconds is not None:
            raise ConfigError("prompt_seconds is given without a prompt")
        return np.zeros(0, np.int32)
    prompt = read_prompt(tokenizer, prompt)
    ids = prompt if _is_ids(prompt) else tokenizer.encode(prompt)
    ids = np.asarray(ids, np.int32)
    if ids.size and not (ids.min() >= 0 and ids.max() < tokenizer.vocab_size):
        raise BadInput("prompt", f"ids {ids.min()} to {ids.max()} are not all from 0 to {tokenizer.vocab_size - 1}")
    if seconds is None:
        return ids
    if not isinstance(tokenizer, Timed):
        raise ConfigError(f"prompt_seconds means nothing to the tokenizer {tokenizer.name}: its ids have no time")
    if not seconds > 0:
        raise ConfigError(f"prompt_seconds is {seconds}; it must be positive")
    return np.asarray(tokenizer.trim(ids, seconds), np.int32)


def stretch(tokenizer: Any, ids: np.ndarray, start: float, stop: float) -> tuple[int, int]:
    """From which of an item's ids to before which a stretch goes that is given in seconds, or in numbers of ids where
    the tokenizer does not count seconds.

    Raises:
        ConfigError: for one that holds no ids.
    """
    timed = isinstance(tokenizer, Timed)
    if timed:
        first, last = (len(tokenizer.trim(ids, at)) if at > 0 else 0 for at in (start, stop))
    else:
        first, last = (min(int(at), len(ids)) for at in (start, stop))
    if not 0 <= start < stop or first >= last:
        there = f"{tokenizer.duration(ids):.1f} seconds" if timed else f"{len(ids)} ids"
        raise ConfigError(f"a stretch from {start:g} to {stop:g} holds nothing; the prompt has {there}")
    return first, last


def prompt_tokenizer(tokenizers: Sequence[Any], prompt: Any, to: Any) -> Any:
    """Whose a prompt is: of `to`, which is made, if it can be; else a file is of the tokenizer that reads its suffix, a
    text of one of text, and another item of the first that encodes it.

    Raises:
        BadInput: for a file that is not there, by the suffix of its name.
    """
    if prompt is None or _is_ids(prompt) or len(tokenizers) == 1:
        return to
    order: list[Any] = [to, *(tokenizer for tokenizer in tokenizers if tokenizer is not to)]
    if isinstance(prompt, str | Path):
        suffix = Path(prompt).suffix.lower()
        readers = [each for each in order if isinstance(each, Readable) and suffix in each.suffixes]
        if readers and _there(prompt):
            return readers[0]
        if readers and not any(isinstance(each, Streamable) for each in readers):
            raise BadInput(prompt, "there is no such file", "its suffix says that the prompt is a file")
        return next((each for each in order if isinstance(each, Streamable)), to)
    return next((each for each in order if _encodes(each, prompt)), to)


def _encodes(tokenizer: Any, item: Any) -> bool:
    try:
        ids = np.asarray(tokenizer.encode(item))
    except Exception:  # whatever a tokenizer does with what is not its own
        return False
    return ids.ndim == 1 and bool((ids >= 0).all() and (ids < tokenizer.vocab_size).all())


def _there(prompt: str | Path) -> bool:
    try:
        return Path(prompt).expanduser().is_file()
    except (OSError, ValueError, RuntimeError):  # a text too long for a name, or one that begins with ~
        return False


def read_prompt(tokenizer: Any, prompt: Any) -> Any:
    """The item in a file; a text that names no file, and what is no text, is the item itself."""
    if not isinstance(prompt, str | Path) or not isinstance(tokenizer, Readable):
        return prompt
    try:
        path = Path(prompt).expanduser()
        there = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a text too long for a name, or one that begins with ~
        return prompt
    known = path.suffix.lower() in tokenizer.suffixes
    if there and known:
        return tokenizer.read(path)
    meant = (there and path.suffix) or (known and not isinstance(tokenizer, Streamable))
    if isinstance(prompt, Path) or meant:
        reason = "cannot be the prompt" if there else "there is no such file"
        raise BadInput(path, reason, f"a prompt is a file that ends in {' or '.join(tokenizer.suffixes)}")
    return prompt


def _is_ids(prompt: Any) -> bool:
    if isinstance(prompt, np.ndarray):
        return prompt.ndim == 1 and np.issubdtype(prompt.dtype, np.integer)
    return isinstance(prompt, list | tuple) and all(isinstance(id, int) for id in prompt)


def grammar_after(
    tokenizer: Any, given: np.ndarray, seconds: float | None = None, limits: Mapping[str, float | None] | None = None,
    stop: str | Sequence[str] | None = None,
) -> Any:  # fmt: skip
    """The tokenizer's grammar with its limits, at the end of the prompt `given`; of text, what makes it end behind
    `stop`; None where nothing holds it.

    Raises:
        ConfigError: for seconds, limits or a stop that the tokenizer knows nothing of.
    """
    limits, name = limits or {}, tokenizer.name
    takes: Sequence[str] = ()
    if isinstance(tokenizer, Grammatical):
        takes = list(inspect.signature(tokenizer.grammar).parameters)
    if seconds is not None and not isinstance(tokenizer, Timed):
        raise ConfigError(f"seconds means nothing to the tokenizer {name}; bound it with max_new_tokens")
    if unknown := limits.keys() - set(takes):
        raise ConfigError(f"the tokenizer {name} knows no limit {min(unknown)}; it has: {', '.join(takes)}")
    if stop is not None:
        return UntilText(tokenizer, stop)
    whole = None if seconds is None else float(tokenizer.duration(given)) + seconds
    if not isinstance(tokenizer, Grammatical):
        return None if whole is None else UntilTime(tokenizer, whole, given.tolist())
    kept: dict[str, float | None] = getattr(tokenizer, "limits", {}) | dict(limits)
    if whole is not None:
        if "seconds" not in takes:
            raise ConfigError(
                f"the grammar of the tokenizer {name} takes no seconds; bound it with max_new_tokens"
            )
        kept["seconds"] = whole
    grammar = tokenizer.grammar(**kept)
    for id in given.tolist():
        grammar.advance(id)
    return grammar
