"""Limit cases of the decoder's parts: what each becomes where it must be something else that is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from variants import BASE, LENGTH, POSITIONS, ids_of, random_decoder

from seqmodal.config import Alibi, DecoderConfig, Relative, TransformerXL, Universal
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.nn.mask import Mask


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("stack", [None, Universal(), Universal(halting=False)])
@pytest.mark.parametrize("name", [name for name, position in POSITIONS.items() if not position.absolute])
def test_a_memory_that_holds_all_is_the_whole_text(name: str, place: str, stack: Universal | None) -> None:
    config = replace(BASE, position=POSITIONS[name], memory=30, norm_place=place, num_kv_heads=2, tally=4)
    decoder = random_decoder(replace(config, stack=stack) if stack else config)
    ids = ids_of(decoder, 2, 24)
    document = torch.tensor([[0] * 24, [4] * 11 + [5] * 13])
    whole = decoder(ids, mask=Mask(document)).hidden
    memory, parts, at = decoder.new_memory(2), [], 0
    for length in (7, 1, 10, 6):
        cut = slice(at, at + length)
        out = decoder(ids[:, cut], mask=Mask(document[:, cut]), state=memory)
        memory, at = out.state, at + length
        parts.append(out.hidden)
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-10, rtol=0)
    state = decoder.new_state(2)  # the same text from a cache, which generation uses
    cached = torch.cat([decoder(part, state=state).hidden for part in ids.split([9, 1, 14], dim=1)], 1)
    torch.testing.assert_close(cached[0], whole[0], atol=1e-10, rtol=0)


def test_a_short_memory_forgets_and_learns() -> None:
    decoder = random_decoder(replace(BASE, position=TransformerXL(), memory=4, num_layers=1, token_shift=0))
    ids = ids_of(decoder, 1, 12)
    memory = decoder.new_memory(1)
    memory = decoder(ids[:, :6], state=memory).state
    out = decoder(ids[:, 6:], state=memory)
    assert memory.hidden[0].shape == (1, 4, 16) and not memory.hidden[0].requires_grad
    one = ids.clone()
    one[0, 1] = (one[0, 1] + 1) % 11  # out of the memory's reach in one layer
    other = decoder(one[:, 6:], state=decoder(one[:, :6], state=decoder.new_memory(1)).state)
    assert torch.equal(out.hidden, other.hidden)
    # keys of the memory are computed anew: their weights get a gradient from them
    weight = decoder.stack.blocks[0].attention.k_proj.weight
    with_memory = torch.autograd.grad(out.hidden[0, 0, 0], weight)[0]
    assert with_memory.abs().sum() > 0, "the first position sees nothing but itself and the memory"
    for wrong in ({"positions": torch.arange(3).unsqueeze(0)}, {"mask": Mask(span=torch.ones(1, 3, dtype=torch.long))}):
        with pytest.raises(ConfigError, match="do not go together"):
            decoder(ids[:, :3], state=memory, **wrong)
    with pytest.raises(ConfigError, match="no memory"):
        random_decoder(BASE).new_memory(1)


def test_a_universal_stack_of_one_step_is_one_layer() -> None:
    for halting in (False, True):
        plain = random_decoder(replace(BASE, num_layers=1))
        universal = Decoder(replace(BASE, num_layers=1, stack=Universal(halting=halting))).double().eval()
        missing = universal.load_state_dict(plain.state_dict(), strict=False)
        assert not missing.unexpected_keys
        ids = ids_of(plain, 2, 9)
        torch.testing.assert_close(universal(ids).hidden, plain(ids).hidden, atol=1e-12, rtol=0)


def test_halting_differs_by_position_and_costs() -> None:
    decoder = random_decoder(replace(BASE, num_layers=5, stack=Universal(ponder_cost=0.5)))
    out = decoder(ids_of(decoder, 2, LENGTH))
    steps = out.steps
    assert steps is not None and steps.min() >= 1 and steps.max() <= 5 and len(steps.unique()) > 1
    assert 0.5 * steps.mean() <= out.aux_loss <= 0.5 * (steps.mean() + 1)
    halt = decoder.stack.halt.weight
    assert torch.autograd.grad(out.aux_loss, halt)[0].abs().sum() > 0
    assert random_decoder(BASE)(ids_of(decoder, 1, 3)).aux_loss is None


def test_after_training_positions_are_thought_about_for_different_times() -> None:
    """Even places of a text hold one id, odd ones need the two before."""
    torch.manual_seed(0)
    shape = {"vocab_size": 10, "d_model": 32, "num_layers": 6, "num_heads": 2, "max_seq_len": 24}
    decoder, losses = Decoder(DecoderConfig(**shape, stack=Universal(ponder_cost=0.02))), []
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-3)
    for _ in range(60):
        ids = torch.randint(1, 9, (16, 24))
        for at in range(4, 24):
            ids[:, at] = (ids[:, at - 2] + ids[:, at - 4]) % 8 + 1 if at % 2 else 0
        out = decoder(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(decoder.logits(out.hidden).flatten(0, 1), ids[:, 1:].flatten())
        (loss + out.aux_loss).backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    steps = decoder.eval()(ids[:, :-1]).steps
    assert losses[-1] < 0.7 * losses[0] and len(steps.unique()) > 1


def test_a_window_longer_than_the_text_is_full_attention() -> None:
    for position in POSITIONS.values():
        full = random_decoder(replace(BASE, position=position))
        windowed = random_decoder(replace(BASE, position=position, window=20))
        ids = ids_of(full, 1, LENGTH)
        torch.testing.assert_close(windowed(ids).hidden, full(ids).hidden, atol=1e-12, rtol=0)


def test_grouped_heads_with_repeated_weights_are_multi_head() -> None:
    for position in POSITIONS.values():
        grouped = random_decoder(replace(BASE, position=position, num_kv_heads=2))
        multi = random_decoder(replace(BASE, position=position))
        weights = grouped.state_dict()
        for name, weight in weights.items():
            if "k_proj" in name or "v_proj" in name or "value_embeddings" in name:
                axis = 1 if "value_embeddings" in name else 0
                weights[name] = weight.unflatten(axis, (2, 4)).repeat_interleave(2, dim=axis).flatten(axis, axis + 1)
        multi.load_state_dict(weights)
        ids = ids_of(grouped, 2, 9)
        torch.testing.assert_close(multi(ids).hidden, grouped(ids).hidden, atol=1e-12, rtol=0)


def test_relative_scores_take_memory_linear_in_length() -> None:
    """Skewing makes no tensor of length x length x width; an index of vectors would."""
    decoder = random_decoder(replace(BASE, position=Relative(max_distance=300), max_seq_len=300, num_layers=1))
    biggest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal biggest
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, torch.Tensor):
                    biggest = max(biggest, tensor.numel())
            return out

    with torch.no_grad(), Watch():
        decoder(ids_of(decoder, 1, 300))
    assert biggest <= 4 * 256 * (300 + 256 + 1), "heads x queries of a block x distances"


def test_alibi_extrapolates() -> None:
    """Trained at 128, read at 512: the loss does not rise."""
    torch.manual_seed(0)
    config = DecoderConfig(
        vocab_size=8, d_model=32, num_layers=2, num_heads=2, max_seq_len=128, position=Alibi(), token_shift=0,
        value_embeddings=False,
    )  # fmt: skip
    decoder = Decoder(config)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    table = rng.dirichlet(np.full(8, 0.1), size=(8, 8))  # a chain of order two

    def texts(rows: int, length: int) -> torch.Tensor:
        ids = rng.integers(8, size=(rows, length + 1))
        for t in range(2, length + 1):
            p = table[ids[:, t - 2], ids[:, t - 1]].cumsum(-1)
            ids[:, t] = (rng.random((rows, 1)) > p).sum(-1).clip(max=7)
        return torch.from_numpy(ids)

    def loss(ids: torch.Tensor) -> torch.Tensor:
        logits = decoder.logits(decoder(ids[:, :-1]).hidden)
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")

    for _ in range(60):
        optimizer.zero_grad()
        loss(texts(8, 128)).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = loss(texts(8, 512)).view(8, 512).mean(0)
    assert found[:128].mean() < 1.9, "it has learned something"
    assert found[384:].mean() < found[:128].mean() + 0.1
