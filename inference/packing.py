"""Compact bytes for what is stored by the million: token ids, spans of characters, counts, values.

Everything is little-endian, on every machine. Token ids of contexts take 2 bytes each where the vocabulary fits and 4
where it does not; other ids as many as the largest needs; counts are varints, 7 bits a byte, the lowest first; values
are 16-bit floats, but where more bits decide something. Whatever is of many rows is packed for all of them at once:
`Lists` in, one piece of bytes a row out. Suffixes: R rows, N entries of all rows end to end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from inference.errors import FacetError

_SHORT, _LONG = np.dtype("<u2"), np.dtype("<u4")
_HALF, _SINGLE = np.dtype("<f2"), np.dtype("<f4")
LARGEST_HALF = 65504.0
WIDTHS = (1, 2, 3, 4)


class BadBytes(FacetError):
    """Packed bytes that nothing here packed: cut off, of another kind, or damaged."""

    code = "bad-bytes"

    def __init__(self, cause: str) -> None:
        super().__init__(f"A stored row is damaged: {cause}.", "Build or import its dictionary again.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """Lists of numbers end to end, one list a row."""

    values_n: np.ndarray
    lengths_r: np.ndarray  # int64

    @classmethod
    def padded(cls, values_rk: np.ndarray, kept_rk: np.ndarray) -> Self:
        """Return the entries of a matrix where `kept_rk` is true, a list a row."""
        return cls(values_n=values_rk[kept_rk], lengths_r=kept_rk.sum(axis=1))

    @classmethod
    def of(cls, lists: Sequence[Sequence[Any]], dtype: Any) -> Self:
        """Return lists of Python's."""
        lengths_r = np.fromiter(map(len, lists), np.int64, len(lists))
        flat = np.fromiter(chain.from_iterable(lists), dtype, int(lengths_r.sum()))
        return cls(values_n=flat, lengths_r=lengths_r)

    @classmethod
    def empty(cls, n: int, dtype: Any) -> Self:
        """Return n empty lists."""
        return cls(values_n=np.zeros(0, dtype), lengths_r=np.zeros(n, np.int64))

    def __len__(self) -> int:
        return len(self.lengths_r)

    @property
    def bounds(self) -> np.ndarray:
        """Return where each list begins, and the end of the last."""
        return np.concatenate([[0], np.cumsum(self.lengths_r, dtype=np.int64)])


def token_dtype(d_vocab: int) -> np.dtype:
    """Return the type that holds every id of a vocabulary: 16 bits up to 65,536 tokens, 32 beyond."""
    return _SHORT if d_vocab <= 1 << 16 else _LONG


def pack_tokens(token_ids: ArrayLike, d_vocab: int) -> bytes:
    """Pack token ids; raise ValueError for an id outside the vocabulary."""
    ids = np.asarray(token_ids, dtype=np.int64)
    if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < d_vocab:
        raise ValueError(f"token ids span {ids.min()} to {ids.max()}, outside a vocabulary of {d_vocab}")
    return ids.astype(token_dtype(d_vocab)).tobytes()


def unpack_tokens(data: bytes | memoryview, d_vocab: int) -> np.ndarray:
    """Return the ids that `pack_tokens` packed for the same vocabulary, as a read-only array."""
    return np.frombuffer(data, dtype=token_dtype(d_vocab))


def pack_values(values: ArrayLike) -> bytes:
    """Pack activations as 16-bit floats: 11 bits of precision; what is beyond ±65,504 is stored as ±65,504."""
    return to_half(np.asarray(values, dtype=np.float64)).astype(_HALF).tobytes()


def unpack_values(data: bytes | memoryview) -> np.ndarray:
    """Return what `pack_values` packed as 32-bit floats."""
    if len(data) % 2:
        raise BadBytes(f"{len(data)} bytes are no values of 16 bits")
    return np.frombuffer(data, dtype=_HALF).astype(np.float32)


def to_half(values: np.ndarray) -> np.ndarray:
    """Round to float16 without overflow to infinity; NaN stays NaN."""
    return np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)


def pack_spans(starts: Sequence[int] | np.ndarray, ends: Sequence[int] | np.ndarray) -> bytes:
    """Pack the character spans of a context's tokens: the length of each, and where one does not begin at the last end.

    Raises ValueError for spans that end before they start, or of 2^32 characters.
    """
    if len(starts) != len(ends):
        raise ValueError(f"{len(starts)} starts and {len(ends)} ends are not spans")
    start_n, end_n = np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)
    length_n = end_n - start_n
    if len(start_n) and (start_n.min() < 0 or length_n.min() < 0 or end_n.max() >= 1 << 32):
        raise ValueError("spans start at 0 or later, below 2^32, and end after they start")
    step_n = start_n - np.concatenate([[0], end_n[:-1]]) if len(start_n) else start_n
    moved = np.flatnonzero(step_n)
    width = width_of(length_n)
    # Zigzag: steps back are odd.
    steps = np.stack([np.diff(moved, prepend=0), (step_n[moved] << 1) ^ (step_n[moved] >> 63)], axis=1).reshape(-1)
    head = varints(np.array([len(start_n), len(moved)]))[0]
    return bytes([width]) + head + unsigned(length_n, width) + varints(steps)[0]


def span_rows(lengths: Lists) -> list[bytes]:
    """Pack as `pack_spans` what has no gaps: spans by their lengths, each from the last one's end, a row a context."""
    n = len(lengths)
    width = width_of(lengths.values_n)
    counts_n = np.stack([lengths.lengths_r, np.zeros(n, np.int64)], axis=1).reshape(-1)
    heads = varint_rows(Lists(values_n=counts_n, lengths_r=np.full(n, 2)))
    return join_rows([bytes([width])] * n, heads, unsigned_rows(lengths, width))


def token_rows(token_ids: Lists, d_vocab: int) -> list[bytes]:
    """Pack as `pack_tokens`, a row a context."""
    dtype = token_dtype(d_vocab)
    return cut(pack_tokens(token_ids.values_n, d_vocab), dtype.itemsize * token_ids.bounds)


def unpack_spans(data: bytes | memoryview) -> tuple[np.ndarray, np.ndarray]:
    """Return the `(starts, ends)` that `pack_spans` packed; raise BadBytes for other bytes."""
    reader = Reader(data)
    width = reader.byte()
    n, n_moved = reader.varint(), reader.varint()
    length_n = reader.unsigned_array(n, width)
    step_n = np.zeros(n, dtype=np.int64)
    place = 0
    for _ in range(n_moved):
        place += reader.varint()
        step = reader.varint()
        if place >= n:
            raise BadBytes(f"packed spans move token {place} of {n}")
        step_n[place] = (step >> 1) ^ -(step & 1)
    reader.end()
    end_n = np.cumsum(length_n + step_n)
    return end_n - length_n, end_n


# --- numbers of many rows at once ------------------------------------------------------------------------------------


def width_of(numbers: np.ndarray) -> int:
    """Return the bytes that every one of the numbers fits: 1 to 4; raise ValueError below 0 and from 2^32."""
    if not numbers.size:
        return WIDTHS[0]
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= 1 << 32:
        raise ValueError(f"numbers span {low} to {high}, outside 32 bits without a sign")
    return max(1, (high.bit_length() + 7) // 8)


def unsigned(numbers: np.ndarray, width: int) -> bytes:
    """Return numbers of `width` bytes each, end to end."""
    if width in (1, 2, 4):
        return numbers.astype(f"<u{width}").tobytes()
    return np.ascontiguousarray(numbers.astype(_LONG)).view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


def varints(numbers: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Return numbers as varints end to end, and the bytes of each; raise ValueError for numbers below 0."""
    number_n = np.asarray(numbers, dtype=np.int64)
    if number_n.size and int(number_n.min()) < 0:
        raise ValueError(f"{number_n.min()} is below 0 and no varint")
    size_n = np.ones(len(number_n), dtype=np.int64)
    largest = int(number_n.max(initial=0)).bit_length()
    for bits in range(7, largest, 7):
        size_n += number_n >= 1 << bits
    end_n = np.cumsum(size_n)
    data = np.empty(int(end_n[-1]) if len(end_n) else 0, dtype=np.uint8)
    start_n = end_n - size_n
    for place in range(int(size_n.max(initial=0))):
        has = slice(None) if place == 0 else size_n > place
        part = (number_n[has] >> 7 * place) & 0x7F
        data[start_n[has] + place] = part | ((size_n[has] > place + 1) << 7)
    return data.tobytes(), size_n


def varint_rows(lists: Lists) -> list[bytes]:
    """Return each row's list as varints."""
    data, size_n = varints(lists.values_n)
    at_n = np.concatenate([[0], np.cumsum(size_n)])
    return cut(data, at_n[lists.bounds])


def single_rows(lists: Lists) -> list[bytes]:
    """Return each row's list as 32-bit floats."""
    return cut(lists.values_n.astype(_SINGLE).tobytes(), 4 * lists.bounds)


def half_rows(lists: Lists) -> list[bytes]:
    """Return each row's list as 16-bit floats."""
    data = to_half(lists.values_n.astype(np.float64)).astype(_HALF).tobytes()
    return cut(data, 2 * lists.bounds)


def unsigned_rows(lists: Lists, width: int) -> list[bytes]:
    """Return each row's list with `width` bytes a number."""
    return cut(unsigned(lists.values_n, width), width * lists.bounds)


def record_rows(records_r: np.ndarray) -> list[bytes]:
    """Return each record of a structured array without gaps, or each row of a matrix."""
    size = records_r[:1].nbytes
    return cut(records_r.tobytes(), np.arange(len(records_r) + 1) * size) if len(records_r) else []


def cut(data: bytes, bounds: Iterable[int] | np.ndarray) -> list[bytes]:
    """Return the pieces between bounds."""
    places = bounds.tolist() if isinstance(bounds, np.ndarray) else bounds
    return [data[low:high] for low, high in pairwise(places)]


def join_rows(*sections: Sequence[bytes]) -> list[bytes]:
    """Return each row's pieces as one."""
    return list(map(b"".join, zip(*sections, strict=True)))


class Reader:
    """Reads packed bytes from the front; raises BadBytes where they end too early, or too late."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data, self._at = bytes(data), 0

    def byte(self) -> int:
        """Return the next byte."""
        return self._take(1)[0]

    def record(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Return the fields of a record."""
        return layout.unpack(self._take(layout.size))

    def varint(self) -> int:
        """Return the next varint."""
        return self.varints(1)[0]

    def varints(self, n: int) -> list[int]:
        """Return the next n varints."""
        data, at, found = self._data, self._at, []
        try:
            for _ in range(n):
                number = data[at]
                at += 1
                if number >= 0x80:
                    number &= 0x7F
                    shift = 7
                    while (part := data[at]) >= 0x80:
                        number |= (part & 0x7F) << shift
                        shift += 7
                        at += 1
                    number |= part << shift
                    at += 1
                found.append(number)
        except IndexError as error:
            raise BadBytes(f"packed counts end after {len(found)} of {n}") from error
        self._at = at
        return found

    def unsigned_array(self, n: int, width: int) -> np.ndarray:
        """Return the next n numbers of `width` bytes."""
        if width not in WIDTHS:
            raise BadBytes(f"packed numbers are 1 to 4 bytes wide, not {width}")
        data = self._take(n * width)
        if width != 3:
            return np.frombuffer(data, dtype=f"<u{width}").astype(np.int64)
        parts = np.frombuffer(data, dtype=np.uint8).reshape(n, 3).astype(np.int64)
        return parts[:, 0] | parts[:, 1] << 8 | parts[:, 2] << 16

    def unsigned(self, n: int, width: int) -> list[int]:
        """Return the same as a list."""
        return list(self._take(n)) if width == 1 else self.unsigned_array(n, width).tolist()

    def halves(self, n: int) -> list[float]:
        """Return the next n 16-bit floats."""
        return np.frombuffer(self._take(2 * n), dtype=_HALF).tolist()

    def singles(self, n: int) -> list[float]:
        """Return the next n 32-bit floats."""
        return np.frombuffer(self._take(4 * n), dtype=_SINGLE).tolist()

    def skip(self, n: int) -> None:
        """Pass over the next n bytes."""
        self._at += n

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise BadBytes(f"{len(self._data) - self._at} bytes follow what was packed")

    def _take(self, n: int) -> bytes:
        data = self._data[self._at : self._at + n]
        if len(data) != n:
            raise BadBytes(f"packed bytes end {n - len(data)} short of what they begin with")
        self._at += n
        return data
