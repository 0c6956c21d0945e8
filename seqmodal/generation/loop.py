"""One id after another, for a batch of rows that do not depend on one another."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.constraint import Constraint
from seqmodal.generation.probability import Sampler, draw, probabilities
from seqmodal.nn.state import KVCache


@dataclass(frozen=True)
class Continuation:
    """What one row went on with.

    Attributes:
        ids: int64 (n,), a stop id included.
        logprobs: float32 (n,), of the model's own distribution over what was allowed, before temperature and the like.
        finished: whether it ended with a stop id.
    """

    ids: np.ndarray
    logprobs: np.ndarray
    finished: bool


def row_generators(seed: int, rows: int, first: int = 0) -> list[torch.Generator]:
    """A random generator a row, of (seed, row) alone, so that a row's sample does not depend on its neighbours."""
    states = (np.random.SeedSequence([seed, row]).generate_state(1, np.uint64)[0] for row in range(first, first + rows))
    return [torch.Generator().manual_seed(int(state) >> 1) for state in states]


def generate(
    decoder: Decoder, prompts: Sequence[np.ndarray], *, sampler: Sampler | None = None,
    max_new_tokens: int | None = None, constraints: Sequence[Constraint] | None = None, stop_ids: Collection[int] = (),
    generators: Sequence[torch.Generator] | None = None, after_step: Callable[[], None] | None = None,
) -> list[Continuation]:
    """What follows each prompt; the arguments are those of `stream`. `after_step` is called after each step."""
    made: list[list[tuple[int, float]]] = [[] for _ in prompts]
    for ids, logprobs in _steps(decoder, prompts, sampler, max_new_tokens, constraints, stop_ids, generators):
        for row, id in enumerate(ids.tolist()):
            if id >= 0:
                made[row].append((id, float(logprobs[row])))
        if after_step is not None:
            after_step()
    return [
        Continuation(
            np.array([id for id, _ in row], np.int64), np.array([p for _, p in row], np.float32),
            bool(row) and row[-1][0] in stop_ids,
        )
        for row in made
    ]


def stream(
    decoder: Decoder, prompts: Sequence[np.ndarray], *, sampler: Sampler | None = None,
    max_new_tokens: int | None = None, constraints: Sequence[Constraint] | None = None, stop_ids: Collection[int] = (),
    generators: Sequence[torch.Generator] | None = None,
) -> Iterator[np.ndarray]:
    """Ids as they come.

    The length is unlimited: a decoder with a window forgets what is out of reach; one without reads the last half of
    its context again whenever that is full.

    Args:
        decoder: in evaluation mode.
        prompts: (n_i,) ids each, at least one; their lengths may differ.
        sampler: how to choose; None: as the model has it.
        max_new_tokens: at most so many for each row; None: until each row has stopped.
        constraints: one for each row, advanced with what is chosen.
        stop_ids: a row that takes one of these is finished.
        generators: one for each row; None: `row_generators` of seed 0.

    Yields:
        int64 (B,), the next id of each row, -1 for a row that is finished.
    """
    for ids, _ in _steps(decoder, prompts, sampler, max_new_tokens, constraints, stop_ids, generators):
        yield ids


@torch.inference_mode()
def _steps(
    decoder: Decoder, prompts: Sequence[np.ndarray], sampler: Sampler | None, max_new_tokens: int | None,
    constraints: Sequence[Constraint] | None, stop_ids: Collection[int], generators: Sequence[torch.Generator] | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The ids (B,) and their log-probabilities (B,) at each step."""
    rows, sampler = len(prompts), sampler or Sampler()
    generators = generators if generators is not None else row_generators(0, rows)
    for name, given in (("constraints", constraints), ("generators", generators)):
        if given is not None and len(given) != rows:
            raise ConfigError(f"{rows} prompts and {len(given)} {name}; there must be one for each")
    if not rows or min(len(prompt) for prompt in prompts) == 0:
        raise ConfigError("every row needs a prompt of at least one id, such as bos")
    if max_new_tokens is not None and max_new_tokens < 1:
        return
    device = decoder.embedding.weight.device
    state = decoder.new_state(rows)
    history = [np.asarray(prompt).tolist() for prompt in prompts]
    live = list(range(rows))  # which rows the state holds, in its order
    hidden = _read(decoder, state, {at: _recent(history[row], state) for at, row in enumerate(live)})
    step = 0
    while True:
        logits = decoder.logits(hidden).cpu()  # (L, V)
        if constraints is not None:
            barred = ~np.stack([constraints[row].allowed() for row in live])
            logits = logits.masked_fill(torch.from_numpy(barred), -torch.inf)
        chosen = _choose(probabilities(logits, sampler), sampler, [generators[row] for row in live])
        logprobs = logits.log_softmax(dim=-1).gather(-1, chosen.unsqueeze(-1))
        ids, scores = np.full(rows, -1), np.zeros(rows, np.float32)
        ids[live], scores[live] = chosen.numpy(), logprobs[:, 0].numpy()
        for row in live:
            if constraints is not None:
                ids[row] = constraints[row].advance(int(ids[row]))
            history[row].append(int(ids[row]))
        chosen = torch.from_numpy(ids[live])  # as the constraints took them
        yield ids, scores
        step += 1
        keep = [at for at, row in enumerate(live) if history[row][-1] not in stop_ids]
        if not keep or step == max_new_tokens:
            return
        if len(keep) < len(live):
            live = [live[at] for at in keep]
            state.reorder(torch.tensor(keep, device=device))
            chosen = chosen[keep]
        hidden = _next(decoder, state, chosen.to(device), [history[row] for row in live])


def _choose(p: Tensor, sampler: Sampler, generators: Sequence[torch.Generator]) -> Tensor:
    if sampler.temperature == 0:
        return p.argmax(dim=-1)
    return draw(p, torch.cat([torch.rand(1, generator=generator) for generator in generators]))


def _next(decoder: Decoder, state: KVCache, chosen: Tensor, history: Sequence[list[int]]) -> Tensor:
    """The hidden state (L, D) after the id just chosen, of rows that may have to read their context again."""
    full = [] if state.limit is None else (state.lengths == state.limit).nonzero()[:, 0].tolist()
    if not full:
        return decoder(chosen.unsqueeze(1), state=state).hidden[:, -1]
    lengths = state.lengths.clone()
    lengths[full] = 0
    state.truncate(lengths)
    given = {at: _recent(ids, state) if at in full else ids[-1:] for at, ids in enumerate(history)}
    return _read(decoder, state, given)


def _recent(ids: list[int], state: KVCache) -> list[int]:
    """As much of the end as a state takes, with room to go on; all of it where there is no limit."""
    return ids if state.limit is None or len(ids) < state.limit else ids[-max(1, state.limit // 2) :]


def _read(decoder: Decoder, state: KVCache, given: dict[int, list[int]]) -> Tensor:
    """Read on with ids of different lengths, one run for each row; returns their last hidden states (L, D)."""
    longest = max(map(len, given.values()))
    ids, positions = np.zeros((len(given), longest), np.int64), np.full((len(given), longest), -1)
    starts = state.lengths.tolist()
    for row, run in given.items():
        ids[row, : len(run)] = run
        positions[row, : len(run)] = np.arange(starts[row], starts[row] + len(run))
    device = state.positions.device
    hidden = decoder(torch.from_numpy(ids).to(device), torch.from_numpy(positions).to(device), state=state).hidden
    last = torch.tensor([len(given[row]) - 1 for row in range(len(given))], device=device)
    return hidden[torch.arange(len(given), device=device), last]
