"""A file of arrays that is written front to back and read in parts: its rows of some features, never all at once.

An array is rows of one type; a table is rows of several columns, sorted by feature, with the rows of feature f at
`indptr[f]:indptr[f + 1]`. The footer, JSON, says where everything is; the last bytes say how long it is.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

_MAGIC = b"facet columns 1\n"
_LENGTH_BYTES = 8
_WRITTEN_AT_ONCE = 1 << 24

# Reads the bytes [start, stop) of a file.
ReadRange = Callable[[int, int], bytes]
RowType = list[tuple[str, str]]


class ColumnWriter:
    """Writes arrays and tables into a binary file, from its start; `digest` is that of all bytes so far."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._at = 0
        self._hash = hashlib.sha256()
        self._footer: dict[str, dict[str, Any]] = {}
        self._write(_MAGIC)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def array(self, name: str, array: np.ndarray) -> None:
        """Write an array whole."""
        with self.rows(name, array.dtype.str, array.shape[1:], is_scalar=not array.ndim) as append:
            append(array)

    @contextmanager
    def rows(
        self, name: str, dtype: str | RowType, shape: tuple[int, ...] = (), *, is_scalar: bool = False
    ) -> Iterator[Callable[[np.ndarray], None]]:
        """Write an array part by part: yield what appends some rows."""
        row_type, count, at = np.dtype(dtype), 0, self._at

        def append(rows: np.ndarray) -> None:
            nonlocal count
            rows = np.ascontiguousarray(rows, dtype=row_type)
            self._write(rows.reshape(-1).view(np.uint8))
            count += 1 if is_scalar else len(rows)

        yield append
        self._footer[name] = {"dtype": dtype, "shape": [] if is_scalar else [count, *shape], "at": at}

    def table(self, name: str, row_type: RowType, feature: np.ndarray, n_features: int, **columns: np.ndarray) -> None:
        """Write rows in any order as a table sorted by feature, those of one feature in the order given."""
        order = np.argsort(feature, kind="stable")
        self.indptr(name, np.bincount(feature, minlength=n_features))
        with self.rows(name, row_type) as append:
            step = max(1, _WRITTEN_AT_ONCE // np.dtype(row_type).itemsize)
            for start in range(0, len(order), step):
                chosen = order[start : start + step]
                append(structured(row_type, **{key: column[chosen] for key, column in columns.items()}))

    def indptr(self, name: str, count_f: np.ndarray) -> None:
        """Write how many rows of a table each feature has."""
        self.array(f"{name}.indptr", np.concatenate([[0], np.cumsum(count_f)]).astype("<i8"))

    def close(self) -> None:
        """Write the footer; the file itself is the caller's."""
        footer = json.dumps(self._footer).encode()
        self._write(footer)
        self._write(len(footer).to_bytes(_LENGTH_BYTES, "little"))

    def _write(self, data: bytes | np.ndarray) -> None:
        self._file.write(memoryview(data))
        self._hash.update(data)
        self._at += len(data)


class ColumnReader:
    """Reads what a ColumnWriter wrote, by ranges."""

    def __init__(self, read: ReadRange, size: int) -> None:
        self._read = read
        length = int.from_bytes(read(size - _LENGTH_BYTES, size), "little")
        self._footer = json.loads(read(size - _LENGTH_BYTES - length, size - _LENGTH_BYTES))

    def __contains__(self, name: str) -> bool:
        return name in self._footer

    def array(self, name: str, rows: range | None = None) -> np.ndarray:
        """Return an array, or some rows of it, in order."""
        entry = self._footer[name]
        dtype, shape = _dtype(entry["dtype"]), tuple(entry["shape"])
        if not shape:
            return np.frombuffer(self._read(entry["at"], entry["at"] + dtype.itemsize), dtype)[0]
        rows = range(shape[0]) if rows is None else rows
        width = dtype.itemsize * int(np.prod(shape[1:], dtype=np.int64))
        data = self._read(entry["at"] + rows.start * width, entry["at"] + rows.stop * width) if len(rows) else b""
        return np.frombuffer(data, dtype).reshape(len(rows), *shape[1:])

    def table(self, name: str, features: range) -> tuple[np.ndarray, np.ndarray]:
        """Return `(counts, rows)` of some features: how many rows each has, and these rows."""
        indptr = self.array(f"{name}.indptr", range(features.start, features.stop + 1))
        return np.diff(indptr), self.array(name, range(int(indptr[0]), int(indptr[-1])))

    def row_bytes(self, name: str, n_features: int) -> np.ndarray:
        """Return how many bytes of a table each feature has."""
        counts = np.diff(self.array(f"{name}.indptr", range(n_features + 1)))
        return counts * _dtype(self._footer[name]["dtype"]).itemsize


def structured(row_type: RowType, **columns: np.ndarray) -> np.ndarray:
    """Return rows of several columns."""
    rows = np.empty(len(next(iter(columns.values()))), dtype=np.dtype(row_type))
    for name, column in columns.items():
        rows[name] = column
    return rows


def _dtype(said: str | list[list[str]]) -> np.dtype:
    return np.dtype(said if isinstance(said, str) else [tuple(column) for column in said])
