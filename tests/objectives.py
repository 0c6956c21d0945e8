"""All objectives, and what a decoder takes of a piece that one has laid out."""

from __future__ import annotations

import pytest
import torch

from seqmodal.config import Causal, FillInTheMiddle, Masked, Objective, Permutation, Prefix, SpanCorruption
from seqmodal.nn.mask import Mask
from seqmodal.objective import Arranged

KINDS: list[Objective] = [Prefix(), Masked(), SpanCorruption(), FillInTheMiddle(), Permutation()]
OBJECTIVES = [
    Causal(), *KINDS, Masked(0.2, most=0.9), SpanCorruption(0.4, 1.5), FillInTheMiddle(1.0), Permutation(0.7),
]  # fmt: skip
EACH = pytest.mark.parametrize("objective", OBJECTIVES, ids=str)


def tensors(arranged: Arranged) -> Mask:
    return Mask(None, *(None if p is None else torch.from_numpy(p)[None]
                        for p in (arranged.span, arranged.order, arranged.reveal)))  # fmt: skip
