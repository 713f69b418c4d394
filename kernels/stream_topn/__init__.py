"""The contexts in which each feature is highest, kept while a corpus streams by.

Whatever the batches, their order and the merging of parts, the result is that of sorting everything at the end: ranks
are unique, by value and then by context, the smaller first. What cannot be among the best is refused against the
feature's worst kept, which only ever rises: an old one costs time and never a result.

Shape suffixes: E candidates (a feature in a context, once), F features, N kept per feature.
"""

from __future__ import annotations

import torch

from kernels.stream_topn.cpu import TopContexts

__all__ = ["TopContexts", "stream_topn"]


def stream_topn(n_features: int, size: int, device: torch.device | str = "cpu") -> TopContexts:
    """Return an empty state that keeps `size` contexts for each feature."""
    if torch.device(device).type == "cuda":
        from kernels.stream_topn import triton

        return triton.BufferedTopContexts(n_features, size, device)
    return TopContexts(n_features, size, device)
