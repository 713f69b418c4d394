"""What a stream of events, one feature at one token each, adds up to for every feature.

Shape suffixes: E events, F features, B bins of a histogram.
"""

from __future__ import annotations

from torch import Tensor

from kernels.event_stats import cpu
from kernels.event_stats.reference import EventStats

__all__ = ["EventStats", "event_stats"]


def event_stats(feature_e: Tensor, value_e: Tensor, bin_e: Tensor, n_features: int, n_bins: int) -> EventStats:
    """Return counts, sums of powers, maxima and histograms of events in any order; the caller says which bin each has.

    Events that are infinite or not a number are counted apart and enter nothing else.
    """
    if value_e.is_cuda:
        from kernels.event_stats import triton

        return triton.event_stats(feature_e, value_e, bin_e, n_features, n_bins)
    return cpu.event_stats(feature_e, value_e, bin_e, n_features, n_bins)
