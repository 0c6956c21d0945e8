"""Several ids a call: guesses are read at once, and kept as far as the model itself might have said them.

Leviathan et al. 2023, Chen et al. 2023. At temperature 0 the ids are those of plain decoding; else their distribution
is, for every `Sampler`. (In float32 a call over several ids may round otherwise than a call over one: two ids equally
likely to seven digits may then change places.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError, Mismatch
from seqmodal.generation.constraint import Constraint
from seqmodal.generation.draft import DraftModel, Lookup
from seqmodal.generation.path import Path, stacked
from seqmodal.generation.probability import Sampler, choose, draw, probabilities
from seqmodal.generation.reader import Reader
from seqmodal.generation.rows import (
    Continuation,
    MaxNewTokens,
    Prompts,
    Rows,
    Stops,
    histories_as_rows,
    row_generators,
)


@dataclass(frozen=True)
class Acceptance:
    """How well the guesses did.

    Attributes:
        proposed: int64 (B,), ids guessed for each row.
        accepted: int64 (B,), those of them that were kept by the model.
        calls: how often the model was called.
    """

    proposed: np.ndarray
    accepted: np.ndarray
    calls: int

    @property
    def rate(self) -> float:
        """Share of the guesses that were kept; 0 where none was made."""
        return float(self.accepted.sum() / max(1, self.proposed.sum()))


@torch.inference_mode()
def speculate(
    decoder: Decoder, prompts: Prompts, *, draft: DraftModel | Lookup, sampler: Sampler | None = None,
    max_new_tokens: MaxNewTokens = None, constraints: Sequence[Constraint] | None = None,
    stop_ids: Collection[int] = (), stop_sequences: Collection[Sequence[int]] = (),
    generators: Sequence[torch.Generator] | None = None,
    after_step: Callable[[], None] | None = None,
) -> tuple[list[Continuation], Acceptance]:
    """What follows each prompt, as `generate` has it, by speculative decoding.

    Every row keeps as many guesses as it can: a batch need not agree. Stops, `max_new_tokens`, constraints (which are
    followed along the guesses on copies) and the penalty of repetition hold inside a run of guesses as elsewhere.

    Args:
        draft: where the guesses come from. The other arguments are those of `stream`.
        after_step: called after each call of the decoder.

    Raises:
        ConfigError: for a draft longer than the decoder's state can take back, and as `generate` does.
        Mismatch: for a draft decoder over another vocabulary.
    """
    sampler = sampler or Sampler()
    generators = row_generators(0, len(prompts)) if generators is None else generators
    stops = Stops(stop_ids, stop_sequences)
    rows = Rows(prompts, max_new_tokens, stops, constraints=constraints, generators=generators)
    reader = Reader(decoder, prompts, [rows.room(row) for row in range(len(prompts))])
    _check(decoder, reader, draft)
    drafter = draft.drafter(len(prompts), sampler, generators)
    proposed, accepted, calls = np.zeros(len(prompts), np.int64), np.zeros(len(prompts), np.int64), 0
    unread = [reader.recent(history) for history in rows.histories]  # of each live row, what its state lacks
    while rows.live:  # each round reads what is unread and one draft a row, and leaves one id unread
        live, histories = rows.live, [rows.histories[row] for row in rows.live]
        paths = [
            Path(room, None if constraints is None else constraints[row], stops.ids)
            for row, room in zip(live, _rooms(draft.length, rows, reader, unread), strict=True)
        ]
        q = drafter.propose(histories, paths)
        runs = [run + path.ids for run, path in zip(unread, paths, strict=True)]
        logits = decoder.logits(_ends(reader.read(runs), runs, paths))  # (L, n + 1, V)
        calls += 1
        masks = [[*path.masks, path.allowed()][: len(path.ids) + 1] for path in paths]
        if (allowed := stacked(masks, logits)) is not None:
            logits = logits.masked_fill(~allowed, -torch.inf)
        seen = _seen(histories, paths, logits) if sampler.remembers else None
        good, nexts = _verified(logits, seen, sampler, paths, q, [generators[row] for row in live])
        new = [
            path.ids[:n] + ([] if path.ended and n == len(path.ids) else [id])
            for path, n, id in zip(paths, good, nexts, strict=True)
        ]
        logprobs = _logprobs(logits, new)
        keep, used = [], list(reader.used)
        for at, row in enumerate(live):
            goes = True
            proposed[row] += len(paths[at].ids)
            accepted[row] += good[at]
            for id, logprob in zip(new[at], logprobs[at], strict=False):
                goes = rows.take(row, id if constraints is None else constraints[row].advance(id), logprob)
                if not goes:
                    break
            if goes:
                keep.append(at)
            read = good[at] - (paths[at].clipped and good[at] == len(paths[at].ids))  # what was taken as it was read
            used[at] -= len(paths[at].ids) - read
        if after_step is not None:
            after_step()
        if not keep:
            break
        reader.truncate(used)
        if len(keep) < len(live):
            rows.live = [live[at] for at in keep]
            reader.reorder(keep)
            drafter.keep(keep)
        full = reader.forget_full()
        unread = [
            reader.recent(rows.histories[row]) if at in full else rows.histories[row][-1:]
            for at, row in enumerate(rows.live)
        ]
    return rows.continuations(), Acceptance(proposed, accepted, calls)


def _check(decoder: Decoder, reader: Reader, draft: DraftModel | Lookup) -> None:
    if reader.limit is None and draft.length >= reader.state.chunk:
        raise ConfigError(
            f"a draft of {draft.length} ids is more than this decoder's state can take back; at most "
            f"{reader.state.chunk - 1}"
        )
    if isinstance(draft, DraftModel) and draft.decoder.config.vocab_size != decoder.config.vocab_size:
        raise Mismatch(
            f"the draft decoder has {draft.decoder.config.vocab_size} ids and the decoder "
            f"{decoder.config.vocab_size}; they must speak one vocabulary"
        )


def _rooms(length: int, rows: Rows, reader: Reader, unread: Sequence[list[int]]) -> list[int]:
    """How long each row's draft may be: the state has to hold it, and one more id comes behind it."""
    rooms = []
    for row, used, run in zip(rows.live, reader.used, unread, strict=True):
        held = length if reader.limit is None else min(length, reader.limit - used - len(run))
        left = rows.room(row)
        rooms.append(held if left is None else min(held, left - 1))
    return rooms


def _ends(hidden: Tensor, runs: Sequence[list[int]], paths: Sequence[Path]) -> Tensor:
    """Of (L, T, D), the states before each guess and behind the last: (L, n + 1, D), n the longest draft."""
    longest = max(len(path.ids) for path in paths)
    at = [
        [len(run) - 1 - len(path.ids) + min(place, len(path.ids)) for place in range(longest + 1)]
        for run, path in zip(runs, paths, strict=True)
    ]
    return hidden[torch.arange(len(runs), device=hidden.device)[:, None], torch.tensor(at, device=hidden.device)]


def _seen(histories: Sequence[list[int]], paths: Sequence[Path], like: Tensor) -> Tensor:
    """The ids that each row has at each place of its draft: (L, n + 1, V) bool."""
    rows = [
        history + path.ids[:place]
        for history, path in zip(histories, paths, strict=True)
        for place in range(like.shape[1])
    ]
    return histories_as_rows(rows, like.shape[-1], like.device).view(like.shape)


def _logprobs(logits: Tensor, new: Sequence[list[int]]) -> list[list[float]]:
    padded = [ids + [0] * (logits.shape[1] - len(ids)) for ids in new]
    chosen = torch.tensor(padded, device=logits.device).unsqueeze(-1)
    scores: list[list[float]] = logits.log_softmax(dim=-1).gather(-1, chosen).squeeze(-1).tolist()
    return scores


def _verified(
    logits: Tensor, seen: Tensor | None, sampler: Sampler, paths: Sequence[Path], q: Tensor | None,
    generators: Sequence[torch.Generator],
) -> tuple[list[int], list[int]]:  # fmt: skip
    """How many guesses each row keeps, and the id that comes behind them.

    A guess d drawn from q is kept with probability min(1, p(d) / q(d)); after one that is not, the id comes from what
    p has more than q. A guess that was not drawn has q(d) = 1.

    Args:
        logits: (L, n + 1, V) of what is allowed.
        seen: the same shape, for the penalty of repetition.
        q: (L, n, V), or None.
    """
    drafts = [path.ids for path in paths]
    if sampler.temperature == 0:
        flat = choose(logits.flatten(0, 1), sampler, (), history=None if seen is None else seen.flatten(0, 1))
        best = flat.view(logits.shape[:2]).tolist()
        good = [_agree(ids, row) for ids, row in zip(drafts, best, strict=True)]
        return good, [row[n] for row, n in zip(best, good, strict=True)]
    p = probabilities(logits, sampler, history=seen)
    rows = torch.arange(len(drafts), device=p.device)
    guesses = torch.tensor([ids + [0] * (p.shape[1] - len(ids)) for ids in drafts], device=p.device)  # (L, n + 1)
    mine = p.gather(-1, guesses.unsqueeze(-1)).squeeze(-1).tolist()
    theirs = None if q is None else q.gather(-1, guesses[:, : q.shape[1]].unsqueeze(-1)).squeeze(-1).tolist()
    good, numbers = [], []
    for at, (ids, generator) in enumerate(zip(drafts, generators, strict=True)):
        uniform = torch.rand(len(ids) + 1, generator=generator, dtype=torch.float64).tolist()
        n = 0
        while n < len(ids) and uniform[n] * (1.0 if theirs is None else theirs[at][n]) < mine[at][n]:
            n += 1
        good.append(n)
        numbers.append(uniform[-1])
    kept = torch.tensor(good, device=p.device)
    rest = final = p[rows, kept]  # (L, V)
    refused = torch.tensor([n < len(ids) for n, ids in zip(good, drafts, strict=True)], device=p.device).unsqueeze(-1)
    if q is not None:
        more = (final - q[rows, kept.clamp(max=q.shape[1] - 1)]).clamp(min=0)
        rest = torch.where(refused, more, final)
    elif guesses.shape[1] > 1:
        rest = torch.where(refused, final.scatter(-1, guesses[rows, kept].unsqueeze(-1), 0.0), final)
    rest = torch.where(rest.sum(dim=-1, keepdim=True) > 0, rest, final)  # nothing is left by rounding alone
    return good, draw(rest, torch.tensor(numbers, dtype=torch.float64, device=p.device)).tolist()


def _agree(ids: Sequence[int], best: Sequence[int]) -> int:
    """How many of the first ids are equal."""
    n = 0
    while n < len(ids) and ids[n] == best[n]:
        n += 1
    return n
