"""The decoder against a slow NumPy oracle, and its laws: causality, cached equals whole, packed equals alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from seqmodal.config import DecoderConfig
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.nn.mask import Mask

SHAPES = {
    "full": DecoderConfig(vocab_size=23, d_model=16, num_layers=2, num_heads=2, max_seq_len=48),
    "window": DecoderConfig(vocab_size=23, d_model=16, num_layers=3, num_heads=4, max_seq_len=24, window=8),
    "multi-query": DecoderConfig(
        vocab_size=23,
        d_model=24,
        num_layers=1,
        num_heads=4,
        num_kv_heads=1,
        max_seq_len=16,
        window=5,
        token_shift=1,
    ),
    "plain": DecoderConfig(
        vocab_size=23,
        d_model=8,
        num_layers=2,
        num_heads=2,
        num_kv_heads=1,
        d_ff=12,
        max_seq_len=16,
        token_shift=0,
        value_embeddings=False,
        logit_softcap=0.0,
    ),
}


@pytest.fixture(params=SHAPES)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return random_decoder(SHAPES[request.param])


def random_decoder(config: DecoderConfig) -> Decoder:
    """All weights random, in float64: a zero-initialised projection would hide a mistake."""
    torch.manual_seed(1)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return decoder


def ids_of(decoder: Decoder, rows: int, length: int) -> torch.Tensor:
    return torch.randint(decoder.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))


def oracle(decoder: Decoder, ids: np.ndarray) -> np.ndarray:
    """Logits (T, V) of one row, position by position and head by head, from the weights and the papers."""
    c, w = decoder.config, {k: v.detach().numpy() for k, v in decoder.state_dict().items()}

    def norm(x: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.finfo(x.dtype).eps)

    def turn(x: np.ndarray, at: int) -> np.ndarray:
        half = len(x) // 2
        angle = at * c.rotary_base ** (-np.arange(half) * 2 / len(x))
        pairs = (x[:half] + 1j * x[half:]) * np.exp(1j * angle)
        return np.concatenate([pairs.real, pairs.imag])

    x = w["embedding.weight"][ids]
    for back, scale in enumerate(w["shift_scales"], 1):
        x[back:] += scale * w["embedding.weight"][ids[:-back]]
    x = norm(x)
    for layer in range(c.num_layers):
        p = f"blocks.{layer}."
        y, out = norm(x), np.zeros_like(x)
        q, k, v = (y @ w[f"{p}attention.{n}_proj.weight"].T for n in "qkv")
        if c.value_embeddings and layer in (0, c.num_layers - 1):
            at = 0 if layer == 0 else len(decoder.value_layers) - 1
            v = v + w["value_scales"][at] * w[f"value_embeddings.{at}.weight"][ids]
        for t in range(len(ids)):
            mixed = []
            for h in range(c.num_heads):
                g = h * c.kv_heads // c.num_heads
                lo = max(0, t - c.window + 1) if c.window else 0
                part = slice(g * c.head_dim, (g + 1) * c.head_dim)
                query = turn(norm(q[t, h * c.head_dim : (h + 1) * c.head_dim]), t)
                scores = np.array([query @ turn(norm(k[s, part]), s) for s in range(lo, t + 1)]) / np.sqrt(c.head_dim)
                share = np.exp(scores - scores.max())
                mixed.append((share / share.sum()) @ v[lo : t + 1, part])
            out[t] = w[f"{p}attention.out_proj.weight"] @ np.concatenate(mixed)
        x = x + out
        x = x + np.maximum(norm(x) @ w[f"{p}feed_forward.up.weight"].T, 0) ** 2 @ w[f"{p}feed_forward.down.weight"].T
    logits = norm(x) @ w["head.weight"].T
    return c.logit_softcap * np.tanh(logits / c.logit_softcap) if c.logit_softcap else logits


def test_equals_the_oracle(decoder: Decoder) -> None:
    ids = ids_of(decoder, 1, 21)
    found = decoder.head(decoder(ids).hidden)[0].detach()
    cap = decoder.config.logit_softcap
    found = cap * torch.tanh(found / cap) if cap else found
    np.testing.assert_allclose(found.numpy(), oracle(decoder, ids[0].numpy()), atol=1e-10)


def test_gradient_reaches_just_what_the_mask_shows(decoder: Decoder) -> None:
    ids, config = ids_of(decoder, 1, 20), decoder.config
    extra = torch.zeros(1, 20, config.d_model, dtype=torch.float64, requires_grad=True)
    hidden = decoder(ids, extra=extra).hidden
    for t in (0, 7, 19):
        (grad,) = torch.autograd.grad(hidden[0, t].sum(), extra, retain_graph=True)
        reach = (config.window - 1) * config.num_layers if config.window else 20  # `extra` is not shifted
        seen = grad[0].abs().sum(-1) > 0
        expected = torch.tensor([t - reach <= s <= t for s in range(20)])
        assert seen.equal(expected)


@pytest.mark.parametrize("cuts", [[1] * 40, [13, 1, 26], [40]])
def test_cached_equals_whole(decoder: Decoder, cuts: list[int]) -> None:
    ids = ids_of(decoder, 2, 40)
    state, parts = decoder.new_state(2, capacity=40), []
    for part in ids.split(cuts, dim=1):
        out = decoder(part, state=state)
        state = out.state
        parts.append(out.hidden)
    torch.testing.assert_close(torch.cat(parts, 1), decoder(ids).hidden, atol=1e-10, rtol=0)


def test_a_windowed_cache_streams_past_its_size() -> None:
    decoder = random_decoder(SHAPES["window"])
    ids = ids_of(decoder, 1, 700)
    state = decoder.new_state(1)
    assert state.capacity < 200
    with torch.inference_mode():
        streamed = torch.cat([decoder(part, state=state).hidden for part in ids.split([300, 1, 399], dim=1)], 1)
        torch.testing.assert_close(streamed, decoder(ids).hidden, atol=1e-10, rtol=0)


def test_ragged_rows_equal_each_alone(decoder: Decoder) -> None:
    ids = ids_of(decoder, 3, 12)
    lengths = torch.tensor([12, 5, 9])
    at = torch.arange(12).expand(3, -1)
    positions = torch.where(at < lengths.unsqueeze(1), at, -1)
    state = decoder.new_state(3, capacity=32)
    hidden = decoder(ids, positions, state=state).hidden
    more = decoder(ids[:, :2], state=state).hidden
    assert state.lengths.tolist() == [14, 7, 11]
    for row, length in enumerate(lengths.tolist()):
        alone = decoder(torch.cat([ids[row : row + 1, :length], ids[row : row + 1, :2]], 1)).hidden
        torch.testing.assert_close(hidden[row, :length], alone[0, :length], atol=1e-10, rtol=0)
        torch.testing.assert_close(more[row], alone[0, length:], atol=1e-10, rtol=0)


def test_packed_documents_equal_each_alone(decoder: Decoder) -> None:
    ids = ids_of(decoder, 1, 30)
    document = torch.tensor([[0] * 11 + [1] * 15 + [-1] * 4])
    hidden = decoder(ids, mask=Mask(document=document)).hidden
    assert torch.isfinite(hidden).all()
    for cut in (slice(0, 11), slice(11, 26)):
        torch.testing.assert_close(hidden[:, cut], decoder(ids[:, cut]).hidden, atol=1e-10, rtol=0)


def test_a_span_is_seen_both_ways() -> None:
    decoder = random_decoder(SHAPES["full"])
    ids, span = ids_of(decoder, 1, 10), torch.tensor([[1] * 4 + [0] * 6])
    other = ids.clone()
    other[0, 3] = (other[0, 3] + 1) % 23
    first, second = (decoder(i, mask=Mask(span=span)).hidden for i in (ids, other))
    assert not torch.allclose(first[0, 0], second[0, 0])
    assert torch.equal(decoder(ids).hidden[0, 0], decoder(other).hidden[0, 0])


def test_truncating_and_reordering_the_cache(decoder: Decoder) -> None:
    ids = ids_of(decoder, 2, 12)
    state = decoder.new_state(2, capacity=32)
    decoder(ids, state=state)
    state.truncate(torch.tensor([7, 7]))
    state.reorder(torch.tensor([1, 0]))
    again = decoder(ids.flip(0)[:, 7:], state=state).hidden
    torch.testing.assert_close(again, decoder(ids).hidden.flip(0)[:, 7:], atol=1e-10, rtol=0)


def test_a_window_longer_than_the_text_is_full_attention() -> None:
    wide, full = (
        random_decoder(DecoderConfig(vocab_size=23, d_model=16, num_layers=2, num_heads=2, max_seq_len=48, window=w))
        for w in (40, 0)
    )
    ids = ids_of(full, 1, 40)
    torch.testing.assert_close(wide(ids).hidden, full(ids).hidden)


def test_parameters_are_counted_from_the_configuration(decoder: Decoder) -> None:
    assert sum(p.numel() for p in decoder.parameters()) == decoder.config.num_parameters


def test_untrained_it_predicts_uniformly() -> None:
    decoder = Decoder(SHAPES["window"])
    logits = decoder.logits(decoder(ids_of(decoder, 1, 5)).hidden)
    assert torch.equal(logits, torch.zeros_like(logits))


def test_checkpoint_keys_are_stable() -> None:
    expected = {"embedding.weight", "head.weight", "shift_scales", "value_embeddings.0.weight", "value_scales"}
    expected |= {f"blocks.0.attention.{part}_proj.weight" for part in ("q", "k", "v", "out")}
    expected |= {f"blocks.0.feed_forward.{part}.weight" for part in ("up", "down")}
    assert set(Decoder(SHAPES["multi-query"]).state_dict()) == expected


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"d_model": 10, "num_heads": 4}, "does not divide"),
        ({"d_model": 12, "num_heads": 4}, "even width"),
        ({"num_heads": 4, "num_kv_heads": 3, "d_model": 16}, "num_kv_heads"),
        ({"window": 64, "max_seq_len": 32}, "wider than"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_layers": -1}, "num_layers"),
    ],
)
def test_meaningless_shapes_raise(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DecoderConfig(**wrong)  # type: ignore[arg-type]


def test_a_mask_beside_a_state_raises() -> None:
    decoder = Decoder(SHAPES["full"])
    with pytest.raises(ConfigError, match="do not go together"):
        decoder(torch.zeros(1, 2, dtype=torch.long), mask=Mask(), state=decoder.new_state(1))


def test_a_full_cache_says_so() -> None:
    decoder = Decoder(SHAPES["full"])
    with pytest.raises(ConfigError, match="does not fit"):
        decoder(torch.zeros(1, 5, dtype=torch.long), state=decoder.new_state(1, capacity=4))
