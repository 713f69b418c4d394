"""Codebook features (https://arxiv.org/abs/2310.17230): the k codes most like the input, each written once.

    cos = x C.T / (|x| |C|);  a = 1 for the k codes of largest cosine, 0 for others;  y = a C

Encoder rows are codes of length one: the input's own length does not change which codes are nearest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class Codebook:
    """The number of codes that stand for each token."""

    k: int

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(b_enc_f), lambda x_cd: self.activate(torch.addmm(b_enc_f, x_cd, w_enc_fd.T))
        )

    def activate(self, h_tf: Tensor) -> SparseActivations:
        indices_tk = h_tf.topk(self.k, dim=1).indices.sort(dim=1).values
        ones_tk = torch.ones(indices_tk.shape, dtype=h_tf.dtype, device=h_tf.device)
        return SparseActivations.from_topk(ones_tk, indices_tk, h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)
