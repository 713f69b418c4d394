"""Crosscoders in which a feature may be on at one hook point and off at another: a threshold for each.

    y_p = sum over f of a_f [a_f > threshold_pf] D_pf + b_p

llamascopium's JumpReLU crosscoders and crosscoder_learning's decoupled codes gate h |D_pf|, the length of what would be
written there. A feature fires where it is on at any point.

Shape suffixes: T tokens, O output width, F features, M chosen features, N firings, P hook points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from inference.dictionaries.architectures.linear import LinearDecoder
from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, eq=False)
class GatedPoints:
    """A decoder for each point, and from which activation on a feature writes there."""

    points: tuple[LinearDecoder, ...]
    threshold_pf: Tensor

    @classmethod
    def of(cls, w_dec_fo: Tensor, b_out_o: Tensor, threshold_pf: Tensor) -> GatedPoints:
        """Return the decoder whose directions and biases lie side by side."""
        n_points = len(threshold_pf)
        shares = zip(w_dec_fo.chunk(n_points, dim=1), b_out_o.chunk(n_points), strict=True)
        return cls(tuple(LinearDecoder(w_fd.contiguous(), b_d) for w_fd, b_d in shares), threshold_pf)

    @property
    def n_bytes(self) -> int:
        return sum(point.n_bytes for point in self.points) + self.threshold_pf.nbytes

    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        indices_n, values_n = activations.indices_n, activations.values_n
        written = []
        for point, threshold_f in zip(self.points, self.threshold_pf, strict=True):
            on_n = values_n * (values_n > threshold_f[indices_n])
            written.append(point.decode(replace(activations, values_n=on_n)))
        return torch.cat(written, dim=1)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return what a feature writes where it is on everywhere."""
        return torch.cat([point.directions(indices_m) for point in self.points], dim=1)
