"""How several continuations of one prompt are made: drawn, drawn with speculation, or searched for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import numpy as np
import torch

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.beam import LENGTH_PENALTY, Hypothesis, beam_search
from seqmodal.generation.constraint import Constraint
from seqmodal.generation.draft import DraftModel, Lookup
from seqmodal.generation.loop import generate
from seqmodal.generation.probability import Sampler
from seqmodal.generation.rows import Continuation, Prompts
from seqmodal.generation.speculative import speculate
from seqmodal.sequence import Composed


@dataclass(frozen=True)
class Strategy:
    """A way to continue.

    Attributes:
        sampler: how to choose, where ids are drawn.
        beams: prefixes that live at a time; None: draw.
        length_penalty: of the beam search; None: its default.
        draft: where guesses come from; None: no speculation.
        guidance: how far to go away from what comes without a condition, see `Guided`; None: not at all.

    Raises:
        ConfigError: for settings that mean nothing together.
    """

    sampler: Sampler
    beams: int | None = None
    length_penalty: float | None = None
    draft: DraftModel | Lookup | None = None
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.guidance is not None and (self.beams is not None or self.draft is not None):
            other = "beams" if self.beams is not None else "a draft"
            raise ConfigError(f"guidance {self.guidance} and {other} do not go together: it is for drawing one by one")
        if self.beams is None:
            if self.length_penalty is not None:
                raise ConfigError(f"length_penalty {self.length_penalty} means nothing without beams")
            return
        for field in fields(Sampler):
            if (given := getattr(self.sampler, field.name)) != field.default:
                raise ConfigError(
                    f"beams and {field.name} {given} do not go together: a beam search draws nothing by chance"
                )
        if self.draft is not None:
            raise ConfigError("beams and a draft do not go together: speculation continues one row, not a search")

    def continuations(
        self, decoder: Decoder, prompt: np.ndarray | Composed, constraints: Sequence[Constraint], *,
        max_new_tokens: int, stop_ids: Collection[int], generators: Sequence[torch.Generator],
        after_step: Callable[[Sequence[Any]], None] | None = None,
    ) -> Sequence[Continuation]:  # fmt: skip
        """As many of one prompt as there are constraints; of a search the best, which may be fewer.

        Args:
            after_step: called after each step with the constraints as they are then; in a search, the best beam's.
        """
        if self.beams is not None:
            return self._search(
                decoder, [prompt], len(constraints), constraints[:1], max_new_tokens, stop_ids, after_step
            )[0]  # fmt: skip
        return self.each(
            decoder, [prompt] * len(constraints), constraints, max_new_tokens=max_new_tokens, stop_ids=stop_ids,
            generators=generators, after_step=after_step,
        )  # fmt: skip

    def each(
        self, decoder: Decoder, prompts: Prompts, constraints: Sequence[Constraint], *,
        max_new_tokens: int | Sequence[int], stop_ids: Collection[int], generators: Sequence[torch.Generator],
        after_step: Callable[[Sequence[Any]], None] | None = None,
    ) -> Sequence[Continuation]:  # fmt: skip
        """One of each prompt, of a search the best; every prompt has a constraint and a generator of its own."""
        if self.beams is not None:
            found = self._search(decoder, prompts, 1, constraints, max_new_tokens, stop_ids, after_step)
            return [best for (best,) in found]
        how: dict[str, Any] = {
            "sampler": self.sampler, "max_new_tokens": max_new_tokens, "constraints": constraints,
            "stop_ids": stop_ids, "generators": generators,
            "after_step": None if after_step is None else partial(after_step, constraints),
        }  # fmt: skip
        if self.draft is None:
            return generate(decoder, prompts, guidance=self.guidance, **how)
        return speculate(decoder, prompts, draft=self.draft, **how)[0]

    def _search(
        self, decoder: Decoder, prompts: Prompts, n_best: int, constraints: Sequence[Constraint],
        max_new_tokens: int | Sequence[int], stop_ids: Collection[int],
        after_step: Callable[[Sequence[Any]], None] | None,
    ) -> list[list[Hypothesis]]:  # fmt: skip
        assert self.beams is not None
        return beam_search(
            decoder, prompts, beams=self.beams, n_best=n_best, max_new_tokens=max_new_tokens, constraints=constraints,
            stop_ids=stop_ids, after_step=after_step,
            length_penalty=LENGTH_PENALTY if self.length_penalty is None else self.length_penalty,
        )  # fmt: skip
