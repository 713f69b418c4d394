"""Results in rows of any length, and what CPU paths share in making them.

Shape suffixes: T tokens, F features, N entries kept, K kept per token.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from kernels.affine import affine

# Pre-activations of one step on a CPU: 32 MB, measured to be faster than 16 MB and less.
CHUNK_ELEMENTS = 1 << 23
# Measured: fewer places are found as fast one by one.
_WORTH_TWO_LOOKS = 1 << 15


class Rows(NamedTuple):
    """Compressed sparse rows: row t is indptr[t]:indptr[t + 1], features ascending. Indices are int64.

    `not_finite_t` counts the pre-activations of each token that were infinite or not a number.
    """

    indptr: Tensor
    indices_n: Tensor
    values_n: Tensor
    not_finite_t: Tensor


class Best(NamedTuple):
    """The best of every token, largest first, [T, K]; where there was nothing to keep, minus infinity at index -1.

    `not_finite_t` counts the pre-activations of each token that were infinite or not a number.
    """

    values_tk: Tensor
    indices_tk: Tensor
    not_finite_t: Tensor


def scores(x_td: Tensor, w_fd: Tensor, b_f: Tensor) -> Tensor:
    """Return h_tf = x w + b, in float32 or the wider precision of the tensors."""
    return wide(affine(x_td, w_fd, b_f))


def wide(tensor: Tensor) -> Tensor:
    """Return numbers in float32 at least, which NumPy knows."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def chunks(n_tokens: int, n_features: int) -> Iterator[slice]:
    """Cut tokens into steps of about CHUNK_ELEMENTS pre-activations."""
    size = max(1, CHUNK_ELEMENTS // max(1, n_features))
    return (slice(start, min(start + size, n_tokens)) for start in range(0, n_tokens, size))


def is_one_chunk(n_tokens: int, n_features: int) -> bool:
    """Return whether there is nothing to cut, which single tokens of small dictionaries would feel."""
    return n_tokens * n_features <= CHUNK_ELEMENTS


def surely_finite(h_tf: Tensor) -> bool:
    """Return whether the sum is finite, which shows at a fraction of the cost that every number is."""
    return math.isfinite(float(h_tf.sum()))


def count_not_finite(h_tf: Tensor) -> Tensor:
    """Return for each row how many entries are infinite or not a number."""
    if surely_finite(h_tf):
        return torch.zeros(len(h_tf), dtype=torch.int64, device=h_tf.device)
    return (~h_tf.isfinite()).sum(1)


def row_ends(counts_t: Tensor) -> Tensor:
    """Return indptr of rows of these lengths."""
    indptr = torch.zeros(len(counts_t) + 1, dtype=torch.int64, device=counts_t.device)
    torch.cumsum(counts_t, 0, out=indptr[1:])
    return indptr


def true_places(mask: np.ndarray) -> np.ndarray:
    """Return `np.flatnonzero(mask)` where little is true, in a third of the time: eight at a time first."""
    flat = np.ascontiguousarray(mask).reshape(-1)
    if len(flat) < _WORTH_TWO_LOOKS:
        return np.flatnonzero(flat)
    whole = len(flat) & ~7
    eight = np.flatnonzero(flat[:whole].view(np.uint64) != 0)
    place = np.flatnonzero(flat[:whole].reshape(-1, 8).take(eight, axis=0))
    found = eight[place >> 3] * 8 + (place & 7)
    return np.concatenate([found, whole + np.flatnonzero(flat[whole:])]) if whole < len(flat) else found


def places_to_rows(places_n: np.ndarray, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return indptr and column indices of ascending flat places in an array of this shape."""
    n_rows, width = shape
    if n_rows == 1:
        return torch.from_numpy(np.array((0, len(places_n)))), torch.from_numpy(places_n)
    indptr = np.searchsorted(places_n, np.arange(n_rows + 1) * width)
    indices_n = places_n - np.repeat(np.arange(n_rows) * width, np.diff(indptr))
    return torch.from_numpy(indptr), torch.from_numpy(indices_n)


def joined(parts: list[Rows]) -> Rows:
    """Put rows end to end."""
    if len(parts) == 1:
        return parts[0]
    return Rows(
        row_ends(torch.cat([part.indptr.diff() for part in parts])),
        torch.cat([part.indices_n for part in parts]),
        torch.cat([part.values_n for part in parts]),
        torch.cat([part.not_finite_t for part in parts]),
    )


def with_rows(rows: Rows, other_r: Tensor, other: Rows) -> Rows:
    """Return rows of which those numbered other_r, ascending, are taken from `other` instead."""
    counts_t = rows.indptr.diff()
    is_other_t = torch.zeros_like(counts_t, dtype=torch.bool)
    is_other_t[other_r] = True
    kept_n = ~is_other_t.repeat_interleave(counts_t)
    counts_t[other_r] = other.indptr.diff()
    is_other_n = is_other_t.repeat_interleave(counts_t)
    indices_n = rows.indices_n.new_empty(len(is_other_n))
    values_n = rows.values_n.new_empty(len(is_other_n))
    indices_n[is_other_n], indices_n[~is_other_n] = other.indices_n, rows.indices_n[kept_n]
    values_n[is_other_n], values_n[~is_other_n] = other.values_n, rows.values_n[kept_n]
    not_finite_t = rows.not_finite_t.clone()
    not_finite_t[other_r] = other.not_finite_t
    return Rows(row_ends(counts_t), indices_n, values_n, not_finite_t)


def sparse_matrix(indptr: Tensor, indices_n: Tensor, values_n: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return torch's own compressed sparse rows, without its notice that they are in beta."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta", category=UserWarning)
        return torch.sparse_csr_tensor(indptr, indices_n, values_n, size=shape, check_invariants=False)
