"""Logarithmic bins with fixed absolute edges, so that histograms of any two shards add up.

A bin is read off the bits of a 32-bit float: the exponent, and where the fraction lies. Edges are 2^(i/4), even on a
logarithmic axis, from 2^-12 to 2^13; two fine bins make a bin of the histogram that is shown. The outer bins take what
lies beyond.
"""

from __future__ import annotations

import math
from typing import Any, TypeVar

import numpy as np

from inference.dashboards.results import BANDS

# An integer array of NumPy, or a tensor: this module does not know torch.
Bits = TypeVar("Bits", bound=Any)
FINE_BINS = 100
SHOWN_BINS = FINE_BINS // 2
_LOWEST_OCTAVE = -12
_FRACTION_BITS = 23
_FIRST = 127 + _LOWEST_OCTAVE
# The lowest fractions of 32-bit floats at or above 2^(1/4), 2^(2/4) and 2^(3/4).
_QUARTERS = tuple(math.ceil((2 ** (quarter / 4) - 1) * (1 << _FRACTION_BITS)) for quarter in (1, 2, 3))


def fine_bins(values: np.ndarray) -> np.ndarray:
    """Return the fine bin, 0 to 99, of positive float32 values."""
    return fine_bins_of_bits(np.ascontiguousarray(values, dtype=np.float32).view(np.int32))


def fine_bins_of_bits(bits: Bits) -> Bits:
    """Return the same of the values' bits as 32-bit integers, an array of NumPy or a tensor."""
    fraction = bits & ((1 << _FRACTION_BITS) - 1)
    number = ((bits >> _FRACTION_BITS) - _FIRST) << 2
    for lowest in _QUARTERS:
        number += fraction >= lowest
    return number.clip(0, FINE_BINS - 1)


def error_bins(relative_t: np.ndarray) -> np.ndarray:
    """Return the bin, 0 to 99, of relative error norms: a hundredth wide each, the last takes all from 0.99 on."""
    return np.clip(relative_t * FINE_BINS, 0, FINE_BINS - 1).astype(np.int64)


def fine_edges() -> np.ndarray:
    """Return the 101 edges of the fine bins."""
    return 2.0 ** (np.arange(FINE_BINS + 1) / 4 + _LOWEST_OCTAVE)


def shown_edges() -> np.ndarray:
    """Return the 51 edges of the histogram that is shown."""
    return fine_edges()[::2].copy()


def shown_histogram(fine_fb: np.ndarray) -> np.ndarray:
    """Add fine bins up to those that are shown."""
    return fine_fb.reshape(len(fine_fb), SHOWN_BINS, 2).sum(axis=2)


def band_counts(fine_fb: np.ndarray, maximum_f: np.ndarray) -> np.ndarray:
    """Return how many activations lie in each band of the maximum, taking them as even inside a fine bin."""
    edges = fine_edges()
    cumulative = np.concatenate([np.zeros((len(fine_fb), 1)), np.cumsum(fine_fb, axis=1)], axis=1)
    # Nothing lies above the maximum, so the bin that holds it ends there.
    highest = np.clip(fine_bins(maximum_f), 0, FINE_BINS - 1)
    below = np.zeros((len(fine_fb), len(BANDS) + 1))
    shares = [0.0, *sorted({high for _, high in BANDS.values()})]
    for column, share in enumerate(shares[1:], start=1):
        limit = maximum_f * share
        bin_f = fine_bins(limit)
        low = np.where(bin_f == 0, 0.0, edges[bin_f])
        width = np.where(bin_f == highest, maximum_f, edges[bin_f + 1]) - low
        part = np.where(width > 0, np.clip((limit - low) / np.where(width > 0, width, 1.0), 0.0, 1.0), 1.0)
        rows = np.arange(len(fine_fb))
        below[:, column] = cumulative[rows, bin_f] + part * fine_fb[rows, bin_f]
    return np.diff(below, axis=1)[:, ::-1]
