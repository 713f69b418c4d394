"""Which features fire at the same tokens: exact counts for dictionaries up to 4,096 features.

Rows of sparse activations are expanded into their pairs, so the work grows with L0 squared and not with features
squared. The counts of a larger dictionary are kept for each stretch's most frequent pairs only, and are lower bounds.
"""

from __future__ import annotations

import numpy as np

from inference.dashboards.events import gather_ranges

LARGEST_EXACT = 4096
# Rows in which more features fire say little about any pair and would cost the most.
LONGEST_ROW = 512
FEWEST_SHARED = 5
_PAIRS_AT_ONCE = 6_000_000
_KEPT_PER_FEATURE = 64


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

    def upper_triangle(self) -> dict[str, np.ndarray]:
        """Return the counts as arrays for a partial result: a condensed triangle, or codes i * F + j and counts."""
        if self._table is None:
            return {"pair_codes": self._codes, "pair_counts": self._counts}
        triangle = self._square()[np.triu_indices(self.n_features, 1)]
        return {"pair_triangle": triangle.astype(np.min_scalar_type(int(triangle.max(initial=0))))}

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
    left: np.ndarray, right: np.ndarray, shared: np.ndarray, count_f: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(ids_fk, jaccards_fk, shared_fk)` of each feature's `size` nearest, from pairs with their counts."""
    enough = shared >= FEWEST_SHARED
    left, right, shared = left[enough], right[enough], shared[enough]
    both_ways = np.concatenate([left, right]), np.concatenate([right, left])
    feature, other, shared = both_ways[0], both_ways[1], np.concatenate([shared, shared])
    jaccard = shared / (count_f[feature] + count_f[other] - shared)
    order = np.lexsort((other, -jaccard, feature))
    feature, other, shared, jaccard = feature[order], other[order], shared[order], jaccard[order]
    first = np.searchsorted(feature, np.arange(len(count_f)))
    place = np.arange(len(feature)) - first[feature]
    keep = place < size
    ids = np.full((len(count_f), size), -1, dtype=np.int32)
    jaccards = np.zeros((len(count_f), size), dtype=np.float32)
    counts = np.zeros((len(count_f), size), dtype=np.int64)
    rows = feature[keep], place[keep]
    ids[rows], jaccards[rows], counts[rows] = other[keep], jaccard[keep], shared[keep]
    return ids, jaccards, counts
