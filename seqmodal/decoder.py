"""The model: embed, a stack of blocks, norm, head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import DecoderConfig
from seqmodal.errors import ConfigError
from seqmodal.nn.attention import Layout, block_masks
from seqmodal.nn.block import Block
from seqmodal.nn.mask import Mask, attend_to_self_if_blind, visible
from seqmodal.nn.norm import rms_norm
from seqmodal.nn.position import Rotary
from seqmodal.nn.state import KVCache

PREFILL_CHUNK = 128
"""Positions that a windowed cache takes at once; longer calls are cut into such chunks."""


@dataclass(frozen=True)
class DecoderOutput:
    """What a call gives.

    Attributes:
        hidden: (B, T, D), normalised, ready for `Decoder.logits`.
        state: the cache after this call, None without one.
        aux_loss: a scalar that training adds to its loss; None where the stack has none.
    """

    hidden: Tensor
    state: KVCache | None = None
    aux_loss: Tensor | None = None


class Decoder(nn.Module):
    """A decoder-only transformer over ids. It sees ids, positions, a mask and state, and nothing of modalities.

    The default is the modern stack: RMSNorm without gain, rotary positions, normalised queries and keys, squared ReLU,
    no biases, zero-initialised projections and head, value embeddings in the first and the last layer, and the tokens
    just before mixed into each embedding, channel by channel.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        for name in ("vocab_size", "d_model", "num_layers", "num_heads", "max_seq_len"):
            if getattr(config, name) < 1:
                raise ConfigError(f"a decoder needs {name}; it is {getattr(config, name)}")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.shift_scales = nn.Parameter(torch.zeros(config.token_shift, config.d_model))
        self.rotary = Rotary(config.head_dim, config.rotary_base)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.value_layers = sorted({0, config.num_layers - 1}) if config.value_embeddings else []
        kv = config.kv_heads * config.head_dim
        self.value_embeddings = nn.ModuleList(nn.Embedding(config.vocab_size, kv) for _ in self.value_layers)
        self.value_scales = nn.Parameter(torch.full((len(self.value_layers),), 0.5))
        self._initialise()

    def _initialise(self) -> None:
        """All weights get their start here: normal embeddings, matrices uniform to variance 1 / fan-in, and zeros for
        what writes to the residual stream and for the head, so that the untrained model predicts uniformly."""
        for module in self.modules():
            if isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=1.0)
            elif isinstance(module, nn.Linear):
                bound = (3 / module.in_features) ** 0.5
                nn.init.uniform_(module.weight, -bound, bound)
        for name, weight in self.named_parameters():
            if name.endswith(("out_proj.weight", "down.weight", "head.weight")):
                nn.init.zeros_(weight)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        *,
        mask: Mask | None = None,
        extra: Tensor | None = None,
        state: KVCache | None = None,
    ) -> DecoderOutput:
        """Read ids.

        Args:
            ids: (B, T) int64.
            positions: (B, T) int64; None: 0, 1, … or, with a state, on from each row's length. With a state, -1 marks
                padding, which is neither seen nor kept.
            mask: documents and spans seen both ways; plain causality when None. Not together with a state.
            extra: (B, T, D), added to the embeddings.
            state: a cache from `new_state` or an earlier call; it is written in place and belongs to the output.
        """
        if state is None:
            return DecoderOutput(self._read(ids, self._whole(ids, positions, mask), extra))
        if mask is not None:
            raise ConfigError("a mask of documents or spans and a state do not go together; read spans without a state")
        if positions is None:
            positions = state.lengths.unsqueeze(1) + torch.arange(ids.shape[1], device=ids.device)
        parts = []
        for at in range(0, ids.shape[1], state.chunk):
            cut = slice(at, at + state.chunk)
            layout = self._cached(ids[:, cut], positions[:, cut], state)
            parts.append(self._read(ids[:, cut], layout, extra[:, cut] if extra is not None else None))
        return DecoderOutput(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0], state)

    def logits(self, hidden: Tensor) -> Tensor:
        """(…, D) to (…, V) float32, over all rows of the vocabulary."""
        logits = self.head(hidden).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def new_state(self, batch: int, capacity: int | None = None) -> KVCache:
        """An empty cache.

        Args:
            batch: rows.
            capacity: positions it must hold at most; None: what unlimited streaming needs where attention has a
                window, else the training context.
        """
        config, weight = self.config, self.embedding.weight
        chunk, limit = PREFILL_CHUNK, None
        if config.window and (capacity is None or capacity > config.window + chunk):
            size = config.window + chunk - 1
        else:
            size = limit = capacity or config.max_seq_len
            chunk = size
        return KVCache(
            config.num_layers,
            batch,
            config.kv_heads,
            config.head_dim,
            capacity=size,
            chunk=chunk,
            limit=limit,
            dtype=weight.dtype,
            device=weight.device,
        )

    def _whole(self, ids: Tensor, positions: Tensor | None, mask: Mask | None) -> Layout:
        """Layout of a call that sees all of its sequence at once."""
        index = torch.arange(ids.shape[1], device=ids.device)
        angles = self.rotary.angles(index if positions is None else positions, self.embedding.weight.dtype)
        mask = mask.simplified() if mask is not None else None
        shifts = range(1, self.config.token_shift + 1)
        before = [F.pad(ids, (back, 0), value=-1)[:, : ids.shape[1]] for back in shifts]
        if mask is not None and mask.document is not None:
            other = [F.pad(mask.document, (back, 0), value=-1)[:, : ids.shape[1]] != mask.document for back in shifts]
            before = [past.masked_fill(hidden, -1) for past, hidden in zip(before, other, strict=True)]
        window = self.config.window
        if window and ids.shape[1] > window and (mask is None or mask.span is None):
            return Layout(angles, block_masks(ids.shape[1], window, mask, ids.device), tuple(before), in_blocks=True)
        if mask is None:
            return Layout(angles, None, tuple(before))
        seen = visible(index, index, window=window, queries=mask, keys=mask)
        return Layout(angles, attend_to_self_if_blind(seen), tuple(before))

    def _cached(self, ids: Tensor, positions: Tensor, state: KVCache) -> Layout:
        """Layout of a call that goes on from a cache."""
        if state.limit is not None and int(positions.max()) >= state.limit:
            raise ConfigError(f"position {int(positions.max())} does not fit a state of {state.limit} positions")
        index = state.advance(ids, positions)
        seen = attend_to_self_if_blind(visible(positions, state.positions, window=self.config.window))
        before = tuple(state.before(positions, back) for back in range(1, self.config.token_shift + 1))
        angles = self.rotary.angles(positions, self.embedding.weight.dtype)
        return Layout(angles, seen, before, cache=state, index=index)

    def _read(self, ids: Tensor, layout: Layout, extra: Tensor | None) -> Tensor:
        x = self.embedding(ids) if extra is None else self.embedding(ids) + extra
        for scale, past in zip(self.shift_scales, layout.before, strict=True):
            x = x + scale * (self.embedding(past.clamp(min=0)) * (past >= 0).unsqueeze(-1))
        x = rms_norm(x)
        values = {
            layer: scale * table(ids)
            for layer, table, scale in zip(self.value_layers, self.value_embeddings, self.value_scales, strict=True)
        }
        for layer, block in enumerate(self.blocks):
            x = block(x, layout, layer, values.get(layer))
        return rms_norm(x)
