"""A program for each feature, which goes through its own events: nothing is shared or atomic.

Suffixes: e events, b bins.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.event_stats.reference import EventStats


@triton.jit
def event_stats_kernel(
    indptr_ptr,
    value_ptr,
    bin_ptr,
    count_ptr,
    powers_ptr,
    maximum_ptr,
    histogram_ptr,
    not_finite_ptr,
    n_bins,
    BLOCK_E: tl.constexpr,
    BLOCK_B: tl.constexpr,
):
    feature = tl.program_id(0).to(tl.int64)
    first, last = tl.load(indptr_ptr + feature), tl.load(indptr_ptr + feature + 1)
    b = tl.arange(0, BLOCK_B)
    histogram = tl.zeros((BLOCK_B,), dtype=tl.int32)
    count = tl.zeros((BLOCK_E,), dtype=tl.int32)
    highest = tl.full((BLOCK_E,), float("-inf"), dtype=tl.float32)
    one = tl.zeros((BLOCK_E,), dtype=tl.float64)
    two, three, four = one, one, one
    for start in range(first, last, BLOCK_E):
        e = start + tl.arange(0, BLOCK_E)
        value = tl.load(value_ptr + e, mask=e < last, other=float("inf")).to(tl.float32)
        finite = tl.abs(value) < float("inf")
        own = tl.load(bin_ptr + e, mask=e < last, other=0)
        histogram += tl.histogram(tl.where(finite, own, n_bins), BLOCK_B)  # the others in a bin beyond the last
        count += finite.to(tl.int32)
        highest = tl.maximum(highest, tl.where(finite, value, float("-inf")))
        wide = tl.where(finite, value, 0.0).to(tl.float64)
        one += wide
        two += wide * wide
        three += wide * wide * wide
        four += wide * wide * wide * wide
    n_finite = tl.sum(count.to(tl.int64), axis=0)
    tl.store(count_ptr + feature, n_finite)
    tl.store(not_finite_ptr + feature, last - first - n_finite)
    tl.store(maximum_ptr + feature, tl.max(highest, axis=0))
    tl.store(powers_ptr + feature * 4, tl.sum(one, axis=0))
    tl.store(powers_ptr + feature * 4 + 1, tl.sum(two, axis=0))
    tl.store(powers_ptr + feature * 4 + 2, tl.sum(three, axis=0))
    tl.store(powers_ptr + feature * 4 + 3, tl.sum(four, axis=0))
    tl.store(histogram_ptr + feature * n_bins + b, histogram.to(tl.int64), mask=b < n_bins)


def event_stats(indptr: Tensor, value_e: Tensor, bin_e: Tensor, n_bins: int) -> EventStats:
    """Return the sums of each feature."""
    n_features, options = len(indptr) - 1, {"device": value_e.device}
    stats = EventStats(
        torch.empty(n_features, dtype=torch.int64, **options),
        torch.empty(n_features, 4, dtype=torch.float64, **options),
        torch.empty(n_features, dtype=torch.float32, **options),
        torch.empty(n_features, n_bins, dtype=torch.int64, **options),
        torch.empty(n_features, dtype=torch.int64, **options),
    )
    event_stats_kernel[(n_features,)](
        indptr,
        value_e,
        bin_e.int(),
        *stats,
        n_bins,
        BLOCK_E=256,
        BLOCK_B=triton.next_power_of_2(n_bins + 1),
        num_warps=4,
    )
    return stats
