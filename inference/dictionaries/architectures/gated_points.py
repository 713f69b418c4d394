"""Crosscoders in which a feature may be on at one hook point and off at another: a threshold for each.

    y_p = sum over f of a_f [a_f > threshold_pf] D_pf + b_p

llamascopium's JumpReLU crosscoders and crosscoder_learning's decoupled codes gate h |D_pf|, the length of what would be
written there. A feature fires where it is on at any point.

Shape suffixes: T tokens, O output width, F features, M chosen features, N firings, P hook points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, eq=False)
class GatedPoints:
    """The directions, the bias, and from which activation on a feature writes at each point."""

    w_dec_fo: Tensor
    b_out_o: Tensor
    threshold_pf: Tensor

    @property
    def n_bytes(self) -> int:
        return self.w_dec_fo.nbytes + self.b_out_o.nbytes + self.threshold_pf.nbytes

    def decode(
        self, activations: SparseActivations, x_td: Tensor | None = None, lengths: Sequence[int] | None = None
    ) -> Tensor:
        indices_n, values_n = activations.indices_n, activations.values_n
        points = self.w_dec_fo.chunk(len(self.threshold_pf), dim=1)
        written = [
            functional.embedding_bag(
                indices_n,
                w_fo.contiguous(),
                activations.indptr,
                mode="sum",
                per_sample_weights=values_n * (values_n > threshold_f[indices_n]),
                include_last_offset=True,
            )
            for w_fo, threshold_f in zip(points, self.threshold_pf, strict=True)
        ]
        return self.b_out_o + torch.cat(written, dim=1)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return what a feature writes where it is on everywhere."""
        return self.w_dec_fo[indices_m]
