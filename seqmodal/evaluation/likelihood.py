"""How well a decoder predicts ids: over whole documents, and beyond its context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.data.loader import Batch, windows
from seqmodal.data.store import Store
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.nn.mask import Mask

LOGITS_AT_ONCE = 1 << 22
"""Numbers of logits held at a time."""


@dataclass(frozen=True)
class Likelihood:
    """Totals, from which any unit follows: nats / count per event, nats / notes, nats / ln 2 / seconds.

    Attributes:
        nats: sum of the negative log-likelihoods of the targets that count.
        count: how many there are.
        correct: how many were the likeliest id.
    """

    nats: float
    count: int
    correct: int


def likelihood(
    decoder: Any, data: Store | Iterable[Batch], context: int | None = None, *, batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> Likelihood:
    """Likelihood of all targets whose weight is above 0: content and the ends of blocks.

    Args:
        decoder: a `Decoder`, or anything that is called and gives logits like one.
        data: a store, read whole in segments that do not overlap, each document alone; or batches.
        context: length of a segment; needed with a store.
        batch_size: segments at once.
        progress: called with the targets done and those of the store in all.
    """
    total = 0
    if isinstance(data, Store):
        if context is None:
            raise ConfigError("likelihood of a store needs the context: how long a segment is")
        total = int((data.lengths - 1).sum())
        data = windows(data, context, batch_size)
    nats, count, correct, done = 0.0, 0, 0, 0
    with _evaluating(decoder):
        for batch in data:
            counted = torch.from_numpy(batch.weight > 0)
            ids, targets = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)[counted]
            done += int((batch.document >= 0).sum())
            device = _device(decoder)
            packed = {"mask": Mask(torch.from_numpy(batch.document).to(device))} if (batch.document > 0).any() else {}
            hidden = decoder(ids.to(device), **packed).hidden[counted.to(device)]
            nll, best = _score(decoder, hidden, targets.to(device))
            nats += float(nll.double().sum())
            correct += int(best.sum())
            count += len(targets)
            if progress is not None:
                progress(done, total or done)
    return Likelihood(nats, count, correct)


def streaming_likelihood(decoder: Decoder, ids: np.ndarray, chunk: int = 2048) -> np.ndarray:
    """Nats of ids[1:], float64 (n - 1,), each given all before it that the decoder's window and cache hold.

    Args:
        decoder: with a window, so that its cache forgets what is out of reach; else n is bounded by its context.
        ids: (n,) of the vocabulary.
        chunk: positions at once.
    """
    tokens, found = torch.from_numpy(np.asarray(ids, np.int64)), []
    with _evaluating(decoder):
        tokens = tokens.to(_device(decoder))
        state = decoder.new_state(1)
        for at in range(0, len(tokens) - 1, chunk):
            targets = tokens[at + 1 : at + chunk + 1]
            hidden = decoder(tokens[None, at : at + len(targets)], state=state).hidden[0]
            found.append(_score(decoder, hidden, targets)[0].double().cpu().numpy())
    return np.concatenate([np.zeros(0), *found])


def reread_likelihood(decoder: Decoder, ids: np.ndarray, context: int) -> np.ndarray:
    """The same by reading half a context again and again: what `streaming_likelihood` is compared with.

    The first window of `context` counts whole; of each later one, half a window on, only the second half.
    """
    tokens, found = torch.from_numpy(np.asarray(ids, np.int64)), []
    half = context // 2
    if half < 1:
        raise ConfigError(f"a context of {context} has no second half")
    with _evaluating(decoder):
        tokens = tokens.to(_device(decoder))
        start, fresh = 0, 0  # targets before `fresh` are counted already
        while fresh < len(tokens) - 1:
            targets = tokens[start + 1 : start + context + 1]
            hidden = decoder(tokens[None, start : start + len(targets)]).hidden[0]
            new = fresh - start
            found.append(_score(decoder, hidden[new:], targets[new:])[0].double().cpu().numpy())
            fresh = start + len(targets)
            start += half
    return np.concatenate([np.zeros(0), *found])


def _score(decoder: Any, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """(n, D) and (n,) to negative log-likelihoods (n,) and whether the target was the likeliest (n,)."""
    nll, best, at = [hidden.new_zeros(0, dtype=torch.float32)], [targets.new_zeros(0, dtype=torch.bool)], 0
    rows = 64
    while at < len(targets):
        logits = decoder.logits(hidden[at : at + rows])
        part = targets[at : at + rows]
        nll.append(F.cross_entropy(logits, part, reduction="none"))
        best.append(logits.argmax(dim=-1) == part)
        at += rows
        rows = max(1, LOGITS_AT_ONCE // logits.shape[-1])  # known once there are logits
    return torch.cat(nll), torch.cat(best)


def _device(decoder: Any) -> torch.device:
    return next(decoder.parameters()).device if isinstance(decoder, nn.Module) else torch.device("cpu")


@contextmanager
def _evaluating(decoder: Any) -> Iterator[None]:
    """Without gradients and dropout; the decoder goes back to training if it was."""
    training = getattr(decoder, "training", False)
    decoder.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            decoder.train()
