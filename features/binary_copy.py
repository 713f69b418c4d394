"""Rows as Postgres' binary COPY takes them, encoded a chunk at a time from arrays.

psycopg would dump every number of every row by itself; here a column is encoded as a whole. Everything is big-endian,
as Postgres wants it (its documentation, "COPY", section "Binary Format").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from inference.packing import Lists, cut, join_rows, record_rows

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
INT2, INT4, INT8, FLOAT4, FLOAT8, BOOL = ">i2", ">i4", ">i8", ">f4", ">f8", "?"
_OIDS = {INT4: 23, FLOAT4: 700}
_ARRAY_HEAD = np.dtype([("size", ">i4"), ("dimensions", ">i4"), ("nulls", ">i4"), ("type", ">i4"), ("length", ">i4"),
                        ("first", ">i4")])  # fmt: skip
_EMPTY_ARRAY = 12
Column = Sequence[bytes]


def numbers(values_r: np.ndarray, kind: str) -> Column:
    """Return a column of numbers of one of the kinds above; raise ValueError for what does not fit."""
    value_r = np.asarray(values_r)
    if kind in (INT2, INT4) and value_r.size:
        bound = 1 << (15 if kind == INT2 else 31)
        if not -bound <= int(value_r.min()) <= int(value_r.max()) < bound:
            raise ValueError(f"numbers span {value_r.min()} to {value_r.max()}, too far for a column of {kind[1:]}")
    record_r = np.empty(len(value_r), dtype=[("size", ">i4"), ("value", kind)])
    record_r["size"], record_r["value"] = np.dtype(kind).itemsize, value_r
    return record_rows(record_r)


def constant(value: int, n: int, kind: Literal[">i2", ">i4"]) -> Column:
    """Return a column of n times the same number."""
    return list(numbers(np.array([value]), kind)) * n


def pieces(values: Sequence[bytes]) -> Column:
    """Return a column of bytes, or of texts in UTF-8."""
    size_r = np.fromiter(map(len, values), np.int64, len(values)).astype(">i4")
    return join_rows(record_rows(size_r), values)


def arrays(lists: Lists, kind: Literal[">i4", ">f4"]) -> Column:
    """Return a column of arrays of numbers."""
    entry_n = np.empty(len(lists.values_n), dtype=[("size", ">i4"), ("value", kind)])
    entry_n["size"], entry_n["value"] = np.dtype(kind).itemsize, lists.values_n
    head_r = np.zeros(len(lists), dtype=_ARRAY_HEAD)
    head_r["size"] = _ARRAY_HEAD.itemsize - 4 + entry_n.dtype.itemsize * lists.lengths_r
    head_r["dimensions"], head_r["type"] = 1, _OIDS[kind]
    head_r["length"], head_r["first"] = lists.lengths_r, 1
    is_empty = lists.lengths_r == 0
    head_r["size"][is_empty], head_r["dimensions"][is_empty] = _EMPTY_ARRAY, 0
    heads = record_rows(head_r)
    for row in np.flatnonzero(is_empty).tolist():
        heads[row] = heads[row][: 4 + _EMPTY_ARRAY]
    return join_rows(heads, cut(entry_n.tobytes(), entry_n.dtype.itemsize * lists.bounds))


def rows(columns: Sequence[Column]) -> bytes:
    """Return the rows of columns."""
    start = len(columns).to_bytes(2, "big")
    return b"".join(join_rows([start] * len(columns[0]), *columns))
