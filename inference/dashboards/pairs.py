"""Which features fire at the same tokens: exact counts for dictionaries up to 4,096 features.

Rows of sparse activations are expanded into their pairs, so the work grows with L0 squared and not with features
squared. Of a larger dictionary each stretch keeps the pairs that are nearest by Jaccard index so far, and their counts
are lower bounds.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from inference.dashboards.columns import ColumnWriter
from inference.dashboards.selection import places
from kernels.cooccurrence import cooccurrence, pair_codes
from kernels.rows import row_ends

LARGEST_EXACT = 4096
# Rows in which more features fire say little about any pair and would cost the most.
LONGEST_ROW = 512
FEWEST_SHARED = 5
_KEPT_PER_FEATURE = 64
PAIR_ROW = [("other", "<u4"), ("count", "<u4")]


class PairCounts:
    """Counts n_ij, i < j, of tokens where both features fire; `exact` says whether any were left out."""

    def __init__(self, n_features: int, device: torch.device) -> None:
        self.n_features = n_features
        self.exact = n_features <= LARGEST_EXACT
        shape = (n_features, n_features)
        self._table = torch.zeros(shape, dtype=torch.int32, device=device) if self.exact else None
        self._count_f = np.zeros(n_features, dtype=np.int64)
        self._codes = np.zeros(0, dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, feature_e: Tensor, firing_t: Tensor) -> None:
        """Count the pairs of events given in token order, `firing_t` of them at each token."""
        if len(firing_t) and int(firing_t.max()) > LONGEST_ROW:
            self.exact = False
            short_t = firing_t <= LONGEST_ROW
            feature_e = feature_e[short_t.repeat_interleave(firing_t)]
            firing_t = firing_t[short_t]
        indptr = row_ends(firing_t)
        if self._table is not None:
            cooccurrence(self._table, indptr, feature_e)
        else:
            self._count_f += torch.bincount(feature_e, minlength=self.n_features).cpu().numpy()
            for codes in pair_codes(indptr.cpu(), feature_e.cpu(), self.n_features):
                self._add_codes(codes)

    def write(self, writer: ColumnWriter, prefix: str) -> None:
        """Write the counts both ways: as a matrix where all are kept, or as a table of each feature's others."""
        writer.array(f"{prefix}pairs_exact", np.array(self.exact))
        if self._table is not None:
            square = self._table.cpu().numpy()
            with writer.rows(
                f"{prefix}pair_matrix", np.min_scalar_type(int(square.max(initial=0))).str, (self.n_features,)
            ) as append:
                for start in range(0, self.n_features, 256):
                    rows = slice(start, start + 256)
                    append(square[rows] + square[:, rows].T)
            return
        left, right = np.divmod(self._codes, self.n_features)
        feature, other = np.concatenate([left, right]), np.concatenate([right, left])
        counts = np.concatenate([self._counts, self._counts])
        writer.table(f"{prefix}pairs", PAIR_ROW, feature, self.n_features, other=other, count=counts)

    def _add_codes(self, codes: np.ndarray) -> None:
        fresh, counts = np.unique(codes, return_counts=True)
        self._codes, self._counts = nearest_codes(
            *add_counts(self._codes, self._counts, fresh, counts), self._count_f, _KEPT_PER_FEATURE * self.n_features
        )


def add_counts(
    codes: np.ndarray, counts: np.ndarray, more_codes: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add two tables of ascending codes and their counts."""
    every, inverse = np.unique(np.concatenate([codes, more_codes]), return_inverse=True)
    sums = np.bincount(inverse, weights=np.concatenate([counts, more_counts]), minlength=len(every))
    return every, sums.astype(np.int64)


def nearest_codes(
    codes: np.ndarray, counts: np.ndarray, count_f: np.ndarray, limit: int
) -> tuple[np.ndarray, np.ndarray]:
    """Keep the `limit` pairs of highest Jaccard index, the lower code first among equals; codes stay ascending.

    By their counts alone, the pairs of features that fire everywhere would leave no room for those of rare ones.
    """
    if len(codes) <= limit:
        return codes, counts
    left, right = np.divmod(codes, len(count_f))
    jaccard = counts / np.maximum(count_f[left] + count_f[right] - counts, 1)
    worst = np.partition(jaccard, len(codes) - limit)[len(codes) - limit]
    equal = np.flatnonzero(jaccard == worst)
    kept = jaccard > worst
    kept[equal[: limit - int(kept.sum())]] = True
    return codes[kept], counts[kept]


def nearest_by_jaccard(
    shared_bf: np.ndarray, first: int, count_f: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(ids_bk, jaccards_bk, shared_bk)` of the `size` nearest of features `first`, ..., from dense counts."""
    n_rows, n_features = shared_bf.shape
    union_bf = count_f[first : first + n_rows, None] + count_f[None, :] - shared_bf
    jaccard_bf = np.where(shared_bf >= FEWEST_SHARED, shared_bf / np.maximum(union_bf, 1), 0.0)
    k = min(size, n_features)
    worst_b = -np.partition(-jaccard_bf, k - 1, axis=1)[:, k - 1]
    row, other = np.nonzero((jaccard_bf >= worst_b[:, None]) & (jaccard_bf > 0))
    return nearest_of_pairs(row, other, shared_bf[row, other], range(first, first + n_rows), count_f, size)


def nearest_of_pairs(
    row: np.ndarray, other: np.ndarray, shared: np.ndarray, features: range, count_f: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the same from counts of pairs, each once; rows count from the first of the features."""
    enough = np.flatnonzero(shared >= FEWEST_SHARED)
    row, other, shared = row[enough], other[enough].astype(np.int64), shared[enough].astype(np.int64)
    jaccard = shared / np.maximum(count_f[features.start + row] + count_f[other] - shared, 1)
    # The lower index comes first among equals.
    order = np.lexsort((other, -jaccard, row))
    place = places(row[order])
    near, place = order[place < size], place[place < size]
    ids = np.full((len(features), size), -1, dtype=np.int32)
    jaccards = np.zeros((len(features), size), dtype=np.float32)
    counts = np.zeros((len(features), size), dtype=np.int64)
    ids[row[near], place], jaccards[row[near], place] = other[near], jaccard[near]
    counts[row[near], place] = shared[near]
    return ids, jaccards, counts
