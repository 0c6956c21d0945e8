"""The decoder against a slow NumPy oracle, and its laws over a pairwise cover of its choices."""

from __future__ import annotations

import copy
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode
from variants import BASE, LENGTH, POSITIONS, described, full_product, ids_of, oracle, pairwise, random_decoder

from seqmodal.config import DecoderConfig, Learned, Universal, from_dict, to_dict
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.nn import attention
from seqmodal.nn.mask import Mask

COVER = pytest.mark.parametrize("config", pairwise(), ids=described)


def logits_of(decoder: Decoder, hidden: torch.Tensor) -> np.ndarray:
    """In float64, where `Decoder.logits` gives float32."""
    cap = decoder.config.logit_softcap
    found = hidden @ (decoder.embedding if decoder.head is None else decoder.head).weight.T
    return (cap * torch.tanh(found / cap) if cap else found).detach().numpy()


def equals_the_oracle(decoder: Decoder) -> None:
    ids = ids_of(decoder, 1, LENGTH)
    found = logits_of(decoder, decoder(ids).hidden)[0]
    np.testing.assert_allclose(found, oracle(decoder, ids[0].numpy()), atol=1e-10)


def sees_what_its_spans_show(decoder: Decoder) -> None:
    ids = ids_of(decoder, 1, LENGTH)
    span = torch.zeros_like(ids)
    span[0, 1:5], span[0, 8:11] = 1, 2
    sees = np.tril(np.ones((LENGTH, LENGTH), bool))
    if decoder.config.window:
        sees &= ~np.tril(sees, -decoder.config.window)
    sees[1:5, 1:5] = sees[8:11, 8:11] = True
    found = logits_of(decoder, decoder(ids, mask=Mask(span=span)).hidden)[0]
    np.testing.assert_allclose(found, oracle(decoder, ids[0].numpy(), sees), atol=1e-10)


def gradient_reaches_just_what_the_mask_shows(decoder: Decoder) -> None:
    ids, config = ids_of(decoder, 1, LENGTH), decoder.config
    extra = torch.zeros(1, LENGTH, config.d_model, dtype=torch.float64, requires_grad=True)
    hidden = decoder(ids, extra=extra).hidden
    weight = torch.linspace(-1, 1, config.d_model, dtype=torch.float64)  # the sum of a post-norm row is constant
    for t in (0, 6, LENGTH - 1):
        (grad,) = torch.autograd.grad((hidden[0, t] * weight).sum(), extra, retain_graph=True)
        reach = (config.window - 1) * config.num_layers if config.window else LENGTH  # `extra` is not shifted
        seen = grad[0].abs().sum(-1) > 0
        expected = torch.tensor([t - reach <= s <= t for s in range(LENGTH)])
        if isinstance(config.stack, Universal) and config.stack.halting:  # who halts early looks less far
            assert not (seen & ~expected).any() and seen[t]
        else:
            assert seen.equal(expected)


def cached_equals_whole(decoder: Decoder, cuts: list[int]) -> None:
    ids = ids_of(decoder, 2, sum(cuts))
    whole = decoder(ids).hidden
    state, parts = decoder.new_state(2, capacity=sum(cuts)), []
    for part in ids.split(cuts, dim=1):
        parts.append(decoder(part, state=state).hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-10, rtol=0)


def cut_anywhere(decoder: Decoder) -> list[int]:
    """Lengths of parts of a text, other ones for every configuration."""
    rng = np.random.default_rng(zlib.crc32(repr(decoder.config).encode()))
    places = np.flatnonzero(rng.random(LENGTH - 1) < 0.4) + 1
    return np.diff([0, *places, LENGTH]).tolist()


def ragged_rows_equal_each_alone(decoder: Decoder) -> None:
    ids = ids_of(decoder, 3, 12)
    lengths = torch.tensor([12, 5, 9])
    at = torch.arange(12).expand(3, -1)
    state = decoder.new_state(3, capacity=20)
    hidden = decoder(ids, torch.where(at < lengths.unsqueeze(1), at, -1), state=state).hidden
    more = torch.cat([decoder(ids[:, i : i + 1], state=state).hidden for i in range(2)], 1)
    assert state.lengths.tolist() == [14, 7, 11]
    for row, length in enumerate(lengths.tolist()):
        alone = decoder(torch.cat((ids[row : row + 1, :length], ids[row : row + 1, :2]), 1)).hidden[0]
        torch.testing.assert_close(hidden[row, :length], alone[:length], atol=1e-10, rtol=0)
        torch.testing.assert_close(more[row], alone[length:], atol=1e-10, rtol=0)


def spans_cached_equal_whole(decoder: Decoder) -> None:
    """Ragged rows whose starts are seen both ways, then ids one by one, in a state of fixed size and in a ring."""
    ids, lengths = ids_of(decoder, 3, 14), [10, 4, 7]
    span = torch.zeros(3, 10, dtype=torch.long)
    span[0, 1:6], span[0, 7:9], span[1, :4], span[2, 2:5] = 1, 2, 1, 1
    at = torch.arange(10).expand(3, -1)
    at = torch.where(at < torch.tensor(lengths).unsqueeze(1), at, -1)
    for capacity in (14, None) if decoder.config.window else (14,):
        state = decoder.new_state(3, capacity, chunk=10)
        first = decoder(ids[:, :10], at, mask=Mask(span=span * (at >= 0)), state=state).hidden
        more = torch.cat([decoder(ids[:, 10 + i : 11 + i], state=state).hidden for i in range(4)], 1)
        for row, length in enumerate(lengths):
            alone, spans = torch.cat((ids[row, :length], ids[row, 10:])), torch.zeros(1, length + 4, dtype=torch.long)
            spans[0, :length] = span[row, :length]
            whole = decoder(alone.unsqueeze(0), mask=Mask(span=spans)).hidden[0]
            torch.testing.assert_close(first[row, :length], whole[:length], atol=1e-10, rtol=0)
            torch.testing.assert_close(more[row], whole[length:], atol=1e-10, rtol=0)
    state = decoder.new_state(1, 14)  # rows all alike; the span comes second
    parts = [decoder(ids[:1, :3], state=state).hidden]
    parts.append(decoder(ids[:1, 3:10], mask=Mask(span=span[:1, :7]), state=state).hidden)
    parts.append(decoder(ids[:1, 10:], state=state).hidden)
    spans = torch.zeros(1, 14, dtype=torch.long)
    spans[0, 3:10] = span[0, :7]
    whole = decoder(ids[:1], mask=Mask(span=spans)).hidden
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-10, rtol=0)


def truncated_and_reordered(decoder: Decoder) -> None:
    ids = ids_of(decoder, 2, 12)
    state = decoder.new_state(2, capacity=20)
    decoder(ids, state=state)
    state.truncate(torch.tensor([7, 9]))
    state.reorder(torch.tensor([1, 0]))
    at = torch.tensor([[9, 10, 11, -1, -1], [7, 8, 9, 10, 11]])
    again = decoder(torch.stack((ids[1, [9, 10, 11, 0, 0]], ids[0, 7:])), at, state=state).hidden
    whole = decoder(ids).hidden
    torch.testing.assert_close(again[0, :3], whole[1, 9:], atol=1e-10, rtol=0)
    torch.testing.assert_close(again[1], whole[0, 7:], atol=1e-10, rtol=0)


def packed_equals_each_alone(decoder: Decoder) -> None:
    ids = ids_of(decoder, 1, LENGTH)
    document = torch.tensor([[0] * 3 + [1] * 7 + [2] * 2 + [-1] * 2])
    hidden = decoder(ids, mask=Mask(document=document)).hidden[0]
    for start, stop in ((0, 3), (3, 10), (10, 12)):
        alone = decoder(ids[:, start:stop]).hidden[0]
        torch.testing.assert_close(hidden[start:stop], alone, atol=1e-10, rtol=0)
    assert torch.isfinite(hidden).all()


def rebuilt_is_the_same(decoder: Decoder) -> None:
    ids, weights = ids_of(decoder, 2, 9), decoder.state_dict()
    again = Decoder(from_dict(DecoderConfig, to_dict(decoder.config))).double().eval()
    again.load_state_dict(weights)
    assert torch.equal(again(ids).hidden, decoder(ids).hidden)
    assert sum(p.numel() for p in decoder.parameters()) == decoder.config.num_parameters


LAWS = [
    equals_the_oracle,
    sees_what_its_spans_show,
    gradient_reaches_just_what_the_mask_shows,
    lambda decoder: cached_equals_whole(decoder, [LENGTH]),
    lambda decoder: cached_equals_whole(decoder, [1] * 3 + [6, 1, 2] + [1] * 8),
    lambda decoder: cached_equals_whole(decoder, cut_anywhere(decoder)),
    ragged_rows_equal_each_alone,
    spans_cached_equal_whole,
    truncated_and_reordered,
    packed_equals_each_alone,
    rebuilt_is_the_same,
]


@COVER
def test_laws(config: DecoderConfig) -> None:
    decoder = random_decoder(config)
    for law in LAWS:
        law(decoder)


@pytest.mark.slow
@pytest.mark.parametrize("position", POSITIONS)
def test_laws_over_the_full_product(position: str) -> None:
    for config in full_product(position):
        decoder = random_decoder(config)
        for law in LAWS:
            try:
                law(decoder)
            except AssertionError as error:
                raise AssertionError(f"{law}: {config}") from error


@pytest.mark.parametrize("shape", [{}, {"num_kv_heads": 1}, {"activation": "swiglu"}, {"position": Learned()}], ids=str)
def test_flops_are_those_that_are_counted(shape: dict[str, Any]) -> None:
    """And those of attention, which PyTorch does not count on a CPU: scores and mixed values of what is seen."""
    decoder, length = random_decoder(replace(BASE, window=0, **shape)), BASE.max_seq_len
    config = decoder.config
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        decoder.logits(decoder(ids_of(decoder, 1, length)).hidden)
    attention = config.num_layers * 4 * config.d_model * length * (length + 1) / 2
    assert config.flops_per_token * length / 3 == counter.get_total_flops() + attention


def test_flops_of_what_is_added() -> None:
    plain = replace(BASE, window=0)
    more = {name: replace(plain, position=POSITIONS[name]).flops_per_token for name in POSITIONS}
    pairs = 6 * plain.num_layers * plain.d_model * (plain.max_seq_len + 1) / 2
    assert more["relative"] - plain.flops_per_token == pytest.approx(pairs)
    assert more["transformer-xl"] - plain.flops_per_token == pytest.approx(pairs)
    seen = [min(t + 1, 5) for t in range(plain.max_seq_len)]
    less = 12 * plain.num_layers * plain.d_model * ((plain.max_seq_len + 1) / 2 - np.mean(seen))
    assert plain.flops_per_token - replace(plain, window=5).flops_per_token == pytest.approx(less)
    for name in ("flops_per_token", "num_parameters"):
        with pytest.raises(ConfigError, match="num_layers, num_heads, max_seq_len of this decoder are still to be"):
            getattr(DecoderConfig(vocab_size=5, d_model=8), name)


@COVER
def test_float32_is_near(config: DecoderConfig) -> None:
    decoder = random_decoder(config)
    ids = ids_of(decoder, 1, LENGTH)
    exact = decoder(ids).hidden
    torch.testing.assert_close(decoder.float()(ids).hidden.double(), exact, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", POSITIONS)
def test_cut_into_many_queries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores in blocks of queries, computed twice in training, are those of all at once; gradients too."""
    for window in (0, 5):
        decoder = random_decoder(replace(BASE, position=POSITIONS[name], window=window, num_kv_heads=2))
        ids, found = ids_of(decoder, 2, 13), []
        document = torch.tensor([[0] * 13, [0] * 6 + [1] * 7])
        for size, mask in ((256, None), (4, None), (256, Mask(document)), (4, Mask(document))):
            monkeypatch.setattr(attention, "QUERY_BLOCK", size)
            decoder.zero_grad()
            hidden = decoder(ids, mask=mask).hidden
            hidden.exp().sum().backward()
            found.append([hidden, *(p.grad for p in decoder.parameters() if p.grad is not None)])
        for a, b in ((found[0], found[1]), (found[2], found[3])):
            for one, other in zip(a, b, strict=True):
                torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", POSITIONS)
def test_a_windowed_cache_streams_past_its_size(name: str) -> None:
    position = POSITIONS[name]
    decoder = random_decoder(replace(BASE, position=position, num_layers=2, window=8, tally=3))
    state = decoder.new_state(1)
    if position.absolute:
        assert state.limit == decoder.config.max_seq_len
        return
    ids = ids_of(decoder, 1, 700)
    assert state.capacity < 200 and state.limit is None
    with torch.inference_mode():
        streamed = torch.cat([decoder(part, state=state).hidden for part in ids.split([300, 1, 1, 398], dim=1)], 1)
        torch.testing.assert_close(streamed, decoder(ids).hidden, atol=1e-10, rtol=0)
        # what was taken back and is read again is as it was
        state.truncate(torch.tensor([690]))
        again = decoder(ids[:, 690:], state=state).hidden
    torch.testing.assert_close(again, streamed[:, 690:], atol=1e-10, rtol=0)


def test_given_positions_are_what_counts() -> None:
    """A row packed with positions that begin anew is each document alone, for absolute positions too."""
    for name, position in POSITIONS.items():
        decoder = random_decoder(replace(BASE, position=position))
        ids = ids_of(decoder, 1, 10)
        document = torch.tensor([[0] * 4 + [1] * 6])
        positions = torch.tensor([[*range(4), *range(6)]])
        hidden = decoder(ids, positions, mask=Mask(document)).hidden[0]
        torch.testing.assert_close(hidden[4:], decoder(ids[:, 4:]).hidden[0], atol=1e-10, rtol=0, msg=name)


def test_an_order_of_ones_own() -> None:
    """Positions read in another order, by the mask, equal the same text laid out in that order."""
    decoder = random_decoder(replace(BASE, token_shift=0))
    ids, order = ids_of(decoder, 1, 9), torch.randperm(9, generator=torch.Generator().manual_seed(0)).unsqueeze(0)
    hidden = decoder(ids, mask=Mask(order=order, reveal=order)).hidden
    laid_out = torch.argsort(order[0])
    other = decoder(ids[:, laid_out], laid_out.unsqueeze(0)).hidden
    torch.testing.assert_close(hidden[:, laid_out], other, atol=1e-10, rtol=0)


def test_keys_stay_the_same_when_compiled() -> None:
    decoder = random_decoder(BASE)
    before, ids = list(decoder.state_dict()), ids_of(decoder, 1, 9)
    expected = decoder(ids).hidden
    decoder.compile(backend="eager")
    torch.testing.assert_close(decoder(ids).hidden, expected)
    assert list(decoder.state_dict()) == before


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_the_stack_is_compiled_as_one_graph(dropout: float) -> None:
    """In training and decoding alike; what does not compile would be told by `fullgraph`."""
    decoder = random_decoder(replace(BASE, dropout=dropout))
    ids, other = ids_of(decoder, 2, 9), copy.deepcopy(decoder)
    other.compile(backend="aot_eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(other(ids).hidden, decoder(ids).hidden)
    other.train()(ids).hidden.exp().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in other.stack.parameters())


def test_half_precision_runs() -> None:
    for position in POSITIONS.values():
        for window in (0, 5):
            decoder = Decoder(replace(BASE, position=position, window=window, zero_init=False))
            with torch.autocast("cpu", torch.bfloat16):
                out = decoder(ids_of(decoder, 2, LENGTH), mask=Mask(torch.zeros(2, LENGTH, dtype=torch.int32)))
            out.hidden.float().exp().sum().backward()
            assert torch.isfinite(out.hidden).all() and decoder.embedding.weight.grad.isfinite().all()


def test_an_untrained_default_predicts_uniformly() -> None:
    decoder = Decoder(BASE)
    assert decoder.logits(decoder(ids_of(decoder, 1, 9)).hidden).abs().max() == 0


def test_what_cannot_be_read_says_so() -> None:
    decoder = random_decoder(replace(BASE, position=Learned()))
    with pytest.raises(ConfigError, match="33 positions, and this decoder has learned 32"):
        decoder(ids_of(decoder, 1, 33))
    with pytest.raises(ConfigError, match="capacity is 0"):
        decoder.new_state(1, capacity=0)
    with pytest.raises(ConfigError, match=r"the shape \(1, 5\) and the ids \(2, 5\)"):
        decoder(ids_of(decoder, 2, 5), mask=Mask(span=torch.ones(1, 5, dtype=torch.long)))
    with pytest.raises(ConfigError, match="an order and what each position reveals"):
        Mask(order=torch.zeros(1, 5))
    with pytest.raises(ConfigError, match=r"shapes \(1, 5\), \(1, 4\)"):
        Mask(document=torch.zeros(1, 5), span=torch.zeros(1, 4))
    with pytest.raises(ConfigError, match="capacity 40 is more than max_seq_len 32"):
        decoder.new_state(1, 40)
    state = decoder.new_state(1, 5)
    with pytest.raises(ConfigError, match="position 5 does not fit"):
        decoder(ids_of(decoder, 1, 6), state=state)
    assert state.lengths.tolist() == [0], "nothing was written"
    with pytest.raises(ConfigError, match="spans seen both ways alone"):
        decoder(ids_of(decoder, 1, 3), mask=Mask(torch.zeros(1, 3)), state=state)
    with pytest.raises(ConfigError, match="needs num_layers"):
        Decoder(replace(BASE, num_layers=0))


def test_checkpoint_keys_are_stable() -> None:
    block = {f"stack.blocks.0.attention.{part}_proj.weight" for part in ("q", "k", "v", "out")}
    block |= {f"stack.blocks.0.feed_forward.{part}.weight" for part in ("up", "down")}
    top = {"embedding.weight", "head.weight", "shift_scales", "value_embeddings.0.weight", "value_scales"}
    assert set(Decoder(replace(BASE, num_layers=1)).state_dict()) == block | top
    old = replace(
        BASE, num_layers=1, position=Learned(), norm="layernorm", bias=True, activation="swiglu", tied_head=True,
        token_shift=0, value_embeddings=False, embedding_norm=False,
    )  # fmt: skip
    block |= {"stack.blocks.0.feed_forward.gate.weight"}
    block |= {name.replace("weight", "bias") for name in block}
    norms = {f"stack.blocks.0.{name}_norm" for name in ("attn", "ffn")} | {"final_norm"}
    norms = {f"{name}.{part}" for name in norms for part in ("weight", "bias")}
    top = {"embedding.weight", "position.weight", "shift_scales", "value_scales"}
    assert set(Decoder(old).state_dict()) == block | norms | top


@given(st.lists(st.integers(0, 3), min_size=1, max_size=6), st.booleans())
def test_rows_become_what_others_were(rows: list[int], ring: bool) -> None:
    """Fewer, as many, more; twice over, so that what was written in place is written again."""
    config = DecoderConfig(vocab_size=9, d_model=8, num_layers=2, num_heads=2, max_seq_len=32, window=4 if ring else 0)
    decoder, ids = Decoder(config).eval(), torch.arange(4 * 24).view(4, 24) % 9
    state = decoder.new_state(4, None if ring else 32, chunk=6)
    with torch.inference_mode():
        decoder(ids, state=state)
        for wanted in (rows, [at % len(rows) for at in rows]):
            held = [*state.keys, *state.values, state.positions, state.ids, state.lengths]
            expected = [tensor[wanted].clone() for tensor in held]
            state.reorder(torch.tensor(wanted))
            for one, other in zip(
                (*state.keys, *state.values, state.positions, state.ids, state.lengths), expected, strict=True
            ):
                assert torch.equal(one, other)


def test_rows_alike_are_copied_behind_that_alone() -> None:
    decoder = Decoder(DecoderConfig(vocab_size=9, d_model=8, num_layers=1, num_heads=2, max_seq_len=32)).eval()
    state = decoder.new_state(3, 16)
    with torch.inference_mode():
        decoder(torch.arange(3 * 10).view(3, 10) % 9, state=state)
        before = state.keys[0].clone()
        state.reorder(torch.tensor([0, 0, 2]), alike=4)
    assert torch.equal(state.keys[0][1, :, :4], before[1, :, :4])
    assert torch.equal(state.keys[0][1, :, 4:10], before[0, :, 4:10]) and torch.equal(state.keys[0][2], before[2])
