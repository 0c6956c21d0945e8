"""Every choice a decoder is made of, covers of their combinations, and a slow NumPy decoder to hold them against."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import erf
from typing import Any

import numpy as np
import torch

from seqmodal.config import (
    Alibi,
    Bucketed,
    DecoderConfig,
    Learned,
    NoPosition,
    Plain,
    Relative,
    Rotary,
    Sinusoidal,
    TransformerXL,
    Universal,
)
from seqmodal.decoder import Decoder

LENGTH = 14
BASE = DecoderConfig(vocab_size=11, d_model=16, num_layers=3, num_heads=4, d_ff=20, max_seq_len=32)
POSITIONS = {
    "none": NoPosition(),
    "learned": Learned(),
    "sinusoidal": Sinusoidal(),
    "rotary": Rotary(base=50.0),
    "alibi": Alibi(),
    "relative": Relative(max_distance=6),
    "relative values": Relative(max_distance=30, values=True),
    "t5": Bucketed(buckets=8, max_distance=10),
    "transformer-xl": TransformerXL(),
}
CHOICES: dict[str, list[dict[str, Any]]] = {
    "position": [{"position": position} for position in POSITIONS.values()],
    "heads": [{"num_kv_heads": n} for n in (0, 2, 1)],
    "window": [{"window": n} for n in (0, 5)],
    "stack": [{"stack": s} for s in (Plain(), Universal(halting=False), Universal(threshold=0.9))],
    "norm": [{"norm": n, "norm_place": p} for n in ("rmsnorm", "layernorm") for p in ("pre", "post")],
    "activation": [{"activation": a} for a in ("relu", "gelu", "gelu_tanh", "relu2", "swiglu")],
    "bias": [{"bias": b} for b in (False, True)],
    "tied": [{"tied_head": b} for b in (False, True)],
    "qk_norm": [{"qk_norm": b} for b in (False, True)],
    "embedding_norm": [{"embedding_norm": b} for b in (False, True)],
    "token_shift": [{"token_shift": n} for n in (0, 2)],
    "tally": [{"tally": n} for n in (0, 5)],
    "value_embeddings": [{"value_embeddings": b} for b in (False, True)],
    "softcap": [{"logit_softcap": c} for c in (0.0, 3.0)],
}


def made_of(picks: Sequence[int]) -> DecoderConfig:
    """The configuration of one pick for each of `CHOICES`."""
    settings: dict[str, Any] = {}
    for choices, pick in zip(CHOICES.values(), picks, strict=True):
        settings |= choices[pick]
    return replace(BASE, **settings)


def pairwise() -> list[DecoderConfig]:
    """Configurations in which every two choices of two kinds come together at least once."""
    sizes = [len(choices) for choices in CHOICES.values()]
    missing = {
        (i, a, j, b)
        for i, j in itertools.combinations(range(len(sizes)), 2)
        for a in range(sizes[i])
        for b in range(sizes[j])
    }
    rng, found = np.random.default_rng(0), []
    while missing:
        i, a, j, b = min(missing)
        best: list[int] = []
        most = -1
        for _ in range(30):
            picks = [int(rng.integers(size)) for size in sizes]
            picks[i], picks[j] = a, b
            count = len(pairs(picks) & missing)
            if count > most:
                best, most = picks, count
        missing -= pairs(best)
        found.append(made_of(best))
    return found


def pairs(picks: Sequence[int]) -> set[tuple[int, int, int, int]]:
    """All pairs of picks."""
    return {(i, picks[i], j, picks[j]) for i, j in itertools.combinations(range(len(picks)), 2)}


def full_product(position: str) -> Iterator[DecoderConfig]:
    """All combinations of the choices with more than two ways, and of the window; the others take turns."""
    wide = ("heads", "window", "stack", "norm", "activation")
    flags = [name for name in CHOICES if name not in ("position", *wide)]
    for number, parts in enumerate(itertools.product(*(CHOICES[name] for name in wide))):
        settings: dict[str, Any] = {"position": POSITIONS[position]}
        turn = np.random.default_rng(number).integers(2, size=len(flags))
        for part in (*parts, *(CHOICES[name][int(t)] for name, t in zip(flags, turn, strict=True))):
            settings |= part
        yield replace(BASE, **settings)


def described(config: DecoderConfig) -> str:
    """A short name for a test."""
    kinds = [config.position.kind, config.stack.kind, config.norm_place, config.norm, config.activation]
    return "-".join([*kinds, f"kv{config.kv_heads}", f"w{config.window}"])


def random_decoder(config: DecoderConfig, seed: int = 1) -> Decoder:
    """All weights random, in float64: a zero-initialised projection would hide a mistake."""
    torch.manual_seed(seed)
    decoder = Decoder(config).double().eval()
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    if decoder.tally is not None:
        decoder.tally.effects.random_(-1, 2, generator=torch.Generator().manual_seed(seed))
    return decoder


def ids_of(decoder: Decoder, rows: int, length: int) -> torch.Tensor:
    return torch.randint(decoder.config.vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))


def oracle(decoder: Decoder, ids: np.ndarray, sees: np.ndarray | None = None) -> np.ndarray:
    """Logits (T, V) of one row, position by position and head by head, from the weights and the papers.

    sees: bool (T, T), who sees whom; None: causal, within the window.
    """
    c, w = decoder.config, {k: v.detach().numpy() for k, v in decoder.state_dict().items()}
    n = len(ids)
    if sees is None:
        sees = np.array([[s <= t and (not c.window or t - s < c.window) for s in range(n)] for t in range(n)])

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        if c.norm == "rmsnorm":
            return rms(x)
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + (w[f"{name}.bias"] if c.bias else 0)

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"].T + (w[f"{name}.bias"] if c.bias else 0)

    x = w["embedding.weight"][ids]
    for back, scale in enumerate(w["shift_scales"], 1):
        x[back:] += scale * w["embedding.weight"][ids[:-back]]
    if c.tally:
        counts = np.zeros(c.tally)
        for t, one in enumerate(ids):
            counts = np.maximum(counts + w["tally.effects"][one], 0)
            x[t] += np.minimum(counts, 3) @ w["tally.weight"]
    if isinstance(c.position, Learned):
        x = x + w["position.weight"][:n]
    if isinstance(c.position, Sinusoidal):
        x = x * np.sqrt(c.d_model) + np.stack([waves(t, c.d_model, c.position.base) for t in range(n)])
    if c.embedding_norm:
        x = norm(x, "embedding_norm")

    def block(x: np.ndarray, time: int) -> np.ndarray:
        p = f"stack.blocks.{0 if isinstance(c.stack, Universal) else time}."
        y = norm(x, f"{p}attn_norm") if c.norm_place == "pre" else x
        q, k, v = (linear(y, f"{p}attention.{part}_proj") for part in "qkv")
        if c.value_embeddings and time in (0, c.num_layers - 1):
            at = 0 if time == 0 else len(decoder.value_layers) - 1
            v = v + w["value_scales"][at] * w[f"value_embeddings.{at}.weight"][ids]
        out = np.zeros((n, c.d_model))
        for t in range(n):
            mixed = [head(p, h, t, q, k, v) for h in range(c.num_heads)]
            out[t] = linear(np.concatenate(mixed), f"{p}attention.out_proj")
        x = x + out if c.norm_place == "pre" else norm(x + out, f"{p}attn_norm")
        y = norm(x, f"{p}ffn_norm") if c.norm_place == "pre" else x
        up = linear(y, f"{p}feed_forward.up")
        if c.activation == "swiglu":
            gate = linear(y, f"{p}feed_forward.gate")
            up = up * gate / (1 + np.exp(-gate))
        else:
            up = activated(up, c.activation)
        down = linear(up, f"{p}feed_forward.down")
        return x + down if c.norm_place == "pre" else norm(x + down, f"{p}ffn_norm")

    def head(p: str, h: int, t: int, q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
        g = h * c.kv_heads // c.num_heads
        part, scale = slice(g * c.head_dim, (g + 1) * c.head_dim), 1 / np.sqrt(c.head_dim)
        keys = [s for s in range(n) if sees[t, s]]
        query = q[t, h * c.head_dim : (h + 1) * c.head_dim]
        query = rms(query) if c.qk_norm else query
        scores = []
        for s in keys:
            key = rms(k[s, part]) if c.qk_norm else k[s, part]
            match c.position:
                case Rotary(base=base):
                    score = turn(query, t, base) @ turn(key, s, base) * scale
                case Alibi():
                    score = query @ key * scale - 2 ** (-8 * (h + 1) / c.num_heads) * abs(t - s)
                case Relative(max_distance=most):
                    vector = w[f"{p}attention.scores.keys"][h, np.clip(t - s, -most, most) + most]
                    score = query @ (key + vector) * scale
                case Bucketed():
                    score = query @ key * scale + w["shared_scores.weight"][bucket(t - s, c.position), h]
                case TransformerXL():
                    u, d = (w[f"{p}attention.scores.{name}_bias"][h, 0] for name in ("key", "distance"))
                    rows = slice(h * c.head_dim, (h + 1) * c.head_dim)
                    far = w[f"{p}attention.scores.distance_proj.weight"][rows] @ waves(t - s, c.d_model, 1e4)
                    score = ((query + u) @ key + (query + d) @ far) * scale
                case _:
                    score = query @ key * scale
            scores.append(score)
        share = np.exp(np.array(scores) - max(scores))
        share /= share.sum()
        values = v[keys, part]
        if isinstance(c.position, Relative) and c.position.values:
            most = c.position.max_distance
            table = w[f"{p}attention.scores.values"][h]
            values = values + np.stack([table[np.clip(t - s, -most, most) + most] for s in keys])
        return share @ values

    if isinstance(c.stack, Universal):
        x = repeated(x, block, c, w)
    else:
        for layer in range(c.num_layers):
            x = block(x, layer)
    if c.norm_place == "pre":
        x = norm(x, "final_norm")
    logits = x @ w["embedding.weight" if c.tied_head else "head.weight"].T
    return c.logit_softcap * np.tanh(logits / c.logit_softcap) if c.logit_softcap else logits


def repeated(x: np.ndarray, block: Any, c: DecoderConfig, w: dict[str, np.ndarray]) -> np.ndarray:
    """The universal stack, one position's bookkeeping after the other."""
    assert isinstance(c.stack, Universal)
    times = [np.zeros(c.d_model), *w["stack.time_embedding"]]
    if not c.stack.halting:
        for time in range(c.num_layers):
            x = block(x + times[time], time)
        return x
    n = len(x)
    total, running, mean = [0.0] * n, [True] * n, np.zeros_like(x)
    for time in range(c.num_layers):
        new = block(x + times[time], time)
        x = x.copy()
        for t in range(n):
            if not running[t]:
                continue
            halt = 1 / (1 + np.exp(-(new[t] @ w["stack.halt.weight"][0] + w["stack.halt.bias"][0])))
            if total[t] + halt > c.stack.threshold or time == c.num_layers - 1:
                halt, running[t] = 1 - total[t], False
            total[t] += halt
            mean[t] += halt * new[t]
            x[t] = new[t]
    return mean


def rms(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + np.finfo(x.dtype).eps)


def waves(at: int, width: int, base: float) -> np.ndarray:
    angle = at * base ** (-np.arange(width // 2) * 2 / width)
    return np.concatenate([np.sin(angle), np.cos(angle)])


def turn(x: np.ndarray, at: int, base: float) -> np.ndarray:
    half = len(x) // 2
    angle = at * base ** (-np.arange(half) * 2 / len(x))
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * angle)
    return np.concatenate([turned.real, turned.imag])


def bucket(distance: int, config: Bucketed) -> int:
    half = config.buckets // 2
    size, first = abs(distance), half if distance < 0 else 0
    exact = half // 2
    if size < exact:
        return first + size
    far = exact + int(np.log(size / exact) / np.log(config.max_distance / exact) * (half - exact))
    return first + min(far, half - 1)


def activated(x: np.ndarray, name: str) -> np.ndarray:
    if name == "gelu":
        return x * 0.5 * (1 + np.vectorize(erf)(x / np.sqrt(2)))
    if name == "gelu_tanh":
        return x * 0.5 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return np.maximum(x, 0) ** (2 if name == "relu2" else 1)
