"""Objectives: nothing that must be predicted is seen, nothing is lost, shares are as asked; a decoder learns them."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from objectives import EACH, tensors
from toy import Digits

from seqmodal.config import (
    Causal,
    DecoderConfig,
    FillInTheMiddle,
    Masked,
    Objective,
    Permutation,
    Prefix,
    RecipeConfig,
    SpanCorruption,
    from_dict,
    to_dict,
)
from seqmodal.data.loader import Batch, Batches, windows
from seqmodal.data.store import Store, write_store
from seqmodal.errors import ConfigError
from seqmodal.nn.mask import visible
from seqmodal.objective import (
    BEGINNING,
    ENDING,
    HIDDEN,
    MASK,
    MIDDLE,
    SENTINELS,
    Arranged,
    arrange,
    capacity,
    fit,
    mark,
    must_go_together,
    must_suit,
    with_marks,
)
from seqmodal.sequence import NOWHERE, Composed, Document, Segment, compose
from seqmodal.tokenizers import Vocabulary

SIZE = 20_000
BLOCKS = ("a", "b", "c")
VOCABULARY = Vocabulary.of([Digits(name, SIZE) for name in BLOCKS])


def laid_out(objective: Objective, piece: Composed, seed: int = 0) -> Arranged:
    return arrange(objective, piece, np.random.default_rng(seed), with_marks(VOCABULARY, objective))


def plain(length: int, start: int = 0) -> Composed:
    return compose(Document((Segment("a", np.arange(length) + start),)), VOCABULARY)


@st.composite
def pieces(draw: st.DrawFn, both_ways: bool = False) -> Composed:
    """Stretches of documents in which no id comes twice: each block once, counting up."""
    segments = []
    for name in draw(st.permutations(BLOCKS))[: draw(st.integers(1, 3))]:
        both = both_ways and draw(st.booleans())
        loss = 0.0 if both else draw(st.sampled_from([0.0, 0.5, 1.0, 1.0]))
        segments.append(Segment(name, np.arange(draw(st.integers(0, 30))), loss, both))
    start = draw(st.sampled_from([0, 0, 1, 5, 20]))
    piece = compose(Document(tuple(segments)), VOCABULARY, start, start + draw(st.integers(2, 60)))
    return piece if len(piece.ids) > 1 else plain(3)


def sees(arranged: Arranged) -> np.ndarray:
    """(m, m), True where a position sees another."""
    index, mask = torch.arange(len(arranged)), tensors(arranged)
    return visible(index, index, window=0, queries=mask, keys=mask).view(len(arranged), -1).numpy()


def own_weights(piece: Composed) -> np.ndarray:
    return np.concatenate([[0], piece.weight[:-1]])


# --- laws -------------------------------------------------------------------------------------------------------------


@EACH
@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_no_position_sees_what_it_must_predict(objective: Objective, data: st.DataObject, seed: int) -> None:
    piece = data.draw(pieces(isinstance(objective, Prefix | Masked)))
    found, vocabulary = laid_out(objective, piece, seed), with_marks(VOCABULARY, objective)
    shown = found.ids.copy()
    if isinstance(objective, Masked):
        shown[found.weight > 0] = -1  # behind a mask, or BERT's exceptions
    marks = {vocabulary.eos, *range(VOCABULARY.size, vocabulary.size)}  # these may come twice
    seen = sees(found)
    assert seen.any(axis=1).all()  # none is blind
    for at in np.flatnonzero(found.weight):
        if found.targets[at] not in marks:
            assert found.targets[at] not in shown[seen[at]]


@EACH
@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_arrays_fit_and_nothing_counts_that_should_not(objective: Objective, data: st.DataObject, seed: int) -> None:
    piece = data.draw(pieces(isinstance(objective, Prefix | Masked)))
    found, vocabulary = laid_out(objective, piece, seed), with_marks(VOCABULARY, objective)
    arrays = [value for value in vars(found).values() if value is not None]
    assert {len(array) for array in arrays} == {len(found)} and capacity(objective, len(found)) <= len(piece.ids)
    other = {"weight": np.float32, "block": np.int8}
    assert all(array.dtype == other.get(name, np.int32) for name, array in vars(found).items() if array is not None)
    weight = dict(zip(piece.ids.tolist(), own_weights(piece).tolist(), strict=True))
    for target, value in zip(found.targets.tolist(), found.weight.tolist(), strict=True):
        if value and target < VOCABULARY.size and target != VOCABULARY.eos:
            assert value == weight[target]
    again = laid_out(objective, piece, seed)
    assert all(np.array_equal(getattr(found, name), value) for name, value in vars(again).items())
    assert vocabulary.content == VOCABULARY.content  # marks are nobody's content


@EACH
@settings(deadline=None, max_examples=40)
@given(data=st.data(), seed=st.integers(0, 2**32))
def test_what_a_place_has_beside_its_id_goes_with_it(objective: Objective, data: st.DataObject, seed: int) -> None:
    """Wherever an id is moved to; a query is told of the place that it asks for, and a mark of none."""
    plain = data.draw(pieces(isinstance(objective, Prefix | Masked)))
    at = np.arange(len(plain.ids))
    places = np.stack([at, at + 1], 1).astype(np.int32)
    piece = replace(plain, features=at[:, None].astype(np.float32), coordinates=places)
    found, place = laid_out(objective, piece, seed), dict(zip(piece.ids.tolist(), at.tolist(), strict=True))
    assert found.block is not None and found.features is not None and found.coordinates is not None
    queries = found.order is not None
    for number, id in enumerate(found.ids.tolist()):
        if isinstance(objective, Masked):
            id = int(piece.ids[number])
        elif queries and number >= len(piece.ids) - 1:
            id = int(found.targets[number])
        if id in place:
            assert found.coordinates[number].tolist() == [place[id], place[id] + 1]
            assert found.features[number].tolist() == [place[id]] and found.block[number] == piece.block[place[id]]
        else:
            assert found.coordinates[number].tolist() == [NOWHERE] * 2 and not found.features[number].any()


@EACH
def test_a_room_of_its_capacity_always_holds_a_piece(objective: Objective) -> None:
    for room in (8, 9, 13, 64, 301):
        most = capacity(objective, room)
        for targets in range(1, most + 1, 1 + most // 20):
            assert len(laid_out(objective, compose(plain_document(400), VOCABULARY, 3, targets + 4))) <= room
        larger = laid_out(objective, compose(plain_document(400), VOCABULARY, 3, most + 5), seed=5)
        chance = isinstance(objective, FillInTheMiddle) and objective.rate < 1
        slack = isinstance(objective, Permutation)  # the first id is never predicted
        assert chance or len(larger) + slack > room


def plain_document(length: int) -> Document:
    return Document((Segment("a", np.arange(length)),))


def test_causal_is_the_piece_itself() -> None:
    piece = plain(20)
    found = laid_out(Causal(), piece)
    assert np.array_equal(found.ids, piece.ids[:-1]) and np.array_equal(found.targets, piece.ids[1:])
    assert found.span is None and found.order is None and found.positions is None
    assert with_marks(VOCABULARY, Causal()) is VOCABULARY


# --- prefix -----------------------------------------------------------------------------------------------------------


def test_a_prefix_is_cut_anywhere_and_its_last_position_predicts_the_rest() -> None:
    piece, given_counts = plain(98), []
    for seed in range(400):
        found = laid_out(Prefix(), piece, seed)
        assert found.span is not None
        count = int(found.span.sum())
        given_counts.append(count)
        assert found.span[:count].all() and not found.weight[: count - 1].any()
        assert np.array_equal(found.weight[count - 1 :], piece.weight[count - 1 : -1]) and found.weight.any()
    assert min(given_counts) <= 3 and max(given_counts) >= 95 and abs(np.mean(given_counts) - 50) < 5
    for seed in range(50):
        span = laid_out(Prefix(0.25, 0.5), piece, seed).span
        assert span is not None and 25 <= span.sum() <= 51


def test_segments_seen_both_ways_are_the_prefix() -> None:
    read = Segment("a", np.arange(5), loss=0, both_ways=True)
    piece = compose(Document((read, Segment("b", np.arange(9)))), VOCABULARY)
    found = laid_out(Prefix(), piece)
    assert np.array_equal(found.span, piece.span[:-1]) and np.array_equal(found.weight, piece.weight[:-1])
    assert found.weight.sum() == 12  # of b: begin, content, end; and eos


# --- masked -----------------------------------------------------------------------------------------------------------


def test_eight_of_ten_are_masked_one_is_another_and_one_stays() -> None:
    segments = (Segment("a", np.arange(9_000)), Segment("b", np.arange(3_000), loss=0), Segment("c", np.arange(9_000)))
    piece = compose(Document(segments), VOCABULARY)
    found, vocabulary = laid_out(Masked(0.3), piece), with_marks(VOCABULARY, Masked())
    chosen = found.weight > 0
    assert chosen.sum() == round(0.3 * 18_000) and not chosen[piece.block[:-1] == 2].any()
    assert np.array_equal(found.targets, piece.ids[:-1])
    assert np.array_equal(found.ids[~chosen], piece.ids[:-1][~chosen])
    now, before = found.ids[chosen], found.targets[chosen]
    masked, kept = now == mark(vocabulary, MASK), now == before
    other = ~masked & ~kept
    for part, share in ((masked, 0.8), (kept, 0.1), (other, 0.1)):
        assert abs(part.mean() - share) < 4 * (share * (1 - share) / len(now)) ** 0.5
    assert np.array_equal(vocabulary.block_of(now[other]), vocabulary.block_of(before[other]))
    for name in ("a", "c"):
        vocabulary.to_local(name, now[other & (vocabulary.block_of(before) == VOCABULARY.names.index(name))])
    spread = np.histogram(vocabulary.to_local("a", now[other & (vocabulary.block_of(before) == 1)]), 4, (0, SIZE))[0]
    assert spread.min() > 0.15 * spread.sum()  # from all over the block


def test_each_piece_draws_its_own_share_where_there_is_a_range() -> None:
    shares = [(laid_out(Masked(0.2, most=0.8), plain(300), seed).weight > 0).mean() for seed in range(200)]
    assert 0.19 < min(shares) < 0.25 and 0.75 < max(shares) < 0.81 and abs(np.mean(shares) - 0.5) < 0.05


def test_marks_of_documents_are_not_masked_and_one_id_is_enough() -> None:
    for seed in range(30):
        found = laid_out(Masked(), plain(1), seed)
        assert found.weight.tolist() == [0, 0, 1, 0] and found.ids[:2].tolist() == [1, 4]


# --- span corruption --------------------------------------------------------------------------------------------------


def put_together(found: Arranged, vocabulary: Vocabulary) -> list[int]:
    """The piece from what is read and what is to be written, one id at a time."""
    assert found.span is not None
    whole, source = [*found.ids.tolist(), int(found.targets[-1])], int(found.span.sum())
    spans: dict[int, list[int]] = {}
    for id in whole[source:]:
        if id >= mark(vocabulary, SENTINELS):
            last = spans[id] = []
        else:
            last.append(id)
    return [part for id in whole[:source] for part in spans.get(id, [id])]


@settings(deadline=None, max_examples=60)
@given(pieces(), st.integers(0, 2**32), st.floats(0.01, 0.9), st.floats(1, 6))
def test_spans_and_what_is_left_make_the_piece(piece: Composed, seed: int, share: float, mean: float) -> None:
    objective = SpanCorruption(share, mean)
    found, vocabulary = laid_out(objective, piece, seed), with_marks(VOCABULARY, objective)
    assert put_together(found, vocabulary) == piece.ids[:-1].tolist()


def test_spans_are_of_the_length_and_share_that_was_asked_for() -> None:
    objective, vocabulary = SpanCorruption(0.15, 3.0), with_marks(VOCABULARY, SpanCorruption())
    piece = plain(397)
    lengths, places = [], np.zeros(400)
    for seed in range(300):
        found = laid_out(objective, piece, seed)
        assert found.span is not None
        source = int(found.span.sum())
        aimed = found.targets[source - 1 :]
        sentinels = np.flatnonzero(aimed >= mark(vocabulary, SENTINELS))
        assert len(sentinels) == 21 and len(aimed) == 60 + 21  # 0.15 · 400 ids in 60 / 3 spans, and the last sentinel
        assert np.array_equal(aimed[sentinels], mark(vocabulary, SENTINELS) + np.arange(21))
        assert not found.weight[: source - 1].any()
        learned = found.weight[source - 1 :]
        assert learned[aimed != VOCABULARY.block("a").begin].all()
        cut = np.diff(sentinels) - 1
        assert cut.min() >= 1
        lengths += cut.tolist()
        places[np.isin(piece.ids[:-1], aimed)] += 1
    assert np.mean(lengths) == 3 and np.std(lengths) > 1.5
    assert (places[20:-20] / 300).std() < 0.05 and abs(places[20:-20].mean() / 300 - 0.15) < 0.01  # anywhere


def test_too_few_sentinels_are_refused() -> None:
    must_suit(SpanCorruption(sentinels=30), 512)
    with pytest.raises(ConfigError, match=r"sentinels is 20 .* may have 23 spans; set it to 24"):
        must_suit(SpanCorruption(sentinels=20), 512)


# --- fill in the middle -----------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(pieces(), st.integers(0, 2**32))
def test_the_parts_put_back_make_the_piece(piece: Composed, seed: int) -> None:
    found, vocabulary = laid_out(FillInTheMiddle(1.0), piece, seed), with_marks(VOCABULARY, FillInTheMiddle())
    whole = [*found.ids.tolist(), int(found.targets[-1])]
    begins, ends, fills = (mark(vocabulary, number) for number in (BEGINNING, ENDING, MIDDLE))
    if begins not in whole:  # there is no content
        assert whole == piece.ids.tolist()
        return
    assert whole[0] == begins and whole[-1] == vocabulary.eos
    ending, middle = whole.index(ends), whole.index(fills)
    before, after, between = whole[1:ending], whole[ending + 1 : middle], whole[middle + 1 : -1]
    assert [*before, *between, *after] == piece.ids.tolist() and between
    assert not found.weight[np.isin(found.targets, [begins, ends, fills])].any()
    assert found.weight.sum() >= own_weights(piece).sum()


def test_so_many_pieces_are_rearranged() -> None:
    vocabulary, marked = with_marks(VOCABULARY, FillInTheMiddle()), []
    for seed in range(1000):
        marked.append(int(laid_out(FillInTheMiddle(0.3), plain(9), seed).ids[0]) == mark(vocabulary, BEGINNING))
    assert abs(np.mean(marked) - 0.3) < 0.06


# --- permutation ------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(pieces(), st.integers(0, 2**32))
def test_a_query_sees_what_comes_before_it_in_the_order(piece: Composed, seed: int) -> None:
    objective = Permutation(0.4)
    found, vocabulary, n = laid_out(objective, piece, seed), with_marks(VOCABULARY, objective), len(piece.ids) - 1
    assert found.order is not None and found.reveal is not None and found.positions is not None
    queries, seen = range(n, len(found)), sees(found)
    places = found.positions[n:].tolist()
    assert np.array_equal(found.ids[:n], piece.ids[:-1]) and not found.weight[:n].any()
    assert (found.ids[n:] == mark(vocabulary, MASK)).all() and (found.weight[n:] > 0).all()
    assert np.array_equal(found.targets[n:], piece.ids[places]) and len(set(places)) == len(places)
    assert (found.reveal[n:] == HIDDEN).all()
    known = set(range(n)) - set(places)
    assert 0 in known
    for content in known:
        assert set(np.flatnonzero(seen[content])) == known
    for query, place in zip(queries, places, strict=True):
        assert set(np.flatnonzero(seen[query])) == known
        known |= {place}
        assert set(np.flatnonzero(seen[place])) == known


def test_the_last_part_of_the_order_is_predicted() -> None:
    assert [int(laid_out(Permutation(), plain(n)).weight.sum()) for n in (1, 2, 60, 600)] == [1, 1, 10, 100]
    found = [frozenset(laid_out(Permutation(), plain(60), seed).positions[63:].tolist()) for seed in range(20)]  # type: ignore[index]
    assert len(set(found)) == 20 and len(set().union(*found)) > 50


# --- settings ---------------------------------------------------------------------------------------------------------


@EACH
def test_as_settings(objective: Objective) -> None:
    config = RecipeConfig(objective=objective)
    assert from_dict(RecipeConfig, to_dict(config)) == config
    assert from_dict(RecipeConfig, {"objective": objective.kind}).objective == type(objective)()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "masked", "share": 0.0}, "share is 0.0"),
        ({"kind": "masked", "most": 0.1}, "most is 0.1"),
        ({"kind": "masked", "mean_length": 3.0}, "unknown setting objective.mean_length"),
        ({"kind": "span-corruption", "mean_length": 0.5}, "mean_length is 0.5"),
        ({"kind": "prefix", "least": 0.6, "most": 0.5}, "least 0.6 and most 0.5"),
        ({"kind": "fill-in-the-middle", "rate": 1.5}, "rate is 1.5"),
        ({"kind": "bert"}, "it is one of causal, prefix, masked"),
    ],
)
def test_what_has_no_meaning_raises(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        from_dict(RecipeConfig, {"objective": wrong})


def test_what_does_not_go_together_raises_and_names_both() -> None:
    shape = DecoderConfig(d_model=8, num_layers=1, num_heads=1, max_seq_len=64)
    must_go_together(Masked(), replace(shape, window=64))
    must_go_together(Prefix(), replace(shape, window=16))
    with pytest.raises(ConfigError, match="window 16 .* objective masked"):
        must_go_together(Masked(), replace(shape, window=16))
    with pytest.raises(ConfigError, match="memory 32 .* objective prefix"):
        must_go_together(Prefix(), replace(shape, memory=32))
    with pytest.raises(ConfigError, match="tally 2 .* objective permutation"):
        must_go_together(Permutation(), replace(shape, tally=2))
    with pytest.raises(ConfigError, match="context of 4 is too short for the objective fill-in-the-middle"):
        must_suit(FillInTheMiddle(), 4)


def test_only_a_causal_decoder_gets_a_window_unasked() -> None:
    sized = DecoderConfig(d_model=8, num_layers=1, num_heads=1, max_seq_len=64, window=16)
    assert [fit(o, sized, VOCABULARY, 0).window for o in (Causal(), Masked())] == [16, 0]
    assert fit(Prefix(), sized, VOCABULARY, 16).window == 16
    sizes = [fit(o, sized, VOCABULARY, 0).vocab_size for o in (Causal(), Masked(), SpanCorruption(sentinels=9))]
    assert sizes == [VOCABULARY.size, VOCABULARY.size + 1, VOCABULARY.size + 13]


# --- batches ----------------------------------------------------------------------------------------------------------


def a_store(folder: Path, lengths: list[int]) -> Store:
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return write_store(
        folder, [Document((Segment("a", np.arange(n) + s),)) for n, s in zip(lengths, starts[:-1], strict=True)],
        VOCABULARY,
    )  # fmt: skip


def same(a: Batch, b: Batch) -> bool:
    return all(np.array_equal(value, vars(b)[name]) for name, value in vars(a).items() if value is not None)


@EACH
def test_batches_keep_to_the_context_and_are_a_function_of_their_number(objective: Objective, tmp_path: Path) -> None:
    store = a_store(tmp_path, [100, 3, 0, 45, 7, 260, 1, 9, 9, 9])
    make = functools.partial(Batches, store, context=48, batch_size=3, objective=objective)
    batches = make(seed=1)
    first = [batches.batch(number) for number in range(12)]
    again = make(seed=1)
    assert all(same(again.batch(number), first[number]) for number in reversed(range(12)))
    assert not same(make(seed=2).batch(0), first[0])
    top = with_marks(VOCABULARY, objective).size
    several = 0
    for batch in first:
        assert batch.ids.shape == (3, 48) and 0 <= batch.ids.min() <= batch.ids.max() < top
        inside = batch.document >= 0
        assert not batch.weight[~inside].any()
        several += int(batch.document.max() > 0)
        assert (batch.span is None) == (not isinstance(objective, Prefix | Masked | SpanCorruption))
        assert {batch.order is None, batch.reveal is None, batch.positions is None} == {
            not isinstance(objective, Permutation)
        }
        for document, span in zip(batch.document, [] if batch.span is None else batch.span, strict=False):
            of = [set(document[span == number]) for number in range(1, span.max() + 1)]
            assert all(len(documents) == 1 for documents in of)  # no two documents share a number
    assert several


@EACH
def test_an_epoch_holds_all_of_a_long_document(objective: Objective, tmp_path: Path) -> None:
    batches = Batches(a_store(tmp_path, [500]), context=40, batch_size=1, seed=0, objective=objective)
    content, found = VOCABULARY.block("a").content_slice, set()
    for number in range(batches.windows):
        batch = batches.batch(number)
        parts = np.concatenate([batch.ids[0], batch.targets[0]])
        found |= set(parts[(parts >= content.start) & (parts < content.stop)].tolist())
    lost = 500 - len(found & set(range(content.start, content.start + 500)))
    assert not lost if capacity(objective, 40) == 40 else lost < 10  # in the row that holds its end and its beginning


@EACH
def test_windows_for_evaluation_are_the_same_every_time(objective: Objective, tmp_path: Path) -> None:
    store = a_store(tmp_path, [100, 3, 45, 7, 60])
    first, again = (list(windows(store, 32, 4, objective=objective)) for _ in range(2))
    assert all(same(a, b) for a, b in zip(first, again, strict=True))
    other = list(windows(store, 32, 2, objective=objective))  # windows do not depend on those they share a batch with
    rows = {row[row > 0].tobytes() for batch in first for row in batch.ids}
    assert rows == {row[row > 0].tobytes() for batch in other for row in batch.ids}
    assert all(batch.ids.shape[1] <= 32 for batch in first)
    held = np.concatenate([part.ravel() for batch in first for part in (batch.ids, batch.targets)])
    start = VOCABULARY.block("a").first_content
    assert set(range(start, start + 215)) <= set(held.tolist())



def test_segments_seen_both_ways_need_an_objective_that_has_them(tmp_path: Path) -> None:
    read = Segment("a", np.arange(30), loss=0, both_ways=True)
    store = write_store(tmp_path, [Document((read, Segment("b", np.arange(40))))] * 3, VOCABULARY)
    batch = Batches(store, context=100, batch_size=2, seed=0, objective=Prefix()).batch(0)
    assert batch.span is not None and batch.span.max() >= 2
    for objective in (Causal(), SpanCorruption(), FillInTheMiddle(), Permutation()):
        with pytest.raises(ConfigError, match=f"both ways, and the objective is {objective.kind}"):
            Batches(store, context=100, batch_size=2, seed=0, objective=objective)
