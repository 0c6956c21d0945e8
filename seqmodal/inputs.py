"""What is added to the embeddings of a sequence of several modalities: features, a vector a modality, coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from seqmodal.data.store import BlockShape
from seqmodal.sequence import NOWHERE
from seqmodal.tokenizers.vocabulary import Vocabulary

WAVES = 16
"""Sines and as many cosines that say a coordinate."""
LONGEST = 1024.0
"""Wavelength of the last of them; the first repeats after two places."""


class BlockInput(nn.Module):
    """What the positions of one block are given beside their ids.

    Attributes:
        vector: (D,), of the modality (4M and Unified-IO 2 have one), where there are several; it begins at zero.
        projection: (D, F), of features (as in ViT, Whisper and AST); of features of deviation 1 it begins as loud as an
            embedding. The embedding of the null that they stand at is its bias.
        axes: (D, 2 · WAVES · axes), of the sines of the coordinates: axial positions, an axis added to the other; any
            coordinate has some. They begin at zero.
    """

    def __init__(self, shape: BlockShape, d_model: int, several: bool) -> None:
        super().__init__()
        self.shape = shape
        self.vector = nn.Parameter(torch.zeros(d_model)) if several else None
        self.projection = nn.Linear(shape.features, d_model, bias=False) if shape.features else None
        self.axes = nn.Linear(2 * WAVES * shape.axes, d_model, bias=False) if shape.axes else None
        if self.projection is not None:
            bound = (3 / shape.features) ** 0.5
            nn.init.uniform_(self.projection.weight, -bound, bound)
        if self.axes is not None:
            nn.init.zeros_(self.axes.weight)

    def read(self, features: Tensor) -> Tensor:
        """(n, F or more) to (n, D)."""
        assert self.projection is not None
        projected: Tensor = self.projection(features[:, : self.shape.features])
        return projected.float()

    def place(self, coordinates: Tensor) -> Tensor:
        """(n, axes or more) to (n, D)."""
        assert self.axes is not None
        waves = 2 * math.pi / torch.logspace(
            math.log2(2), math.log2(LONGEST), WAVES, base=2.0, device=coordinates.device
        )  # fmt: skip
        angles = coordinates[:, : self.shape.axes, None] * waves
        placed: Tensor = self.axes(torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(1))
        return placed.float()


class Inputs(nn.Module):
    """The sum of what each block gives its positions, `extra` of a `Decoder`. Weights are kept by the block's name, so
    that a model takes on blocks and the old ones stay as they are.

    Args:
        vocabulary: of the model.
        shapes: of the blocks that have something beside their ids, or are several; see `Store.shapes`.
        d_model: of the decoder.
    """

    def __init__(self, vocabulary: Vocabulary, shapes: Mapping[str, BlockShape], d_model: int) -> None:
        super().__init__()
        self.vocabulary, self.d_model = vocabulary, d_model
        several = len(vocabulary.content) > 1
        self.blocks = nn.ModuleDict({name: BlockInput(shape, d_model, several) for name, shape in shapes.items()})

    @classmethod
    def of(cls, vocabulary: Vocabulary, shapes: Mapping[str, BlockShape], d_model: int) -> Inputs | None:
        """None where there is one block and it has nothing beside its ids: the decoder then needs no more."""
        beside = any(shape.features or shape.axes for shape in shapes.values())
        return cls(vocabulary, shapes, d_model) if beside or len(vocabulary.content) > 1 else None

    @property
    def shapes(self) -> dict[str, BlockShape]:
        """By the block's name."""
        return {name: self._block(name).shape for name in self.blocks}

    @property
    def most_features(self) -> int:
        """The widest of all blocks."""
        return max(shape.features for shape in self.shapes.values())

    @property
    def most_axes(self) -> int:
        """The most of all blocks."""
        return max(shape.axes for shape in self.shapes.values())

    def _block(self, name: str) -> BlockInput:
        block = self.blocks[name]
        assert isinstance(block, BlockInput)
        return block

    def forward(
        self, ids: Tensor, block: Tensor, features: Tensor | None = None, coordinates: Tensor | None = None
    ) -> Tensor:
        """`extra` float32 (B, T, D).

        Args:
            ids: (B, T); features stand at nulls.
            block: (B, T), index of each position's block.
            features, coordinates: (B, T, F) and (B, T, axes), as `Composed` has them: where they are narrower than
                those of a block, there are none of it.
        """
        vectors = [torch.zeros(self.d_model, device=ids.device)] * len(self.vocabulary.blocks)
        for name in self.blocks:
            if (vector := self._block(name).vector) is not None:
                vectors[self.vocabulary.names.index(name)] = vector
        extra = torch.stack(vectors)[block.long()]
        for name in self.blocks:
            mine, part = block == self.vocabulary.names.index(name), self._block(name)
            if features is not None and part.projection is not None and features.shape[-1] >= part.shape.features:
                at = mine & (ids == self.vocabulary.null)
                extra = extra.index_put((at,), extra[at] + part.read(features[at]))
            if coordinates is not None and part.axes is not None and coordinates.shape[-1] >= part.shape.axes:
                at = mine & (coordinates[..., 0] != NOWHERE)
                extra = extra.index_put((at,), extra[at] + part.place(coordinates[at]))
        return extra


def added(inputs: Inputs | None, batch: Mapping[str, Tensor]) -> Tensor | None:
    """`extra` of a batch of tensors by name, None where there is nothing to add."""
    if inputs is None or "block" not in batch:
        return None
    extra: Tensor = inputs(batch["ids"], batch["block"], batch.get("features"), batch.get("coordinates"))
    return extra
