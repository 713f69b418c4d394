"""JumpReLU (https://arxiv.org/abs/2407.14435): a pre-activation counts as it is, if it exceeds its feature's threshold.

ReLU is JumpReLU with thresholds of zero. Below zero they let negative pre-activations through: most packages put a ReLU
before the jump, which is a threshold of at least zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class JumpReLU:
    """Thresholds of all features."""

    threshold_f: Tensor

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        rows = max(1, CHUNK_ELEMENTS // len(b_enc_f))
        parts = []
        for x_cd in x_td.split(rows):
            h_cf = torch.addmm(b_enc_f, x_cd, w_enc_fd.T)
            parts.append(SparseActivations.from_mask(h_cf, h_cf > self.threshold_f))
        return SparseActivations.concatenate(parts)

    def activate(self, h_tf: Tensor) -> SparseActivations:
        return SparseActivations.from_mask(h_tf, h_tf > self.threshold_f)

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        h_tm = torch.addmm(b_enc_f[indices_m], x_td, w_enc_fd[indices_m].T)
        return torch.where(h_tm > self.threshold_f[indices_m], h_tm, 0.0)
