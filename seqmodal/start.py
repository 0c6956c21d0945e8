"""The start of a document that goes on: what rows of generation begin with where more than ids is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from seqmodal.inputs import Inputs
from seqmodal.sequence import NOWHERE, Composed, Document, compose, located
from seqmodal.tokenizers.protocol import Located
from seqmodal.tokenizers.vocabulary import SPECIAL, Vocabulary


@dataclass(frozen=True, eq=False)
class Start(Composed):
    """A composed document up to where its last segment goes on.

    What comes next is added to exactly as it is when all is read at once.

    Attributes:
        document: that it composes.
        vocabulary: of the model.
        tokenizer: of the segment that goes on.
        inputs: what is added to embeddings; None: nothing.
    """

    document: Document = Document(())
    vocabulary: Vocabulary = Vocabulary(())
    tokenizer: Any = None
    inputs: Inputs | None = None

    @classmethod
    def of(cls, document: Document, vocabulary: Vocabulary, tokenizer: Any, inputs: Inputs | None) -> Start:
        """The start of a document whose last segment is `tokenizer`'s, as far as it goes."""
        document = located(document, [tokenizer])
        whole = compose(document, vocabulary)
        part = whole.part(0, len(whole.ids) - (2 if vocabulary.block(tokenizer.name).marked else 1))
        more = {"document": document, "vocabulary": vocabulary, "tokenizer": tokenizer, "inputs": inputs}
        return cls(**vars(part), **more)

    @property
    def is_given(self) -> bool:
        """Whether something stands before what goes on, and not a null in place of it."""
        return any(segment.block != SPECIAL for segment in self.document.segments[:-1])

    def without_condition(self) -> Start:
        """The same after a null in place of what is given."""
        *given, last = self.document.segments
        bare = replace(self.document, segments=(*(replace(one, loss=0.0) for one in given), last)).without_condition()
        return Start.of(bare, self.vocabulary, self.tokenizer, self.inputs)

    def rows(self, history: Sequence[int], length: int, room: int, features: bool) -> dict[str, np.ndarray]:
        """What `Inputs` takes of the last `length` ids of a row that began with this.

        Args:
            history: all its ids.
            length: how many are wanted.
            room: length of the arrays; anything stands behind what is wanted.
            features: whether to give them, if there are some.
        """
        assert self.inputs is not None
        start, found = len(history) - length, self.vocabulary.block(self.tokenizer.name)

        def last(array: np.ndarray, behind: int) -> np.ndarray:
            laid = np.full((room, *array.shape[1:]), behind, array.dtype)
            laid[: max(0, len(array) - start)] = array[start:]
            return laid

        block = self.vocabulary.names.index(found.name)
        row = {"ids": last(self.ids, 0), "block": last(self.block, block)}
        row["ids"][:length] = history[start:]
        if features:
            known = self.features
            row["features"] = np.zeros((room, self.inputs.most_features), np.float32)
            if known is not None:
                row["features"][:, : known.shape[1]] = last(known, 0)
        if not self.inputs.most_axes:
            return row
        row["coordinates"] = laid = np.full((room, self.inputs.most_axes), NOWHERE, np.int32)
        if self.coordinates is not None:
            laid[:, : self.coordinates.shape[1]] = last(self.coordinates, NOWHERE)
        if self.inputs.shapes[found.name].axes and isinstance(self.tokenizer, Located):
            begin = 1 if found.begin is None else int(np.flatnonzero(self.ids == found.begin)[-1]) + 1
            ids = np.asarray(history[begin:], np.int64)
            inside = (ids >= found.content_slice.start) & (ids < found.content_slice.stop)
            on_grid = self.tokenizer.coordinates(ids[inside] - found.first_content)
            places = np.full((len(ids), on_grid.shape[1]), NOWHERE, np.int32)
            places[inside] = on_grid
            laid[max(0, begin - start) : length, : on_grid.shape[1]] = places[max(0, start - begin) :]
        return row


@torch.no_grad()
def added_to(starts: Sequence[Start], histories: Sequence[Sequence[int]], lengths: Sequence[int]) -> Tensor | None:
    """`extra` (L, T, D) of the last `lengths[i]` ids of each row, which began with `starts[i]`; padded on the right.

    None where a model adds nothing.
    """
    inputs = starts[0].inputs
    if inputs is None:
        return None
    runs = list(zip(starts, histories, lengths, strict=True))
    features = any(s.features is not None and len(history) - n < len(s.ids) for s, history, n in runs)
    rows = [start.rows(history, length, max(lengths), features) for start, history, length in runs]
    device = next(inputs.parameters()).device
    extra: Tensor = inputs(
        **{name: torch.from_numpy(np.stack([row[name] for row in rows])).to(device) for name in rows[0]}
    )
    return extra
