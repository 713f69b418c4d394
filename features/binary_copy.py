"""Rows as Postgres' binary COPY takes them, encoded a chunk at a time from arrays.

psycopg would dump every number of every row by itself; here a column is encoded as a whole. Everything is big-endian,
as Postgres wants it (its documentation, "COPY", section "Binary Format").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from inference.packing import join_rows, record_rows

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
INT2, INT4, INT8, FLOAT4, FLOAT8, BOOL = ">i2", ">i4", ">i8", ">f4", ">f8", "?"
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


def rows(columns: Sequence[Column]) -> bytes:
    """Return the rows of columns."""
    start = len(columns).to_bytes(2, "big")
    return b"".join(join_rows([start] * len(columns[0]), *columns))
