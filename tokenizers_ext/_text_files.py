"""The files that byte-level BPE comes in: GPT-2's two, a .tiktoken file of ranks, Hugging Face's tokenizer.json.

They are parsed here: tiktoken's own loader keeps ranks in a cache by path and gives the old ones for a new file, and a
byte without a token ends in a panic of Rust. Nothing is downloaded.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.errors import BadInput
from tokenizers_ext._text_bpe import BYTES, CONTROL, GPT2_PATTERN, OPENAI, Bpe, spelled

PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
JSON, RANKS = "tokenizer.json", ".tiktoken"
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
    control = _json(added) if added.is_file() else {}
    listed = [{"content": name, "id": id} for name, id in control.items()]
    return _bpe(vocab, merges, _json(vocab), pairs, GPT2_PATTERN, listed)


def _from_tokenizer_json(path: Path) -> Bpe:
    """Hugging Face's one file; what would change the text before it is encoded is refused."""
    found = _json(path)
    model = found.get("model")
    if not isinstance(model, dict) or model.get("type", "BPE") != "BPE" or not isinstance(model.get("merges"), list):
        kind = model.get("type") if isinstance(model, dict) else None
        raise BadInput(path, f"holds {kind or 'no model of tokens'}, expected a byte-level BPE", f"give {KINDS}")
    allowed = {
        "dropout": (None, 0, 0.0), "continuing_subword_prefix": (None, ""), "end_of_word_suffix": (None, ""),
        "byte_fallback": (None, False), "ignore_merges": (None, True, False),
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
    vocab = model.get("vocab")
    if not isinstance(vocab, dict):
        raise BadInput(path, "its model has no vocab", "copy or download it again")
    pattern = _pattern(path, found.get("pre_tokenizer"))
    return _bpe(path, path, vocab, pairs, pattern, listed, bool(model.get("ignore_merges")))


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
    known = OPENAI.get(path.name.removesuffix(RANKS))
    if pattern is None and known is None:
        raise BadInput(
            path, "is a file of ranks, which does not say how text is cut into words",
            f'give the pattern that belongs to it, as in TextTokenizer.load("{path.name}", pattern=r"…"); '
            f"only {', '.join(OPENAI)} are known by name",
        )  # fmt: skip
    pattern, special = (pattern, {}) if pattern is not None or known is None else known
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
    return _laid_out(path, dict(sorted(ids.items(), key=lambda one: one[1])), special, pattern)


def _bpe(
    path: Path, merges: Path, ids: Mapping[str, Any], pairs: Iterable[tuple[int, Any]], pattern: str,
    listed: Iterable[Mapping[str, Any]], whole: bool = False,
) -> Bpe:  # fmt: skip
    """Tokens that merges make, in order, and added ones; every other token is a control token, which no text becomes.

    Args:
        listed: added tokens, as a tokenizer.json has them.
        whole: a word that is a token is not merged (`ignore_merges`), so that a token needs no merge to be text.
    """
    for name, id in ids.items():
        _check_id(path, name, id)
    special, added = _added(path, ids, listed)
    made = dict.fromkeys(sorted(ids.keys() & BYTES.keys(), key=ids.__getitem__))
    kept: dict[tuple[str, str], str] = {}
    last = ""
    for number, pair in pairs:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(part, str) for part in pair):
            raise BadInput(merges, f"merge {number} is {str(pair)[:40]!r}, expected two tokens")
        left, right = pair
        token = left + right
        if token not in ids or not set(token) <= BYTES.keys():
            raise BadInput(merges, f"merge {number} makes {token!r}, no token of {path.name}")
        if left not in ids or right not in ids or not (left and right):
            raise BadInput(merges, f"merge {number} is of {left!r} and {right!r}, not both tokens of {path.name}")
        if (left, right) in kept:
            raise BadInput(merges, f"merge {number} of {left!r} and {right!r} is there a second time")
        if token not in made or token == last:  # a token has one rank; one more merge, after others, is never reached
            kept[left, right] = last = token
        made[token] = None
    found = {name for each in added for name, id in each.items() if id is not None}
    if whole:
        others = sorted(ids.keys() - special.keys() - {CONTROL})
        made |= dict.fromkeys(name for name in others if name and set(name) <= BYTES.keys())
    _check_reached(merges, ids, list(kept), made, whole)
    text = made.keys() | found
    control = {name: id for name, id in [*ids.items(), *special.items()] if name not in text}
    return _laid_out(path, {spelled(name): ids[name] for name in made}, control, pattern, added if found else ())


def _added(
    path: Path, ids: Mapping[str, int], listed: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, int], list[dict[str, int | None]]]:
    """Control tokens among the added ones, and all of them as `Bpe.added`: Hugging Face's library looks for those that
    are not `normalized` first. One that it would number or find otherwise than `Bpe` does is refused."""
    special: dict[str, int] = {}
    passes: list[dict[str, int | None]] = [{}, {}]
    last = len(ids) - 1
    for one in listed:
        name, id = one.get("content"), one.get("id")
        if not isinstance(name, str) or name.encode("utf-8", "replace").decode() != name:
            raise BadInput(path, f"an added token is {name!r}, expected text")
        _check_id(path, name, id)
        if not name:  # the library leaves it out
            continue
        if name in passes[0] or name in passes[1]:
            raise BadInput(path, f"the added token {name!r} is there a second time")
        expected = ids.get(name, last + 1)
        last = max(last, expected)
        text = one.get("special") is False and name != CONTROL  # the end of a text is none, whatever the file says
        passes[bool(one.get("normalized"))][name] = id if text else None
        if not text:
            special[name] = id
            continue
        for option in ("lstrip", "rstrip", "single_word"):
            if one.get(option):
                raise BadInput(path, f"the added token {name!r} has {option}, which is not known here")
        if id != expected:
            raise BadInput(path, f"the added token {name!r} has the id {id}; Hugging Face's library gives {expected}")
    return special, [each for each in passes if each]


def _check_reached(
    path: Path, ids: Mapping[str, int], pairs: list[tuple[str, str]], made: Iterable[str], whole: bool
) -> None:
    """Raise where to merge by the ranks of tokens, as tiktoken does, would not be to merge by the list of pairs.

    It is where the bytes of each token come to it: what is merged within a longer word is what would be merged if they
    were alone, so that the last pair is always the same. Where words that are tokens are not merged, they may also come
    to three parts or more: then no two neighbours in any word make that token.
    """
    from tokenizers.models import BPE

    model = BPE(dict(ids), pairs)
    for token in made:
        parts = [part.value for part in model.tokenize(token)]
        if len(parts) > 1 and not whole:
            raise BadInput(
                path, f"the token {token!r} is never reached by its first merges, but is {' + '.join(parts)}",
                "the merges are damaged",
            )  # fmt: skip
        if len(parts) == 2:
            raise BadInput(
                path, f"no merge of {parts[0]!r} and {parts[1]!r} makes {token!r}, which is a token",
                "encoding is by a rank for each token, which would merge them",
            )  # fmt: skip


def _laid_out(
    path: Path, ids: Mapping[bytes, int], special: Mapping[Any, Any], pattern: str,
    added: Sequence[Mapping[str, int | None]] = (),
) -> Bpe:  # fmt: skip
    """Tokens, given in order of their merges, by their ids, which may leave some out; every byte must have one."""
    cut = {name.encode(): id for each in added for name, id in each.items() if id is not None}
    names: dict[int, Any] = {}
    for name, id in [*ids.items(), *special.items(), *cut.items()]:
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
    for id, name in names.items():
        tokens[id] = name if isinstance(name, bytes) else b""
    order = list(ids.values())
    plain = order == [id for id, token in enumerate(tokens) if token]
    return Bpe(tokens, pattern, special, added, None if plain else np.array(order, np.int32))


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
