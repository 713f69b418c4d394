"""What a feature's line says in figures, in the form in which Facet stores them.

Files have histograms of equal bins, given by the middle and the height of each; Facet's bins are logarithmic and the
same for all features. Heights are spread over its bins as if every bin of the file were evenly filled, and moments and
bands follow from the same bins: they are estimates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.statistics import moments
from inference.dashboards.bins import shown_edges
from inference.dashboards.results import BANDS

LOG_EDGES_E = shown_edges()


@dataclass(frozen=True, slots=True, kw_only=True)
class Activations:
    """Shares of a feature's activations in the bins of LOG_EDGES_E and in BANDS, and the means of its first powers."""

    share_b: np.ndarray
    band_b: np.ndarray
    power_m: np.ndarray  # of the activation, its square, cube and fourth power


@dataclass(frozen=True, slots=True, kw_only=True)
class Logits:
    """Effects on the logits: counts in equal bins from `low` to `high`."""

    low: float
    high: float
    counts: list[int]
    deviation: float
    skewness: float
    kurtosis: float


def activations(middles: Sequence[float], heights: Sequence[float], maximum: float) -> Activations:
    """Return the shares of a histogram of activations; all zero without one."""
    n_bins = len(LOG_EDGES_E) - 1
    height_b = np.clip(np.asarray(heights, dtype=np.float64), 0, None)
    total = height_b.sum()
    if not total:
        return Activations(share_b=np.zeros(n_bins), band_b=np.zeros(len(BANDS)), power_m=np.zeros(4))
    middle_b = np.asarray(middles, dtype=np.float64)
    edge_e = _edges(middle_b)
    below_e = np.concatenate([[0.0], np.cumsum(height_b)]) / total
    # The outer bins take what lies beyond.
    limits = np.concatenate([[-np.inf], LOG_EDGES_E[1:-1], [np.inf]])
    share_b = np.diff(np.interp(limits, edge_e, below_e))
    shares = [0.0, *sorted(high for _, high in BANDS.values())]
    below_bands = np.interp(np.array(shares) * maximum, edge_e, below_e)
    below_bands[0], below_bands[-1] = 0.0, 1.0
    power_m = np.array([np.dot(height_b, middle_b**power) / total for power in (1, 2, 3, 4)])
    return Activations(share_b=share_b, band_b=np.diff(below_bands)[::-1], power_m=power_m)


def logits(middles: Sequence[float], heights: Sequence[float]) -> Logits:
    """Return a histogram of effects on logits with its moments."""
    if not len(middles):
        return Logits(low=0.0, high=0.0, counts=[], deviation=0.0, skewness=0.0, kurtosis=0.0)
    middle_b, height_b = np.asarray(middles, dtype=np.float64), np.asarray(heights, dtype=np.float64)
    edge_e = _edges(middle_b)
    sums = [float(np.dot(height_b, middle_b**power)) for power in (1, 2, 3, 4)]
    found = moments(int(height_b.sum()), *sums)
    return Logits(
        low=float(edge_e[0]),
        high=float(edge_e[-1]),
        counts=np.rint(height_b).astype(int).tolist(),
        deviation=found.deviation,
        skewness=found.skewness or 0.0,
        kurtosis=found.kurtosis or 0.0,
    )


def bars(edges: Sequence[float], counts: Sequence[float], *, n_bins: int, high: float) -> tuple[list, list]:
    """Return middles and heights of equal bins from 0 to `high` for a histogram of any edges: the way back."""
    if not high or not any(counts):
        return [], []
    count_b = np.asarray(counts, dtype=np.float64)
    edge_e = np.asarray(edges, dtype=np.float64).copy()
    last = max(int(np.flatnonzero(count_b)[-1]) + 1, 1)
    edge_e[last] = max(high, edge_e[last - 1])  # nothing lies above the maximum
    below = np.concatenate([[0.0], np.cumsum(count_b)])
    new = np.linspace(0.0, high, n_bins + 1)
    at = np.interp(new, edge_e[: last + 1], below[: last + 1])
    at[0], at[-1] = 0.0, count_b.sum()
    return ((new[:-1] + new[1:]) / 2).tolist(), np.diff(at).tolist()


def _edges(middle_b: np.ndarray) -> np.ndarray:
    """Return the edges of equal bins of which the middles are known."""
    width = (middle_b[-1] - middle_b[0]) / (len(middle_b) - 1) if len(middle_b) > 1 else 0.0
    width = width if width > 0 else max(1e-6, abs(float(middle_b[0])) * 1e-3)
    return middle_b[0] - width / 2 + width * np.arange(len(middle_b) + 1)
