"""Which ids compete at a target, and what the loss is of each modality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmodal.config import Causal, Masked, Objective, Prefix
from seqmodal.tokenizers.vocabulary import SPECIAL, Block, Vocabulary


class Outputs:
    """Nats of targets.

    Where a vocabulary has several modalities, a target inside a segment competes with the content of its block and the
    block's end, which are the rows that sampling allows there, and with nothing else: modalities do not push one
    another away (the trouble of Chameleon), and what is learned is what is drawn from. Begins of segments, the end of a
    document, and the targets of objectives that mix marks into the content compete with all rows. So does everything
    where there is one modality: all that could be left out there are five marks.

    Args:
        vocabulary: of the model.
        objective: what it learns.
    """

    def __init__(self, vocabulary: Vocabulary, objective: Objective) -> None:
        content = vocabulary.content
        self.names = tuple(block.name for block in content)
        restricted = len(content) > 1 and isinstance(objective, Causal | Prefix | Masked)
        self._rows: list[slice | None] = [None]
        group, number = np.zeros(vocabulary.size, np.int64), np.full(vocabulary.size, len(content), np.int64)
        for at, block in enumerate(content):
            inside = slice(block.first_content if block.end is None else block.end, block.content_slice.stop)
            number[inside] = at
            if restricted and block.marked:
                group[inside] = len(self._rows)
                self._rows.append(inside)
        self._group, self._block = torch.from_numpy(group), torch.from_numpy(number)

    @classmethod
    def all(cls) -> Outputs:
        """All ids compete everywhere, and there are no modalities to tell apart."""
        return cls(Vocabulary((Block(SPECIAL, 0, 1, marked=False),)), Causal())

    def nats(self, decoder: Any, hidden: Tensor, targets: Tensor, smoothing: float = 0.0) -> Tensor:
        """Negative log-likelihood float32 (n,).

        Args:
            decoder: for its `logits`.
            hidden: (n, D).
            targets: (n,).
            smoothing: the share of a target that goes to all ids alike that compete.
        """
        return self._by_rows(
            decoder, hidden, targets,
            lambda logits, wanted: F.cross_entropy(logits, wanted, reduction="none", label_smoothing=smoothing),
        )  # fmt: skip

    def nats_and_hits(self, decoder: Any, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`nats`, and whether the target was the likeliest of the ids that compete, bool (n,)."""

        def both(logits: Tensor, wanted: Tensor) -> Tensor:
            nats = F.cross_entropy(logits, wanted, reduction="none")
            return torch.stack((nats, (logits.argmax(dim=-1) == wanted).to(nats.dtype)), dim=-1)

        found = self._by_rows(decoder, hidden, targets, both)
        return found[:, 0], found[:, 1] > 0

    def _by_rows(
        self, decoder: Any, hidden: Tensor, targets: Tensor, judge: Callable[[Tensor, Tensor], Tensor]
    ) -> Tensor:
        """What `judge` makes of the logits that compete at each target and of where among them it is."""
        if len(self._rows) == 1:
            return judge(decoder.logits(hidden), targets)
        group = self._group.to(targets.device)[targets]
        places, found = [], []
        for number, rows in enumerate(self._rows):
            at = (group == number).nonzero()[:, 0]
            if len(at):
                wanted = targets[at] if rows is None else targets[at] - rows.start
                places.append(at)
                found.append(judge(decoder.logits(hidden[at], rows), wanted))
        if not found:
            return judge(decoder.logits(hidden), targets)
        return torch.cat(found)[torch.cat(places).argsort()]

    def sums(self, targets: Tensor, values: Tensor) -> Tensor:
        """(n,) values added up for each block whose content or end their targets are: (blocks,), as in `names`."""
        if not self.names:
            return values.new_zeros(0)
        number = self._block.to(targets.device)[targets]
        summed = values.new_zeros(len(self.names) + 1).index_add(0, number, values)
        return summed[:-1]
