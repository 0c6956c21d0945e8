"""Tokens on disk, memory-mapped: Megatron's .bin/.idx, a sequence a segment, a document its run of segments.

Beside them lie `segments.npy` (block, loss and both-ways of each segment) and `store.json` (vocabulary, names, hash),
and, where segments have some, their features and their coordinates (`data/beside.py`).
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from seqmodal.data.beside import Beside, BesideWriter
from seqmodal.errors import BadInput, ConfigError
from seqmodal.sequence import Document, Segment
from seqmodal.tokenizers.vocabulary import Vocabulary

MAGIC = b"MMIDIDX\x00\x00"
CODES: dict[int, Any] = {8: np.uint16, 4: np.int32}
AGAIN = "make it again with `seqmodal prepare`"
BESIDE: dict[str, Any] = {"features": np.float16, "coordinates": np.int32}
"""What a segment may have beside its ids, and how it is kept."""
SEGMENT = np.dtype([("block", "u1"), ("loss", "f4"), ("both_ways", "?")])


@dataclass(frozen=True)
class BlockShape:
    """What the segments of a block have beside their ids, and how they are read.

    Attributes:
        features: numbers in each of their vectors; 0: there are none.
        axes: coordinates of each place; 0: none.
        given: whether some are given, and not learned.
        both_ways: whether those are seen both ways.
        learned: whether some are learned, so that a model can make them.
    """

    features: int = 0
    axes: int = 0
    given: bool = False
    both_ways: bool = False
    learned: bool = True

    def joined(self, other: BlockShape) -> BlockShape:
        """What fits the segments of both.

        Raises:
            ConfigError: where both have features, or both coordinates, of different widths.
        """
        for name in ("features", "axes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine and theirs and mine != theirs:
                raise ConfigError(f"{name} of {mine} numbers do not fit a model that learned those of {theirs}")
        return BlockShape(
            max(self.features, other.features), max(self.axes, other.axes), self.given or other.given,
            self.both_ways or other.both_ways, self.learned or other.learned,
        )  # fmt: skip


class StoreWriter:
    """Writes documents one after the other; memory holds a few numbers a segment."""

    def __init__(self, folder: Path, vocabulary: Vocabulary) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.vocabulary = folder, vocabulary
        largest = max((block.num_content for block in vocabulary.content), default=1)
        self._code = 8 if largest <= np.iinfo(np.uint16).max else 4
        self._bin = open(folder / "tokens.bin", "wb")  # noqa: SIM115 - closed by `close`
        self._digest = hashlib.sha256()
        self._lengths: list[int] = []
        self._documents = [0]
        self._segments: list[tuple[int, float, bool]] = []
        self._names: list[str] = []
        self._beside = {name: BesideWriter(folder, name, dtype) for name, dtype in BESIDE.items()}

    def add(self, document: Document) -> None:
        """Append a document.

        Raises:
            Mismatch: for ids that are not its blocks'.
            BadInput: for features that are no numbers of float16.
        """
        for segment in document.segments:
            self.vocabulary.to_global(segment.block, segment.ids)
            data = np.ascontiguousarray(segment.ids, dtype=CODES[self._code]).tobytes()
            self._bin.write(data)
            self._digest.update(data)
            for name, writer in self._beside.items():
                if (array := getattr(segment, name)) is not None:
                    writer.add(len(self._lengths), array)
            self._lengths.append(len(segment.ids))
            self._segments.append((self.vocabulary.names.index(segment.block), segment.loss, segment.both_ways))
        self._documents.append(len(self._lengths))
        self._names.append(document.name)

    def close(self) -> None:
        """Write the index; the store can be opened from now on."""
        self._bin.close()
        width = np.dtype(CODES[self._code]).itemsize
        pointers = np.concatenate([[0], np.cumsum(np.array(self._lengths, np.int64) * width)])[:len(self._lengths)]
        with open(self.folder / "tokens.idx", "wb") as file:
            file.write(MAGIC + struct.pack("<QBQQ", 1, self._code, len(self._lengths), len(self._documents)))
            file.write(np.array(self._lengths, "<i4").tobytes())
            file.write(pointers.astype("<i8").tobytes())
            file.write(np.array(self._documents, "<i8").tobytes())
        np.save(self.folder / "segments.npy", np.array(self._segments, SEGMENT))
        facts = {"vocabulary": self.vocabulary.to_dict(), "sha256": self._digest.hexdigest(), "names": self._names}
        for name, writer in self._beside.items():
            if (digest := writer.close()) is not None:
                facts[name] = digest
        (self.folder / "store.json").write_text(json.dumps(facts), encoding="utf-8")


class Store:
    """A folder of stored documents, memory-mapped.

    Raises:
        BadInput: at opening, for files that are missing, cut short, do not fit each other, or hold ids out of range.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            facts = json.loads((folder / "store.json").read_text(encoding="utf-8"))
            self.vocabulary = Vocabulary.from_dict(facts["vocabulary"])
            self.names: list[str] = facts["names"]
            sha256 = facts["sha256"]
            index = (folder / "tokens.idx").read_bytes()
            self._segments = np.load(folder / "segments.npy", allow_pickle=False)
            size = (folder / "tokens.bin").stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(folder, f"not a token store: {error}", AGAIN) from error
        head = len(MAGIC) + struct.calcsize("<QBQQ")
        if index[:len(MAGIC)] != MAGIC or len(index) < head:
            raise BadInput(folder / "tokens.idx", "not an index of Megatron's layout", AGAIN)
        version, code, sequences, documents = struct.unpack("<QBQQ", index[len(MAGIC):head])
        if version != 1 or code not in CODES or len(index) != head + 12 * sequences + 8 * documents:
            raise BadInput(folder / "tokens.idx", "the index is damaged or cut short", AGAIN)
        self._lengths = np.frombuffer(index, "<i4", sequences, head)
        self._documents = np.frombuffer(index, "<i8", documents, head + 12 * sequences)
        self._starts = np.concatenate([[0], np.cumsum(self._lengths, dtype=np.int64)])
        dtype = np.dtype(CODES[code])
        pointers = np.frombuffer(index, "<i8", sequences, head + 4 * sequences)
        fits = (
            size == self._starts[-1] * dtype.itemsize and np.array_equal(pointers, self._starts[:-1] * dtype.itemsize)
            and len(self._segments) == sequences and len(self.names) == documents - 1
            and self._segments.dtype == SEGMENT and self._documents[0] == 0 and self._documents[-1] == sequences
            and (np.diff(self._documents) >= 0).all() and (self._lengths >= 0).all()
            and (self._segments["block"] < len(self.vocabulary.blocks)).all()
        )
        if not fits:
            raise BadInput(folder, "its files do not fit each other", AGAIN)
        self._tokens = np.memmap(folder / "tokens.bin", dtype, "r") if size else np.zeros(0, dtype)
        self._check(sha256)
        self._beside = {
            name: Beside(folder, name, dtype, sequences, facts[name], AGAIN)
            for name, dtype in BESIDE.items()
            if name in facts
        }
        marks = np.array([2 * block.marked for block in self.vocabulary.blocks])
        places = self._lengths.astype(np.int64)
        if "features" in self._beside:
            places += self._beside["features"].lengths
        each = places + marks[self._segments["block"]]
        sums = np.concatenate([[0], np.cumsum(each, dtype=np.int64)])
        self.lengths: np.ndarray = sums[self._documents[1:]] - sums[self._documents[:-1]] + 2
        """(documents,) ids of each document when composed, all marks included."""

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> Document:
        """A document; its ids are views into the memory map."""
        first, last = self._documents[number], self._documents[number + 1]
        return Document(tuple(self._segment(int(s)) for s in range(first, last)), self.names[number])

    def items(self, most: int | None = None) -> list[range]:
        """Numbers of the documents that belong together, which have one name and follow each other: the windows of a
        piece, an article with each of its summaries. With `most`, of so many items at most, evenly taken."""
        names = np.array(self.names)
        edges = [0, *(np.flatnonzero(names[1:] != names[:-1]) + 1).tolist(), len(names)]
        found = [range(first, last) for first, last in pairwise(edges) if first < last]
        if most is None or most >= len(found):
            return found
        return [found[at] for at in np.linspace(0, len(found) - 1, most).astype(int).tolist()]

    @property
    def num_tokens(self) -> int:
        """Ids of all segments, without marks."""
        return int(self._starts[-1])

    @property
    def both_ways(self) -> bool:
        """Whether it holds segments that are seen both ways."""
        return bool(self._segments["both_ways"].any())

    @property
    def tasks(self) -> bool:
        """Whether some document has several segments, such as a source and a target: what is then learned whole."""
        return bool((np.diff(self._documents) > 1).any())

    def _segment(self, number: int) -> Segment:
        block, loss, both_ways = self._segments[number]
        ids = self._tokens[self._starts[number]:self._starts[number + 1]]
        more = {name: beside[number] for name, beside in self._beside.items()}
        return Segment(self.vocabulary.names[block], ids, float(loss), bool(both_ways), **more)

    def used(self) -> set[str]:
        """Names of the blocks that segments are of; the vocabulary of a model that has grown has others as well."""
        return {self.vocabulary.names[number] for number in np.unique(self._segments["block"]).tolist()}

    def shapes(self) -> dict[str, BlockShape]:
        """What segments have of each block, by its name, for the blocks of tokenizers."""
        found = {}
        for block in self.vocabulary.content:
            mine = self._segments["block"] == self.vocabulary.names.index(block.name)
            given = mine & (self._segments["loss"] == 0)
            features, axes = (
                int(self._beside[name].widths[mine].max(initial=0)) if name in self._beside else 0 for name in BESIDE
            )
            both_ways = bool(self._segments["both_ways"][given].any())
            learned = bool((mine & ~given).any())
            found[block.name] = BlockShape(features, axes, bool(given.any()), both_ways, learned)
        return found

    def _check(self, sha256: str) -> None:
        """Every id lies in its block and no byte has changed; segment by segment, so that no large array is made."""
        limits = np.array([block.num_content for block in self.vocabulary.blocks])[self._segments["block"]]
        digest = hashlib.sha256()
        for number, limit in enumerate(limits.tolist()):
            ids = self._tokens[self._starts[number]:self._starts[number + 1]]
            digest.update(ids.data)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < limit:
                raise BadInput(
                    self.folder / "tokens.bin",
                    f"segment {number} holds ids {ids.min()} to {ids.max()}; its block has 0 to {limit - 1}", AGAIN,
                )
        if digest.hexdigest() != sha256:
            raise BadInput(self.folder / "tokens.bin", "its content is not what was written", AGAIN)


def write_store(folder: Path, documents: Any, vocabulary: Vocabulary) -> Store:
    """Write all documents, read once, and open the store."""
    writer = StoreWriter(folder, vocabulary)
    for document in documents:
        writer.add(document)
    writer.close()
    return Store(folder)
