"""The best few candidates of each group, kept while a stream goes by: a feature's top contexts, lots drawn in a bin.

A candidate has a group, a rank (lower is better, unique in its group) and an identity. Kept are the candidates of
lowest rank in each group among those of different identity, whatever the batches, their order and the merging of
parts. Each group publishes the rank that a candidate must not exceed, on the device where candidates are made: what
cannot be among the best is refused there, the others wait in a list and meet on the host. The published ranks only
ever get better, so an old one costs time and never a result.

Shape suffixes: E candidates, G groups, S survivors, K kept.
"""

from __future__ import annotations

import torch

from kernels.stream_topn.cpu import BestOfGroups, best_rows, places
from kernels.stream_topn.reference import value_ranks

__all__ = ["BestOfGroups", "best_rows", "places", "stream_topn", "value_ranks"]


def stream_topn(n_groups: int, size: int, device: torch.device | str = "cpu") -> BestOfGroups:
    """Return an empty state that keeps the best `size` candidates of each group."""
    if torch.device(device).type == "cuda":
        from kernels.stream_topn import triton

        return triton.BestOfGroupsOnGpu(n_groups, size, device)
    return BestOfGroups(n_groups, size, device)
