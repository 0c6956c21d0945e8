"""What is added to embeddings: each block its own, and ids one by one get what they get at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toy import Digits, Grid

from seqmodal.data.store import BlockShape
from seqmodal.inputs import LONGEST, WAVES, Inputs
from seqmodal.sequence import NOWHERE, Composed, Document, Segment, compose
from seqmodal.start import Start, added_to
from seqmodal.tokenizers import Vocabulary

GRID, DIGITS = Grid(), Digits("a", 10)
VOCABULARY = Vocabulary.of([DIGITS, GRID])
SHAPES = {"a": BlockShape(), "grid": BlockShape(2, 2, given=True)}
D = 8


def inputs(shapes: dict[str, BlockShape] = SHAPES, vocabulary: Vocabulary = VOCABULARY) -> Inputs:
    torch.manual_seed(0)
    made = Inputs(vocabulary, shapes, D)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_()
    return made


def slow(made: Inputs, composed: Composed) -> np.ndarray:
    """Position by position, number by number."""
    weights = {name: tensor.detach().double().numpy() for name, tensor in made.named_parameters()}
    extra = np.zeros((len(composed.ids), D))
    for at, (id, block) in enumerate(zip(composed.ids, composed.block, strict=True)):
        name = made.vocabulary.names[block]
        if name not in made.shapes:
            continue
        extra[at] += weights[f"blocks.{name}.vector"]
        if composed.features is not None and id == made.vocabulary.null:
            vector = composed.features[at][: made.shapes[name].features]
            extra[at] += weights[f"blocks.{name}.projection.weight"] @ vector
        if composed.coordinates is not None and composed.coordinates[at][0] != NOWHERE:
            waves = 2 * np.pi / np.geomspace(2, LONGEST, WAVES)
            said = [f(c * wave) for c in composed.coordinates[at] for f in (np.sin, np.cos) for wave in waves]
            extra[at] += weights[f"blocks.{name}.axes.weight"] @ np.array(said)
    return extra


def tensors(composed: Composed) -> dict[str, torch.Tensor]:
    names = ("ids", "block", "features", "coordinates")
    held = {name: getattr(composed, name) for name in names}
    return {name: torch.from_numpy(array)[None] for name, array in held.items() if array is not None}


def documents() -> st.SearchStrategy[Document]:
    def picture(rows: int, seed: int) -> np.ndarray:
        return np.random.default_rng(seed).random((rows, 3))

    rows, seeds = st.integers(0, 3), st.integers(0, 9)
    read = st.builds(lambda r, s: Segment.of(GRID, picture(r, s), loss=0, features=True), rows, seeds)
    drawn = st.builds(lambda r, s: Segment.of(GRID, picture(r, s)), rows, seeds)
    said = st.builds(lambda ids: Segment("a", np.array(ids, np.int32)), st.lists(st.integers(0, 9), max_size=4))
    return st.lists(st.one_of(read, drawn, said), min_size=1, max_size=4).map(lambda parts: Document(tuple(parts)))


@settings(deadline=None, max_examples=60)
@given(documents())
def test_as_position_by_position(document: Document) -> None:
    made, composed = inputs(), compose(document, VOCABULARY)
    found = made(**tensors(composed))[0].detach().numpy()
    np.testing.assert_allclose(found, slow(made, composed), atol=1e-4)


@settings(deadline=None, max_examples=60)
@given(documents(), st.integers(0, 12), st.data())
def test_one_by_one_is_as_at_once(before: Document, known: int, data: Any) -> None:
    """Read in any pieces, in rows of different lengths, what is added is what it is when all is known."""
    made = inputs()
    last = Segment.of(GRID, np.random.default_rng(5).random((3, 3)))
    whole = compose(Document((*before.segments, last)), VOCABULARY)
    end = len(whole.ids) - 1  # the end of the segment is read as well, the eos is not
    begun = replace(last, ids=last.ids[: min(known, 9)], coordinates=None)
    prompt = Start.of(Document((*before.segments, begun)), VOCABULARY, GRID, made)
    at_once = made(**tensors(whole))[0]
    ids = whole.ids.tolist()
    ends = [data.draw(st.integers(len(prompt.ids), end)) for _ in range(3)]
    lengths = [data.draw(st.integers(1, stop)) for stop in ends]
    found = added_to([prompt] * 3, [ids[:stop] for stop in ends], lengths)
    assert found is not None
    for row, stop, length in zip(found, ends, lengths, strict=True):
        np.testing.assert_allclose(
            row[:length].detach().numpy(), at_once[stop - length : stop].detach().numpy(), atol=1e-5
        )


def test_at_first_modalities_and_coordinates_add_nothing_and_features_are_as_loud_as_an_embedding() -> None:
    made = Inputs(VOCABULARY, SHAPES, 64)
    composed = compose(Document((Segment.of(GRID, np.ones((2, 3))), Segment("a", np.array([1])))), VOCABULARY)
    assert not made(**tensors(composed)).any()
    features = np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32)
    read = compose(Document((Segment("grid", loss=0, features=features),)), VOCABULARY)
    assert float(made(**tensors(read))[0, 2:202].detach().square().mean()) == pytest.approx(1, rel=0.3)


def test_it_is_there_where_something_is_to_be_added() -> None:
    one = Vocabulary.of([DIGITS])
    assert Inputs.of(one, {"a": BlockShape(given=True)}, D) is None
    assert Inputs.of(one, {"a": BlockShape(axes=2)}, D) is not None
    assert Inputs.of(VOCABULARY, SHAPES, D) is not None
    assert inputs().shapes == SHAPES


def test_a_model_that_takes_on_a_block_keeps_the_weights_of_the_others() -> None:
    old, grown = inputs(), VOCABULARY.append("b", 4)
    new = Inputs(grown, {**SHAPES, "b": BlockShape(3)}, D)
    lacks = new.load_state_dict(old.state_dict(), strict=False)
    assert lacks.unexpected_keys == [] and {key.split(".")[1] for key in lacks.missing_keys} == {"b"}
    composed = compose(Document((Segment.of(GRID, np.ones((2, 3))),)), VOCABULARY)
    np.testing.assert_allclose(*(made(**tensors(composed)).detach().numpy() for made in (new, old)))


@pytest.mark.parametrize("name", ["a", "grid"])
def test_every_part_learns(name: str) -> None:
    made = inputs()
    parts = (Segment.of(GRID, np.ones((2, 3)), loss=0, features=True), Segment("a", np.array([1])))
    made(**tensors(compose(Document(parts), VOCABULARY))).square().sum().backward()
    for key, weight in made.named_parameters():
        if key.startswith(f"blocks.{name}."):
            assert weight.grad is not None and weight.grad.abs().sum() > 0, key


def test_blocks_have_features_of_different_widths() -> None:
    vocabulary = Vocabulary.of([DIGITS, GRID, Digits("wide", 4)])
    made = inputs({**SHAPES, "wide": BlockShape(5)}, vocabulary)
    read = Segment.of(GRID, np.ones((2, 3)), loss=0, features=True)
    wide = Segment("wide", loss=0.0, features=np.arange(15, dtype=np.float32).reshape(3, 5))
    for parts in ((read,), (wide,), (read, wide), (wide, read)):
        composed = compose(Document(parts), vocabulary)
        found = made(**tensors(composed))[0].detach().numpy()
        np.testing.assert_allclose(found, slow(made, composed), atol=1e-4)
