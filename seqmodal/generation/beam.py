"""Beam search: the likeliest continuations as far as a bounded search finds them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.constraint import Constraint
from seqmodal.generation.reader import Reader
from seqmodal.generation.rows import Continuation, Prompts, Rows, Stops

LENGTH_PENALTY = 0.6
"""The exponent of Vaswani et al. 2017."""


@dataclass(frozen=True)
class Hypothesis(Continuation):
    """One of the best continuations.

    Attributes:
        score: the sum of its log-probabilities, divided by the penalty of its length.
    """

    score: float = 0.0


def penalty(length: int, alpha: float) -> float:
    """What the log-probability of so many new ids is divided by: ((5 + length) / 6) ** alpha (GNMT, Wu et al. 2016)."""
    return float(((5 + length) / 6) ** alpha)


@torch.inference_mode()
def beam_search(
    decoder: Decoder, prompts: Prompts, *, beams: int, max_new_tokens: int | Sequence[int], n_best: int = 1,
    length_penalty: float = LENGTH_PENALTY, constraints: Sequence[Constraint] | None = None,
    stop_ids: Collection[int] = (), stop_sequences: Collection[Sequence[int]] = (),
    after_step: Callable[[Sequence[Constraint | None]], None] | None = None,
) -> list[list[Hypothesis]]:
    """The best continuations of each prompt.

    A prompt's search ends when no live beam can beat the worst hypothesis kept, and not before: a live beam is worth at
    most its log-probability so far over the penalty of `max_new_tokens`. What has not stopped by then is a hypothesis
    too, not finished.

    Args:
        decoder: in evaluation mode.
        prompts: (n_i,) ids each, at least one, or the starts of composed documents; see `stream`.
        beams: prefixes that live at a time, for each prompt.
        max_new_tokens: at most so many ids for each hypothesis, of all prompts or of each.
        n_best: how many hypotheses to keep for each prompt, at most `beams`.
        length_penalty: the exponent alpha of `penalty`; 0: none.
        constraints: one for each prompt; each beam follows a copy.
        stop_ids: end a hypothesis.
        stop_sequences: end a hypothesis whose new ids end with one of these.
        after_step: called after each step with the constraint of each prompt's best live beam.

    Returns:
        For each prompt up to n_best hypotheses, best first; fewer where there are no more.

    Raises:
        ConfigError: for a setting out of range, or prompts that `generate` would not take.
    """
    if beams < 1:
        raise ConfigError(f"beams is {beams}; it must be at least 1")
    if not 1 <= n_best <= beams:
        raise ConfigError(f"n_best is {n_best} and beams {beams}; at least one, and no more than beams, can be best")
    most = list(max_new_tokens) if isinstance(max_new_tokens, Sequence) else [max_new_tokens] * len(prompts)
    if min(most, default=1) < 1:
        raise ConfigError(f"max_new_tokens is {min(most)}; it must be at least 1")
    if not 0 <= length_penalty < float("inf"):
        raise ConfigError(f"length_penalty is {length_penalty}; it must be 0 or a positive number")
    stops = Stops(stop_ids, stop_sequences)
    rows = Rows(prompts, most, stops, constraints=constraints)
    searches = [
        _Search(history, constraints[row] if constraints is not None else None, beams, n_best, most[row],
                length_penalty, stops)
        for row, history in enumerate(rows.histories)
    ]  # fmt: skip
    live = list(searches)
    reader = Reader(decoder, prompts, most)
    hidden = reader.last([reader.recent(history) for history in rows.histories])
    alike = min(reader.used)  # positions of a prompt, which its beams share
    spread = [row for row in range(len(live)) for _ in range(beams)]
    reader.reorder(spread)
    hidden = hidden[spread]
    while True:
        logits = reader.logits(hidden)  # (L · W, V)
        held = [beam for search in live for beam in search.beams]
        allowed = _allowed(held)
        if allowed is not None:
            logits = logits.masked_fill(~torch.from_numpy(allowed).to(logits.device), -torch.inf)
        size = logits.shape[-1]
        wanted = beams * (1 + len(stops.ids) + len(stops.sequences))  # so many may stop, and the beams are full yet
        top, ids = logits.topk(min(wanted, size), dim=-1)  # of each beam, and then of each search
        scores = top.double() - logits.logsumexp(dim=-1, keepdim=True).double()
        totals = torch.tensor([beam.total for beam in held], dtype=torch.float64, device=scores.device)
        joint = (totals.unsqueeze(-1) + scores).view(len(live), -1)  # (L, W · n)
        best, at_best = joint.topk(min(wanted, joint.shape[1]), dim=-1)
        gained = scores.view(len(live), -1).gather(-1, at_best).tolist()
        places = ids + size * (torch.arange(len(held), device=ids.device) % beams).unsqueeze(-1)
        where = places.view(len(live), -1).gather(-1, at_best)
        parents = [
            [parent + at * beams for parent in search.grow(total, place, gain, size)]
            for at, (search, total, place, gain) in enumerate(
                zip(live, best.tolist(), where.tolist(), gained, strict=True)
            )
        ]
        if after_step is not None:
            after_step([max(search.beams, key=lambda beam: beam.total).constraint for search in searches])
        going = [at for at, search in enumerate(live) if not search.done]
        if not going:
            return [search.hypotheses() for search in searches]
        reader.reorder([parent for of_search in parents for parent in of_search], alike)
        if len(going) < len(live):
            going = [going[at] for at in _staying(going)]
            live = [live[at] for at in going]
            reader.reorder([at * beams + beam for at in going for beam in range(beams)])
        histories = [beam.ids for search in live for beam in search.beams]
        hidden = reader.next(torch.tensor([ids[-1] for ids in histories], device=reader.device), histories)


def _allowed(beams: Sequence[_Beam]) -> np.ndarray | None:
    """What may come next, bool (L · W, V), or (1, V) where that is the same for all; None: anything."""
    constraints = [beam.constraint for beam in beams if beam.constraint is not None]
    if not constraints:
        return None
    if all(constraint is constraints[0] for constraint in constraints):  # one that never changes
        return constraints[0].allowed()[None]
    return np.stack([constraint.allowed() for constraint in constraints])


def _staying(origins: Sequence[int]) -> list[int]:
    """An order of rows, each of which was another before, in which as many as can stay where they were."""
    places, others = [-1] * len(origins), []
    for at, origin in enumerate(origins):
        if origin < len(places) and places[origin] < 0:
            places[origin] = at
        else:
            others.append(at)
    return [others.pop(0) if at < 0 else at for at in places]


@dataclass(frozen=True)
class _Beam:
    """A prefix: all its ids, the log-probabilities of the new ones and their sum, and its constraint."""

    ids: list[int]
    logprobs: list[float]
    total: float
    constraint: Constraint | None


class _Search:
    """The beams of one prompt and the best hypotheses so far."""

    def __init__(
        self, prompt: list[int], constraint: Constraint | None, beams: int, n_best: int, most: int, alpha: float,
        stops: Stops,
    ) -> None:  # fmt: skip
        self.start, self.width, self.n_best, self.most = len(prompt), beams, n_best, most
        self.alpha, self.stops, self.done = alpha, stops, False
        self.beams = self._filled([_Beam(prompt, [], 0.0, constraint)])
        self.kept: list[Hypothesis] = []

    def grow(self, totals: Sequence[float], where: Sequence[int], gained: Sequence[float], size: int) -> list[int]:
        """Take the best candidates, `where` = parent · `size` + id; returns the parents of the beams, which lie where
        theirs did if they can. A search that is done keeps its beams."""
        grown: list[_Beam] = []
        parents: list[int] = []
        seen = set()
        for total, at, logprob in zip(totals, where, gained, strict=True):
            if total == -torch.inf or len(grown) == self.width:
                break
            parent, id = divmod(at, size)
            beam, constraint = self.beams[parent], None
            if beam.constraint is not None:
                constraint = beam.constraint.copy()
                id = constraint.advance(id)
                if (parent, id) in seen:  # two ids may stand for one
                    continue
                seen.add((parent, id))
            longer = _Beam([*beam.ids, id], [*beam.logprobs, logprob], total, constraint)
            stop = self.stops.met(longer.ids, self.start)
            if stop is not None or len(longer.logprobs) == self.most:
                self._keep(longer, stop)
            else:
                grown.append(longer)
                parents.append(parent)
        if not grown:
            self.done = True
            return list(range(self.width))
        best = grown[0].total / penalty(self.most, self.alpha)
        self.done = len(self.kept) == self.n_best and self.kept[-1].score >= best
        parents += parents[:1] * (self.width - len(parents))
        order, filled = _staying(parents), self._filled(grown)
        self.beams = [filled[at] for at in order]
        return [parents[at] for at in order]

    def hypotheses(self) -> list[Hypothesis]:
        """The best, best first."""
        return self.kept

    def _filled(self, beams: list[_Beam]) -> list[_Beam]:
        """As many as the search is wide; what is missing is impossible."""
        first = beams[0]
        return beams + [_Beam(first.ids, first.logprobs, -float("inf"), first.constraint)] * (self.width - len(beams))

    def _keep(self, beam: _Beam, stop: tuple[int, ...] | None) -> None:
        ids, logprobs = np.array(beam.ids[self.start :], np.int64), np.array(beam.logprobs, np.float32)
        self.kept.append(Hypothesis(ids, logprobs, stop, beam.total / penalty(len(ids), self.alpha)))
        self.kept.sort(key=lambda one: -one.score)
        del self.kept[self.n_best :]
