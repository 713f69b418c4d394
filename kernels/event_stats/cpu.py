"""On CPUs NumPy, whose sort by 16 bits is linear, and whose sums over ranges need no table of places."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels.event_stats.reference import EventStats
from kernels.rows import row_ends, surely_finite


def by_feature(feature_e: Tensor, n_features: int) -> tuple[Tensor, Tensor]:
    """Return the order that sorts events by feature, equal ones as they come, and indptr."""
    number_e = feature_e.numpy()
    order_e = np.argsort((number_e & 0xFFFF).astype(np.uint16), kind="stable")
    if n_features > 1 << 16:
        order_e = order_e[np.argsort((number_e[order_e] >> 16).astype(np.uint16), kind="stable")]
    count_f = np.bincount(number_e, minlength=n_features)
    return torch.from_numpy(order_e), row_ends(torch.from_numpy(count_f))


def event_stats(indptr: Tensor, value_e: Tensor, bin_e: Tensor, n_bins: int) -> EventStats:
    """Return the sums of each feature."""
    count_f = indptr.diff()
    n_features = len(count_f)
    feature_e = torch.arange(n_features).repeat_interleave(count_f, output_size=len(value_e))
    not_finite_f = torch.zeros_like(count_f)
    if not surely_finite(value_e):
        finite_e = value_e.isfinite()
        not_finite_f = torch.bincount(feature_e[~finite_e], minlength=n_features)
        feature_e, value_e, bin_e = feature_e[finite_e], value_e[finite_e], bin_e[finite_e]
        count_f = count_f - not_finite_f
    stats = EventStats.none(n_features, 0, value_e.device)
    firing_f = count_f.numpy() > 0
    starts = (count_f.cumsum(0) - count_f).numpy()[firing_f]
    if len(starts):
        value = value_e.double().numpy()
        power = np.ones_like(value)
        for degree in range(4):
            power *= value
            stats.powers_f4.numpy()[firing_f, degree] = np.add.reduceat(power, starts)
        stats.maximum_f.numpy()[firing_f] = np.maximum.reduceat(value_e.float().numpy(), starts)
    place_e = (feature_e * n_bins).add_(bin_e).numpy()
    histogram_fb = torch.from_numpy(np.bincount(place_e, minlength=n_features * n_bins)).view(n_features, n_bins)
    return stats._replace(count_f=count_f, histogram_fb=histogram_fb, not_finite_f=not_finite_f)
