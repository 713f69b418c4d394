"""A mixture of experts' router: experts as features, and how much each counts for a token as its activation.

    h = x W.T + b;  the k largest count;  a = softmax(h), over the chosen experts (Mixtral, GPT-OSS) or over all (OLMoE)

It only reads: what an expert writes is no direction.

Shape suffixes: T tokens, D input width, F experts, K chosen, M experts asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class Router:
    """How many experts work on a token, and whether their weights add up to one."""

    k: int
    among_chosen: bool

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return self.activate(torch.addmm(b_enc_f, x_td, w_enc_fd.T))

    def activate(self, h_tf: Tensor) -> SparseActivations:
        values_tk, indices_tk = h_tf.topk(self.k, dim=1)
        if self.among_chosen:
            weights_tk = values_tk.softmax(dim=1)
        else:
            weights_tk = h_tf.softmax(dim=1).gather(1, indices_tk)
        return SparseActivations.from_topk(weights_tk, indices_tk, h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)
