"""Bins, events and pairs against their plain definitions."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from inference.dashboards import masses, pairs
from inference.dashboards.bins import (
    FINE_BINS,
    band_counts,
    fine_bins,
    fine_bins_of_bits,
    fine_edges,
    shown_edges,
    shown_histogram,
)
from inference.dashboards.columns import ColumnReader, ColumnWriter
from inference.dashboards.events import Firings, Runs, gather_ranges, sum_by_code


@given(st.lists(st.floats(2**-20, 2**20, width=32), min_size=1))
def test_fine_bin_holds_its_value(values):
    array, edges = np.array(values, dtype=np.float32), fine_edges()
    expected = np.clip(np.searchsorted(edges, array, side="right") - 1, 0, FINE_BINS - 1)
    np.testing.assert_array_equal(fine_bins(array), expected)


def test_shown_histogram_merges_pairs_of_fine_bins():
    assert len(shown_edges()) == 51
    assert shown_edges()[24] == 1
    fine = np.arange(2 * FINE_BINS).reshape(2, FINE_BINS)
    np.testing.assert_array_equal(shown_histogram(fine)[:, 3], fine[:, 6] + fine[:, 7])


def test_band_counts_of_a_dead_feature_are_zero():
    assert not band_counts(np.zeros((3, FINE_BINS), dtype=np.int64), np.zeros(3, dtype=np.float32)).any()


def test_band_counts_are_exact_where_bands_end_at_edges():
    values = np.array([1.0, 0.8, 0.75, 0.6, 0.5, 0.3, 0.25, 0.2, 0.05], dtype=np.float32)
    fine = np.bincount(fine_bins(values), minlength=FINE_BINS)[None]
    counts = band_counts(fine, np.array([1.0], dtype=np.float32))[0]
    assert counts.sum() == len(values)
    assert counts[4] == 1


@pytest.mark.parametrize("limit", [300, 1 << 20])
def test_sum_by_code(limit):
    rng = np.random.default_rng(1)
    codes, values = rng.integers(0, 300, 1000), rng.random(1000).astype(np.float32)
    found, sums, counts = sum_by_code(codes, values, limit)
    np.testing.assert_array_equal(found, np.unique(codes))
    np.testing.assert_allclose(sums, [values[codes == code].astype(np.float64).sum() for code in found])
    np.testing.assert_array_equal(counts, [(codes == code).sum() for code in found])


def test_gather_ranges_keeps_empty_ones_out():
    assert gather_ranges(np.array([5, 2, 9]), np.array([7, 2, 10])).tolist() == [5, 6, 9]


def test_runs_of_no_events_are_none():
    none = torch.zeros(0)
    firings = Firings.from_tokens(none.int(), none, torch.zeros(3, dtype=torch.int64), torch.arange(3), 4)
    assert len(Runs.of(firings, none.int())) == 0
    assert len(firings.on_host()) == 0


def test_peak_is_the_first_of_equal_heights():
    feature, value = torch.tensor([1, 0, 1, 1, 0], dtype=torch.int32), torch.tensor([2.0, 1.0, 2.0, 3.0, 1.0])
    firings = Firings.from_tokens(feature, value, torch.tensor([2, 1, 2]), torch.tensor([10, 11, 12]), 2)
    assert firings.on_host().token_e.tolist() == [10, 12, 10, 11, 12]
    runs = Runs.of(firings, torch.tensor([0, 0, 0, 0, 0]))
    assert runs.peak_token_r.tolist() == [10, 12]
    assert runs.peak_value_r.tolist() == [1.0, 3.0]
    assert np.diff(runs.indptr_r).tolist() == [2, 3]


def test_runs_are_of_one_feature_in_one_context():
    generator = torch.Generator().manual_seed(5)
    firing_t = torch.randint(0, 6, (60,), generator=generator)
    feature_e = torch.cat([torch.randperm(9, generator=generator)[:n] for n in firing_t.tolist()])
    value_e = torch.randint(1, 5, (len(feature_e),), generator=generator).float()
    context_t = torch.arange(60) // 7
    firings = Firings.from_tokens(feature_e, value_e, firing_t, torch.arange(60), 9)
    runs, wanted = Runs.of(firings, context_t[firings.token_e]), {}
    token_e = torch.arange(60).repeat_interleave(firing_t)
    for feature, token, value in zip(feature_e.tolist(), token_e.tolist(), value_e.tolist(), strict=True):
        wanted.setdefault((feature, token // 7), []).append((-value, token))
    found = zip(runs.feature_r, runs.context_r, runs.peak_value_r, runs.peak_token_r, strict=True)
    assert list(found) == [(*key, -min(own)[0], min(own)[1]) for key, own in sorted(wanted.items())]
    assert np.diff(runs.indptr_r).tolist() == [len(own) for _, own in sorted(wanted.items())]


def test_fine_bins_are_the_same_of_tensors():
    values = torch.rand(500, generator=torch.Generator().manual_seed(1)).exp2().pow(9)
    np.testing.assert_array_equal(fine_bins_of_bits(values.view(torch.int32)).numpy(), fine_bins(values.numpy()))


def random_rows(seed, n_features, n_tokens, most):
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(n_features)[: rng.integers(0, most)] for _ in range(n_tokens)]
    return rows, torch.from_numpy(np.concatenate(rows)), torch.tensor(list(map(len, rows)))


def written(counts: pairs.PairCounts) -> ColumnReader:
    """Write counts and read them again."""
    file = io.BytesIO()
    writer = ColumnWriter(file)
    counts.write(writer, "")
    writer.close()
    data = file.getvalue()
    return ColumnReader(lambda start, stop: data[start:stop], len(data))


def dense_product(rows, n_features):
    dense = np.zeros((len(rows), n_features), dtype=np.int64)
    for row, active in enumerate(rows):
        dense[row, active] = 1
    product = dense.T @ dense
    np.fill_diagonal(product, 0)
    return product


def test_pair_counts_equal_the_dense_product():
    rows, features, firing = random_rows(2, 40, 300, 30)
    counts = pairs.PairCounts(40, torch.device("cpu"))
    counts.add(features, firing)
    counts.add(features, firing)
    assert counts.exact
    np.testing.assert_array_equal(written(counts).array("pair_matrix"), 2 * dense_product(rows, 40))


def test_pairs_of_large_dictionaries_are_counted_by_feature(monkeypatch):
    monkeypatch.setattr(pairs, "LARGEST_EXACT", 10)
    rows, features, firing = random_rows(3, 40, 200, 20)
    counts = pairs.PairCounts(40, torch.device("cpu"))
    counts.add(features, firing)
    assert not counts.exact
    numbers, found = written(counts).table("pairs", range(40))
    table = np.zeros((40, 40), dtype=np.int64)
    table[np.repeat(np.arange(40), numbers), found["other"]] = found["count"]
    np.testing.assert_array_equal(table, dense_product(rows, 40))


def test_pairs_of_rare_features_are_kept_beside_those_of_frequent_ones(monkeypatch):
    """Twenty features fire at half of the tokens each, ten pairs of twins at eight: these are nearer to each other."""
    monkeypatch.setattr(pairs, "LARGEST_EXACT", 10)
    monkeypatch.setattr(pairs, "_KEPT_PER_FEATURE", 1)
    rng = np.random.default_rng(4)
    active_tf = np.zeros((600, 40), dtype=bool)
    active_tf[:, :20] = rng.random((600, 20)) < 0.5
    for twin in range(20, 40, 2):
        active_tf[rng.permutation(600)[:8], twin : twin + 2] = True
    counts = pairs.PairCounts(40, torch.device("cpu"))
    for part_tf in np.split(active_tf, 3):
        counts.add(torch.from_numpy(np.nonzero(part_tf)[1]), torch.from_numpy(part_tf.sum(1)))
    numbers, found = written(counts).table("pairs", range(40))
    assert numbers.sum() == 2 * 40
    table = np.zeros((40, 40), dtype=np.int64)
    table[np.repeat(np.arange(40), numbers), found["other"]] = found["count"]
    for twin in range(20, 40, 2):
        assert table[twin, twin + 1] == table[twin + 1, twin] == 8


def test_of_equally_near_pairs_the_first_are_kept():
    codes, counts, count_f = np.array([1, 2, 7, 9]), np.array([2, 2, 3, 2]), np.full(5, 10)
    assert [column.tolist() for column in pairs.nearest_codes(codes, counts, count_f, 2)] == [[1, 7], [2, 3]]


def test_rows_too_long_are_left_out_and_said(monkeypatch):
    monkeypatch.setattr(pairs, "LONGEST_ROW", 3)
    counts = pairs.PairCounts(10, torch.device("cpu"))
    counts.add(torch.tensor([0, 1, 0, 1, 2, 3]), torch.tensor([2, 4]))
    assert not counts.exact
    assert written(counts).array("pair_matrix").sum() == 2


def test_nearest_by_jaccard_needs_five_shared_tokens():
    count = np.array([10, 10, 20])
    shared = np.array([[0, 4, 8], [4, 0, 0], [8, 0, 0]])
    ids, jaccards, shared_fk = pairs.nearest_by_jaccard(shared, 0, count, 2)
    assert ids.tolist() == [[2, -1], [-1, -1], [0, -1]]
    assert jaccards[0, 0] == pytest.approx(8 / 22)
    assert shared_fk[2, 0] == 8
    some = pairs.nearest_by_jaccard(shared[2:], 2, count, 2)
    assert some[0].tolist() == [[0, -1]]


def test_nearest_of_pairs_equal_those_of_dense_counts():
    generator = np.random.default_rng(0)
    shared_bf = generator.integers(0, 12, (6, 40)) * (generator.random((6, 40)) < 0.6)
    count_f = generator.integers(12, 16, 40)  # many are equally near
    row, other = np.nonzero(shared_bf)
    order = generator.permutation(len(row))
    row, other = row[order], other[order]
    sparse = pairs.nearest_of_pairs(row, other, shared_bf[row, other], range(3, 9), count_f, 5)
    for ours, dense in zip(sparse, pairs.nearest_by_jaccard(shared_bf, 3, count_f, 5), strict=True):
        np.testing.assert_array_equal(ours, dense)


@pytest.mark.parametrize("longest", [1, 50, 1 << 20])
def test_masses_do_not_depend_on_what_is_set_aside(longest, monkeypatch):
    monkeypatch.setattr(masses, "_LONGEST_RUN", longest)
    monkeypatch.setattr(masses, "_WRITTEN_AT_ONCE", 30)
    rng, d_vocab, n_features = np.random.default_rng(4), 17, 9
    table, counts = masses.TokenMasses(n_features, d_vocab), np.zeros((n_features, d_vocab), dtype=np.int64)
    sums = np.zeros((n_features, d_vocab))
    for _ in range(5):
        feature, token = np.sort(rng.integers(0, n_features, 40)).astype(np.int32), rng.integers(0, d_vocab, 40)
        value = rng.integers(1, 9, 40).astype(np.float32)
        table.add(feature, token, value)
        np.add.at(counts, (feature, token), 1)
        np.add.at(sums, (feature, token), value)
    file = io.BytesIO()
    writer = ColumnWriter(file)
    table.write(writer, "mass", masses.MASS_ROW)
    writer.close()
    data = file.getvalue()
    numbers, rows = ColumnReader(lambda start, stop: data[start:stop], len(data)).table("mass", range(n_features))
    feature, token = np.nonzero(counts)
    np.testing.assert_array_equal(numbers, np.bincount(feature, minlength=n_features))
    np.testing.assert_array_equal(rows["token"], token)
    np.testing.assert_array_equal(rows["count"], counts[feature, token])
    np.testing.assert_array_equal(rows["mass"], sums[feature, token])
