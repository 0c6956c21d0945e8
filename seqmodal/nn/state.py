"""What a decoder carries from one call to the next. It goes in and comes out; no module hides any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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
        counters: of the decoder's tally.
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
        counters: int = 0,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (batch, num_kv_heads, capacity + 1, head_dim)
        self.keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(num_layers)]
        self.positions = torch.full((batch, capacity + 1), -1, dtype=torch.long, device=device)  # (B, C + 1)
        self.ids = torch.zeros_like(self.positions)  # (B, C + 1)
        self.tally = torch.zeros(batch, capacity + 1, counters, dtype=torch.int32, device=device)  # (B, C + 1, F)
        self.lengths = torch.zeros(batch, dtype=torch.long, device=device)  # (B,)
        self.capacity, self.chunk, self.limit = capacity, chunk, limit
        self.even: int | None = 0  # the length of all rows, where they are alike
        self.whole = True  # whether nothing has been overwritten yet

    def advance(self, ids: Tensor, positions: Tensor | None) -> CacheCall:
        """Take (B, T) ids at their positions, -1 for padding; None: on from each row's length."""
        length, end = ids.shape[1], self.end(ids.shape[1], positions)
        self.whole = self.whole and end <= self.capacity
        if positions is None and self.even is not None and self.even % self.capacity + length <= self.capacity:
            starts, start, first = self.lengths.clone(), self.even, self.even % self.capacity
            slots = slice(first, first + length)
            self.even = start + length
            self.positions[:, slots] = torch.arange(start, self.even, device=ids.device)
            self.ids[:, slots] = ids
            self.lengths.fill_(self.even)
            held = slice(0, self.even if self.whole else self.capacity + 1)
            return CacheCall(self, slots, held, starts)
        if positions is None:
            positions = self.lengths.unsqueeze(1) + torch.arange(length, device=ids.device)
            self.even = None if self.even is None else self.even + length
        else:
            self.even = None
        starts = positions[:, 0]
        at = torch.where(positions >= 0, positions % self.capacity, self.capacity)
        rows = torch.arange(len(positions), device=positions.device).unsqueeze(1).expand_as(at)
        self.positions[rows, at], self.ids[rows, at] = positions, ids
        self.lengths = torch.maximum(self.lengths, positions.amax(dim=1) + 1)
        return CacheCall(self, (rows, at), slice(0, end if self.whole else self.capacity + 1), starts)

    def end(self, length: int, positions: Tensor | None) -> int:
        """The longest row after a call of that length."""
        if positions is not None:
            return int(positions.max()) + 1
        return (int(self.lengths.max()) if self.even is None else self.even) + length

    def before(self, positions: Tensor, back: int) -> Tensor:
        """The id that stands `back` before each of (B, T) positions; -1 where there is none."""
        wanted = (positions - back).clamp(min=0)
        slots = wanted % self.capacity
        there = (self.positions.gather(1, slots) == wanted) & (positions >= back)
        return torch.where(there, self.ids.gather(1, slots), -1)

    def truncate(self, lengths: Tensor) -> None:
        """Forget all positions from `lengths` (B,) on. What the ring has overwritten does not come back."""
        self.positions = torch.where(self.positions < lengths.unsqueeze(1), self.positions, -1)
        self.lengths = torch.minimum(self.lengths, lengths)
        self._level()

    def reorder(self, rows: Tensor, alike: int = 0) -> None:
        """Row i becomes what row `rows[i]` was: beams, or dropping finished rows.

        Where rows do not become more, those that change are written over in place. With `alike`, rows change only with
        such as hold the same at positions below it, as beams of one prompt do, and what is behind is copied.
        """
        if len(rows) <= len(self.lengths):
            moved = (rows != torch.arange(len(rows), device=rows.device)).nonzero()[:, 0]
            come_from = rows[moved]
            held = slice(alike, int(self.lengths.max())) if self.whole else slice(0, None)
            for layer in (*self.keys, *self.values):
                behind = layer[:, :, held]
                behind.index_copy_(0, moved, behind.index_select(0, come_from))
            self.keys, self.values = ([layer[: len(rows)] for layer in kind] for kind in (self.keys, self.values))
        else:
            self.keys, self.values = ([layer[rows] for layer in kind] for kind in (self.keys, self.values))
        self.positions, self.ids, self.lengths = self.positions[rows], self.ids[rows], self.lengths[rows]
        self.tally = self.tally[rows]
        self._level()

    def _level(self) -> None:
        """Whether all rows are alike now, none having been padded."""
        found = set(self.lengths.tolist())
        self.even = found.pop() if len(found) == 1 else None


@dataclass(frozen=True)
class CacheCall:
    """Where one call writes in a cache and what it reads: slots (all rows alike), or index tensors (rows, slots)."""

    cache: KVCache
    slots: slice | tuple[Tensor, Tensor]
    held: slice
    starts: Tensor  # (B,), the first position of each row

    @property
    def even(self) -> bool:
        """Whether all rows hold the same positions, one after the other from slot 0 on."""
        return isinstance(self.slots, slice) and self.cache.whole

    @property
    def tally(self) -> Tensor:
        """The counters (B, F) before the call's first position."""
        at = (self.starts - 1).clamp(min=0) % self.cache.capacity
        before = self.cache.tally[torch.arange(len(at), device=at.device), at]
        return before * (self.starts > 0).unsqueeze(-1)

    def among_keys(self, values: Tensor) -> Tensor:
        """Numbers (B, T) of the call's own positions, among all that the layers hold: (B, S), 0 for those before."""
        laid = values.new_zeros(self.cache.positions.shape)
        laid[self.slots if isinstance(self.slots, tuple) else (slice(None), self.slots)] = values
        laid[:, self.cache.capacity] = 0  # padding
        return laid[:, self.held]

    def keep_tally(self, counts: Tensor) -> None:
        """Store the counters (B, T, F) after each position."""
        if isinstance(self.slots, slice):
            self.cache.tally[:, self.slots] = counts
        else:
            self.cache.tally[self.slots] = counts

    def write(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store (B, G, T, K) keys and values; returns all that the layer holds, (B, G, S, K) each."""
        keys, values = self.cache.keys[layer], self.cache.values[layer]
        if isinstance(self.slots, slice) and key.shape[2] == 1 and torch.compiler.is_compiling():
            slot = self.starts[:1] % self.cache.capacity  # an index is written in place; a slice would copy it all
            keys.index_copy_(2, slot, key), values.index_copy_(2, slot, value)
        elif isinstance(self.slots, slice):
            keys[:, :, self.slots], values[:, :, self.slots] = key, value
        else:
            rows, slots = self.slots
            keys[rows, :, slots], values[rows, :, slots] = key.transpose(1, 2), value.transpose(1, 2)
        return keys[:, :, self.held], values[:, :, self.held]


@dataclass(frozen=True)
class SegmentMemory:
    """The last hidden states that went into each layer, without gradient (Transformer-XL, Dai et al. 2019).

    Keys and values are computed from them anew, so that their weights learn from the memory too.

    Attributes:
        hidden: for every application of a block, (B, M, D).
        ids: (B, M).
        document: (B, M), the number of the document each belongs to; -2 where there is nothing yet.
        tally: (B, F), the counters after the last position.
    """

    hidden: tuple[Tensor, ...]
    ids: Tensor
    document: Tensor
    tally: Tensor

    @classmethod
    def empty(
        cls, num_layers: int, batch: int, length: int, width: int, counters: int, dtype: torch.dtype,
        device: torch.device,
    ) -> SegmentMemory:  # fmt: skip
        """One that holds nothing."""
        hidden = tuple(torch.zeros(batch, length, width, dtype=dtype, device=device) for _ in range(num_layers))
        ids = torch.zeros(batch, length, dtype=torch.long, device=device)
        tally = torch.zeros(batch, counters, dtype=torch.int32, device=device)
        return cls(hidden, ids, torch.full_like(ids, -2), tally)

    def map(self, change: Callable[[Tensor], Tensor]) -> SegmentMemory:
        """One of the same tensors, each changed."""
        return SegmentMemory(tuple(map(change, self.hidden)), *map(change, (self.ids, self.document, self.tally)))


@dataclass(frozen=True)
class MemoryCall:
    """A memory as one call reads it, and what the call leaves for the next."""

    memory: SegmentMemory
    ids: Tensor  # (B, M + T)
    document: Tensor  # (B, M + T)
    tally: Tensor  # (B, F), after the text
    hidden: list[Tensor] = field(default_factory=list)

    def behind(self, layer: int, x: Tensor) -> Tensor:
        """x (B, T, D) behind what is remembered of that layer's input: (B, M + T, D). Layers come in order."""
        old = self.memory.hidden[layer]
        whole = torch.cat((old.to(x.dtype), x), dim=1)
        self.hidden.append(whole[:, whole.shape[1] - old.shape[1] :].detach())
        return whole

    def after(self) -> SegmentMemory:
        """The memory for the text that follows."""
        kept = self.ids.shape[1] - self.memory.ids.shape[1]
        return SegmentMemory(tuple(self.hidden), self.ids[:, kept:], self.document[:, kept:], self.tally)
