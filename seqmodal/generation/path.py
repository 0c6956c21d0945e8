"""One row's draft as it grows, with the row's constraint followed along it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqmodal.generation.constraint import Constraint


class Path:
    """Ids that are guessed one behind the other; a constraint is followed on a copy.

    A draft ends behind an id that stops the row, and behind one for which the constraint takes another: what the model
    would say after that is not known before the constraint has had its way.

    Attributes:
        ids: the draft.
        ended: whether nothing can follow, not even an id of the model's own.
        clipped: whether the constraint takes another id than the draft's last.
        masks: bool (V,) for each place of the draft, what the constraint allows there; empty without one.
    """

    def __init__(self, room: int, constraint: Constraint | None, stop_ids: frozenset[int]) -> None:
        self.ids: list[int] = []
        self.masks: list[np.ndarray] = []
        self.ended = self.clipped = False
        self._room, self._stop_ids = room, stop_ids
        self._constraint = None if constraint is None else constraint.copy()

    @property
    def open(self) -> bool:
        """Whether the draft may grow."""
        return not self.ended and len(self.ids) < self._room

    def allowed(self) -> np.ndarray | None:
        """bool (V,), what may come at the draft's end; None: everything."""
        if self._constraint is None or self.ended:
            return None
        if len(self.masks) == len(self.ids):
            self.masks.append(self._constraint.allowed().copy())
        return self.masks[-1]

    def take(self, id: int) -> None:
        """Add an id that is allowed."""
        self.allowed()
        self.ids.append(id)
        self.clipped = self._constraint is not None and self._constraint.advance(id) != id
        self.ended = self.clipped or id in self._stop_ids


def stacked(masks: Sequence[Sequence[np.ndarray | None]], like: Tensor) -> Tensor | None:
    """Rows of masks as one bool tensor of the shape (L, n, V) of `like`, all True where none is; None: none at all."""
    if all(mask is None for row in masks for mask in row):
        return None
    whole = np.ones(tuple(like.shape), bool)
    for at, row in enumerate(masks):
        for place, mask in enumerate(row):
            if mask is not None:
                whole[at, place] = mask
    return torch.from_numpy(whole).to(like.device)
