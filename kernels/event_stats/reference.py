"""The definition: one feature after the other."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class EventStats(NamedTuple):
    """Sums that add up over batches: `powers_f4` has the sums of value^1 to value^4 in float64.

    `maximum_f` is minus infinity where there are no events; `not_finite_f` counts events that nothing else counts.
    """

    count_f: Tensor
    powers_f4: Tensor
    maximum_f: Tensor
    histogram_fb: Tensor
    not_finite_f: Tensor

    def plus(self, other: EventStats) -> EventStats:
        """Return what both together add up to."""
        sums = [mine + yours for mine, yours in zip(self, other, strict=True)]
        return EventStats(*sums)._replace(maximum_f=torch.maximum(self.maximum_f, other.maximum_f))


def event_stats(feature_e: Tensor, value_e: Tensor, bin_e: Tensor, n_features: int, n_bins: int) -> EventStats:
    """Return the sums of each feature."""
    parts = []
    for feature in range(n_features):
        own_e = feature_e == feature
        finite_e = own_e & value_e.isfinite()
        value = value_e[finite_e].double()
        parts.append(
            EventStats(
                finite_e.sum(),
                torch.stack([value.pow(degree).sum() for degree in range(1, 5)]),
                value_e[finite_e].float().max() if len(value) else torch.tensor(-torch.inf, device=value_e.device),
                torch.bincount(bin_e[finite_e].long(), minlength=n_bins),
                (own_e & ~finite_e).sum(),
            )
        )
    return EventStats(*map(torch.stack, zip(*parts, strict=True)))
