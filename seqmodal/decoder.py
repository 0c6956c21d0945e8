"""The model: embed, a stack of blocks, norm, head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqmodal.config import Alibi, Bucketed, DecoderConfig, Learned, Relative, TransformerXL
from seqmodal.errors import ConfigError
from seqmodal.nn.attention import Layout, block_masks
from seqmodal.nn.dropout import dropout
from seqmodal.nn.linear import Linear, linear
from seqmodal.nn.mask import Mask, attend_to_self_if_blind, document_starts, visible
from seqmodal.nn.norm import make_norm
from seqmodal.nn.position import embedding_position, rotary_angles, shared_scores
from seqmodal.nn.stack import UniversalStack, make_stack
from seqmodal.nn.state import KVCache, MemoryCall, SegmentMemory
from seqmodal.nn.tally import Tally

PREFILL_CHUNK = 128
"""Positions that a windowed cache takes at once; longer calls are cut into such chunks."""


@dataclass(frozen=True)
class DecoderOutput:
    """What a call gives.

    Attributes:
        hidden: (B, T, D), normalised, ready for `Decoder.logits`.
        state: the state after this call, None without one.
        aux_loss: a scalar that training adds to its loss; None where the stack has none.
        steps: (B, T), how often the block was applied at each position; None where that is fixed.
    """

    hidden: Tensor
    state: KVCache | SegmentMemory | None = None
    aux_loss: Tensor | None = None
    steps: Tensor | None = None


class Decoder(nn.Module):
    """A decoder-only transformer over ids. It sees ids, positions, a mask and state, and nothing of modalities.

    The default is the modern stack: RMSNorm without gain, rotary positions, normalised queries and keys, no biases,
    zero-initialised projections and head, value embeddings in the first and the last layer, and the tokens just before
    mixed into each embedding, channel by channel. `tally.effects` is the caller's to fill.
    """

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        for name in ("vocab_size", "d_model", "num_layers", "num_heads", "max_seq_len"):
            if getattr(config, name) < 1:
                raise ConfigError(f"a decoder needs {name}; it is {getattr(config, name)}")
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.d_model)
        self.shift_scales = nn.Parameter(torch.zeros(config.token_shift, config.d_model))
        self.tally = Tally(config.vocab_size, config.tally, config.d_model) if config.tally else None
        self.position = embedding_position(config)
        self.embedding_norm = make_norm(config) if config.embedding_norm else None
        self.shared_scores = shared_scores(config)
        self.stack = make_stack(config)
        self.final_norm = make_norm(config) if config.norm_place == "pre" else None
        self.head = None if config.tied_head else Linear(config.d_model, config.vocab_size, bias=False)
        self.value_layers = sorted({0, config.num_layers - 1}) if config.value_embeddings else []
        kv = config.kv_heads * config.head_dim
        self.value_embeddings = nn.ModuleList(nn.Embedding(config.vocab_size, kv) for _ in self.value_layers)
        self.value_scales = nn.Parameter(torch.full((len(self.value_layers),), 0.5))
        self._initialise()

    def _initialise(self) -> None:
        """All weights get their start here.

        With zero_init: normal embeddings, matrices uniform to variance 1 / fan-in, and zeros for what writes to the
        residual stream and for the head, so that the untrained model predicts uniformly. Without: normal with deviation
        0.02, less for what writes to the residual stream (GPT-2). An embedding that is also the head has 0.02 always.
        """
        config = self.config
        for name, weight in self.named_parameters():
            writes = name.endswith(("out_proj.weight", "down.weight"))
            added = name.endswith(("_bias", "scores.keys", "scores.values", "shared_scores.weight"))  # to the scores
            if weight.ndim < 2 or name in ("shift_scales", "tally.weight", "stack.time_embedding"):
                continue  # biases at zero, gains at one, scales as they were made
            if added or (config.zero_init and (writes or name == "head.weight")):
                nn.init.zeros_(weight)
            elif not config.zero_init or name == "position.weight" or (config.tied_head and name == "embedding.weight"):
                nn.init.normal_(weight, std=0.02 / (2 * config.num_layers) ** 0.5 if writes else 0.02)
            elif name.startswith(("embedding.", "value_embeddings.")):
                nn.init.normal_(weight, std=1.0)
            else:
                bound = (3 / weight.shape[1]) ** 0.5
                nn.init.uniform_(weight, -bound, bound)
        for name, weight in self.named_parameters():
            if name.endswith(".bias"):
                nn.init.zeros_(weight)
        if isinstance(self.stack, UniversalStack) and self.stack.halt is not None:
            nn.init.ones_(self.stack.halt.bias)  # halt soon at first (Dehghani et al. 2019)

    def forward(
        self,
        ids: Tensor,
        positions: Tensor | None = None,
        *,
        mask: Mask | None = None,
        extra: Tensor | None = None,
        state: KVCache | SegmentMemory | None = None,
    ) -> DecoderOutput:
        """Read ids.

        Args:
            ids: (B, T) int64.
            positions: (B, T) int64; None: 0, 1, … in each document or, with a cache, on from each row's length. With a
                cache, -1 marks padding, which is neither seen nor kept.
            mask: documents and spans seen both ways; plain causality when None. With a cache only spans that begin and
                end in this call, which the cache must take in one piece: see `new_state`.
            extra: (B, T, D), added to the embeddings.
            state: a cache from `new_state`, which is written in place and belongs to the output, or a memory from
                `new_memory`, which is left as it is.

        Raises:
            ConfigError: for more positions than there are learned ones or a state holds, a mask of another shape than
                the ids, and masks, positions and states that mean nothing together.
        """
        if mask is not None and mask.shape not in (None, tuple(ids.shape)):
            raise ConfigError(f"the mask has the shape {mask.shape} and the ids {tuple(ids.shape)}; they must be one")
        if isinstance(state, SegmentMemory):
            if positions is not None:
                raise ConfigError("positions and a memory do not go together: the text goes on from the memory")
            return self._read(ids, self._remembering(ids, mask, state), extra)
        if state is None:
            return self._read(ids, self._whole(ids, positions, mask), extra)
        span = None
        if mask is not None:
            span = self._spans(ids, mask, state)
        if state.limit is not None:
            end = state.end(ids.shape[1], positions)
            if end > state.limit:
                raise ConfigError(f"position {end - 1} does not fit a state of {state.limit} positions")
        parts = []
        for at in range(0, ids.shape[1], state.chunk):
            cut = slice(at, at + state.chunk)
            layout = self._cached(ids[:, cut], None if positions is None else positions[:, cut], state, span)
            parts.append(self._read(ids[:, cut], layout, extra[:, cut] if extra is not None else None))
        if len(parts) == 1:
            return parts[0]
        steps = None if parts[0].steps is None else torch.cat([p.steps for p in parts if p.steps is not None], dim=1)
        return DecoderOutput(torch.cat([part.hidden for part in parts], dim=1), state, steps=steps)

    def compile(self, *args: Any, **options: Any) -> None:
        """Compile the stack of blocks in place, with the options of `torch.compile`; names of weights stay as they are.

        The rest of a call is bookkeeping. It takes up to minutes, at the first call of each kind: for long jobs.
        """
        self.stack.compile(*args, **options)

    def logits(self, hidden: Tensor, rows: slice | None = None) -> Tensor:
        """(…, D) to (…, V) float32, over all rows of the vocabulary, or over some that lie side by side."""
        weight = self.embedding.weight if self.head is None else self.head.weight
        logits = linear(hidden, (weight if rows is None else weight[rows], None)).float()
        cap = self.config.logit_softcap
        return cap * torch.tanh(logits / cap) if cap else logits

    def new_state(self, batch: int, capacity: int | None = None, chunk: int = PREFILL_CHUNK) -> KVCache:
        """An empty cache.

        Args:
            batch: rows.
            capacity: positions it must hold at most; None: what unlimited streaming needs where attention has a window
                or a memory, else the training context.
            chunk: positions that it must take in one piece, as spans seen both ways need it.

        Raises:
            ConfigError: for more positions than there are learned or sinusoidal ones, or none.
        """
        if capacity is not None and capacity < 1:
            raise ConfigError(f"capacity is {capacity}; it must be at least 1, or None")
        config, weight = self.config, self.embedding.weight
        limit, reach = None, self._reach
        if config.position.absolute and capacity is not None and capacity > config.max_seq_len:
            raise ConfigError(
                f"capacity {capacity} is more than max_seq_len {config.max_seq_len}, and position "
                f"{config.position.kind} knows no others"
            )
        if reach and not config.position.absolute and (capacity is None or capacity > reach + chunk):
            size = reach + chunk - 1
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
            counters=config.tally or 0,
            dtype=weight.dtype,
            device=weight.device,
        )

    def memory_for(self, rows: int, before: SegmentMemory | None) -> SegmentMemory | None:
        """The memory for a batch of `rows` after one that left `before`: with fewer rows than it the first ones go on,
        with more all begin. None for a decoder without memory."""
        if not self.config.memory:
            return None
        if before is None or len(before.ids) < rows:
            return self.new_memory(rows)
        return before.map(lambda tensor: tensor[:rows])

    def new_memory(self, batch: int) -> SegmentMemory:
        """An empty memory of `config.memory` positions.

        Raises:
            ConfigError: for a decoder without memory.
        """
        config, weight = self.config, self.embedding.weight
        if not config.memory:
            raise ConfigError("this decoder has no memory: config.memory is 0")
        return SegmentMemory.empty(
            config.num_layers, batch, config.memory, config.d_model, config.tally or 0, weight.dtype, weight.device
        )

    @property
    def _reach(self) -> int:
        """How far back a position sees while ids come one by one; 0: over everything. A decoder with memory has seen
        what it remembers and its own segment."""
        config = self.config
        return config.memory + config.max_seq_len if config.memory else config.window

    def _whole(self, ids: Tensor, positions: Tensor | None, mask: Mask | None) -> Layout:
        """Layout of a call that sees all of its sequence at once."""
        if positions is None and isinstance(self.config.position, Learned) and ids.shape[1] > self.config.max_seq_len:
            raise ConfigError(
                f"{ids.shape[1]} positions, and this decoder has learned {self.config.max_seq_len} (max_seq_len)"
            )
        index = torch.arange(ids.shape[1], device=ids.device)
        mask, window, seen = mask.simplified() if mask is not None else None, self.config.window, None
        document, tally = None if mask is None else mask.document, None
        at = index if positions is None else positions
        if positions is None and document is not None and self.config.position.absolute:
            at = index - document_starts(document)  # each document begins at 0; the other kinds count distances
        scored = isinstance(self.config.position, Alibi | Bucketed | Relative | TransformerXL)
        causal = mask is None or mask.is_causal
        in_blocks = bool(window) and ids.shape[1] > window and causal and not scored
        if in_blocks:
            seen = block_masks(ids.shape[1], window, mask, ids.device)
        elif mask is not None or (scored and positions is not None):
            seen = attend_to_self_if_blind(visible(index, index, window=window, queries=mask, keys=mask))
        angles = rotary_angles(self.config, at, self.embedding.weight.dtype)
        if self.tally is not None:
            if mask is not None and mask.order is not None:
                raise ConfigError("a tally and an order of one's own do not go together: counters go by the layout")
            tally = self.tally.counts(ids, document=document)
        return Layout(
            at, at, window, seen, in_blocks, causal, angles, shared_scores=self.shared_scores,
            before=self._shifted(ids, document, mask), tally=tally,
        )  # fmt: skip

    def _remembering(self, ids: Tensor, mask: Mask | None, memory: SegmentMemory) -> Layout:
        """Layout of a call whose text goes on from a memory."""
        if mask is not None and not mask.is_causal:
            raise ConfigError("spans seen both ways and a memory do not go together")
        document = torch.zeros_like(ids) if mask is None or mask.document is None else mask.document
        tally = None
        if self.tally is not None:
            goes_on = (memory.document[:, -1] == document[:, 0]).unsqueeze(-1)
            tally = self.tally.counts(ids, document=document, carry=memory.tally * goes_on)
        call = MemoryCall(
            memory, torch.cat((memory.ids, ids), 1), torch.cat((memory.document, document), 1),
            memory.tally if tally is None else tally[:, -1],
        )  # fmt: skip
        key = torch.arange(call.ids.shape[1], device=ids.device)
        query = key[-ids.shape[1] :]
        seen = visible(query, key, window=0, queries=Mask(document), keys=Mask(call.document))
        dtype = self.embedding.weight.dtype
        before = tuple(past[:, -ids.shape[1] :] for past in self._shifted(call.ids, call.document))
        return Layout(
            query, key, 0, attend_to_self_if_blind(seen), angles=rotary_angles(self.config, query, dtype),
            key_angles=rotary_angles(self.config, key, dtype), shared_scores=self.shared_scores, before=before,
            tally=tally, memory=call,
        )  # fmt: skip

    def _spans(self, ids: Tensor, mask: Mask, state: KVCache) -> Tensor | None:
        """The spans (B, T) of a call that goes on from a cache; None where there are none.

        Raises:
            ConfigError: for a mask of anything else, or spans that this decoder or the cache cannot take.
        """
        if mask.document is not None or mask.order is not None:
            raise ConfigError("of a mask a cache takes spans seen both ways alone; read documents or orders without it")
        if mask.span is None or not bool((mask.span != 0).any()):
            return None
        if self.config.memory:
            raise ConfigError("spans seen both ways and a memory do not go together")
        if ids.shape[1] > state.chunk:
            raise ConfigError(
                f"{ids.shape[1]} positions with spans seen both ways come at once, and this state takes {state.chunk} "
                f"in one piece; make it with new_state(…, chunk={ids.shape[1]})"
            )
        return mask.span

    def _cached(self, ids: Tensor, positions: Tensor | None, state: KVCache, span: Tensor | None) -> Layout:
        """Layout of a call that goes on from a cache; `span` (B, T) are those of its own positions."""
        call, length = state.advance(ids, positions), ids.shape[1]
        held, seen, window = state.positions[:, call.held], None, self._reach
        spans: dict[str, Mask] = {}
        if span is not None:
            spans = {"queries": Mask(span=span), "keys": Mask(span=call.among_keys(span))}
        if call.even:
            query, key = held[0, -length:], held[0]
            if span is not None or (window and len(key) > window) or 1 < length < len(key):
                seen = visible(query, key, window=window, **spans)
        else:
            query, key = (state.lengths.unsqueeze(1) - length + torch.arange(length, device=ids.device), held)
            query = query if positions is None else positions
            seen = attend_to_self_if_blind(visible(query, key, window=window, **spans))
        angles = rotary_angles(self.config, query, self.embedding.weight.dtype)
        rows = query.expand(len(ids), -1)
        before = tuple(state.before(rows, back) for back in range(1, self.config.token_shift + 1))
        tally = None
        if self.tally is not None:
            present = None if positions is None else positions >= 0
            tally = self.tally.counts(ids, carry=call.tally, present=present)
            call.keep_tally(tally)
        return Layout(
            query, key, window, seen, False, span is None, angles, shared_scores=self.shared_scores, before=before,
            tally=tally, cache=call,
        )  # fmt: skip

    def _shifted(self, ids: Tensor, document: Tensor | None, mask: Mask | None = None) -> tuple[Tensor, ...]:
        """The ids one, two, … before each, -1 where the document has none or the mask's order hides it."""
        shifts = range(1, self.config.token_shift + 1)
        before = [F.pad(ids, (back, 0), value=-1)[:, : ids.shape[1]] for back in shifts]
        if document is not None:
            other = [F.pad(document, (back, 0), value=-1)[:, : ids.shape[1]] != document for back in shifts]
            before = [past.masked_fill(hidden, -1) for past, hidden in zip(before, other, strict=True)]
        if mask is not None and mask.order is not None and mask.reveal is not None:
            shown = [F.pad(mask.reveal, (back, 0))[:, : ids.shape[1]] <= mask.order for back in shifts]
            before = [torch.where(seen, past, -1) for past, seen in zip(before, shown, strict=True)]
        return tuple(before)

    def _read(self, ids: Tensor, layout: Layout, extra: Tensor | None) -> DecoderOutput:
        x = self.embedding(ids) if extra is None else self.embedding(ids) + extra
        for scale, past in zip(self.shift_scales, layout.before, strict=True):
            x = x + scale * (self.embedding(past.clamp(min=0)) * (past >= 0).unsqueeze(-1))
        if self.tally is not None and layout.tally is not None:
            x = x + self.tally(layout.tally)
        if self.position is not None:
            x = self.position(x, layout.query)
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        x = dropout(x, self.config.dropout, self.training)
        context = ids if layout.memory is None else layout.memory.ids
        values = {
            layer: scale * table(context)
            for layer, table, scale in zip(self.value_layers, self.value_embeddings, self.value_scales, strict=True)
        }
        x, aux_loss, steps = self.stack(x, layout, values)
        x = x if self.final_norm is None else self.final_norm(x)
        state = layout.cache.cache if layout.cache is not None else None
        return DecoderOutput(x, state if layout.memory is None else layout.memory.after(), aux_loss, steps)
