"""Packed bytes give back what was packed, whatever it was."""

from __future__ import annotations

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


def lists(of):
    return st.lists(st.lists(of, max_size=6), max_size=6)


@given(lists(st.integers(0, 2**62)))
def test_counts_round_trip_in_as_many_bytes_as_they_need(rows):
    packed = packing.varint_rows(packing.Lists.of(rows, np.int64))
    assert [packing.Reader(data).varints(len(row)) for data, row in zip(packed, rows, strict=True)] == rows
    assert [len(data) for data in packed] == [sum(max(1, -(-n.bit_length() // 7)) for n in row) for row in rows]


@given(lists(st.integers(0, 2**32 - 1)))
def test_numbers_round_trip_in_the_width_of_the_largest(rows):
    numbers = packing.Lists.of(rows, np.int64)
    width = packing.width_of(numbers.values_n)
    assert width == max([1, *(-(-n.bit_length() // 8) for row in rows for n in row)])
    packed = packing.unsigned_rows(numbers, width)
    assert [packing.Reader(data).unsigned(len(row), width) for data, row in zip(packed, rows, strict=True)] == rows


@given(lists(st.floats(-65504, 65504, width=16)))
def test_values_of_rows_are_packed_as_one_by_one(rows):
    packed = packing.half_rows(packing.Lists.of(rows, np.float64))
    assert packed == [packing.pack_values(row) for row in rows]
    assert [packing.Reader(data).halves(len(row)) for data, row in zip(packed, rows, strict=True)] == rows


@pytest.mark.parametrize("number", [-1, 2**32])
def test_numbers_beyond_32_bits_are_refused(number):
    with pytest.raises(ValueError, match="32 bits"):
        packing.width_of(np.array([number]))


def test_counts_below_zero_are_refused():
    with pytest.raises(ValueError, match="-1 is below 0"):
        packing.varints(np.array([3, -1]))


def test_bytes_that_end_early_or_late_are_refused():
    reads = {
        "end after 1 of 2": lambda reader: reader.varints(2),
        "2 short": lambda reader: reader.halves(2),
        "not 5": lambda reader: reader.unsigned(0, 5),
        "2 bytes follow": lambda reader: reader.end(),
    }
    for said, read in reads.items():
        with pytest.raises(packing.BadBytes, match=said):
            read(packing.Reader(b"\x01\x80"))


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6))))
def test_spans_round_trip(spans):
    starts, ends = [start for start, _ in spans], [start + length for start, length in spans]
    back = packing.unpack_spans(packing.pack_spans(starts, ends))
    assert [array.tolist() for array in back] == [starts, ends]


@given(st.lists(st.integers(0, 255)))
def test_spans_end_to_end_take_a_byte_each(lengths):
    ends = np.cumsum(lengths).astype(int).tolist()
    assert len(packing.pack_spans([0, *ends[:-1]][: len(ends)], ends)) <= len(lengths) + 4


def test_spans_need_as_many_starts_as_ends_and_run_forward():
    with pytest.raises(ValueError, match="2 starts and 1 ends"):
        packing.pack_spans([0, 1], [1])
    with pytest.raises(ValueError, match="end after they start"):
        packing.pack_spans([3], [1])


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), min_size=1), st.data())
def test_damaged_spans_are_spans_of_something_else_or_refused(spans, draw):
    data = packing.pack_spans([start for start, _ in spans], [start + length for start, length in spans])
    cut = draw.draw(st.integers(0, len(data) - 1))
    with pytest.raises(packing.BadBytes):
        packing.unpack_spans(data[:cut])


@given(arrays(np.float16, st.integers(0, 50), elements=st.floats(-65504, 65504, width=16)))
def test_half_precision_values_round_trip_exactly(values):
    np.testing.assert_array_equal(packing.unpack_values(packing.pack_values(values)), values.astype(np.float32))


@given(st.lists(st.floats(1e-3, 6e4), min_size=1))
def test_values_keep_eleven_bits(values):
    back = packing.unpack_values(packing.pack_values(values))
    np.testing.assert_allclose(back, values, rtol=2**-11)


def test_values_beyond_half_precision_are_clipped_and_not_infinite():
    assert packing.unpack_values(packing.pack_values([1e6, -1e6])).tolist() == [65504, -65504]
