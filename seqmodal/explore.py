"""What a model of text would write next, with probabilities; a person picks, and it goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from seqmodal.model import Candidate, Model
from seqmodal.prompt import prompt_ids

END = "(end of the text)"


def explore(
    model: Model, prompt: Any, console: Console, ask: Callable[[str], str] | None = None, count: int = 10,
    to: str | None = None,
) -> None:  # fmt: skip
    """Show the likeliest next tokens of a prompt; with `ask`, until the user leaves or picks the end.

    Args:
        model: of text.
        prompt: as for `Model.sample`; of another kind, such as a picture, it is what the text is made of.
        console: where to show them.
        ask: puts a question and returns the answer; EOFError is taken for leaving.
        count: how many tokens.
        to: the block of text; may be left out where there is only one.

    Raises:
        ConfigError: for a model that makes no text.
    """
    tokenizer = model.maker(to)
    given, goes_on = model.taken(tokenizer, prompt)
    ids = prompt_ids(tokenizer, goes_on, None)
    while True:
        found = model.next(ids, count, given=given, to=to)
        console.print(Text(tokenizer.decode(ids)), soft_wrap=True)
        console.print(table(found))
        picked = None if ask is None else _picked(found, ask, console)
        if picked is None:
            return
        if picked.id is None:
            console.print(Text(tokenizer.decode(ids)), soft_wrap=True)
            return
        ids = np.append(ids, np.int32(picked.id))


def table(found: Sequence[Candidate]) -> Table:
    """A numbered row with a bar for each, and what all others have together."""
    rows = Table(show_header=False, box=None, pad_edge=False)
    rest = max(0.0, 1 - sum(one.probability for one in found))
    longest = max(one.probability for one in found)
    for number, one in enumerate(found, 1):
        label = END if one.id is None else repr(one.text)
        bar = Bar(longest, 0, one.probability, width=40)
        rows.add_row(f"{number:2}", Text(label), f"{one.probability:7.2%}", bar)
    rows.add_row("", "all others", f"{rest:7.2%}")
    return rows


def _picked(found: Sequence[Candidate], ask: Callable[[str], str], console: Console) -> Candidate | None:
    """The one that the user picks by its number; None to leave."""
    while True:
        try:
            answer = ask(f"1 to {len(found)}, or nothing to leave: ").strip()
        except EOFError:
            return None
        if not answer:
            return None
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= len(found):
            return found[int(answer) - 1]
        console.print(f"{answer!r} is no number from 1 to {len(found)}", markup=False)
