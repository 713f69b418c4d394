"""Compact bytes for what is stored by the million: token ids, offsets, positions and values.

Everything is little-endian, on every machine. Token ids take 2 bytes each where the vocabulary fits and 4 where it
does not; offsets and positions take 2 or 4 in the same way, told by one leading byte; values are 16-bit floats.
This module needs NumPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

_SHORT, _LONG, _HALF = np.dtype("<u2"), np.dtype("<u4"), np.dtype("<f2")
_WIDTHS = {2: _SHORT, 4: _LONG}
LARGEST_HALF = 65504.0


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


def pack_unsigned(numbers: ArrayLike) -> bytes:
    """Pack offsets or positions below 2^32: one byte for the width, then 2 or 4 bytes each."""
    array = np.asarray(numbers, dtype=np.int64)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < 1 << 32:
        raise ValueError(f"numbers span {array.min()} to {array.max()}, outside 32 bits without a sign")
    width = 4 if array.size and int(array.max()) >= 1 << 16 else 2
    return bytes([width]) + array.astype(_WIDTHS[width]).tobytes()


def unpack_unsigned(data: bytes | memoryview) -> np.ndarray:
    """Return what `pack_unsigned` packed, as a read-only array."""
    view = memoryview(data)
    if not view or view[0] not in _WIDTHS:
        raise ValueError("packed numbers start with their width, 2 or 4")
    return np.frombuffer(view[1:], dtype=_WIDTHS[view[0]])


def pack_values(values: ArrayLike) -> bytes:
    """Pack activations as 16-bit floats: 11 bits of precision; what is beyond ±65,504 is stored as ±65,504."""
    return to_half(np.asarray(values, dtype=np.float64)).astype(_HALF).tobytes()


def unpack_values(data: bytes | memoryview) -> np.ndarray:
    """Return what `pack_values` packed as 32-bit floats."""
    return np.frombuffer(data, dtype=_HALF).astype(np.float32)


def pack_segments(positions: np.ndarray, values: np.ndarray, bounds: Sequence[int]) -> tuple[list[bytes], list[bytes]]:
    """Pack the positions (16 bits) and values of many examples at once, as `pack_unsigned` and `pack_values` would.

    Example i is `bounds[i]:bounds[i + 1]` of both arrays.
    """
    if positions.dtype != np.uint16:
        raise ValueError(f"positions of {positions.dtype}, not uint16")
    first, last = bounds[0], bounds[-1]
    all_positions = positions[first:last].astype(_SHORT).tobytes()
    all_values = to_half(values[first:last].astype(np.float64)).astype(_HALF).tobytes()
    spans = [(2 * (low - first), 2 * (high - first)) for low, high in pairwise(bounds)]
    return [b"\x02" + all_positions[low:high] for low, high in spans], [all_values[low:high] for low, high in spans]


def to_half(values: np.ndarray) -> np.ndarray:
    """Round to float16 without overflow to infinity; NaN stays NaN."""
    return np.clip(values, -LARGEST_HALF, LARGEST_HALF).astype(np.float16)


def pack_spans(starts: Sequence[int] | np.ndarray, ends: Sequence[int] | np.ndarray) -> bytes:
    """Pack the character spans of a context's tokens."""
    if len(starts) != len(ends):
        raise ValueError(f"{len(starts)} starts and {len(ends)} ends are not spans")
    return pack_unsigned(np.concatenate([np.asarray(starts, dtype=np.int64), np.asarray(ends, dtype=np.int64)]))


def unpack_spans(data: bytes | memoryview) -> tuple[np.ndarray, np.ndarray]:
    """Return the `(starts, ends)` that `pack_spans` packed."""
    both = unpack_unsigned(data)
    if len(both) % 2:
        raise ValueError("packed spans hold as many starts as ends")
    return both[: len(both) // 2], both[len(both) // 2 :]
