"""Packed rows of features, examples and token ids give back what was packed, and refuse what nothing packed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import packed_examples, packed_features, packed_tokens
from features.rows import FEATURE_COLUMNS, STORED_FEATURE_COLUMNS
from inference.dashboards.results import TOP, Examples
from inference.dashboards.token_features import TokenFeatures
from inference.packing import BadBytes, Lists

HALF = st.floats(-1000, 1000, width=16)
COUNT = st.integers(0, 2**40)
LONG = {"histogram", "logit_histogram"}


def is_list(name: str) -> bool:
    return name.endswith(("_ids", "_counts", "_shares", "_values", "_jaccards", "_cosines", "histogram"))


def kind_of(name: str):
    if name.startswith("logit_") and name not in LONG:
        return st.floats(-100, 100, width=32)
    if name.startswith("total"):
        return st.floats(0, 1e30)
    if name.endswith("_ids"):
        return st.integers(0, 2**31 - 1)
    return HALF if name.endswith(("shares", "values", "jaccards", "cosines")) else COUNT


@st.composite
def features(draw):
    """Return columns of some features, each a list."""
    n = draw(st.integers(1, 5))
    found = {"firing_count": draw(st.lists(COUNT, min_size=n, max_size=n))}
    sizes: dict[str, list[int]] = {}
    for name in packed_features.PACKED:
        if not is_list(name):
            found[name] = draw(st.lists(kind_of(name), min_size=n, max_size=n))
            continue
        pair = name if name in {*LONG, "band_counts"} else name.rpartition("_")[0]
        size = sizes.setdefault(pair, draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)))
        found[name] = [draw(st.lists(kind_of(name), min_size=k, max_size=k)) for k in size]
    found["band_counts"] = [
        [draw(st.floats(0, 1, width=16)) * max(count, 1) for _ in range(5)] for count in found["firing_count"]
    ]
    return found


def arrays_of(columns):
    return {
        name: Lists.of(rows, np.float64 if isinstance(kind_of(name), type(HALF)) else np.int64)
        if is_list(name) and name != "band_counts"
        else Lists.of(rows, np.float64)
        if name == "band_counts"
        else np.array(rows)
        for name, rows in columns.items()
    }


@settings(max_examples=50, deadline=None)
@given(features())
def test_what_pages_draw_of_features_round_trips(columns):
    packed = packed_features.pack(arrays_of(columns))
    for row, data in enumerate(packed):
        found = packed_features.unpack(data, columns["firing_count"][row])
        assert set(found) == set(packed_features.PACKED)
        bands = found.pop("band_counts")
        count = columns["firing_count"][row]
        assert bands == pytest.approx([share * bool(count) for share in columns["band_counts"][row]])
        assert found == {name: columns[name][row] for name in found}
        assert packed_features.tokens_of(data)._asdict() == {
            name: found[name] for name in packed_features.Tokens._fields
        }


def test_what_is_packed_and_what_has_a_column_is_everything_known_of_a_feature():
    assert sorted((*packed_features.PACKED, *STORED_FEATURE_COLUMNS)) == sorted((*FEATURE_COLUMNS, "packed"))


def test_lists_that_belong_together_must_be_as_long():
    columns = {name: [[]] if is_list(name) else [0] for name in (*packed_features.PACKED, "firing_count")}
    with pytest.raises(ValueError, match="co_firing_ids and co_firing_jaccards are not in pairs"):
        packed_features.pack(arrays_of(columns | {"co_firing_ids": [[3]]}))
    with pytest.raises(ValueError, match="promoted_ids and promoted_values are not in pairs"):
        packed_features.pack(arrays_of(columns | {"promoted_values": [[3.0]]}))


@st.composite
def recorded(draw):
    """Return examples of some features, with windows that are now and then equal."""
    largest = draw(st.sampled_from([20, 255, 256, 5000]))
    rows, positions, values, windows = [], [], [], []
    for feature in sorted(draw(st.sets(st.integers(0, 9), max_size=4))):
        for group in sorted(draw(st.sets(st.integers(0, 7), min_size=1))):
            for rank in range(draw(st.integers(1, 4))):
                at = sorted(draw(st.sets(st.integers(0, largest), max_size=4)))
                rows.append(
                    (feature, group, rank, draw(st.integers(0, 2**31 - 1)), draw(st.integers(0, largest)), draw(HALF))
                )
                positions.append(at)
                values.append([draw(HALF) for _ in at])
                windows.append(draw(st.integers(-2, 2)))
    columns = list(zip(*rows, strict=True)) or [()] * 6
    examples = Examples(
        feature_x=np.array(columns[0], np.int32),
        group_x=np.array(columns[1], np.uint8),
        rank_x=np.array(columns[2], np.uint16),
        context_x=np.array(columns[3], np.int32),
        peak_position_x=np.array(columns[4], np.uint16),
        peak_value_x=np.array(columns[5], np.float32),
        split_x=np.zeros(len(rows), np.uint8),
        indptr_x=np.concatenate([[0], np.cumsum([len(at) for at in positions])]).astype(np.int64),
        positions_s=np.array([place for at in positions for place in at], np.uint16),
        values_s=np.array([value for of in values for value in of], np.float16),
    )
    return rows, positions, values, np.array(windows, np.int64), examples


@settings(max_examples=60, deadline=None)
@given(recorded())
def test_examples_round_trip_with_what_folds_under_what(of):
    rows, positions, values, windows, examples = of
    features, packed = packed_examples.pack(examples, windows)
    found = [
        (feature, example)
        for place, feature in enumerate(features.tolist())
        for example in packed_examples.unpack(packed[place])
    ]
    assert [(feature, *example[:5]) for feature, example in found] == rows
    assert [example.positions for _, example in found] == positions
    assert [example.values for _, example in found] == values
    top = [(example.context, example.peak_position) for _, example in found if example.group == TOP]
    places = [packed_examples.top_places(data) for data in packed]
    assert [place for contexts, at in places for place in zip(contexts, at, strict=True)] == top
    equal: dict[tuple, list[int]] = {}
    for number, (row, window) in enumerate(zip(rows, windows.tolist(), strict=True)):
        equal.setdefault((*row[:2], window), []).append(number)
    expected = {number: -1 for same in equal.values() for number in same[1:]}
    expected |= {same[0]: len(same) - 1 for same in equal.values()}
    assert [example.folded for _, example in found] == [expected[number] for number in range(len(rows))]


def some_examples(n: int, group: int = TOP) -> Examples:
    return Examples(
        feature_x=np.zeros(n, np.int32),
        group_x=np.full(n, group, np.uint8),
        rank_x=np.arange(n, dtype=np.uint16),
        context_x=np.arange(n, dtype=np.int32),
        peak_position_x=np.zeros(n, np.uint16),
        peak_value_x=np.ones(n, np.float32),
        split_x=np.zeros(n, np.uint8),
        indptr_x=np.arange(n + 1),
        positions_s=np.zeros(n, np.uint16),
        values_s=np.ones(n, np.float16),
    )


def test_examples_out_of_order_or_of_no_group_are_refused():
    with pytest.raises(ValueError, match="no group 8"):
        packed_examples.pack(some_examples(1, group=8), np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="order"):
        packed_examples.pack(replace(some_examples(2), rank_x=np.array([1, 0])), np.zeros(2, np.int64))


@pytest.mark.parametrize("cut", [1, 7, -1])
def test_examples_that_are_damaged_are_refused(cut):
    _, [packed] = packed_examples.pack(some_examples(3), np.arange(3))
    with pytest.raises(BadBytes, match="damaged"):
        packed_examples.unpack(packed[:cut])
    with pytest.raises(BadBytes, match="1 bytes follow"):
        packed_examples.unpack(packed + b"\0")


def test_features_on_token_ids_round_trip():
    ids = np.array([0, 3, 7, 8, 500, 505])
    rng = np.random.default_rng(0)
    index = TokenFeatures(
        token_ids_v=ids,
        occurrences_v=rng.integers(1, 2**40, len(ids)),
        feature_ids_vk=np.where(rng.random((len(ids), 4)) < 0.7, rng.integers(0, 100_000, (len(ids), 4)), -1),
        counts_vk=rng.integers(0, 2**20, (len(ids), 4)).astype(np.int32),
        strengths_vk=rng.random((len(ids), 4)).astype(np.float16).astype(np.float32),
    )
    blocks, packed = packed_tokens.pack(index)
    assert blocks.tolist() == [0, 1, 62, 63]
    of = dict(zip(blocks.tolist(), packed, strict=True))
    for row, token in enumerate(ids.tolist()):
        kept = index.feature_ids_vk[row] >= 0
        assert packed_tokens.unpack(of[token // packed_tokens.BLOCK], token) == (
            index.occurrences_v[row],
            index.feature_ids_vk[row][kept].tolist(),
            index.counts_vk[row][kept].tolist(),
            index.strengths_vk[row][kept].tolist(),
        )
    assert packed_tokens.unpack(of[0], 4) is None
    with pytest.raises(BadBytes):
        packed_tokens.unpack(of[0][:-1], 3)
    with pytest.raises(ValueError, match="ascend"):
        packed_tokens.pack(replace(index, token_ids_v=ids[::-1]))
