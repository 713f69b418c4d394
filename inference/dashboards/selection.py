"""Keeping the best few of a stream per group, exactly, whatever the order and the cuts of the stream.

Every candidate has a group, a rank (lower is better, unique inside its group) and an identity. `Best` holds the `size`
candidates of lowest rank per group among those of different identity. Candidates that cannot be among them are refused
at once against the group's current worst, which only ever gets better: a stale threshold costs time, never a result.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np

# Rows of candidates that meet together.
_MET_AT_ONCE = 1 << 18
_WORST = np.uint64(0xFFFFFFFFFFFFFFFF)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Columns of equal length: one candidate per row."""

    group: np.ndarray  # int64
    rank: np.ndarray  # uint64
    identity: np.ndarray  # uint64
    context: np.ndarray  # int32
    position: np.ndarray  # int32
    value: np.ndarray  # float32

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: np.ndarray | slice) -> Candidates:
        return Candidates(**{column.name: getattr(self, column.name)[rows] for column in fields(self)})

    def of_groups(self, group: np.ndarray) -> Candidates:
        """Return the same candidates in other groups."""
        return replace(self, group=group)

    @classmethod
    def joined(cls, parts: list[Candidates]) -> Candidates:
        return cls(**{column.name: np.concatenate([getattr(p, column.name) for p in parts]) for column in fields(cls)})

    @classmethod
    def none(cls) -> Candidates:
        return cls(
            group=np.zeros(0, dtype=np.int64),
            rank=np.zeros(0, dtype=np.uint64),
            identity=np.zeros(0, dtype=np.uint64),
            context=np.zeros(0, dtype=np.int32),
            position=np.zeros(0, dtype=np.int32),
            value=np.zeros(0, dtype=np.float32),
        )


class Best:
    """The best `size` candidates per group, of different identities."""

    def __init__(self, n_groups: int, size: int) -> None:
        self.size = size
        self._kept = Candidates.none()
        self._waiting: list[Candidates] = []
        self._worst_g = np.full(n_groups, _WORST)

    def admits(self, group: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Return which candidates may still be among the best."""
        return rank <= self._worst_g[group]

    def add(self, candidates: Candidates) -> None:
        """Take candidates in; the same one twice counts once."""
        self._waiting.append(candidates)
        if sum(map(len, self._waiting)) > 20_000 + len(self._kept) // 2:
            self.compact()

    def kept(self) -> Candidates:
        """Return the best, sorted by group and rank."""
        self.compact()
        return self._kept

    def compact(self) -> None:
        """Let the candidates that wait meet those that are kept, which lowers what `admits` lets in.

        Groups meet a few at a time, so that what is computed on the way is small beside what is kept.
        """
        if not self._waiting:
            return
        waiting = Candidates.joined(self._waiting)
        self._waiting = []
        waiting = waiting.take(np.flatnonzero(self.admits(waiting.group, waiting.rank)))
        waiting = waiting.take(np.argsort(waiting.group, kind="stable"))
        kept, parts = self._kept, []
        for first, stop in _slices(kept.group, waiting.group):
            every = Candidates.joined([_of_range(kept, first, stop), _of_range(waiting, first, stop)])
            rows, place = best_rows(every.group - first, every.rank, every.identity, self.size)
            best = every.take(rows)
            full = place == self.size - 1
            self._worst_g[best.group[full]] = best.rank[full]
            parts.append(best)
        self._kept = Candidates.joined(parts) if parts else kept


def best_rows(group: np.ndarray, rank: np.ndarray, identity: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `(rows, places)` of the best `size` per group, sorted by group and rank; places count from 0."""
    order = np.lexsort((rank, group))
    for wanted in (4 * size, len(group)):
        place = places(group[order])
        near = order[place < wanted]
        rows = near[np.sort(_first_of_each(group[near], identity[near]))]
        place = places(group[rows])
        # Enough unless a group lost so many to duplicates that it is short although it had more to offer.
        found = np.bincount(group[rows]) if len(rows) else np.zeros(0, dtype=np.int64)
        offered = np.bincount(group) if len(group) else found
        if not ((found < size) & (offered > wanted)).any():
            break
    keep = place < size
    return rows[keep], place[keep]


def _slices(kept: np.ndarray, waiting: np.ndarray) -> list[tuple[int, int]]:
    """Cut sorted groups into ranges, so that about `_MET_AT_ONCE` rows of both are in each."""
    if not len(kept) + len(waiting):
        return []
    inner = np.concatenate([kept[_MET_AT_ONCE::_MET_AT_ONCE], waiting[_MET_AT_ONCE::_MET_AT_ONCE]])
    last = max(int(groups[-1]) for groups in (kept, waiting) if len(groups))
    edges = [0, *np.unique(inner[inner > 0]).tolist(), last + 1]
    return list(pairwise(edges))


def _of_range(candidates: Candidates, first: int, stop: int) -> Candidates:
    low, high = np.searchsorted(candidates.group, [first, stop])
    return candidates.take(slice(int(low), int(high)))


def places(sorted_group: np.ndarray) -> np.ndarray:
    """Return each row's place inside its group, for rows sorted by group."""
    if not len(sorted_group):
        return np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(sorted_group[1:] != sorted_group[:-1]) + 1])
    return np.arange(len(sorted_group)) - np.repeat(starts, np.diff(starts, append=len(sorted_group)))


def _first_of_each(group: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the first row of each (group, identity)."""
    order = np.lexsort((identity, group))  # stable, so the first of equals comes first
    if not len(order):
        return order
    g, i = group[order], identity[order]
    return order[np.concatenate([[True], (g[1:] != g[:-1]) | (i[1:] != i[:-1])])]


def descending_bits(values: np.ndarray) -> np.ndarray:
    """Return 32-bit integers in the opposite order of float32 values, whatever their sign."""
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    ascending = np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))
    return (~ascending).astype(np.uint64)


def ranked(first: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return one rank from 32 bits that decide and 32 that break ties."""
    return (first << np.uint64(32)) | then.astype(np.uint64)
