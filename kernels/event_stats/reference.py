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

    def add_(self, other: EventStats) -> None:
        """Add what another stretch of events adds up to, in place."""
        for mine, yours in zip(self, other, strict=True):
            if mine is self.maximum_f:
                torch.maximum(mine, yours, out=mine)
            else:
                mine += yours

    @classmethod
    def none(cls, n_features: int, n_bins: int, device: torch.device) -> EventStats:
        """Return what no events add up to."""
        whole = {"dtype": torch.int64, "device": device}
        return cls(
            torch.zeros(n_features, **whole),
            torch.zeros(n_features, 4, dtype=torch.float64, device=device),
            torch.full((n_features,), -torch.inf, device=device),
            torch.zeros(n_features, n_bins, **whole),
            torch.zeros(n_features, **whole),
        )


def event_stats(indptr: Tensor, value_e: Tensor, bin_e: Tensor, n_bins: int) -> EventStats:
    """Return the sums of each feature."""
    parts = []
    for first, last in zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True):
        finite_e = value_e[first:last].isfinite()
        value = value_e[first:last][finite_e].double()
        parts.append(
            EventStats(
                finite_e.sum(),
                torch.stack([value.pow(degree).sum() for degree in range(1, 5)]),
                value.float().max() if len(value) else torch.tensor(-torch.inf, device=value_e.device),
                torch.bincount(bin_e[first:last][finite_e].long(), minlength=n_bins),
                (~finite_e).sum(),
            )
        )
    return EventStats(*map(torch.stack, zip(*parts, strict=True)))
