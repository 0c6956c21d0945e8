"""One id after another, for a batch of rows that do not depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import torch

from seqmodal.decoder import Decoder
from seqmodal.generation.constraint import Constraint
from seqmodal.generation.guidance import Guided
from seqmodal.generation.probability import Sampler, choose
from seqmodal.generation.reader import Reader
from seqmodal.generation.rows import (
    Continuation,
    MaxNewTokens,
    Prompts,
    Rows,
    Stops,
    histories_as_rows,
    ids_of,
    row_generators,
)
from seqmodal.sequence import Composed

__all__ = ["Continuation", "generate", "next_probabilities", "row_generators", "stream"]


def generate(
    decoder: Decoder, prompts: Prompts, *, sampler: Sampler | None = None, max_new_tokens: MaxNewTokens = None,
    constraints: Sequence[Constraint] | None = None, stop_ids: Collection[int] = (),
    stop_sequences: Collection[Sequence[int]] = (), generators: Sequence[torch.Generator] | None = None,
    after_step: Callable[[], None] | None = None, guidance: float | None = None,
) -> list[Continuation]:
    """What follows each prompt, in their order; the arguments are those of `stream`, which raises the same.

    Args:
        after_step: called after each step.
        guidance: see `Guided`; log-probabilities are then those of the guided distribution.
    """
    generators = row_generators(0, len(prompts)) if generators is None else generators
    stops = Stops(stop_ids, stop_sequences)
    rows = Rows(prompts, max_new_tokens, stops, constraints=constraints, generators=generators)
    for _ in _steps(decoder, prompts, rows, sampler or Sampler(), constraints, generators, guidance=guidance):
        if after_step is not None:
            after_step()
    return rows.continuations()


def stream(
    decoder: Decoder, prompts: Prompts, *, sampler: Sampler | None = None, max_new_tokens: MaxNewTokens = None,
    constraints: Sequence[Constraint] | None = None, stop_ids: Collection[int] = (),
    stop_sequences: Collection[Sequence[int]] = (), generators: Sequence[torch.Generator] | None = None,
) -> Iterator[np.ndarray]:
    """Ids as they come.

    After ids the length is unlimited: a decoder with a window forgets what is out of reach; one without reads the last
    half of its context again whenever that is full.

    Args:
        decoder: in evaluation mode.
        prompts: (n_i,) ids each, at least one, or the starts of composed documents, which stay in reach as a whole with
            their spans seen both ways; their lengths may differ.
        sampler: how to choose; None: as the model has it.
        max_new_tokens: at most so many, for all rows or for each; None: until each row has stopped. Needed after a
            composed document.
        constraints: one for each row, advanced with what is chosen.
        stop_ids: a row that takes one of these is finished.
        stop_sequences: a row whose new ids end with one of these is finished.
        generators: one for each row; None: `row_generators` of seed 0.

    Yields:
        int64 (B,), the next id of each row, -1 for a row that is finished.
    """
    generators = row_generators(0, len(prompts)) if generators is None else generators
    stops = Stops(stop_ids, stop_sequences)
    rows = Rows(prompts, max_new_tokens, stops, constraints=constraints, generators=generators)
    for live, taken in _steps(
        decoder, prompts, rows, sampler or Sampler(), constraints, generators, scored=False
    ):  # fmt: skip
        ids = np.full(len(prompts), -1)
        ids[live] = taken
        yield ids


@torch.inference_mode()
def next_probabilities(
    decoder: Decoder, prompt: np.ndarray | Composed, allowed: np.ndarray | None = None
) -> np.ndarray:  # fmt: skip
    """What comes after a prompt: float32 (V,), as the model has it among what is `allowed`, bool (V,)."""
    reader = Reader(decoder, [prompt], [1])
    logits = decoder.logits(reader.last([reader.recent(ids_of(prompt).tolist())]))[0].float()
    if allowed is not None:
        logits = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)
    return logits.softmax(dim=-1).cpu().numpy()


@torch.inference_mode()
def _steps(
    decoder: Decoder, prompts: Prompts, rows: Rows, sampler: Sampler, constraints: Sequence[Constraint] | None,
    generators: Sequence[torch.Generator], scored: bool = True, guidance: float | None = None,
) -> Iterator[tuple[list[int], list[int]]]:
    """Which rows went on at each step, and with which ids. Log-probabilities are worked out where `scored`."""
    live = rows.live
    if not live:
        return
    begun, most = [prompts[row] for row in live], [rows.room(row) for row in live]
    reader = Reader(decoder, begun, most) if guidance is None else Guided(decoder, begun, most, guidance)
    hidden = reader.last([reader.recent(rows.histories[row]) for row in live])
    seen = None
    while True:
        logits = reader.logits(hidden)  # (L, V)
        if constraints is not None:
            allowed = np.stack([constraints[row].allowed() for row in live])
            logits = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)
        if sampler.remembers and seen is None:
            seen = histories_as_rows(rows.histories, logits.shape[-1], logits.device)
        chosen = choose(logits, sampler, [generators[row] for row in live], history=seen)
        ids, logprobs = chosen.tolist(), [0.0] * len(live)
        if scored:
            logprobs = logits.log_softmax(dim=-1).gather(-1, chosen.unsqueeze(-1))[:, 0].tolist()
        if constraints is not None:
            taken = [constraints[row].advance(id) for row, id in zip(live, ids, strict=True)]
            if taken != ids:
                ids, chosen = taken, torch.tensor(taken, device=chosen.device)
        keep = [at for at, row in enumerate(live) if rows.take(row, ids[at], logprobs[at])]
        yield live, ids
        if not keep:
            return
        if len(keep) < len(live):
            live = rows.live = [live[at] for at in keep]
            reader.reorder(keep)
            chosen = chosen[keep]
            seen = seen[keep] if seen is not None else None
        if seen is not None:
            seen.scatter_(1, chosen.unsqueeze(1), True)
        hidden = reader.next(chosen, [rows.histories[row] for row in live])
