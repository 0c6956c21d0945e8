"""All places at once: a model trained with the masked objective fills what is masked in a few rounds.

MaskGIT (Chang et al. 2022): in each round every masked place is guessed, the guesses least sure of themselves are
masked again, and a cosine says how many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.probability import Sampler, draw, probabilities
from seqmodal.generation.rows import Rows, Stops, histories_as_rows, row_generators
from seqmodal.nn.mask import Mask


def still_masked(total: int, rounds: int) -> list[int]:
    """How many of `total` masked places remain so after each round: total · cos(π/2 · t / rounds), rounded down, and at
    least one fewer than before. The last is 0; there are fewer rounds where there are fewer places.

    Raises:
        ConfigError: for no rounds.
    """
    if rounds < 1:
        raise ConfigError(f"rounds is {rounds}; it must be at least 1")
    remain: list[int] = []
    while total and (not remain or remain[-1]):
        at = len(remain) + 1
        wanted = 0 if at == rounds else math.floor(total * math.cos(math.pi / 2 * at / rounds))
        remain.append(max(0, min((remain or [total])[-1] - 1, wanted)))
    return remain


@torch.inference_mode()
def fill_masked(
    decoder: Decoder, rows: Sequence[np.ndarray], *, mask_id: int, rounds: int = 8, sampler: Sampler | None = None,
    choice_temperature: float = 4.5, allowed: np.ndarray | None = None,
    generators: Sequence[torch.Generator] | None = None, after_round: Callable[[], None] | None = None,
    extra: Tensor | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Fill the places that hold `mask_id`. What is given never changes.

    Every place sees all of its row, both ways, and its logits speak of itself, as in the masked objective.

    Args:
        decoder: trained with masks, in evaluation mode.
        rows: (n_i,) ids each, `mask_id` where an id is wanted; their lengths may differ.
        mask_id: the id of the mask; it is never an answer.
        rounds: calls of the decoder; as many as there are masked places fill one each.
        sampler: how to choose the ids; None: as the model has it. A penalty of repetition counts what a row shows.
        choice_temperature: Gumbel noise in the choice of places, which falls linearly to 0 in the last round; 0: always
            the surest.
        allowed: bool (V,), or (B, T, V) with T the longest row; None: all but the mask.
        generators: one for each row; None: `row_generators` of seed 0.
        after_round: called after each round.
        extra: (B, T, D), added to the embeddings.

    Returns:
        For each row the whole of it, int64 (n_i,), and float32 (n_i,) the log-probability of each id when it was
        chosen: the model's own over what was allowed, before temperature and the like; 0 where the id was given.

    Raises:
        ConfigError: for a setting out of range, a mask that is no id, or `allowed` of another shape.
    """
    sampler = sampler or Sampler()
    if not 0 <= choice_temperature < math.inf:
        raise ConfigError(f"choice_temperature is {choice_temperature}; it must be 0 or a positive number")
    if not 0 <= mask_id < decoder.config.vocab_size:
        raise ConfigError(f"mask_id is {mask_id}; the decoder has ids 0 to {decoder.config.vocab_size - 1}")
    generators = row_generators(0, len(rows)) if generators is None else generators
    given = Rows(rows, None, Stops(), generators=generators).histories
    longest = max(map(len, given))
    ids = np.full((len(given), longest), mask_id)
    shown = np.zeros(ids.shape, bool)  # what is not padding
    for row, run in enumerate(given):
        ids[row, : len(run)] = run
        shown[row, : len(run)] = True
    barred = _barred(allowed, mask_id, (*ids.shape, decoder.config.vocab_size))
    schedules = [still_masked(run.count(mask_id), rounds) for run in given]
    logprobs = np.zeros(ids.shape, np.float32)
    for at in range(max(map(len, schedules))):
        hole = (ids == mask_id) & shown  # (B, T)
        logits = _read(decoder, ids, shown, extra).masked_fill(barred.to(decoder.embedding.weight.device), -torch.inf)
        seen = None
        if sampler.remembers:
            visible = [line[keep].tolist() for line, keep in zip(ids, shown & ~hole, strict=True)]
            seen = histories_as_rows(visible, logits.shape[-1], logits.device).unsqueeze(1)
        own = logits.log_softmax(dim=-1).cpu()
        p = probabilities(logits, sampler, history=seen).cpu()
        for row, schedule in enumerate(schedules):
            places = np.flatnonzero(hole[row])
            if not len(places):
                continue
            wanted = torch.from_numpy(places)
            noise = torch.rand(2, len(places), generator=generators[row], dtype=torch.float64)
            guess = draw(p[row, wanted], noise[0])
            sure = own[row, wanted].gather(-1, guess.unsqueeze(-1)).squeeze(-1)
            gumbel = -torch.log(-torch.log(noise[1].clamp(1e-12, 1 - 1e-12)))
            order = (sure + choice_temperature * (1 - (at + 1) / len(schedule)) * gumbel).argsort(descending=True)
            chosen = order[: len(places) - schedule[at]].numpy()
            ids[row, places[chosen]] = guess.numpy()[chosen]
            logprobs[row, places[chosen]] = sure.numpy()[chosen]
        if after_round is not None:
            after_round()
    return [(ids[row, : len(run)], logprobs[row, : len(run)]) for row, run in enumerate(given)]


def _barred(allowed: np.ndarray | None, mask_id: int, shape: tuple[int, int, int]) -> Tensor:
    """bool (V,) or (B, T, V), True for what may not come."""
    if allowed is None:
        barred = np.zeros(shape[-1], bool)
    else:
        barred = ~np.asarray(allowed, bool)
        if barred.shape not in (shape, shape[-1:]):
            raise ConfigError(f"allowed has the shape {barred.shape}; it must be {shape[-1:]} or {shape}")
    barred[..., mask_id] = True
    return torch.from_numpy(barred)


def _read(decoder: Decoder, ids: np.ndarray, shown: np.ndarray, extra: Tensor | None) -> Tensor:
    """Logits (B, T, V) of rows that see all of themselves; padding is a document that nobody sees."""
    device = decoder.embedding.weight.device
    whole = torch.from_numpy(shown).to(device)
    mask = Mask(document=whole.long() - 1, span=whole.long())
    return decoder.logits(decoder(torch.from_numpy(ids).to(device), mask=mask, extra=extra).hidden)
