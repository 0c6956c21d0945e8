"""Statistics of music, their overlap, and what counts as a copy, on pieces whose answers can be counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from seqmodal.evaluation import copying as copying_module
from seqmodal.evaluation.copying import NoteRuns, copied, copy_rate, copying, longest_copy
from seqmodal.evaluation.music import compare, overlap, statistics


def piece(onset, pitch, length=1.0, velocity=64, drum=None) -> SimpleNamespace:
    onset, pitch = np.asarray(onset, float), np.asarray(pitch)
    made = SimpleNamespace(
        onset=onset, end=onset + length, pitch=pitch, velocity=np.broadcast_to(velocity, onset.shape)
    )
    if drum is not None:
        made.drum = np.asarray(drum)
    return made


def random_piece(seed: int, notes: int = 200) -> SimpleNamespace:
    rng = np.random.default_rng(seed)
    return piece(np.cumsum(rng.exponential(0.2, notes)), rng.integers(40, 80, notes), rng.uniform(0.1, 2, notes),
                 rng.integers(1, 128, notes))


def test_counted_by_hand():
    # Four notes in the first two seconds, each of one second; two of them C.
    found = statistics(piece([0, 0, 1, 1], [60, 72, 62, 64]))
    assert found["pitch_class_entropy"].tolist() == [1.5]
    assert found["note_density"].tolist() == [2.0]
    assert found["polyphony"].tolist() == [2.0]
    assert found["velocity"].tolist() == [64] * 4
    assert found["duration"].tolist() == [0.0] * 4


def test_windows():
    found = statistics(piece([5, 14, 15, 28], [60, 61, 62, 63], 10.0), window=10.0)  # 5..15, 15..25, 25..35, 35..38
    np.testing.assert_allclose(found["note_density"], [0.2, 0.1, 0.1])  # the last three seconds are too short
    np.testing.assert_allclose(found["polyphony"], [1.1, 1.9, 0.7])
    assert found["pitch_class_entropy"].tolist() == [1, 0, 0]


def test_polyphony_beside_a_fine_grid():
    one = random_piece(1)
    moments = one.onset.min() + np.arange(0.5, 20_000) / 1000
    expected = ((one.onset[:, None] <= moments) & (moments < one.end[:, None])).sum(0).mean()
    assert statistics(one)["polyphony"][0] == pytest.approx(expected, abs=0.01)


def test_drums_have_no_pitch():
    found = statistics(piece([0, 0.5, 1], [36, 60, 60], 1.0, drum=[True, False, False]))
    assert found["pitch_class_entropy"].tolist() == [0]
    assert found["note_density"].tolist() == [1.5]
    assert found["polyphony"].tolist() == [1.0]
    assert len(found["duration"]) == 2


def test_a_piece_without_notes():
    assert all(len(values) == 0 for values in statistics(piece([], [])).values())
    assert set(compare([piece([], [])], [random_piece(0)]).values()) == {0.0}


def test_overlap():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 3000), rng.normal(2, 1, 3000)
    assert overlap(a, a) == pytest.approx(1)
    assert overlap(a, rng.normal(0, 1, 3000)) > 0.95
    assert overlap(a, rng.normal(0, 1, 40)) > 0.75
    assert overlap(a, b) == pytest.approx(0.317, abs=0.05)  # 2 Φ(-1)
    assert overlap(a, b) == pytest.approx(overlap(b, a))
    assert overlap(a, a + 100) < 1e-6
    assert overlap(np.full(5, 80.0), np.full(9, 80.0)) == 1
    assert overlap(np.full(500, 80.0), np.full(500, 90.0)) < 0.1
    assert overlap(np.zeros(0), a) == 0


def test_compare_tells_a_change_from_none():
    pieces = [random_piece(seed) for seed in range(6)]
    assert all(value == pytest.approx(1) for value in compare(pieces, pieces).values())
    louder = [SimpleNamespace(**{**vars(p), "velocity": np.full(len(p.pitch), 127)}) for p in pieces]
    found = compare(louder, pieces)
    assert found["velocity"] < 0.5
    assert found["polyphony"] == pytest.approx(1)
    assert list(found) == ["pitch_class_entropy", "note_density", "velocity", "duration", "polyphony"]


def slices(one: SimpleNamespace, first: int, last: int, up: int = 0, slower: float = 1.0) -> SimpleNamespace:
    return piece(one.onset[first:last] * slower, one.pitch[first:last] + up)


def test_copies_are_found_note_for_note():
    known = [random_piece(seed) for seed in range(5)]
    training = NoteRuns(known)
    stolen, new = slices(known[3], 50, 90), random_piece(99, 60)
    assert copy_rate(NoteRuns([stolen]), training, 8) == 1
    assert copy_rate(NoteRuns([new]), training, 8) == 0
    mixed = NoteRuns([stolen, new])
    found, of_piece = copied(mixed, training, 8)
    assert (int(found.sum()), len(found)) == (33, 33 + 53)
    assert found[of_piece == 0].all()
    assert longest_copy(mixed, training) == 40
    assert longest_copy(NoteRuns([new]), training) < 8


def test_another_key_counts_only_where_asked():
    known = [random_piece(seed) for seed in range(3)]
    moved = [slices(known[0], 0, 30, up=3)]
    assert copy_rate(NoteRuns(moved), NoteRuns(known), 8) == 1
    assert copy_rate(NoteRuns(moved, any_key=False), NoteRuns(known, any_key=False), 8) == 0
    still = [slices(known[0], 0, 30)]
    assert copy_rate(NoteRuns(still, any_key=False), NoteRuns(known, any_key=False), 8) == 1


def test_runs_do_not_cross_pieces():
    one = random_piece(0, 20)
    halves = NoteRuns([slices(one, 0, 10), slices(one, 10, 20)])
    assert len(halves.hashes(8)[0]) == 2 * 3
    assert longest_copy(NoteRuns([one]), halves) == 10
    assert len(halves.hashes(11)[0]) == 0


def test_hashes_are_those_of_the_runs():
    rng = np.random.default_rng(0)
    pieces = [piece(np.arange(n) * 0.3, rng.integers(60, 62, n)) for n in (1, 40, 0, 60)]
    hashes = NoteRuns(pieces, any_key=False).hashes(4)[0]
    runs = [tuple(p.pitch[i : i + 4]) for p in pieces for i in range(len(p.pitch) - 3)]
    assert len(hashes) == len(runs)
    assert len(set(runs)) == len(set(hashes.tolist())) == len(set(zip(runs, hashes.tolist(), strict=True)))


def test_the_report():
    known, held = [random_piece(s) for s in range(3)], [random_piece(50)]
    report = copying([slices(known[0], 0, 20)], held, known)
    assert report["copy_rate_8"] == report["copy_rate_16"] == 1
    assert report["copy_rate_8_of_held_out"] == 0
    assert report["longest_copy"] == 20
    empty = copying([piece([], [])], held, known)
    assert empty["copy_rate_8"] == empty["longest_copy"] == 0


@pytest.mark.parametrize("at_once", [1, 450])
def test_the_report_reads_the_training_data_once_in_parts(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    known, held = [random_piece(s) for s in range(7)], [random_piece(50)]
    samples = [slices(known[1], 5, 12), slices(known[4], 30, 60), slices(known[6], 0, 18), random_piece(51)]
    whole = copying(samples, held, known)
    monkeypatch.setattr(copying_module, "AT_ONCE", at_once)
    assert copying(iter(samples), iter(held), iter(known)) == whole
    assert whole["longest_copy"] == 30 and 0 < whole["copy_rate_16"] < whole["copy_rate_8"] < 1
