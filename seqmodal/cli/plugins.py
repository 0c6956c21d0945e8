"""`seqmodal tokenizers`: what plug-ins there are, and whether they keep the laws."""

from __future__ import annotations

import sys
from pathlib import Path

from seqmodal.errors import ConfigError, SeqmodalError


def tokenizers(given: list[str]) -> None:
    """`seqmodal tokenizers`, `seqmodal tokenizers check NAME [OPTION=VALUE…] [FILES…]`."""
    if "-h" in given or "--help" in given:
        print("usage: seqmodal tokenizers                                       list them")
        print("       seqmodal tokenizers check NAME [OPTION=VALUE…] [FILES…]   does it keep the laws of a tokenizer?")
        return
    from seqmodal.tokenizers import available, check, failures
    from seqmodal.tokenizers import tokenizer as build
    from seqmodal.tokenizers.registry import duplicates, options_of

    if given and given[0] == "check":
        if len(given) < 2:
            raise ConfigError("tokenizers check needs a name; there are: " + ", ".join(available()))
        options = [word for word in given[2:] if "=" in word and not _there(word)]
        files = [Path(word) for word in given[2:] if word not in options]
        found = check(build(given[1], **options_of(options)), files=files)
        for failure in found:
            print(failure)
        if found:
            raise SeqmodalError(f"{given[1]} breaks {len(found)} of the laws of a tokenizer")
        print(f"{given[1]} keeps all laws of a tokenizer")
        return
    if given:
        check_one = "seqmodal tokenizers check NAME [OPTION=VALUE…] [FILES…]"
        raise ConfigError(f"tokenizers takes no {given[0]!r}; there are: seqmodal tokenizers, {check_one}")
    for entry in available().values():
        print(f"{entry.name:10}  {entry.summary}  [{entry.origin}]")
    for line in (*duplicates(), *failures()):
        print(f"broken: {line}", file=sys.stderr)


def _there(word: str) -> bool:
    try:
        return Path(word).exists()
    except (OSError, ValueError):  # too long for a name
        return False
