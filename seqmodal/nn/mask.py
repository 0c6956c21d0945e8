"""Who sees whom, as data: positions, documents, spans seen both ways, an order, a window. One rule makes the matrix."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seqmodal.errors import ConfigError


@dataclass(frozen=True)
class Mask:
    """What a batch says about visibility beside causality.

    Args:
        document: (B, T) int, the number of the document each position belongs to; -1 marks padding. Positions of
            different documents do not see each other.
        span: (B, T) int, 0 for causal positions, k > 0 for the k-th span whose positions all see each other.
        order: (B, T) int, in place of where a position stands: it sees those whose `reveal` is not above it. Together
            with `reveal`, for texts that are read in another order than they are laid out (XLNet, Yang et al. 2019).
        reveal: (B, T) int.

    A window does not bound what is seen inside a span.

    Raises:
        ConfigError: for parts of different shapes, or one of `order` and `reveal` without the other.
    """

    document: Tensor | None = None
    span: Tensor | None = None
    order: Tensor | None = None
    reveal: Tensor | None = None

    def __post_init__(self) -> None:
        if (self.order is None) != (self.reveal is None):
            raise ConfigError("a mask has an order and what each position reveals, or neither; give both")
        shapes = [tuple(p.shape) for p in (self.document, self.span, self.order, self.reveal) if p is not None]
        if len(set(shapes)) > 1:
            raise ConfigError(f"the parts of a mask have the shapes {', '.join(map(str, shapes))}; give them one")

    @property
    def shape(self) -> tuple[int, ...] | None:
        """(B, T); None where nothing is said."""
        parts = (self.document, self.span, self.order, self.reveal)
        return next((tuple(part.shape) for part in parts if part is not None), None)

    def simplified(self) -> Mask | None:
        """The same mask without the parts that say nothing, None when nothing is left: then fused kernels apply."""
        document = self.document
        if document is not None:
            alone = not bool((document > 0).any() or (document[:, 1:] > document[:, :-1]).any())
            padded = bool((document < 0).any())  # behind the one document of each row, where causality hides it
            document = None if alone and not (padded and self.order is not None) else document
        span = self.span if self.span is not None and bool((self.span != 0).any()) else None
        if document is None and span is None and self.order is None:
            return None
        return Mask(document, span, self.order, self.reveal)

    @property
    def is_causal(self) -> bool:
        """Whether no position sees a later one."""
        return self.span is None and self.order is None


def document_starts(document: Tensor) -> Tensor:
    """(B, T) numbers of documents to (B, T), where in the row each position's document begins."""
    begins = document[:, 1:] != document[:, :-1]
    index = torch.arange(1, document.shape[1], device=document.device)
    return F.pad(torch.where(begins, index, 0), (1, 0)).cummax(1).values


def visible(
    query: Tensor, key: Tensor, *, window: int, queries: Mask | None = None, keys: Mask | None = None
) -> Tensor:
    """The boolean matrix of attention.

    A query sees a key at or before it and less than `window` away (0: any distance), in its own document; keys at
    negative positions (padding, empty cache slots) are seen by nobody. Both ends of a span see each other.

    Args:
        query: (B, T) or (T,) positions.
        key: (B, S) or (S,) positions.
        queries: the masks' parts for the queries, `keys` those for the keys.

    Returns:
        (B, 1, T, S) or (T, S) bool, True where the query may look.
    """
    queries, keys = queries or Mask(), keys or Mask()
    q, k = query.unsqueeze(-1), key.unsqueeze(-2)
    if queries.order is not None and keys.reveal is not None:
        seen = (keys.reveal.unsqueeze(-2) <= queries.order.unsqueeze(-1)) & (k >= 0)
    else:
        seen = (k <= q) & (k >= 0)
    if window:
        seen = seen & ((q - k).abs() < window)
    if queries.span is not None and keys.span is not None:
        same = queries.span.unsqueeze(-1) == keys.span.unsqueeze(-2)
        seen = seen | (same & (keys.span.unsqueeze(-2) > 0))
    if queries.document is not None and keys.document is not None:
        seen = seen & (queries.document.unsqueeze(-1) == keys.document.unsqueeze(-2))
    return seen.unsqueeze(1) if seen.dim() == 3 else seen


def attend_to_self_if_blind(seen: Tensor) -> Tensor:
    """Rows that see nothing (padding) look at the last key instead, so that no softmax divides by zero."""
    blind = ~seen.any(dim=-1, keepdim=True)
    last = torch.zeros(seen.shape[-1], dtype=torch.bool, device=seen.device)
    last[-1] = True
    return seen | (blind & last)
