"""Candidates for examples as a pass has them, in NumPy's columns, around the kernel that keeps the best of each group.

`kernels.stream_topn` says what is kept and why the cuts of a stream do not matter.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from kernels.products import ascending
from kernels.stream_topn import best_rows, places, stream_topn, value_ranks

__all__ = ["Best", "Candidates", "best_rows", "by_lot", "by_value", "places"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Columns of equal length: one candidate per row."""

    group: np.ndarray  # int64, or int32
    rank: np.ndarray  # int64
    identity: np.ndarray  # int64
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
    def none(cls) -> Candidates:
        whole, half = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int32)
        return cls(
            group=whole, rank=whole, identity=whole, context=half, position=half, value=np.zeros(0, dtype=np.float32)
        )


class Best:
    """The best `size` candidates per group, of different identities; refused where candidates are computed."""

    def __init__(self, n_groups: int, size: int, device: torch.device | str = "cpu") -> None:
        self._state = stream_topn(n_groups, size, device)

    def admits(self, group: np.ndarray | Tensor, rank: np.ndarray | Tensor) -> np.ndarray | Tensor:
        """Return which candidates may still be among the best, as they come: an array, or a tensor on the device."""
        if isinstance(group, Tensor):
            return self._state.admits(group, rank)
        return self._state.admits(torch.from_numpy(group), torch.from_numpy(rank)).numpy()

    def worst_values(self) -> np.ndarray:
        """Return the least value that each group admits, of ranks `by_value`: minus infinity where it is not full."""
        bits = ascending(~(self._state.worst_g.cpu().numpy() >> 32).astype(np.int32))
        values = bits.view(np.float32)
        return np.where(np.isnan(values), -np.inf, values).astype(np.float32)

    def worst_lots(self) -> np.ndarray:
        """Return the highest lot that each group admits, of ranks `by_lot`: all where it is not full."""
        return ((self._state.worst_g.cpu().numpy() >> 32) + (1 << 31)).astype(np.uint64)

    def add(self, candidates: Candidates) -> None:
        """Take candidates in; the same one twice counts once."""
        columns = (torch.from_numpy(getattr(candidates, column.name)) for column in fields(candidates))
        group, rank, identity, context, position, value = (column.to(self._state.worst_g.device) for column in columns)
        self._state.add(group, rank, identity, context=context, position=position, value=value)

    def compact(self) -> None:
        """Let what waits meet what is kept, which lowers what `admits` lets in."""
        self._state.compact()

    def kept(self) -> Candidates:
        """Return the best, sorted by group and rank."""
        kept = self._state.kept()
        return Candidates(**{name: column.numpy() for name, column in kept.items()}) if kept else Candidates.none()


def by_value(value: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return ranks of float32 values falling, and of whole numbers rising among equals."""
    # Copied: columns of rows of a file lie too far apart for tensors, and are not to be written.
    return value_ranks(*(torch.from_numpy(np.array(column)) for column in (value, then))).numpy()


def by_lot(lot: np.ndarray, then: np.ndarray) -> np.ndarray:
    """Return ranks of 32-bit lots rising, and of whole numbers rising among equals."""
    return (lot.astype(np.int64) - (1 << 31) << 32) | then.astype(np.int64)
