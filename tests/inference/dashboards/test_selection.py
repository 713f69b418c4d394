"""The best few of a stream are those of the whole, however it is cut and ordered, with columns as passes have them."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.dashboards.encoding import near_on_device
from inference.dashboards.examples import Selection
from inference.dashboards.selection import Best, Candidates, best_rows, by_lot, by_value

ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(0, 12)), max_size=120, unique_by=lambda row: row[:2]
)


def candidates(rows):
    group, rank, identity = (np.array(column, dtype=np.int64) for column in zip(*rows, strict=True))
    none = np.zeros(len(rows))
    return Candidates(
        group=group,
        rank=rank,
        identity=identity,
        context=rank.astype(np.int32),
        position=none.astype(np.int32),
        value=none.astype(np.float32),
    )


def offline(rows, size):
    best = []
    for group in range(4):
        seen = set()
        for _, rank, identity in sorted(row for row in rows if row[0] == group):
            if identity not in seen and len(seen) < size:
                seen.add(identity)
                best.append((group, rank))
    return best


@settings(max_examples=200)
@given(ROWS, st.integers(1, 5), st.lists(st.integers(0, 120), max_size=6), st.randoms())
def test_streamed_equals_offline(rows, size, cuts, random):
    expected = offline(rows, size)
    shuffled = rows[:]
    random.shuffle(shuffled)
    best = Best(4, size)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), len(rows)], strict=True):
        if part := shuffled[start:stop]:
            offered = candidates(part)
            best.add(offered.take(np.flatnonzero(best.admits(offered.group, offered.rank))))
            best.compact()
    kept = best.kept()
    assert list(zip(kept.group.tolist(), kept.rank.tolist(), strict=True)) == expected


@given(ROWS.filter(len), st.integers(1, 3))
def test_offering_twice_counts_once(rows, size):
    best = Best(4, size)
    best.add(candidates(rows))
    best.add(candidates(rows[::-1]))
    kept = best.kept()
    assert list(zip(kept.group.tolist(), kept.rank.tolist(), strict=True)) == offline(rows, size)


def test_many_duplicates_do_not_hide_what_comes_behind_them():
    n = 500
    group = np.zeros(n, dtype=np.int64)
    identity = np.minimum(np.arange(n), n - 3) // (n - 3) * np.arange(n)
    rows, places = best_rows(group, np.arange(n), identity, 3)
    assert rows.tolist() == [0, n - 3, n - 2]
    assert places.tolist() == [0, 1, 2]


def test_ranks_by_value_are_those_of_values_that_lie_in_rows_of_a_file():
    rows = np.zeros(4, dtype=[("token", "<i8"), ("context", "<i4"), ("value", "<f4")])
    rows["value"], rows["context"] = [0.5, 2.0, 0.5, -1.0], [7, 3, 5, 1]
    rows.setflags(write=False)
    assert np.argsort(by_value(rows["value"], rows["context"])).tolist() == [1, 2, 0, 3]


def test_ranks_by_lot_rise_through_all_32_bits():
    lots = np.array([0, 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, (1 << 32) - 1], dtype=np.uint32)
    assert (np.diff(by_lot(lots, np.array([9, 0, 0, 0, 0, 1]))) > 0).all()


def test_a_tensor_is_answered_with_a_tensor():
    best = Best(4, 1)
    best.add(candidates([(0, 5, 1), (1, 5, 1)]))
    best.compact()
    group, rank = np.array([0, 0, 2]), np.array([5, 6, 6])
    assert best.admits(group, rank).tolist() == [True, False, True]
    assert torch.equal(best.admits(*map(torch.from_numpy, (group, rank))), torch.tensor([True, False, True]))


def test_whole_rows_admit_all_that_pairs_admit_and_little_more():
    generator = np.random.default_rng(0)
    selection, contexts = Selection(range(3, 50)), np.arange(200, dtype=np.int32)
    values_cf = generator.normal(size=(200, 47)).astype(np.float32)
    values_cf[:, 7] = -np.inf
    values_cf[50:, 8] = np.nan
    feature, context = np.tile(np.arange(47), 150), np.repeat(contexts[:150], 47)
    selection.offer_hard(feature, context, np.zeros(len(feature)), values_cf[:150].reshape(-1))
    selection.offer_random(feature, context)
    new, feature, context = contexts[150:], np.tile(np.arange(47), 50), np.repeat(contexts[150:], 47)
    for compacted in (False, True):
        if compacted:
            selection.hard.compact(), selection.random.compact()
        hard = selection.hard_admits(feature, context, values_cf[150:].reshape(-1))
        random = selection.random_admits(feature, context)
        for one_by_one, of_rows in (
            (hard, selection.hard_may_admit(values_cf[150:])),
            (random, selection.random_may_admit(new)),
        ):
            assert not (one_by_one & ~of_rows.reshape(-1)).any()
            assert compacted or one_by_one.any()
        if compacted:
            assert selection.hard_may_admit(values_cf[150:]).mean() < 0.2
            assert selection.random_may_admit(new).mean() < 0.2


def test_what_may_nearly_fire_is_found_where_the_heights_are():
    """On a GPU, whose heights do not come to the host: the same contexts, features and bounds as by arrays."""
    generator = torch.Generator().manual_seed(0)
    selection, height_cf = Selection(range(30)), torch.randn(60, 30, generator=generator)
    feature, context = np.tile(np.arange(30), 40), np.repeat(np.arange(40, dtype=np.int32), 30)
    selection.offer_hard(feature, context, np.zeros(len(feature)), height_cf[:40].numpy().reshape(-1))
    selection.hard.compact()
    late_cf, offered_cf = height_cf[40:], torch.rand(20, 30, generator=generator) < 0.7
    row, feature = np.nonzero(selection.hard_may_admit(late_cf.numpy()) & offered_cf.numpy())
    assert 0 < len(row) < late_cf.numel() / 2
    found = near_on_device(selection, late_cf, offered_cf)
    for column, wanted in zip(found, (row, feature, late_cf.numpy()[row, feature]), strict=True):
        assert np.array_equal(column, wanted)
