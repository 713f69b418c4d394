"""What a stretch of events, one feature at one token each, adds up to for every feature.

Shape suffixes: E events, F features, B bins of a histogram.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.event_stats import cpu
from kernels.event_stats.reference import EventStats
from kernels.rows import row_ends

__all__ = ["EventStats", "by_feature", "event_stats"]


def by_feature(feature_e: Tensor, n_features: int) -> tuple[Tensor, Tensor]:
    """Return the order that sorts events by feature, equal ones as they come, and where each feature's begin.

    Feature f's are `order_e[indptr[f]:indptr[f + 1]]`.
    """
    if not feature_e.is_cuda:
        return cpu.by_feature(feature_e, n_features)
    return feature_e.argsort(stable=True), row_ends(torch.bincount(feature_e, minlength=n_features))


def event_stats(indptr: Tensor, value_e: Tensor, bin_e: Tensor, n_bins: int) -> EventStats:
    """Return counts, sums of powers, maxima and histograms of events sorted by feature; the caller says their bins.

    Events that are infinite or not a number are counted apart and enter nothing else. Sums are float64, in the order
    of events.
    """
    if value_e.is_cuda:
        from kernels.event_stats import triton

        return triton.event_stats(indptr, value_e, bin_e, n_bins)
    return cpu.event_stats(indptr, value_e, bin_e, n_bins)
