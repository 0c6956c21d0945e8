"""Muon against its definition, AdamW against torch's, and the schedule."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from seqmodal.config import DecoderConfig, TrainingConfig
from seqmodal.decoder import Decoder
from seqmodal.training.optimizer import MuonAdamW, make_schedule, orthogonalize, parameter_groups


@pytest.mark.parametrize("shape", [(8, 8), (4, 12), (12, 4)])
def test_orthogonalize_brings_singular_values_near_one(shape: tuple[int, int]) -> None:
    matrices = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    found = orthogonalize(matrices, steps=8)
    values = torch.linalg.svdvals(found)
    assert values.min() > 0.6 and values.max() < 1.3
    assert nn.functional.cosine_similarity(found.flatten(1), (u @ vh).flatten(1)).min() > 0.97


def test_stacked_matrices_move_as_each_alone() -> None:
    torch.manual_seed(0)
    together = [nn.Parameter(torch.randn(6, 4)) for _ in range(3)]
    alone = [nn.Parameter(p.detach().clone()) for p in together]
    optimizers = [MuonAdamW([{"kind": "muon", "params": together, "lr": 0.1, "weight_decay": 0.1}])]
    optimizers += [MuonAdamW([{"kind": "muon", "params": [p], "lr": 0.1, "weight_decay": 0.1}]) for p in alone]
    for _ in range(3):
        for a, b in zip(together, alone, strict=True):
            a.grad = torch.randn(6, 4)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_rest_moves_as_adamw() -> None:
    torch.manual_seed(0)
    ours = nn.Parameter(torch.randn(5, 3))
    theirs = nn.Parameter(ours.detach().clone())
    a = MuonAdamW([{"kind": "adamw", "params": [ours], "lr": 0.05, "weight_decay": 0.1}])
    b = torch.optim.AdamW([theirs], lr=0.05, weight_decay=0.1, betas=(0.9, 0.95), eps=1e-10)
    for _ in range(5):
        ours.grad = torch.randn(5, 3)
        theirs.grad = ours.grad.clone()
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs)


def test_every_parameter_is_in_one_group() -> None:
    decoder = Decoder(DecoderConfig(vocab_size=9, d_model=8, num_layers=2, num_heads=2, max_seq_len=8))
    muon, adamw = parameter_groups(decoder, TrainingConfig(weight_decay=0.1))
    assert (muon["kind"], muon["lr"], adamw["lr"]) == ("muon", 0.025, 0.012) and "weight_decay" not in adamw
    both = parameter_groups(decoder, TrainingConfig(optimizer="adamw", embedding_lr=0.003))
    assert [(group["kind"], group["lr"]) for group in both] == [("adamw", 0.003)] * 2
    assert {p.ndim for p in muon["params"]} == {2}
    found = [id(p) for group in (muon, adamw) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in decoder.parameters())
    assert any(p is decoder.embedding.weight for p in adamw["params"])


def test_the_state_survives_saving() -> None:
    def make() -> tuple[nn.Parameter, nn.Parameter, MuonAdamW]:
        torch.manual_seed(0)
        p, q = nn.Parameter(torch.randn(4, 4)), nn.Parameter(torch.randn(4))
        return (
            p,
            q,
            MuonAdamW(
                [
                    {"kind": "muon", "params": [p], "lr": 0.1, "weight_decay": 0.0},
                    {"kind": "adamw", "params": [q], "lr": 0.1, "weight_decay": 0.0},
                ]
            ),
        )

    def go(p: nn.Parameter, q: nn.Parameter, optimizer: MuonAdamW) -> None:
        p.grad, q.grad = torch.randn(4, 4), torch.randn(4)
        optimizer.step()

    p, q, kept = make()
    go(p, q, kept)
    p2, q2, loaded = make()
    loaded.load_state_dict(copy.deepcopy(kept.state_dict()))
    p2.data.copy_(p), q2.data.copy_(q)
    torch.manual_seed(5)
    go(p, q, kept)
    torch.manual_seed(5)
    go(p2, q2, loaded)
    assert torch.equal(p, p2) and torch.equal(q, q2)


def test_the_rate_rises_holds_and_falls() -> None:
    rate = make_schedule(TrainingConfig(steps=1000, warmup=0.1, decay=0.4, final_lr=0.05))
    assert rate(0) == pytest.approx(0.01)
    assert rate(99) == rate(300) == rate(600) == 1.0
    assert 1.0 > rate(700) > rate(900) > rate(999) >= 0.05
    assert make_schedule(TrainingConfig(steps=1))(0) == 1.0


def test_other_schedules() -> None:
    cosine = make_schedule(TrainingConfig(steps=1000, warmup=0.1, schedule="cosine", final_lr=0.1))
    assert cosine(0) == pytest.approx(0.01) and cosine(100) == pytest.approx(1.0)
    assert cosine(550) == pytest.approx(0.55, abs=1e-3) and cosine(1000) == pytest.approx(0.1)
    root = make_schedule(TrainingConfig(steps=1000, warmup=0.1, schedule="inverse_sqrt"))
    assert root(99) == 1.0 and root(399) == pytest.approx(0.5) and root(899) == pytest.approx(1 / 3)


@pytest.mark.parametrize("kind", ["muon", "adamw"])
def test_decoding_between_steps_reads_the_weights_as_they_are(kind: str) -> None:
    """Decoding keeps copies of weights, and a fused step leaves no trace by which they would know of it."""
    config = DecoderConfig(vocab_size=512, d_model=64, num_layers=1, num_heads=2, max_seq_len=16, zero_init=False)
    torch.manual_seed(0)
    decoder, settings = Decoder(config), TrainingConfig(steps=4, optimizer=kind)  # type: ignore[arg-type]
    optimizer = MuonAdamW(parameter_groups(decoder, settings))
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    ids = torch.randint(512, (4, 8))
    for _ in range(3):
        decoder.logits(decoder(ids).hidden).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.inference_mode():
            for _ in range(4):  # so often that a copy is made
                state = decoder.new_state(4)
                hidden = [decoder(part, state=state).hidden for part in ids.split(1, dim=1)][-1]
                found = decoder.logits(hidden[:, -1])
        whole = decoder.logits(decoder(ids).hidden).detach()[:, -1]  # with gradients: no copies are read
        torch.testing.assert_close(found, whole, atol=1e-4, rtol=1e-4)
