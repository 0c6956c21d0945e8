"""A decoder that reads on, for rows of different lengths, with its state and how much of it each row uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import PREFILL_CHUNK, Decoder
from seqmodal.errors import ConfigError
from seqmodal.generation.rows import Prompts, ids_of
from seqmodal.nn.mask import Mask
from seqmodal.sequence import Composed
from seqmodal.start import Start, added_to


class Reader:
    """Reads ids into a state. Lengths are counted here as well, so that no step waits for the device to tell them.

    A decoder with a window forgets what is out of reach. One whose state has a limit reads the last half of its context
    again whenever that is full; where a prompt is a composed document, or all fit the context, the state is as long as
    they will take.

    Args:
        decoder: in evaluation mode.
        prompts: of the rows, as `Rows` has them.
        most: new ids of each row, at most; needed where a prompt is a composed document.

    Attributes:
        used: positions that each row has in the state.
        forgot: whether a row was ever emptied, and so begins elsewhere than its prompt.

    Raises:
        ConfigError: for a composed prompt without `most`, or one that needs more positions than the decoder knows.
    """

    def __init__(self, decoder: Decoder, prompts: Prompts, most: Sequence[int | None]) -> None:
        composed = [prompt for prompt in prompts if isinstance(prompt, Composed)]
        self.spans = [prompt.span if isinstance(prompt, Composed) else np.zeros(0, np.int32) for prompt in prompts]
        longest, capacity = max(len(ids_of(prompt)) for prompt in prompts), None
        if all(new is not None for new in most):
            capacity = max(len(ids_of(prompt)) + (new or 0) for prompt, new in zip(prompts, most, strict=True))
        elif composed:
            raise ConfigError("going on from a document needs max_new_tokens: the state has to hold both")
        if not composed and capacity is not None and capacity > decoder.config.max_seq_len:
            capacity = None  # what does not fit the context is read in parts
        self.decoder = decoder
        self.starts = [prompt for prompt in prompts if isinstance(prompt, Start)]
        if len(self.starts) < len(prompts) or all(start.inputs is None for start in self.starts):
            self.starts = []  # nothing is added to embeddings
        self.ids: list[list[int]] = [[] for _ in self.starts]  # of each row, all that was read
        self.state = decoder.new_state(len(prompts), capacity, max(PREFILL_CHUNK, longest if composed else 0))
        self.used, self.limit = [0] * len(prompts), self.state.limit
        self.forgot = False
        self.device = self.state.lengths.device

    def recent(self, ids: list[int]) -> list[int]:
        """As much of the end as the state takes, with room to go on; all of it where there is no limit."""
        return ids if self.limit is None or len(ids) < self.limit else ids[-max(1, self.limit // 2) :]

    def read(self, runs: Sequence[list[int]]) -> Tensor:
        """Read on with a run of ids for each row, which may be empty: hidden states (L, T, D), padded on the right."""
        longest, mask = max(map(len, runs)), None
        if any(span.any() for span in self.spans):  # the first call, which reads all prompts
            laid = np.zeros((len(runs), longest), np.int64)
            for row, span in enumerate(self.spans):
                laid[row, : len(span)] = span
            mask = Mask(span=torch.from_numpy(laid).to(self.device))
        self.spans = []
        if longest == min(map(len, runs)):
            ids, positions = torch.tensor(runs, device=self.device), None
        else:
            padded, at = np.zeros((len(runs), longest), np.int64), np.full((len(runs), longest), -1)
            for row, (run, used) in enumerate(zip(runs, self.used, strict=True)):
                padded[row, : len(run)] = run
                at[row, : len(run)] = np.arange(used, used + len(run))
            ids, positions = torch.from_numpy(padded).to(self.device), torch.from_numpy(at).to(self.device)
        extra = self._added(runs)
        self.used = [used + len(run) for used, run in zip(self.used, runs, strict=True)]
        return self.decoder(ids, positions, mask=mask, extra=extra, state=self.state).hidden

    def last(self, runs: Sequence[list[int]]) -> Tensor:
        """The same; the hidden state (L, D) after the last id of each run."""
        hidden = self.read(runs)
        if len(runs) == 1:
            return hidden[:, -1]
        ends = torch.tensor([len(run) - 1 for run in runs], device=self.device)
        return hidden[torch.arange(len(runs), device=self.device), ends]

    def next(self, ids: Tensor, histories: Sequence[list[int]]) -> Tensor:
        """The hidden state (L, D) after one more id (L,) for each row, the last of its history."""
        if self.limit is not None and max(self.used) >= self.limit:
            full = self.forget_full()
            return self.last([self.recent(ids) if at in full else ids[-1:] for at, ids in enumerate(histories)])
        extra = self._added([history[-1:] for history in histories]) if self.starts else None
        self.used = [used + 1 for used in self.used]
        return self.decoder(ids.unsqueeze(1), extra=extra, state=self.state).hidden[:, -1]

    def logits(self, hidden: Tensor) -> Tensor:
        """(L, D) to (L, V)."""
        return self.decoder.logits(hidden)

    def _added(self, runs: Sequence[list[int]]) -> Tensor | None:
        """What is added to the embeddings of what is read next."""
        if not self.starts:
            return None
        self.ids = [ids[:used] + run for ids, used, run in zip(self.ids, self.used, runs, strict=True)]
        return added_to(self.starts, self.ids, [len(run) for run in runs])

    def forget_full(self, room: int = 1) -> set[int]:
        """Empty the rows that cannot take `room` more ids; returns which."""
        full = {at for at, used in enumerate(self.used) if self.limit is not None and used + room > self.limit}
        self.truncate([0 if at in full else used for at, used in enumerate(self.used)])
        self.forgot = self.forgot or bool(full)
        return full

    def truncate(self, used: list[int]) -> None:
        """Go back to so many positions in each row. Where the state is a ring, at most `chunk` back."""
        if used != self.used:
            self.used = used
            self.state.truncate(torch.tensor(used, device=self.device))

    def reorder(self, rows: list[int], alike: int = 0) -> None:
        """Row i becomes what row `rows[i]` was; `alike` as in `KVCache.reorder`, as long as no row forgot its start."""
        if rows != list(range(len(self.used))):
            self.used = [self.used[row] for row in rows]
            if self.starts:
                self.starts, self.ids = [self.starts[row] for row in rows], [self.ids[row] for row in rows]
            self.state.reorder(torch.tensor(rows, device=self.device), 0 if self.forgot else alike)
