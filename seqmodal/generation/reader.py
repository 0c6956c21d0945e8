"""A decoder that reads on, for rows of different lengths, with its state and how much of it each row uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from seqmodal.decoder import Decoder


class Reader:
    """Reads ids into a state. Lengths are counted here as well, so that no step waits for the device to tell them.

    A decoder with a window forgets what is out of reach. One whose state has a limit reads the last half of its context
    again whenever that is full.

    Attributes:
        used: positions that each row has in the state.
    """

    def __init__(self, decoder: Decoder, rows: int) -> None:
        self.decoder, self.state = decoder, decoder.new_state(rows)
        self.used, self.limit = [0] * rows, self.state.limit
        self.device = self.state.lengths.device

    def recent(self, ids: list[int]) -> list[int]:
        """As much of the end as the state takes, with room to go on; all of it where there is no limit."""
        return ids if self.limit is None or len(ids) < self.limit else ids[-max(1, self.limit // 2) :]

    def read(self, runs: Sequence[list[int]]) -> Tensor:
        """Read on with a run of ids for each row, which may be empty: hidden states (L, T, D), padded on the right."""
        longest = max(map(len, runs))
        if longest == min(map(len, runs)):
            ids, positions = torch.tensor(runs, device=self.device), None
        else:
            padded, at = np.zeros((len(runs), longest), np.int64), np.full((len(runs), longest), -1)
            for row, (run, used) in enumerate(zip(runs, self.used, strict=True)):
                padded[row, : len(run)] = run
                at[row, : len(run)] = np.arange(used, used + len(run))
            ids, positions = torch.from_numpy(padded).to(self.device), torch.from_numpy(at).to(self.device)
        self.used = [used + len(run) for used, run in zip(self.used, runs, strict=True)]
        return self.decoder(ids, positions, state=self.state).hidden

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
        self.used = [used + 1 for used in self.used]
        return self.decoder(ids.unsqueeze(1), state=self.state).hidden[:, -1]

    def forget_full(self, room: int = 1) -> set[int]:
        """Empty the rows that cannot take `room` more ids; returns which."""
        full = {at for at, used in enumerate(self.used) if self.limit is not None and used + room > self.limit}
        self.truncate([0 if at in full else used for at, used in enumerate(self.used)])
        return full

    def truncate(self, used: list[int]) -> None:
        """Go back to so many positions in each row. Where the state is a ring, at most `chunk` back."""
        if used != self.used:
            self.used = used
            self.state.truncate(torch.tensor(used, device=self.device))

    def reorder(self, rows: list[int]) -> None:
        """Row i becomes what row `rows[i]` was."""
        if rows != list(range(len(self.used))):
            self.used = [self.used[row] for row in rows]
            self.state.reorder(torch.tensor(rows, device=self.device))
