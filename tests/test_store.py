"""The store: what was written comes back, in Megatron's layout, and damaged files are refused when it is opened."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits, Grid

from seqmodal.data.store import BlockShape, Store, StoreWriter, write_store
from seqmodal.errors import BadInput, Mismatch
from seqmodal.sequence import Document, Segment, compose
from seqmodal.tokenizers import Vocabulary


def documents(sizes: dict[str, int]) -> st.SearchStrategy[list[Document]]:
    def one(name: str, size: int) -> st.SearchStrategy[Segment]:
        ids = st.lists(st.integers(0, size - 1), max_size=12).map(lambda x: np.array(x, np.int32))
        kinds = st.sampled_from([(1.0, False), (0.0, True), (0.5, False)])
        return st.builds(lambda ids, kind: Segment(name, ids, *kind), ids, kinds)

    segments = st.lists(st.one_of(*(one(*item) for item in sizes.items())), min_size=1, max_size=3).map(tuple)
    return st.lists(st.builds(Document, segments, st.text(max_size=5)), max_size=6)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from([{"a": 10, "b": 65_536}, {"a": 70_000}]).flatmap(lambda s: st.tuples(st.just(s), documents(s))))
def test_what_was_written_comes_back(case: tuple[dict[str, int], list[Document]]) -> None:
    sizes, written = case
    vocabulary = Vocabulary.of([Digits(*item) for item in sizes.items()])
    with tempfile.TemporaryDirectory() as folder:
        store = write_store(Path(folder), iter(written), vocabulary)
        assert len(store) == len(written) and store.vocabulary == vocabulary
        assert store.num_tokens == sum(len(s.ids) for d in written for s in d.segments)
        for number, document in enumerate(written):
            found = store[number]
            assert found.name == document.name and len(found.segments) == len(document.segments)
            for a, b in zip(found.segments, document.segments, strict=True):
                assert (a.block, a.loss, a.both_ways, a.ids.tolist()) == (b.block, b.loss, b.both_ways, b.ids.tolist())
            assert store.lengths[number] == len(compose(document, vocabulary).ids)


VOCABULARY = Vocabulary.of([Digits("a", 10), Digits("b", 300)])


@pytest.fixture()
def folder(tmp_path: Path) -> Path:
    rows = [
        Document((Segment("a", np.arange(10)), Segment("b", np.arange(7)))), Document((Segment("a", np.arange(5)),)),
    ]
    write_store(tmp_path, rows, VOCABULARY)
    return tmp_path


def test_the_layout_is_megatrons(folder: Path) -> None:
    index = (folder / "tokens.idx").read_bytes()
    assert index[:9] == b"MMIDIDX\0\0"
    assert struct.unpack("<QBQQ", index[9:34]) == (1, 8, 3, 3)
    assert struct.unpack("<3i", index[34:46]) == (10, 7, 5)
    assert struct.unpack("<3q", index[46:70]) == (0, 20, 34)  # bytes
    assert struct.unpack("<3q", index[70:]) == (0, 2, 3)
    tokens = np.fromfile(folder / "tokens.bin", "<u2")
    assert tokens.tolist() == [*range(10), *range(7), *range(5)]


def test_the_ids_stay_on_disk(folder: Path) -> None:
    ids = Store(folder)[0].segments[0].ids
    base = ids
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)


def test_ids_of_another_block_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(Mismatch):
        StoreWriter(tmp_path, VOCABULARY).add(Document((Segment("a", np.array([10])),)))


def cut(name: str, by: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-by])


def poke(name: str, at: int, data: bytes) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        content = bytearray((folder / name).read_bytes())
        content[at:at + len(data)] = data
        (folder / name).write_bytes(content)

    return damage


def other_vocabulary(folder: Path) -> None:
    facts = json.loads((folder / "store.json").read_text())
    facts["vocabulary"] = Vocabulary.of([Digits("a", 9), Digits("b", 300)]).to_dict()
    (folder / "store.json").write_text(json.dumps(facts))


DAMAGES = {
    **{f"{name} cut by {by}": cut(name, by)
       for name in ("tokens.bin", "tokens.idx", "segments.npy", "store.json") for by in (1, 2, 8)},
    **{f"no {name}": (lambda folder, name=name: (folder / name).unlink())
       for name in ("tokens.bin", "tokens.idx", "segments.npy", "store.json")},
    "empty index": lambda folder: (folder / "tokens.idx").write_bytes(b""),
    "other magic": poke("tokens.idx", 0, b"X"),
    "other version": poke("tokens.idx", 9, b"\2"),
    "unknown type": poke("tokens.idx", 17, b"\7"),
    "other type": poke("tokens.idx", 17, b"\4"),
    "huge count": poke("tokens.idx", 18, b"\xff" * 8),
    "negative length": poke("tokens.idx", 34, struct.pack("<3i", -10, 7, 25)),
    "other lengths": poke("tokens.idx", 34, struct.pack("<3i", 7, 10, 5)),
    "documents that run backwards": poke("tokens.idx", 78, struct.pack("<q", 9)),
    "unknown block": lambda folder: np.save(folder / "segments.npy", _with_block(np.load(folder / "segments.npy"), 9)),
    "other columns": lambda folder: np.save(folder / "segments.npy", np.zeros(3)),
    "id too large": poke("tokens.bin", 0, b"\x0a\x00"),
    "a flipped bit": poke("tokens.bin", 0, b"\x01\x00"),
    "other tokenizer": other_vocabulary,
    "no vocabulary": lambda folder: (folder / "store.json").write_text("{}"),
    "not an object": lambda folder: (folder / "store.json").write_text("[]"),
}


def _with_block(segments: np.ndarray, block: int) -> np.ndarray:
    segments["block"] = block
    return segments


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_damaged_stores_are_refused_at_opening(folder: Path, damage: Callable[[Path], None]) -> None:
    Store(folder)
    damage(folder)
    with pytest.raises(BadInput, match=str(folder)):
        Store(folder)


SEVERAL = Vocabulary.of([Digits("a", 10), Grid()])


def rich(rng: np.random.Generator) -> list[Document]:
    """Features and coordinates here and there, and segments of no places."""
    made = []
    for rows in (2, 1, 0, 3):
        picture = rng.random((rows, 3))
        given = Segment.of(Grid(), picture, loss=0, both_ways=True, features=True)
        made += [Document((given, Segment("a", np.arange(rows)))), Document((Segment.of(Grid(), picture),))]
    return [*made, Document((Segment("a", np.arange(4)),))]


def test_coordinates_may_be_as_large_as_the_steps_of_an_hour(tmp_path: Path) -> None:
    far = np.array([[0], [360_000]], np.int32)
    segment = Segment(Grid().name, np.array([1, 2]), coordinates=far)
    store = write_store(tmp_path, [Document((segment,))], SEVERAL)
    np.testing.assert_array_equal(store[0].segments[0].coordinates, far)


def test_features_and_coordinates_come_back(tmp_path: Path) -> None:
    written = rich(np.random.default_rng(0))
    store = write_store(tmp_path, written, SEVERAL)
    assert {path.name for path in tmp_path.iterdir()} >= {"features.bin", "features.npy", "coordinates.bin"}
    for number, document in enumerate(written):
        for a, b in zip(store[number].segments, document.segments, strict=True):
            assert len(a) == len(b) and a.ids.tolist() == b.ids.tolist()
            for mine, theirs, step in ((a.features, b.features, 1e-3), (a.coordinates, b.coordinates, 0)):
                assert (mine is None) == (theirs is None)
                if mine is not None:
                    np.testing.assert_allclose(mine, theirs, atol=step)
        assert store.lengths[number] == len(compose(document, SEVERAL).ids)
    assert store.shapes() == {"a": BlockShape(), "grid": BlockShape(2, 2, given=True, both_ways=True)}
    base = store[0].segments[0].features
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)


def test_a_store_without_them_has_no_such_files(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {"tokens.bin", "tokens.idx", "segments.npy", "store.json"}
    assert Store(folder).shapes() == {"a": BlockShape(), "b": BlockShape()}


BESIDE_DAMAGES = {
    "no features": lambda folder: (folder / "features.bin").unlink(),
    "no table": lambda folder: (folder / "coordinates.npy").unlink(),
    "cut": cut("features.bin", 2),
    "changed": poke("features.bin", 0, b"\x01\x01"),
    "cut table": cut("features.npy", 8),
    "other table": lambda folder: np.save(folder / "features.npy", np.zeros(3)),
    "empty table": lambda folder: np.save(folder / "features.npy", np.load(folder / "features.npy")[:0]),
    "other segments": lambda folder: np.save(folder / "features.npy", _moved(np.load(folder / "features.npy"))),
}


def _moved(where: np.ndarray) -> np.ndarray:
    where["segment"] += 100
    return where


@pytest.mark.parametrize("damage", BESIDE_DAMAGES.values(), ids=BESIDE_DAMAGES.keys())
def test_damaged_features_are_refused_at_opening(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    write_store(tmp_path, rich(np.random.default_rng(1)), SEVERAL)
    damage(tmp_path)
    with pytest.raises(BadInput, match=str(tmp_path)):
        Store(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_features_that_float16_cannot_hold_are_not_written(tmp_path: Path, bad: float) -> None:
    features = np.full((2, 2), bad, np.float32)
    with pytest.raises(BadInput, match="finite"):
        StoreWriter(tmp_path, SEVERAL).add(Document((Segment("grid", loss=0, features=features),)))


def test_documents_of_one_name_that_follow_each_other_are_an_item(tmp_path: Path) -> None:
    names = ["a", "a", "b", "c", "c", "c", "a", "d", "e", "f"]
    store = write_store(tmp_path, [Document((Segment("a", np.arange(2)),), name) for name in names], VOCABULARY)
    grouped = [list(group) for _, group in groupby(range(len(names)), key=lambda number: names[number])]
    assert [list(item) for item in store.items()] == grouped == [list(item) for item in store.items(99)]
    assert [list(item) for item in store.items(3)] == [grouped[0], grouped[3], grouped[6]]
    write_store(tmp_path / "empty", [], VOCABULARY)
    assert Store(tmp_path / "empty").items() == Store(tmp_path / "empty").items(4) == []
