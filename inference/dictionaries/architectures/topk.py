"""TopK (https://arxiv.org/abs/2406.04093): the k largest pre-activations of a token count, if they are above zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations
from kernels.encode_topk import encode_topk


@dataclass(frozen=True, slots=True)
class TopK:
    """The number of features that compete for each token's activations."""

    k: int

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return SparseActivations.from_topk(*encode_topk(x_td, w_enc_fd.T, b_enc_f, self.k), len(b_enc_f))

    def activate(self, h_tf: Tensor) -> SparseActivations:
        return SparseActivations.from_topk(*h_tf.topk(self.k, dim=1), h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        h_tm = torch.addmm(b_enc_f[indices_m], x_td, w_enc_fd[indices_m].T)
        a_tm = torch.zeros_like(h_tm)
        # A feature below zero is silent whatever the others do: only the other tokens need the competition.
        rows = (h_tm > 0).any(1).nonzero().squeeze(1)
        if len(rows):
            a_tm[rows] = self.encode(x_td[rows], w_enc_fd, b_enc_f).columns(indices_m)
        return a_tm
