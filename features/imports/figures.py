"""What features' lines say in figures, in the form in which Facet stores them.

Files have histograms of equal bins, given by the middle and the height of each; Facet's bins are logarithmic and the
same for all features. Heights are spread over its bins as if every bin of the file were evenly filled, and moments and
bands follow from the same bins: they are estimates.

Suffixes: F features, B bins of the files or of Facet, E edges, M powers or moments.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np

from inference.dashboards.bins import shown_edges
from inference.dashboards.results import BANDS

LOG_EDGES_E = shown_edges()
Bars = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]


def of_histograms(bars: Sequence[Bars], maximum_f: np.ndarray) -> dict[str, list[Sequence[float]]]:
    """Return what is stored of features' histograms, given as middles and heights of activations and of logits.

    `share_fb` are shares of the activations in the bins of LOG_EDGES_E, `band_fb` in BANDS, `power_fm` the means of
    the activation's first four powers, `height_f` sums of heights; `logit_fm` low, high, deviation, skewness, kurtosis
    of the logits, `logit_count_fk` their heights. `maximum_f` is NaN where nothing says it.
    """
    n = len(bars)
    made: dict[str, list[Sequence[float]]] = {
        name: [()] * n for name in ("share_fb", "band_fb", "power_fm", "height_f", "logit_fm", "logit_count_fk")
    }
    for first, described in ((0, _activations), (2, _logits)):
        widths = np.array([len(row[first]) for row in bars])
        for width in np.unique(widths).tolist():
            at = np.flatnonzero(widths == width).tolist()
            middle_fb, height_fb = (
                np.fromiter(chain.from_iterable(bars[f][side] for f in at), np.float64).reshape(len(at), width)
                for side in (first, first + 1)
            )
            for name, rows in described(middle_fb, height_fb, maximum_f[at]).items():
                for f, row in zip(at, rows.tolist(), strict=True):
                    made[name][f] = row
    return made


def _activations(middle_fb: np.ndarray, height_fb: np.ndarray, maximum_f: np.ndarray) -> dict[str, np.ndarray]:
    n = len(middle_fb)
    height_fb = np.clip(height_fb, 0, None)
    height_f = height_fb.sum(axis=1)
    known = height_f > 0
    made = {
        "share_fb": np.zeros((n, len(LOG_EDGES_E) - 1)),
        "band_fb": np.zeros((n, len(BANDS))),
        "power_fm": np.zeros((n, 4)),
        "height_f": height_f,
    }
    if not known.any():
        return made
    middle_fb, share_fb = middle_fb[known], height_fb[known] / height_f[known, None]
    # The outer bins take what lies beyond.
    limits = np.concatenate([[-np.inf], LOG_EDGES_E[1:-1], [np.inf]])
    made["share_fb"][known] = np.diff(
        _below(middle_fb, share_fb, np.broadcast_to(limits, (len(middle_fb), len(limits))))
    )
    maximum_f = np.where(maximum_f[known] > 0, maximum_f[known], middle_fb[:, -1])
    shares = np.array([0.0, *sorted(high for _, high in BANDS.values())])
    below_fe = _below(middle_fb, share_fb, maximum_f[:, None] * shares)
    below_fe[:, 0], below_fe[:, -1] = 0.0, 1.0
    made["band_fb"][known] = np.diff(below_fe)[:, ::-1]
    made["power_fm"][known] = np.stack([(share_fb * middle_fb**power).sum(axis=1) for power in (1, 2, 3, 4)], axis=1)
    return made


def _logits(middle_fb: np.ndarray, height_fb: np.ndarray, _: np.ndarray) -> dict[str, np.ndarray]:
    n, width = middle_fb.shape
    if not width:
        return {"logit_fm": np.zeros((n, 5)), "logit_count_fk": np.zeros((n, 0), dtype=np.int64)}
    low_f, step_f = _grid(middle_fb)
    total_f = height_fb.sum(axis=1)
    share_fb = np.divide(height_fb, total_f[:, None], out=np.zeros_like(height_fb), where=total_f[:, None] > 0)
    mean_f = (share_fb * middle_fb).sum(axis=1)
    away_fb = middle_fb - mean_f[:, None]
    second_f, third_f, fourth_f = ((share_fb * away_fb**power).sum(axis=1) for power in (2, 3, 4))
    # Values that differ by no more than rounding have no skewness.
    varies = second_f > 1e-9 * (second_f + mean_f**2)
    safe_f = np.where(varies, second_f, 1.0)
    skewness_f = np.where(varies & (total_f >= 3), third_f / safe_f**1.5, 0.0)
    kurtosis_f = np.where(varies & (total_f >= 4), fourth_f / safe_f**2 - 3, 0.0)
    moments = (low_f, low_f + width * step_f, np.sqrt(np.clip(second_f, 0, None)), skewness_f, kurtosis_f)
    return {"logit_fm": np.stack(moments, axis=1), "logit_count_fk": np.rint(height_fb).astype(np.int64)}


def _below(middle_fb: np.ndarray, share_fb: np.ndarray, limit_fe: np.ndarray) -> np.ndarray:
    """Return the share of each feature's histogram that lies below each of its limits."""
    n, width = middle_fb.shape
    low_f, step_f = _grid(middle_fb)
    below_fe = np.concatenate([np.zeros((n, 1)), np.cumsum(share_fb, axis=1)], axis=1)
    place_fe = np.clip((limit_fe - low_f[:, None]) / step_f[:, None], 0, width)
    bin_fe = np.minimum(place_fe.astype(np.int64), width - 1)
    inside_fe = (place_fe - bin_fe) * np.take_along_axis(share_fb, bin_fe, axis=1)
    return np.take_along_axis(below_fe, bin_fe, axis=1) + inside_fe


def _grid(middle_fb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest edge and the width of equal bins of which the middles are known."""
    width = middle_fb.shape[1]
    step_f = (middle_fb[:, -1] - middle_fb[:, 0]) / max(1, width - 1)
    step_f = np.where(step_f > 0, step_f, np.maximum(1e-6, np.abs(middle_fb[:, 0]) * 1e-3))
    return middle_fb[:, 0] - step_f / 2, step_f


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
