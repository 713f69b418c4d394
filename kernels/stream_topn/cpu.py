"""The state, and how CPUs refuse candidates. What is kept lies on the host, in NumPy's columns, whose sorts are faster.

Suffixes: E candidates, G groups, S survivors, K kept.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kernels.stream_topn.reference import UNRANKED

# Candidates that may wait, beside half as many as are kept.
_MOST_WAITING = 20_000
# Rows of candidates that meet together.
_MET_AT_ONCE = 1 << 18
_ODD, _OTHER_ODD = np.int64(-0x61C8864680B583EB), np.int64(-0x4B47D0C5E27B1C6F)

Columns = dict[str, np.ndarray]


class BestOfGroups:
    """The best `size` candidates of each group, of different identities; `worst_g` is on the device of candidates."""

    def __init__(self, n_groups: int, size: int, device: torch.device | str = "cpu") -> None:
        self.size = size
        self.worst_g = torch.full((n_groups,), UNRANKED - 1, device=device)
        self.n_unranked = torch.zeros((), dtype=torch.int64, device=device)
        self._kept: Columns = {}
        self._waiting: list[dict[str, Tensor]] = []
        self._n_waiting = 0

    def __len__(self) -> int:
        """Return how many candidates are kept, of those that do not wait."""
        return len(self._kept["group"]) if self._kept else 0

    def admits(self, group_e: Tensor, rank_e: Tensor) -> Tensor:
        """Return which candidates may still be among the best."""
        return rank_e <= self.worst_g[group_e]

    def survivors(self, group_e: Tensor, rank_e: Tensor) -> Tensor:
        """Return the numbers of the candidates that may still be among the best."""
        return self.admits(group_e, rank_e).nonzero().squeeze(1)

    def add(self, group_e: Tensor, rank_e: Tensor, identity_e: Tensor, **carried_e: Tensor) -> None:
        """Take candidates in, with columns that they carry; the same one twice counts once."""
        self.n_unranked += (rank_e == UNRANKED).sum()
        rows_s = self.survivors(group_e, rank_e)
        columns = {"group": group_e, "rank": rank_e, "identity": identity_e, **carried_e}
        self._waiting.append({name: column[rows_s] for name, column in columns.items()})
        self._n_waiting += len(rows_s)
        if self._n_waiting > _MOST_WAITING + len(self) // 2:
            self.compact()

    def merge(self, other: BestOfGroups) -> None:
        """Take in what another state has kept."""
        if kept := other.kept():
            columns = {name: column.to(self.worst_g.device) for name, column in kept.items()}
            carried = {name: columns[name] for name in columns if name not in ("group", "rank", "identity")}
            self.add(columns["group"], columns["rank"], columns["identity"], **carried)

    def kept(self) -> dict[str, Tensor]:
        """Return the columns of the best, by group and rank, on the host; none before there were candidates."""
        self.compact()
        return {name: torch.from_numpy(column) for name, column in self._kept.items()}

    def compact(self) -> None:
        """Let the candidates that wait meet those that are kept, and publish the worst of groups that are full.

        Groups meet a few at a time, so that what is computed on the way is small beside what is kept.
        """
        if not self._waiting:
            return
        columns = {name: torch.cat([part[name] for part in self._waiting]) for name in self._waiting[0]}
        self._waiting, self._n_waiting = [], 0
        rows_s = self.survivors(columns["group"], columns["rank"])
        waiting = {name: column[rows_s].cpu().numpy() for name, column in columns.items()}
        waiting = _taken(waiting, _group_order(waiting["group"]))
        kept = self._kept or _taken(waiting, slice(0))
        parts = []
        for first, stop in _slices(kept["group"], waiting["group"]):
            every = _joined([_of_range(kept, first, stop), _of_range(waiting, first, stop)])
            rows, place = best_rows(every["group"] - first, every["rank"], every["identity"], self.size)
            best = _taken(every, rows)
            full = place == self.size - 1
            self._publish(best["group"][full], best["rank"][full])
            parts.append(best)
        self._kept = _joined(parts) if parts else kept

    def _publish(self, group: np.ndarray, rank: np.ndarray) -> None:
        device = self.worst_g.device
        self.worst_g[torch.from_numpy(group).to(device)] = torch.from_numpy(rank).to(device)


def best_rows(group: np.ndarray, rank: np.ndarray, identity: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `(rows, places)` of the best `size` per group, sorted by group and rank; places count from 0."""
    order = np.argsort(rank)  # ranks of a group are unique: nothing is to be stable
    order = order[_group_order(group[order])]
    for wanted in (4 * size, len(group)):
        place = places(group[order])
        near = order[place < wanted]
        rows = near[_first_of_each(group[near], identity[near])]
        place = places(group[rows])
        # Enough unless a group lost so many to duplicates that it is short although it had more to offer.
        found = np.bincount(group[rows]) if len(rows) else np.zeros(0, dtype=np.int64)
        offered = np.bincount(group) if len(group) else found
        if not ((found < size) & (offered > wanted)).any():
            break
    keep = place < size
    return rows[keep], place[keep]


def places(sorted_group: np.ndarray) -> np.ndarray:
    """Return each row's place inside its group, for rows sorted by group."""
    if not len(sorted_group):
        return np.zeros(0, dtype=np.int64)
    starts = np.concatenate([[0], np.flatnonzero(sorted_group[1:] != sorted_group[:-1]) + 1])
    return np.arange(len(sorted_group)) - np.repeat(starts, np.diff(starts, append=len(sorted_group)))


def _group_order(group: np.ndarray) -> np.ndarray:
    """Return the stable sorting order of numbers from 0: 16 bits at a time, which is linear."""
    order = np.argsort((group & 0xFFFF).astype(np.uint16), kind="stable")
    for bits in range(16, int(group.max(initial=0)).bit_length(), 16):
        order = order[np.argsort((group[order] >> bits & 0xFFFF).astype(np.uint16), kind="stable")]
    return order


def _first_of_each(group: np.ndarray, identity: np.ndarray) -> np.ndarray:
    """Return the first row of each (group, identity), ascending."""
    # Most candidates are alone: only those whose mixture of both is found twice are told apart, by sorting.
    with np.errstate(over="ignore"):
        mixture = identity * _ODD + group * _OTHER_ODD
    ordered = np.sort(mixture)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return np.arange(len(group))
    rows = np.flatnonzero(np.isin(mixture, twice))
    g, i = group[rows], identity[rows]
    order = np.lexsort((i, g))  # stable, so the first of equals comes first
    g, i = g[order], i[order]
    later = rows[order[1:][(g[1:] == g[:-1]) & (i[1:] == i[:-1])]]
    return np.delete(np.arange(len(group)), later)


def _slices(kept: np.ndarray, waiting: np.ndarray) -> list[tuple[int, int]]:
    """Cut sorted groups into ranges, so that about `_MET_AT_ONCE` rows of both are in each."""
    if not len(kept) + len(waiting):
        return []
    inner = np.concatenate([kept[_MET_AT_ONCE::_MET_AT_ONCE], waiting[_MET_AT_ONCE::_MET_AT_ONCE]])
    last = max(int(groups[-1]) for groups in (kept, waiting) if len(groups))
    edges = [0, *np.unique(inner[inner > 0]).tolist(), last + 1]
    return list(pairwise(edges))


def _of_range(columns: Columns, first: int, stop: int) -> Columns:
    low, high = np.searchsorted(columns["group"], [first, stop])
    return _taken(columns, slice(int(low), int(high)))


def _taken(columns: Columns, rows: np.ndarray | slice) -> Columns:
    return {name: column[rows] for name, column in columns.items()}


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
