"""Products that read a copy of the weights: equal to plain ones, anew after a change, gone with the weights."""

from __future__ import annotations

import copy
import gc
import io

import pytest
import torch
import torch.nn.functional as F

from seqmodal.nn import linear as module
from seqmodal.nn.linear import MOST_ROWS, PATIENCE, Linear, linear, side_by_side


@pytest.fixture
def layers() -> tuple[Linear, ...]:
    torch.manual_seed(0)
    return Linear(160, 128), Linear(160, 129), Linear(160, 65)


def split(x: torch.Tensor, layers: tuple[Linear, ...]) -> tuple[torch.Tensor, ...]:
    return side_by_side(x, *layers).split([layer.out_features for layer in layers], dim=-1)


@pytest.mark.parametrize("shape", [(1, 160), (1, 1, 160), (8, 1, 160), (3, 5, 160), (MOST_ROWS + 1, 160)], ids=str)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_equal_to_plain_products(layers: tuple[Linear, ...], shape: tuple[int, ...], threads: int) -> None:
    x, before = torch.randn(shape), torch.get_num_threads()
    torch.set_num_threads(threads)
    wanted = [F.linear(x, layer.weight, layer.bias) for layer in layers]
    with torch.inference_mode():
        for layer, expected in zip(layers * (PATIENCE + 1), wanted * (PATIENCE + 1), strict=True):
            torch.testing.assert_close(layer(x), expected)
        for _ in range(PATIENCE + 1):
            for found, expected in zip(split(x, layers), wanted, strict=True):
                torch.testing.assert_close(found, expected)
                assert found.shape == expected.shape
        torch.testing.assert_close(linear(x, (layers[0].weight, None)), F.linear(x, layers[0].weight))
    torch.set_num_threads(before)


@pytest.mark.parametrize("of", ["a part of a row", "a column", "the last position"])
def test_a_row_that_lies_elsewhere(layers: tuple[Linear, ...], of: str) -> None:
    whole = torch.randn(2, 160, 160)
    x = {"a part of a row": whole.view(2, -1)[1:, 320:480], "a column": whole[1, :, 3:4].t(),
         "the last position": whole[1:, -1]}[of]  # fmt: skip
    with torch.inference_mode():
        for _ in range(PATIENCE + 1):
            torch.testing.assert_close(layers[1](x), F.linear(x, layers[1].weight, layers[1].bias))
            torch.testing.assert_close(split(x, layers)[2], F.linear(x, layers[2].weight, layers[2].bias))


@pytest.mark.parametrize("rows", [1, 2, MOST_ROWS + 1])
def test_compiled_products_are_one_graph(layers: tuple[Linear, ...], rows: int) -> None:
    x = torch.randn(rows, 160)
    compiled = torch.compile(lambda x: side_by_side(x, *layers), backend="aot_eager", fullgraph=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x), side_by_side(x, *layers))


@pytest.mark.parametrize("biased", [True, False])
def test_gradients_are_those_of_plain_products(biased: bool) -> None:
    torch.manual_seed(0)
    layers, x = (Linear(16, 8, biased), Linear(16, 5, biased)), torch.randn(3, 4, 16, requires_grad=True)
    plain = torch.cat([F.linear(x, layer.weight, layer.bias) for layer in layers], dim=-1)
    wanted = [x, *layers[0].parameters(), *layers[1].parameters()]
    both = [torch.autograd.grad(y.exp().sum(), wanted) for y in (side_by_side(x, *layers), plain)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("shape", [(0, 160), (3, 0, 160)], ids=str)
def test_no_rows(layers: tuple[Linear, ...], shape: tuple[int, ...]) -> None:
    with torch.inference_mode():
        for _ in range(PATIENCE + 2):
            assert layers[0](torch.zeros(shape)).shape == (*shape[:-1], 128)
            assert side_by_side(torch.zeros(shape), *layers).shape == (*shape[:-1], 128 + 129 + 65)


def test_more_threads_than_weights_have_rows() -> None:
    layer, x, before = Linear(2**14, 2), torch.randn(1, 2**14), torch.get_num_threads()
    torch.set_num_threads(3)
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), F.linear(x, layer.weight, layer.bias))
    torch.set_num_threads(before)


def test_a_copy_is_read_where_it_pays_and_nowhere_else(
    layers: tuple[Linear, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    real = module._copy_of
    monkeypatch.setattr(module, "_copy_of", lambda maps, packed: made.append(len(maps)) or real(maps, packed))
    layers[0](torch.randn(2, 160)).sum().backward()
    with torch.inference_mode():
        layers[0](torch.randn(MOST_ROWS + 1, 160))
        layers[2](torch.randn(2, 160))  # few weights
        layers[0](torch.randn(1, 160))  # one row reads the weights themselves
        copy.deepcopy(layers[0]).double()(torch.randn(2, 160, dtype=torch.float64))
        assert not made
        for _ in range(PATIENCE + 1):  # a prompt is read once; no copy is made for that
            assert module._copies.get(layers[0].weight) is None or module._copies[layers[0].weight].packed is None
            side_by_side(torch.randn(2, 160), *layers)
        copy_ = module._copies[layers[0].weight]
        assert made == [3] * (PATIENCE + 1) and copy_.packed is not None and copy_.plain is None
        side_by_side(torch.randn(1, 160), *layers)  # of several
        assert copy_.plain is not None


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_changed_weight_is_seen(layers: tuple[Linear, ...], part: str, rows: int) -> None:
    x = torch.randn(rows, 160)
    for number in range(3):
        with torch.no_grad():
            for _ in range(PATIENCE + 1):
                split(x, layers)
            getattr(layers[number], part).add_(1.0)  # not the first alone
            for _ in range(PATIENCE + 1):
                found = split(x, layers)
                for layer, one in zip(layers, found, strict=True):
                    torch.testing.assert_close(one, F.linear(x, layer.weight, layer.bias))


def test_a_copy_stands_in_nobodys_way(layers: tuple[Linear, ...]) -> None:
    with torch.inference_mode():
        layers[0](torch.randn(2, 160))
    gc.collect()
    held = len(module._copies)
    torch.save(layers[0], io.BytesIO())
    other = copy.deepcopy(layers[0])
    assert list(other.state_dict()) == ["weight", "bias"] and len(module._copies) == held
    with torch.inference_mode():
        other(torch.randn(2, 160))
    assert len(module._copies) == held + 1
    del other
    gc.collect()
    assert len(module._copies) == held


def test_rows_of_weights_that_learn_cost_the_whole_ones_their_copy():
    layer, few = Linear(256, 512), torch.randn(4, 256)
    with torch.no_grad():
        for _ in range(PATIENCE + 1):
            layer(few)
    assert module._copies[layer.weight].packed is not None
    linear(few, (layer.weight[8:300], None))
    assert layer.weight not in module._copies
