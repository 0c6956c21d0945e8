"""What learning on a CPU computes in a way of its own is what PyTorch computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seqmodal.nn.attention import SHORT, attend
from seqmodal.nn.dropout import dropout
from seqmodal.nn.norm import rms_norm


def value_and_gradients(function: Callable[..., Tensor], *given: Tensor) -> list[Tensor]:
    given = tuple(x.detach().clone().requires_grad_(True) for x in given)
    y = function(*given)
    y.double().exp().sum().backward()
    return [y.detach(), *(x.grad for x in given if x.grad is not None)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(3, 7), (2, 3, 4, 5), (1, 64)], ids=str)
def test_the_norm_and_its_gradient(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (3 * torch.randn(shape)).to(dtype)
    found = value_and_gradients(rms_norm, x)
    for one, other in zip(found, value_and_gradients(lambda x: F.rms_norm(x, x.shape[-1:]), x), strict=True):
        assert one.dtype == dtype
        torch.testing.assert_close(one, other)


def test_the_norm_of_small_and_of_strided_numbers() -> None:
    x = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: rms_norm(x.transpose(1, 2)), x.requires_grad_(True))
    tiny = (1e-8 * torch.randn(3, 4, dtype=torch.float64)).requires_grad_(True)
    torch.testing.assert_close(rms_norm(tiny), F.rms_norm(tiny, (4,)))
    assert torch.isfinite(value_and_gradients(rms_norm, torch.zeros(2, 4))[1]).all()
    once = torch.randn(2, 4, requires_grad=True)
    (first,) = torch.autograd.grad(rms_norm(once)[0, 0], once, create_graph=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        first.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(share: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.ones(401, 499, dtype=dtype, requires_grad=True)  # an odd number of them
    y = dropout(x, share)
    y.sum().backward()
    assert y.shape == x.shape and y.dtype == dtype
    zeroed, deviation = (y == 0).double().mean(), (share * (1 - share) / x.numel()) ** 0.5
    assert abs(zeroed - share) < 4 * deviation
    kept = torch.tensor([1 / (1 - share)], dtype=dtype)
    torch.testing.assert_close(y[y != 0].unique(), kept, atol=0, rtol=1e-2 if dtype == torch.bfloat16 else 1e-4)
    torch.testing.assert_close(x.grad, y.detach())
    columns = (y == 0).double().mean(0)  # neighbours come of one word, and are not alike
    assert abs((columns - share) @ (columns.roll(1) - share)) / (columns - share).square().sum() < 0.2
    both = ((y == 0)[:, 1:] & (y == 0)[:, :-1]).double().mean()
    assert abs(both - share**2) < 5 * (share**2 * (1 - share**2) / x.numel()) ** 0.5


def test_dropout_goes_by_the_seed_and_by_the_mode() -> None:
    x = torch.randn(3, 5)
    torch.manual_seed(1)
    first, second = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.5), first) and not torch.equal(first, second)
    assert dropout(x, 0.5, training=False) is x and dropout(x, 0.0) is x
    assert dropout(torch.zeros(0, 3), 0.5).shape == (0, 3)
    assert torch.isfinite(dropout(x, 0.999999)).all() and torch.isfinite(dropout(x, 1e-9)).all()


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_attention_by_plain_products_in_bfloat16(groups: int, masked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 4, 9, 8), torch.randn(2, groups, 9, 8), torch.randn(2, groups, 9, 8)
    seen = torch.rand(2, 1, 9, 9) < 0.5
    seen = seen | torch.eye(9, dtype=torch.bool) if masked else None
    exact = value_and_gradients(lambda q, k, v: attend(q, k, v, seen), q, k, v)
    fused: list[int] = []
    kernel = F.scaled_dot_product_attention

    def counted(query: Tensor, *rest: Tensor, **options: object) -> Tensor:
        fused.append(query.shape[2])
        return kernel(query, *rest, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", counted)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients(lambda q, k, v: attend(q, k, v, seen), q, k, v)
        assert not fused
        long = torch.randn(1, 1, SHORT + 1, 8, requires_grad=True)
        attend(long, long, long, None)
        with torch.no_grad():
            attend(q, k, v, seen)
    assert fused == [SHORT + 1, 9]
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.float(), other, atol=0.06, rtol=0.06)
