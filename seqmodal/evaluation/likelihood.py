"""How well a decoder predicts ids: over whole documents, and beyond its context."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from seqmodal.config import Causal, DecoderConfig, Objective
from seqmodal.data.loader import Batch, windows
from seqmodal.data.store import Store
from seqmodal.data.stream import segments
from seqmodal.decoder import Decoder
from seqmodal.errors import ConfigError
from seqmodal.inputs import Inputs, added
from seqmodal.nn.mask import Mask
from seqmodal.nn.state import SegmentMemory
from seqmodal.outputs import Outputs

ALL_COMPETE = Outputs.all()
LOGITS_AT_ONCE = 1 << 22
"""Numbers of logits held at a time."""


@dataclass(frozen=True)
class Likelihood:
    """Totals, from which any unit follows: nats / count per event, nats / notes, nats / ln 2 / seconds.

    Attributes:
        nats: sum of the negative log-likelihoods of the targets that count.
        count: how many there are.
        correct: how many were the likeliest id.
        parts: the same of the content and the end of each modality, by name, where there are several.
    """

    nats: float
    count: int
    correct: int
    parts: Mapping[str, Likelihood] = field(default_factory=dict)


def likelihood(
    decoder: Any, data: Store | Iterable[Batch], context: int | None = None, *, batch_size: int = 8,
    progress: Callable[[int, int], None] | None = None, inputs: Inputs | None = None, outputs: Outputs | None = None,
) -> Likelihood:  # fmt: skip
    """Likelihood of all targets whose weight is above 0: content and the ends of blocks.

    A store is read from left to right, which says something of a decoder that was trained to; one with a memory carries
    it through each document. Of another objective, give the batches: `windows(store, context, objective=…)`. Batches
    are read each for itself, without a memory.

    Args:
        decoder: a `Decoder`, or anything that is called and gives logits like one.
        data: a store, read whole in segments that do not overlap, each document alone; or batches.
        context: length of a segment; needed with a store.
        batch_size: segments at once.
        progress: called with the targets done and those of the store in all.
        inputs: of the model, where it has some.
        outputs: which ids compete, as in training; None: all.

    Raises:
        ConfigError: for a store without a context.
    """
    total, remembers = 0, False
    if isinstance(data, Store):
        if context is None:
            raise ConfigError("likelihood of a store needs the context: how long a segment is")
        total, remembers = int((data.lengths - 1).sum()), _memory_of(decoder) > 0
        data = segments(data, context, batch_size) if remembers else windows(data, context, batch_size)
    outputs, done = outputs or Outputs.all(), 0
    sums = np.zeros((3, 1 + len(outputs.names)))  # nats, count and correct, of all and of each modality
    memory: SegmentMemory | None = None
    with _evaluating(decoder, inputs):
        for batch in data:
            counted = torch.from_numpy(batch.weight > 0)
            ids, targets = torch.from_numpy(batch.ids), torch.from_numpy(batch.targets)[counted]
            done += int((batch.document >= 0).sum())
            device = _device(decoder)
            if remembers:
                memory = decoder.memory_for(len(ids), memory)
                output = decoder(ids.to(device), mask=Mask(torch.from_numpy(batch.document).to(device)), state=memory)
                memory = output.state if isinstance(output.state, SegmentMemory) else None
            else:
                output = decoder(ids.to(device), **_seen(batch, device), **_extra(inputs, batch, device))
            targets = targets.to(device)
            nll, best = _score(decoder, output.hidden[counted.to(device)], targets, outputs)
            for row, values in zip(sums, (nll.double(), torch.ones_like(nll), best.double()), strict=True):
                row += [float(values.sum()), *outputs.sums(targets, values).tolist()]
            if progress is not None:
                progress(done, total or done)
    whole, *parts = (Likelihood(nats, int(count), int(correct)) for nats, count, correct in sums.T.tolist())
    return replace(whole, parts=dict(zip(outputs.names, parts, strict=True)) if len(parts) > 1 else {})


def likelihood_of(model: Any, store: Store, objective: Objective | None = None, batch_size: int = 8) -> Likelihood:
    """Likelihood of the documents of a store as a model learned: with what it adds to embeddings, among the ids that
    competed in training.

    Args:
        model: a `Model`.
        store: what it is judged on, in its vocabulary.
        objective: what is to be predicted, as the model learned it; None: all ids, from left to right.
        batch_size: segments at once.
    """
    context: int = model.decoder.config.max_seq_len
    data = store if objective is None else windows(store, context, batch_size, objective=objective)
    outputs = Outputs(model.vocabulary, objective or Causal())
    return likelihood(model.decoder, data, context, batch_size=batch_size, inputs=model.inputs, outputs=outputs)


def objective_metrics(model: Any, store: Store, objective: Objective) -> dict[str, float]:
    """How well a model predicts what an objective asks for that does not go from left to right."""
    found = likelihood_of(model, store, objective)
    count = max(1, found.count)
    return {"nats_per_target": found.nats / count, "target_accuracy": found.correct / count}


def streaming_likelihood(decoder: Decoder, ids: np.ndarray, chunk: int = 2048) -> np.ndarray:
    """Nats of ids[1:], float64 (n - 1,), each given what the decoder would hold of the text before it while generating.

    That is the reach of a window, or of a memory and a segment. A decoder with neither reads the last half of its
    context again whenever that is full.

    Args:
        decoder: any; the length of the text is not limited.
        ids: (n,) of the vocabulary.
        chunk: positions at once, where there is a window or a memory.
    """
    with _evaluating(decoder):
        tokens = torch.from_numpy(np.asarray(ids, np.int64)).to(_device(decoder))
        state = decoder.new_state(1)
        if state.limit is not None:
            return _reread(decoder, tokens, state.limit, state.limit - max(1, state.limit // 2) + 1)
        found = []
        for at in range(0, len(tokens) - 1, chunk):
            targets = tokens[at + 1 : at + chunk + 1]
            hidden = decoder(tokens[None, at : at + len(targets)], state=state).hidden[0]
            found.append(_score(decoder, hidden, targets)[0].double().cpu().numpy())
    return np.concatenate([np.zeros(0), *found])


def reread_likelihood(decoder: Decoder, ids: np.ndarray, context: int) -> np.ndarray:
    """The same by reading half a context again and again, without a memory: what streaming is compared with.

    The first window of `context` counts whole; of each later one, half a window on, only the second half.

    Raises:
        ConfigError: for a context without halves, or of more positions than there are learned or sinusoidal ones.
    """
    config = getattr(decoder, "config", None)
    if context < 2:
        raise ConfigError(f"a context of {context} has no second half")
    if isinstance(config, DecoderConfig) and config.position.absolute and context > config.max_seq_len:
        raise ConfigError(
            f"a context of {context} is more than max_seq_len {config.max_seq_len}, and position "
            f"{config.position.kind} knows no others"
        )
    with _evaluating(decoder):
        tokens = torch.from_numpy(np.asarray(ids, np.int64)).to(_device(decoder))
        return _reread(decoder, tokens, context, context // 2)


def _reread(decoder: Decoder, tokens: Tensor, context: int, step: int) -> np.ndarray:
    """Nats of tokens[1:] by windows of `context`, each `step` after the one before; every target counts in the first
    window that has it."""
    found, start, fresh = [np.zeros(0)], 0, 0  # targets before `fresh` are counted already
    while fresh < len(tokens) - 1:
        targets = tokens[start + 1 : start + context + 1]
        hidden = decoder(tokens[None, start : start + len(targets)]).hidden[0]
        new = fresh - start
        found.append(_score(decoder, hidden[new:], targets[new:])[0].double().cpu().numpy())
        fresh = start + len(targets)
        start += step
    return np.concatenate(found)


def _memory_of(decoder: Any) -> int:
    """Positions of a decoder's memory; 0 for what is no `Decoder`."""
    config = getattr(decoder, "config", None)
    return config.memory if isinstance(config, DecoderConfig) else 0


def _seen(batch: Batch, device: torch.device) -> dict[str, Any]:
    """Mask and positions of a batch, where it says more than that its rows are causal."""
    names = ("document", "span", "order", "reveal")
    parts = [getattr(batch, name) for name in names]
    if not (batch.document > 0).any() and all(part is None for part in parts[1:]):
        return {}
    given: dict[str, Any] = {"mask": Mask(*(None if p is None else torch.from_numpy(p).to(device) for p in parts))}
    if batch.positions is not None:
        given["positions"] = torch.from_numpy(batch.positions).to(device)
    return given


def _extra(inputs: Inputs | None, batch: Batch, device: torch.device) -> dict[str, Tensor]:
    """What is added to the embeddings of a batch."""
    names = ("ids", "block", "features", "coordinates")
    held = {name: getattr(batch, name) for name in names}
    given = {name: torch.from_numpy(array).to(device) for name, array in held.items() if array is not None}
    extra = added(inputs, given)
    return {} if extra is None else {"extra": extra}


def _score(
    decoder: Any, hidden: Tensor, targets: Tensor, outputs: Outputs = ALL_COMPETE
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(n, D) and (n,) to negative log-likelihoods (n,) and whether the target was the likeliest (n,)."""
    nll, best, at = [hidden.new_zeros(0, dtype=torch.float32)], [targets.new_zeros(0, dtype=torch.bool)], 0
    rows = 64
    while at < len(targets):
        found, hit = outputs.nats_and_hits(decoder, hidden[at : at + rows], targets[at : at + rows])
        nll.append(found)
        best.append(hit)
        at += rows
        if rows == 64:  # enough to know how many logits there are
            rows = max(1, LOGITS_AT_ONCE // decoder.logits(hidden[:1]).shape[-1])
    return torch.cat(nll), torch.cat(best)


def _device(decoder: Any) -> torch.device:
    return next(decoder.parameters()).device if isinstance(decoder, nn.Module) else torch.device("cpu")


@contextmanager
def _evaluating(decoder: Any, inputs: Inputs | None = None) -> Iterator[None]:
    """Without gradients and dropout, on the decoder's device; the decoder goes back to training if it was."""
    training = getattr(decoder, "training", False)
    decoder.eval()
    if inputs is not None:
        inputs.to(_device(decoder))
    try:
        with torch.inference_mode():
            yield
    finally:
        if training:
            decoder.train()
