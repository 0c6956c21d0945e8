"""The files that byte-level BPE comes in: GPT-2's two, a .tiktoken file of ranks, Hugging Face's tokenizer.json.

They are parsed here: tiktoken's own loader keeps ranks in a cache by path and gives the old ones for a new file, and a
byte without a token ends in a panic of Rust. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from seqmodal.errors import BadInput
from tokenizers_ext._text_bpe import BYTES, CONTROL, GPT2_PATTERN, Bpe, spelled

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
JSON, RANKS = "tokenizer.json", ".tiktoken"
GPT2_RANKS = {"gpt2": 50256, "r50k_base": 50256, "p50k_base": 50256}
"""Files of ranks that are used with GPT-2's pattern, and where the end of a text lies beside them."""
HUGGING_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MAX_BYTES, MAX_ID = 256 << 20, 1 << 22
KINDS = f"{' or '.join(' + '.join(pair) for pair in PAIRS)}, {JSON}, or a {RANKS} file"


def load(path: str | PathLike[str], pattern: str | None = None) -> Bpe:
    """A byte-pair encoding from a folder or one of its files.

    Args:
        path: a folder with one of KINDS, or one such file.
        pattern: regular expression of words, for a file of ranks that is not known by its name.

    Raises:
        BadInput: names the file and what is wrong with it.
    """
    path = Path(path).expanduser()
    file = _in_folder(path) if path.is_dir() else path
    beside = {name: file.with_name(other) for pair in PAIRS for name, other in (pair, pair[::-1])}
    if file.suffix == RANKS:
        return _from_ranks(file, pattern)
    if pattern is not None:
        raise BadInput(file, "says itself how text is cut", f"leave pattern out; it is for a {RANKS} file")
    if file.name in beside:
        vocab, merges = sorted((file, beside[file.name]), key=lambda one: one.suffix != ".json")
        return _from_pair(vocab, merges)
    return _from_tokenizer_json(file)


def _in_folder(folder: Path) -> Path:
    names = [JSON, *(pair[0] for pair in PAIRS)]
    found = [folder / name for name in names if (folder / name).is_file()] or sorted(folder.glob(f"*{RANKS}"))
    if not found:
        raise BadInput(folder, "has no byte-level BPE", f"it needs {KINDS}")
    if len(found) > 1 and found[0].suffix == RANKS:
        raise BadInput(folder, f"has {len(found)} files of ranks", f"give one of them, such as {found[0].name}")
    return found[0]


def _from_pair(vocab: Path, merges: Path) -> Bpe:
    """GPT-2's two files: ids by token, and merges line by line, in order."""
    for file, other in ((vocab, merges), (merges, vocab)):
        if not file.is_file():
            raise BadInput(file, f"is missing beside {other.name}", "copy both files")
    pairs = [
        (number, line.split(" "))
        for number, line in enumerate(_read(merges).split("\n"), 1)
        if line and not (number == 1 and line.startswith("#version"))
    ]
    added = vocab.with_name("added_tokens.json")
    return _bpe(vocab, merges, _json(vocab), pairs, GPT2_PATTERN, _json(added) if added.is_file() else {})


def _from_tokenizer_json(path: Path) -> Bpe:
    """Hugging Face's one file; what would change the text before it is encoded is refused."""
    found = _json(path)
    model = found.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(path, f"holds {kind or 'no model of tokens'}, expected a byte-level BPE", f"give {KINDS}")
    allowed = {
        "dropout": (None, 0, 0.0), "continuing_subword_prefix": (None, ""), "end_of_word_suffix": (None, ""),
        "byte_fallback": (None, False),
    }  # fmt: skip
    for key, values in allowed.items():
        if model.get(key) not in values:
            raise BadInput(path, f"{key} is {model[key]!r}, expected {values[-1]!r}: this is no plain byte-level BPE")
    if found.get("normalizer") is not None:
        raise BadInput(path, f"its normalizer {_type(found['normalizer'])} changes the text, which then is lost")
    pairs = [
        (number, pair.split(" ") if isinstance(pair, str) else pair) for number, pair in enumerate(model["merges"], 1)
    ]
    listed = found.get("added_tokens") or []
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise BadInput(path, "added_tokens is no list of tokens", "copy or download it again")
    special = {one.get("content"): one.get("id") for one in listed}
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise BadInput(path, "its model has no vocab", "copy or download it again")
    return _bpe(path, path, vocab, pairs, _pattern(path, found.get("pre_tokenizer")), special)


def _pattern(path: Path, found: Any) -> str:
    """How text is cut: by ByteLevel's own pattern, which is GPT-2's, or by one that is split at before."""
    steps = found.get("pretokenizers") if _type(found) == "Sequence" else [found]
    kinds = [_type(step) for step in steps] if isinstance(steps, list) else []
    byte_level = steps[-1] if kinds and kinds[-1] == "ByteLevel" else None
    if byte_level is None or byte_level.get("add_prefix_space", True):
        reason = "puts a space before each text" if byte_level else f"is {' + '.join(kinds)}, which is not byte-level"
        raise BadInput(path, f"its pre_tokenizer {reason}", "give a byte-level BPE such as GPT-2's")
    if kinds == ["ByteLevel"] and byte_level.get("use_regex", True):
        return GPT2_PATTERN
    if kinds == ["Split", "ByteLevel"] and not byte_level.get("use_regex", True):
        split = steps[0]
        regex = split["pattern"].get("Regex") if isinstance(split.get("pattern"), dict) else None
        if isinstance(regex, str) and split.get("behavior") == "Isolated" and not split.get("invert"):
            return GPT2_PATTERN if regex == HUGGING_PATTERN else regex
    raise BadInput(path, f"its pre_tokenizer {' + '.join(kinds)} is none of those that are known here")


def _from_ranks(path: Path, pattern: str | None) -> Bpe:
    """A line for each token: base64, a space, its id, which is the rank of its merge."""
    stem = path.name.removesuffix(RANKS)
    if pattern is None and stem not in GPT2_RANKS:
        raise BadInput(
            path, "is a file of ranks, which does not say how text is cut into words",
            f"give the pattern; only {', '.join(GPT2_RANKS)} are known by name",
        )  # fmt: skip
    ids: dict[bytes, int] = {}
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line:
            continue
        try:
            token, rank = line.split(" ")
            raw, id = base64.b64decode(token, validate=True), int(rank)
        except (ValueError, binascii.Error) as error:
            raise BadInput(path, f"line {number} is {line[:40]!r}, expected base64, a space and a number") from error
        if not raw or raw in ids:
            raise BadInput(path, f"line {number} gives {'no bytes' if not raw else f'{raw!r} a second time'}")
        ids[raw] = id
    return _laid_out(path, ids, {CONTROL: GPT2_RANKS[stem]} if pattern is None else {}, pattern or GPT2_PATTERN)


def _bpe(
    path: Path, merges: Path, ids: Mapping[str, Any], pairs: Iterable[tuple[int, Any]], pattern: str,
    special: Mapping[Any, Any],
) -> Bpe:  # fmt: skip
    """Tokens that merges make, in order; every other token is a control token, which no text becomes."""
    for name, id in ids.items():
        _check_id(path, name, id)
    made: dict[bytes, int] = {bytes([byte]): ids[name] for name, byte in BYTES.items() if name in ids}
    kept: list[tuple[str, str]] = []
    last = -1
    for number, pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise BadInput(merges, f"merge {number} is {str(pair)[:40]!r}, expected two tokens")
        left, right = pair
        try:
            token, id = spelled(left + right), ids[left + right]
        except KeyError as error:
            raise BadInput(merges, f"merge {number} makes {left + right!r}, no token of {path.name}") from error
        if id <= last:
            raise BadInput(merges, f"merge {number} makes the id {id} after {last}; ids must rise with the merges")
        if left not in ids or right not in ids:
            raise BadInput(merges, f"merge {number} is of {left!r} and {right!r}, not both tokens of {path.name}")
        made[token] = last = id
        kept.append((left, right))
    _check_reached(merges, ids, kept)
    text = {token for token in ids if token in BYTES or set(token) <= BYTES.keys() and spelled(token) in made}
    control = {name: id for name, id in ids.items() if name not in text} | {
        name: id for name, id in special.items() if name not in text
    }
    return _laid_out(path, made, control, pattern)


def _check_reached(path: Path, ids: Mapping[str, int], pairs: list[tuple[str, str]]) -> None:
    """Each merge is the one that its token comes to: then to merge by the ranks of tokens, as tiktoken does, is to
    merge by the list of pairs."""
    from tokenizers.models import BPE

    model = BPE(dict(ids), pairs)
    for left, right in pairs:
        if len(model.tokenize(left + right)) != 1:
            raise BadInput(path, f"the merge of {left!r} and {right!r} is never reached", "the merges are damaged")


def _laid_out(path: Path, ids: Mapping[bytes, int], special: Mapping[Any, Any], pattern: str) -> Bpe:
    """Tokens in order of their ids, which may leave some out; every byte must have one."""
    names: dict[int, Any] = {}
    for name, id in [*ids.items(), *special.items()]:
        _check_id(path, name, id)
        if not isinstance(name, str | bytes) or names.setdefault(id, name) != name:
            raise BadInput(path, f"the id {id} is given to {names.get(id)!r} and to {name!r}")
    missing = [byte for byte in range(256) if bytes([byte]) not in ids]
    if missing:
        few = ", ".join(f"0x{byte:02X}" for byte in missing[:5])
        raise BadInput(
            path, f"has no token for {len(missing)} of the 256 bytes ({few}{', …' if len(missing) > 5 else ''})",
            "give a byte-level BPE; only that can encode any text",
        )  # fmt: skip
    tokens = [b""] * (max(names) + 1)
    for token, id in ids.items():
        tokens[id] = token
    return Bpe(tokens, pattern, special)


def _check_id(path: Path, name: Any, id: Any) -> None:
    if not isinstance(id, int) or isinstance(id, bool) or not 0 <= id < MAX_ID:
        raise BadInput(path, f"the id of {name!r} is {id!r}, expected a number from 0 to {MAX_ID - 1:,}")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadInput(path, f"over {MAX_BYTES >> 20} MiB are too many for a file of tokens")
        return path.read_text(encoding="utf-8")  # line ends become newlines
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or f"is damaged: {error}"
        raise BadInput(path, reason, "copy or download it again") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise BadInput(path, f"is damaged: {error}", "copy or download it again") from error
    if not isinstance(found, dict):
        raise BadInput(path, f"holds {type(found).__name__}, expected an object", f"give {KINDS}")
    return found


def _type(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, dict) else type(part).__name__
