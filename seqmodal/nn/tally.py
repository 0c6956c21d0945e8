"""What is open: counters that ids raise and lower, such as the notes that sound."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.nn.mask import document_starts

MOST = 3
"""Counts above it look the same to the decoder."""


class Tally(nn.Module):
    """Counts, position by position, of what ids have opened and not yet closed, mapped linearly into the embedding.

    Attention could count by itself, yet one mistake in a sample then stays for good: a note whose end was missed sounds
    on. `effects` (V, F) int8 says what each id adds to each counter; a counter never falls below 0.
    """

    effects: Tensor

    def __init__(self, vocab_size: int, counters: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(counters, d_model))
        self.register_buffer("effects", torch.zeros(vocab_size, counters, dtype=torch.int8))

    def forward(self, counts: Tensor) -> Tensor:
        """(B, T, F) counts to (B, T, D), to be added to the embedding."""
        return counts.clamp(max=MOST).to(self.weight.dtype) @ self.weight

    def counts(
        self, ids: Tensor, *, document: Tensor | None = None, carry: Tensor | None = None, present: Tensor | None = None
    ) -> Tensor:
        """The counters after each id.

        Args:
            ids: (B, T).
            document: (B, T); counters begin anew with each document. None: one document.
            carry: (B, F), the counters before the first id.
            present: (B, T) bool, which ids are no padding; None: all.

        Returns:
            (B, T, F) int32.
        """
        effect = F.embedding(ids, self.effects).int()  # (B, T, F)
        if present is not None:
            effect = effect * present.unsqueeze(-1)
        if carry is not None:
            effect[:, 0] += carry
        total = effect.cumsum(1, dtype=torch.int32)
        if ids.shape[1] == 1:
            return total.clamp(min=0)
        if document is None:
            return total - total.clamp(max=0).cummin(1).values
        first = document_starts(document).unsqueeze(-1)
        total = total - F.pad(total, (0, 0, 1, 0)).gather(1, first.expand_as(total))
        number = F.pad(first[:, 1:] != first[:, :-1], (0, 0, 1, 0)).cumsum(1, dtype=torch.int32)
        below = number * (2 * ids.shape[1] + 256)  # each document far below the one before
        return total - ((total.clamp(max=0) - below).cummin(1).values + below)
