"""Products with weights, and the copy of the weights that decoding on a CPU reads."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

MOST_ROWS = 64
"""Rows of input up to which a packed copy is read; above, the products take the time, and laying weights out little."""
LEAST_WEIGHTS = 2**14
"""Of a weight with fewer numbers no copy is made."""
ONEDNN = torch.backends.mkldnn.is_available()
ROWS = 8
"""Rows of input that oneDNN lays a copy out for; other numbers of rows read it as well."""

PARTS = 8
"""Parts that weights are cut into for one row of input, at least where there are threads enough."""
PATIENCE = 2
"""Calls with few rows that weights answer themselves before they are copied: a prompt is read once, and a copy takes as
long as many products."""


Joined = tuple[Tensor, Tensor | None]
"""Weights below one another, and their biases."""


@dataclass
class _Copy:
    """What weights were when they were first asked for, how often they have been, and the copies: for a few rows in the
    layout of oneDNN, for one row as they are."""

    made_of: tuple[tuple[int, int], ...]
    calls: int = 0
    packed: Joined | None = None
    plain: Joined | None = None


_copies: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
"""By the first weight."""


def linear(x: Tensor, *maps: tuple[Tensor, Tensor | None]) -> Tensor:
    """Some linear maps of one input, (…, K) by pairs (N_i, K) and (N_i,) or None: (…, ΣN_i), the results side by side.

    While decoding, few rows meet each weight once, so that reading the weights is what takes the time, and libraries
    read them with one thread or in an order of little use. On a CPU in float32 one row is multiplied by a part of the
    weights a thread; the weights of several maps are copied below one another for that. For a few rows the weights are
    copied so too, in the blocked layout of oneDNN. A copy is made anew when a weight has changed, and goes when the
    first weight goes or learns; what is written through `.data`, PyTorch does not tell of. Many rows need no copy, and
    go to oneDNN as well: where MKL does not know the processor, that takes less than half the time.
    """
    if _suits(x, maps[0][0]):
        one, rows = x.numel() == x.shape[-1], x.reshape(-1, x.shape[-1])
        if len(rows) > MOST_ROWS:
            y = torch.ops.mkldnn._linear_pointwise(rows, *_joined(maps), "none", [], "")
            return y.view(*x.shape[:-1], -1)
        alone = one and (len(maps) == 1 or torch.compiler.is_compiling())  # compiled code keeps no copies
        copy = (maps[0] if len(maps) == 1 else None) if alone else _copy_of(maps, packed=not one)
        if one:
            y = _one_row(rows, *copy) if copy else torch.cat([_one_row(rows, *pair) for pair in maps])
            return y.view(*x.shape[:-1], -1)
        if copy is not None:
            y = torch.ops.mkldnn._linear_pointwise(rows, *copy, "none", [], "")
            return y.view(*x.shape[:-1], -1)
    if not torch.compiler.is_compiling() and torch.is_grad_enabled() and _copies:
        first = maps[0][0]  # a step is on its way, and the fused optimizers do not raise versions
        _copies.pop(first if first._base is None else first._base, None)
    learns, many = torch.is_grad_enabled(), x.numel() >= x.shape[-1] ** 2  # rows enough that weights are joined sooner
    if len(maps) > 1 and (learns or many):  # and one product back as well: no gradients of x to be added up
        return F.linear(x, *_joined(maps))
    parts = [F.linear(x, weight, bias) for weight, bias in maps]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _one_row(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(1, K) by (N, K) and (N,) to (N,), in parts of N that threads share out.

    The row goes in as a transposed one: that the column's second stride is K makes MKL three times as fast, and only
    where there are several products at once, with one thread too.
    """
    threads = 1 if torch.compiler.is_compiling() else torch.get_num_threads()  # which a compiler does not follow
    parts = threads * max(1, PARTS // threads)
    shared = weight.shape[0] - weight.shape[0] % parts
    if not shared or not weight.is_contiguous():
        return F.linear(x, weight, bias).flatten()
    width = weight.shape[1]
    each, column = weight[:shared].view(parts, -1, width), x.contiguous().as_strided((parts, width, 1), (0, 1, width))
    if bias is None:
        y = torch.bmm(each, column).flatten()
    else:
        y = torch.baddbmm(bias[:shared].view(parts, -1, 1), each, column).flatten()
    if shared == weight.shape[0]:
        return y
    rest = F.linear(x, weight[shared:], None if bias is None else bias[shared:])
    return torch.cat((y, rest.flatten()))


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether a product goes one of the quick ways: of many weights, where nothing is learned."""
    if not x.numel() or weight.numel() < LEAST_WEIGHTS or torch.is_grad_enabled():
        return False
    if not (x.dtype == weight.dtype == torch.float32) or not x.is_cpu:
        return False
    if torch.compiler.is_compiling():
        return ONEDNN and x.numel() == x.shape[-1]
    return ONEDNN and not torch.is_autocast_enabled("cpu") and not weight.is_inference()


def _copy_of(maps: tuple[tuple[Tensor, Tensor | None], ...], packed: bool) -> Joined | None:
    """The copy, where there is one by now."""
    made_of = tuple((part.data_ptr(), part._version) for pair in maps for part in pair if part is not None)
    copy: _Copy | None = _copies.get(maps[0][0])
    if copy is None or copy.made_of != made_of:
        copy = _copies[maps[0][0]] = _Copy(made_of)
    copy.calls += 1
    made = copy.packed if packed else copy.plain
    if made is None and copy.calls > PATIENCE:
        whole, bias = _joined(maps)
        if packed:
            made = copy.packed = torch.ops.mkldnn._reorder_linear_weight(whole, ROWS), bias
        else:
            made = copy.plain = whole, bias
    return made


def _joined(maps: tuple[tuple[Tensor, Tensor | None], ...]) -> Joined:
    """The weights below one another, and the biases."""
    if len(maps) == 1:
        return maps[0]
    biases = [bias for _, bias in maps if bias is not None]
    return torch.cat([weight for weight, _ in maps]), torch.cat(biases) if biases else None


class Linear(nn.Linear):
    """`nn.Linear` by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        """(…, K) to (…, N)."""
        return linear(input, (self.weight, self.bias))


def side_by_side(x: Tensor, *layers: Linear) -> Tensor:
    """What each layer makes of one input, (…, K) to (…, ΣN_i)."""
    return linear(x, *((layer.weight, layer.bias) for layer in layers))
