"""What a decoder carries from one call to the next. It goes in and comes out; no module hides any."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of the positions seen so far, in static buffers with a length of its own for every row.

    The buffers are a ring: position p lies in slot p modulo `capacity`. A decoder whose layers look back over a window
    never needs more than that window and one chunk, so its length is unlimited. The last slot takes padding.
    Buffers are written in place: a state that went into a call belongs to that call's output.

    Args:
        num_layers: one slot for every application of a block.
        batch: rows.
        num_kv_heads, head_dim: the shape of a key.
        capacity: positions held.
        chunk: the most positions one call may add, so that no query loses a key it may see.
        limit: the most positions a row may reach; None where the ring forgets what no query can see.
    """

    def __init__(
        self,
        num_layers: int,
        batch: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        capacity: int,
        chunk: int,
        limit: int | None,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, batch, num_kv_heads, capacity + 1, head_dim)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.positions = torch.full((batch, capacity + 1), -1, dtype=torch.long, device=device)  # (B, C + 1)
        self.ids = torch.zeros_like(self.positions)  # (B, C + 1)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)  # (B,)
        self.capacity, self.chunk, self.limit = capacity, chunk, limit

    def advance(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Take (B, T) ids at their positions, -1 for padding; returns the index pair (rows, slots) to write at."""
        slots = torch.where(positions >= 0, positions % self.capacity, self.capacity)
        rows = torch.arange(len(positions), device=positions.device).unsqueeze(1).expand_as(slots)
        self.positions[rows, slots], self.ids[rows, slots] = positions, ids
        self.lengths = torch.maximum(self.lengths, positions.amax(dim=1) + 1)
        return rows, slots

    def before(self, positions: Tensor, back: int) -> Tensor:
        """The id that stands `back` before each of (B, T) positions; -1 where there is none."""
        wanted = (positions - back).clamp(min=0)
        slots = wanted % self.capacity
        there = (self.positions.gather(1, slots) == wanted) & (positions >= back)
        return torch.where(there, self.ids.gather(1, slots), -1)

    def write(self, layer: int, index: tuple[Tensor, Tensor], key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, G, T, K) keys and values; returns all that the layer holds, (B, G, C + 1, K) each."""
        rows, slots = index
        self.keys[layer][rows, :, slots] = key.transpose(1, 2)
        self.values[layer][rows, :, slots] = value.transpose(1, 2)
        return self.keys[layer], self.values[layer]

    def truncate(self, lengths: Tensor) -> None:
        """Forget all positions from `lengths` (B,) on. What the ring has overwritten does not come back."""
        self.positions = torch.where(self.positions < lengths.unsqueeze(1), self.positions, -1)
        self.lengths = torch.minimum(self.lengths, lengths)

    def reorder(self, rows: Tensor) -> None:
        """Row i becomes what row `rows[i]` was: beams, or dropping finished rows."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]
        self.positions, self.ids, self.lengths = self.positions[rows], self.ids[rows], self.lengths[rows]
