"""Packed bytes give back what was packed, whatever it was."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from inference import packing


@given(st.lists(st.integers(0, 50_256)))
def test_tokens_round_trip_in_two_bytes(ids):
    data = packing.pack_tokens(ids, 50_257)
    assert len(data) == 2 * len(ids)
    assert packing.unpack_tokens(data, 50_257).tolist() == ids


@given(st.lists(st.integers(0, 262_143), min_size=1))
def test_tokens_of_large_vocabularies_round_trip_in_four_bytes(ids):
    data = packing.pack_tokens(ids, 262_144)
    assert len(data) == 4 * len(ids)
    assert packing.unpack_tokens(data, 262_144).tolist() == ids


def test_tokens_are_little_endian():
    assert packing.pack_tokens([258], 65_536) == b"\x02\x01"
    assert packing.pack_tokens([258], 65_537) == b"\x02\x01\x00\x00"


@pytest.mark.parametrize("ids", [[-1], [10], [3, 11]])
def test_token_outside_the_vocabulary_is_refused(ids):
    with pytest.raises(ValueError, match="vocabulary of 10"):
        packing.pack_tokens(ids, 10)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_round_trip(numbers):
    data = packing.pack_unsigned(numbers)
    assert packing.unpack_unsigned(data).tolist() == numbers
    assert len(data) == 1 + len(numbers) * (4 if max(numbers, default=0) > 65_535 else 2)


@pytest.mark.parametrize("numbers", [[-1], [2**32]])
def test_numbers_beyond_32_bits_are_refused(numbers):
    with pytest.raises(ValueError, match="32 bits"):
        packing.pack_unsigned(numbers)


@pytest.mark.parametrize("data", [b"", b"\x03ab"])
def test_bytes_that_are_no_packed_numbers_are_refused(data):
    with pytest.raises(ValueError, match="width"):
        packing.unpack_unsigned(data)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
def test_spans_round_trip(spans):
    starts, ends = [start for start, _ in spans], [end for _, end in spans]
    back = packing.unpack_spans(packing.pack_spans(starts, ends))
    assert [array.tolist() for array in back] == [starts, ends]


def test_spans_need_as_many_starts_as_ends():
    with pytest.raises(ValueError, match="2 starts and 1 ends"):
        packing.pack_spans([0, 1], [1])
    with pytest.raises(ValueError, match="as many"):
        packing.unpack_spans(packing.pack_unsigned([1, 2, 3]))


@given(arrays(np.float16, st.integers(0, 50), elements=st.floats(-65504, 65504, width=16)))
def test_half_precision_values_round_trip_exactly(values):
    np.testing.assert_array_equal(packing.unpack_values(packing.pack_values(values)), values.astype(np.float32))


@given(st.lists(st.floats(1e-3, 6e4), min_size=1))
def test_values_keep_eleven_bits(values):
    back = packing.unpack_values(packing.pack_values(values))
    np.testing.assert_allclose(back, values, rtol=2**-11)


def test_values_beyond_half_precision_are_clipped_and_not_infinite():
    assert packing.unpack_values(packing.pack_values([1e6, -1e6])).tolist() == [65504, -65504]


@given(st.lists(st.lists(st.tuples(st.integers(0, 65_535), st.floats(0.01, 100)), max_size=5), max_size=8))
def test_segments_pack_like_one_after_the_other(segments):
    positions = np.array([position for segment in segments for position, _ in segment], dtype=np.uint16)
    values = np.array([value for segment in segments for _, value in segment], dtype=np.float16)
    bounds = np.concatenate([[0], np.cumsum([len(segment) for segment in segments])]).astype(int).tolist()
    packed_positions, packed_values = packing.pack_segments(positions, values, bounds)
    for number, (low, high) in enumerate(pairwise(bounds)):
        assert packed_positions[number] == packing.pack_unsigned(positions[low:high])
        assert packed_values[number] == packing.pack_values(values[low:high])
