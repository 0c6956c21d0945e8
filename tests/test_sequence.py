"""Composing: the marks stand where they should, and each target weighs what its segment says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy import Digits, Grid

from seqmodal.errors import ConfigError, Mismatch
from seqmodal.sequence import NOWHERE, Composed, Document, Segment, compose, located
from seqmodal.tokenizers import Vocabulary

VOCABULARY = Vocabulary.of([Digits("a", 10), Digits("b", 5)])
A, B = VOCABULARY.block("a"), VOCABULARY.block("b")
FIELDS = ("ids", "targets", "weight", "block", "span")
GRID = Grid()
SEVERAL = Vocabulary.of([Digits("a", 10), GRID])


def segment(block: str, *ids: int, **more: object) -> Segment:
    return Segment(block, np.array(ids, np.int32), **more)  # type: ignore[arg-type]


def test_one_segment() -> None:
    composed = compose(Document((segment("a", 7, 0, 9),)), VOCABULARY)
    a = A.first_content
    assert composed.ids.tolist() == [1, A.begin, a + 7, a, a + 9, A.end, 2]
    assert composed.targets.tolist() == [A.begin, a + 7, a, a + 9, A.end, 2, -1]
    assert composed.weight.tolist() == [0, 1, 1, 1, 1, 0, 0]  # begin and eos are never in doubt
    assert composed.block.tolist() == [0, 1, 1, 1, 1, 1, 0]
    assert not composed.span.any()


def test_a_given_segment_and_one_to_learn() -> None:
    composed = compose(Document((segment("a", 1, 2, loss=0), segment("b", 4, loss=0.5))), VOCABULARY)
    assert composed.ids.tolist() == [1, A.begin, A.first_content + 1, A.first_content + 2, A.end,
                                     B.begin, B.first_content + 4, B.end, 2]
    assert composed.weight.tolist() == [0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5, 0]
    assert composed.block.tolist() == [0, 1, 1, 1, 1, 2, 2, 2, 0]


def test_spans_seen_both_ways_are_numbered() -> None:
    both = {"loss": 0.0, "both_ways": True}
    composed = compose(Document((segment("a", 1, **both), segment("b", 2), segment("a", 3, **both))), VOCABULARY)
    assert composed.span.tolist() == [0, 1, 1, 1, 0, 0, 0, 2, 2, 2, 0]


def test_loss_on_a_span_seen_both_ways_is_refused() -> None:
    with pytest.raises(ConfigError, match="visible"):
        compose(Document((segment("a", 1, both_ways=True),)), VOCABULARY)


def test_ids_of_another_block_are_refused() -> None:
    with pytest.raises(Mismatch, match="do not fit b"):
        compose(Document((segment("b", 5),)), VOCABULARY)


def test_gpt2_has_no_marks_but_bos_and_eos() -> None:
    gpt2 = Vocabulary.single("text", 50257, bos=50256, eos=50256)
    composed = compose(Document((segment("text", 11, 12),)), gpt2)
    assert composed.ids.tolist() == [50256, 11, 12, 50256]
    assert composed.weight.tolist() == [1, 1, 1, 0]  # here the first id and the end do have to be learned


def documents() -> st.SearchStrategy[Document]:
    def one(block: str, size: int) -> st.SearchStrategy[Segment]:
        ids = st.lists(st.integers(0, size - 1), max_size=8).map(lambda x: np.array(x, np.int32))
        return st.builds(Segment, st.just(block), ids, st.sampled_from([0.0, 0.5, 1.0]))

    segments = st.lists(st.one_of(one("a", 10), one("b", 5)), min_size=1, max_size=4)
    return segments.map(lambda parts: Document(tuple(parts)))


def slow(document: Document, vocabulary: Vocabulary) -> tuple[list[int], list[float]]:
    """ids and the weight of each id as a target, one by one."""
    ids, weights, only = [vocabulary.bos], [0.0], len(document.segments) == 1
    for part in document.segments:
        block = vocabulary.block(part.block)
        for value in (block.begin, *(int(i) + block.first_content for i in part.ids), block.end):
            ids.append(value)
            weights.append(0.0 if only and value == block.begin else part.loss)
    return [*ids, vocabulary.eos], [*weights, 0.0 if only else document.segments[-1].loss]


@given(documents())
def test_as_one_by_one(document: Document) -> None:
    composed = compose(document, VOCABULARY)
    ids, weights = slow(document, VOCABULARY)
    assert composed.ids.tolist() == ids
    assert composed.targets.tolist() == [*ids[1:], -1]
    assert composed.weight.tolist() == [*weights[1:], 0.0]
    assert {len(getattr(composed, name)) for name in FIELDS} == {len(ids)}


@given(documents(), st.integers(0, 40), st.integers(0, 40))
def test_a_stretch_is_that_part_of_the_whole(document: Document, start: int, length: int) -> None:
    whole, part = compose(document, VOCABULARY), compose(document, VOCABULARY, start, start + length)
    inside = slice(start, start + length)
    for name in ("ids", "block", "span"):
        assert np.array_equal(getattr(part, name), getattr(whole, name)[inside])
    assert np.array_equal(part.targets[:-1], whole.targets[inside][:-1])  # the last one's target lies outside
    assert np.array_equal(part.weight[:-1], whole.weight[inside][:-1])


def test_varying_touches_content_inside_the_stretch_only() -> None:
    seen = []

    def vary(block: str, ids: np.ndarray) -> np.ndarray:
        seen.append((block, ids.tolist()))
        return np.repeat(ids, 2)

    document = Document((segment("a", 0, 1, 2, 3), segment("b", 0, 1, 2)))
    composed: Composed = compose(document, VOCABULARY, 4, 9, vary)
    assert seen == [("a", [2, 3]), ("b", [0])]
    a, b = A.first_content, B.first_content
    assert composed.ids.tolist() == [a + 2, a + 2, a + 3, a + 3, A.end, B.begin, b, b]


def test_features_stand_at_nulls_and_lie_where_the_ids_would() -> None:
    picture = np.array([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]])
    given = Segment.of(GRID, picture, loss=0, both_ways=True, features=True)
    composed = compose(Document((given, segment("a", 7))), SEVERAL)
    a, grid = SEVERAL.block("a"), SEVERAL.block("grid")
    null = [SEVERAL.null] * 6
    assert composed.ids.tolist() == [1, grid.begin, *null, grid.end, a.begin, a.first_content + 7, a.end, 2]
    assert composed.block.tolist() == [0, *[2] * 8, *[1] * 3, 0]
    assert composed.weight.tolist() == [0] * 8 + [1] * 4 + [0]  # no null is a target
    assert composed.span.tolist() == [0, *[1] * 8, 0, 0, 0, 0]
    assert composed.features is not None and composed.coordinates is not None
    np.testing.assert_array_equal(composed.features[2:8], GRID.features(picture))
    assert not composed.features[:2].any() and not composed.features[8:].any()
    places = [[NOWHERE] * 2] * 2 + [[r, c] for r in range(2) for c in range(3)] + [[NOWHERE] * 2] * 5
    assert composed.coordinates.tolist() == places
    part = composed.part(3, 6)
    assert part.features is not None and part.features.tolist() == composed.features[3:6].tolist()


@given(st.integers(0, 14), st.integers(0, 14))
def test_a_stretch_has_its_features_and_coordinates(start: int, length: int) -> None:
    picture = np.linspace(0, 1, 6).reshape(2, 3)
    parts = (Segment.of(GRID, picture, loss=0, features=True), Segment.of(GRID, picture))
    whole, part = (compose(Document(parts), SEVERAL, *at) for at in ((), (start, start + length)))
    for name in ("features", "coordinates"):
        expected, found = getattr(whole, name)[start : start + length], getattr(part, name)
        empty = 0.0 if name == "features" else NOWHERE
        assert np.array_equal(expected, found) if found is not None else (expected == empty).all()


def test_coordinates_come_from_the_tokenizer() -> None:
    document = Document((segment("a", 1), Segment("grid", np.array([5, 6, 7, 8]))))
    found = located(document, [Digits("a", 10), GRID])
    assert found.segments[0].coordinates is None
    assert found.segments[1].coordinates.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]
    kept = located(Document((Segment("grid", np.array([5]), coordinates=np.array([[9, 9]])),)), [GRID])
    assert kept.segments[0].coordinates.tolist() == [[9, 9]]


def test_features_are_only_read() -> None:
    vectors = np.zeros((2, 3), np.float32)
    with pytest.raises(ConfigError, match="only read"):
        Segment("a", features=vectors)
    with pytest.raises(ConfigError, match="only read"):
        Segment("a", np.array([1]), 0.0, features=vectors)
    with pytest.raises(ConfigError, match="one for each"):
        Segment("a", np.array([1]), coordinates=np.zeros((2, 2), int))
    with pytest.raises(ConfigError, match="no features"):
        Segment.of(Digits(), [1, 2], features=True)
    with pytest.raises(ConfigError, match="null"):
        compose(Document((Segment("a", loss=0, features=vectors),)), Vocabulary.single("a", 9, bos=1, eos=1))
    with pytest.raises(ConfigError, match="keep the number"):
        compose(Document((Segment.of(GRID, np.ones((1, 3))),)), SEVERAL, vary=lambda block, ids: ids[1:])


def test_without_its_condition_a_document_has_one_null() -> None:
    given = (segment("a", 1, 2, loss=0), Segment.of(GRID, np.ones((1, 3)), loss=0, features=True))
    bare = Document((*given, segment("b", 3))).without_condition()
    composed = compose(bare, VOCABULARY)
    assert composed.ids.tolist() == [1, VOCABULARY.null, B.begin, B.first_content + 3, B.end, 2]
    assert composed.weight.tolist() == [0, 1, 1, 1, 1, 0]
    alone = Document((segment("a", 1),))
    assert alone.without_condition() is alone
