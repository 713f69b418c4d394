"""Which features fire at the same tokens: exact counts for dictionaries up to 4,096 features.

Rows of sparse activations are expanded into their pairs, so the work grows with L0 squared and not with features
squared. The counts of a larger dictionary are kept for each stretch's most frequent pairs only, and are lower bounds.
"""

from __future__ import annotations

import numpy as np

from inference.dashboards.columns import ColumnWriter
from inference.dashboards.events import gather_ranges
from inference.dashboards.selection import places

LARGEST_EXACT = 4096
# Rows in which more features fire say little about any pair and would cost the most.
LONGEST_ROW = 512
FEWEST_SHARED = 5
_PAIRS_AT_ONCE = 6_000_000
_KEPT_PER_FEATURE = 64
PAIR_ROW = [("other", "<u4"), ("count", "<u4")]


class PairCounts:
    """Counts n_ij, i < j, of tokens where both features fire; `exact` says whether any were left out."""

    def __init__(self, n_features: int) -> None:
        self.n_features = n_features
        self.exact = n_features <= LARGEST_EXACT
        side = n_features + 1  # one more, for the padding of short rows
        self._table = np.zeros(side * side, dtype=np.int32) if self.exact else None
        self._codes = np.zeros(0, dtype=np.int64)
        self._counts = np.zeros(0, dtype=np.int64)

    def add(self, feature_e: np.ndarray, firing_t: np.ndarray) -> None:
        """Count the pairs of events given in token order, `firing_t` of them at each token."""
        stops = np.cumsum(firing_t)
        if len(firing_t) and firing_t.max() > LONGEST_ROW:
            self.exact = False
        # Rows of similar length together, so that padding is little.
        rows = np.flatnonzero((firing_t > 1) & (firing_t <= LONGEST_ROW))
        rows = rows[np.argsort(firing_t[rows].astype(np.uint16), kind="stable")]
        while len(rows):
            widest = int(firing_t[rows[min(len(rows), 4096) - 1]])
            alike = int(np.searchsorted(firing_t[rows], widest, side="right"))
            size = min(alike, max(1, 2 * _PAIRS_AT_ONCE // (widest * widest)))
            chunk, rows = rows[:size], rows[size:]
            self._add_rows(feature_e, stops[chunk] - firing_t[chunk], firing_t[chunk])

    def write(self, writer: ColumnWriter, prefix: str) -> None:
        """Write the counts both ways: as a matrix where all are kept, or as a table of each feature's others."""
        writer.array(f"{prefix}pairs_exact", np.array(self.exact))
        if self._table is not None:
            square = self._square()
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

    def _square(self) -> np.ndarray:
        side = self.n_features + 1
        return self._table.reshape(side, side)[:-1, :-1]

    def _add_rows(self, feature_e: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> None:
        width = int(lengths.max())
        padded = np.full((len(starts), width), self.n_features, dtype=np.int32)
        padded[np.arange(width) < lengths[:, None]] = feature_e[gather_ranges(starts, starts + lengths)]
        padded.sort(axis=1)
        by_place = np.ascontiguousarray(padded.T)
        codes = np.empty((width * (width - 1) // 2, len(starts)), dtype=np.int64)
        filled, side = 0, self.n_features + 1
        for place in range(width - 1):
            later = width - 1 - place
            head = by_place[place].astype(np.int64) * side
            np.add(head, by_place[place + 1 :], out=codes[filled : filled + later])
            filled += later
        if self._table is not None:
            self._table += np.bincount(codes.ravel(), minlength=side * side).astype(np.int32)
        else:
            self._add_codes(codes.ravel())

    def _add_codes(self, codes: np.ndarray) -> None:
        side = self.n_features + 1
        left, right = np.divmod(codes[codes % side != self.n_features], side)
        fresh, counts = np.unique(left * self.n_features + right, return_counts=True)
        self._codes, self._counts = most_frequent(
            *add_counts(self._codes, self._counts, fresh, counts), _KEPT_PER_FEATURE * self.n_features
        )


def add_counts(
    codes: np.ndarray, counts: np.ndarray, more_codes: np.ndarray, more_counts: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Add two tables of ascending codes and their counts."""
    every, inverse = np.unique(np.concatenate([codes, more_codes]), return_inverse=True)
    sums = np.bincount(inverse, weights=np.concatenate([counts, more_counts]), minlength=len(every))
    return every, sums.astype(np.int64)


def most_frequent(codes: np.ndarray, counts: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Keep the `limit` largest counts, the lower code first among equals; codes stay ascending."""
    if len(codes) <= limit:
        return codes, counts
    rows = np.sort(np.argsort(-counts, kind="stable")[:limit])
    return codes[rows], counts[rows]


def nearest_by_jaccard(
    shared_bf: np.ndarray, first: int, count_f: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(ids_bk, jaccards_bk, shared_bk)` of the `size` nearest of features `first`, ..., from dense counts."""
    n_rows, n_features = shared_bf.shape
    union_bf = count_f[first : first + n_rows, None] + count_f[None, :] - shared_bf
    jaccard_bf = np.where(shared_bf >= FEWEST_SHARED, shared_bf / np.maximum(union_bf, 1), 0.0)
    k = min(size, n_features)
    # Sorted by index before they are sorted by height, so that the lower index comes first among equals.
    worst_b = -np.partition(-jaccard_bf, k - 1, axis=1)[:, k - 1]
    ids = np.full((n_rows, size), -1, dtype=np.int32)
    jaccards = np.zeros((n_rows, size), dtype=np.float32)
    counts = np.zeros((n_rows, size), dtype=np.int64)
    row, other = np.nonzero((jaccard_bf >= worst_b[:, None]) & (jaccard_bf > 0))
    order = np.lexsort((other, -jaccard_bf[row, other], row))
    row, other = row[order], other[order]
    place = places(row)
    keep = place < size
    row, other, place = row[keep], other[keep], place[keep]
    ids[row, place], jaccards[row, place] = other, jaccard_bf[row, other]
    counts[row, place] = shared_bf[row, other]
    return ids, jaccards, counts
