"""TopK that keeps signs: the k largest pre-activations of a token count as they are, negative ones too.

AbsTopK (https://arxiv.org/abs/2510.00404) ranks by magnitude, so that a feature may fire in either direction; circuit
tracers' TopK transcoders rank by value, and only leave out the ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class SignedTopK:
    """The number of features that count for each token, and whether their magnitude decides."""

    k: int
    by_magnitude: bool

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(b_enc_f), lambda x_cd: self.activate(torch.addmm(b_enc_f, x_cd, w_enc_fd.T))
        )

    def activate(self, h_tf: Tensor) -> SparseActivations:
        indices_tk = (h_tf.abs() if self.by_magnitude else h_tf).topk(self.k, dim=1).indices
        values_tk = h_tf.gather(1, indices_tk)
        return SparseActivations.from_rows(values_tk, indices_tk, values_tk != 0, h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)
