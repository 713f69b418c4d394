"""KronSAE (https://arxiv.org/abs/2505.22255): features as pairs of a few base features, head by head.

    p = relu(x P + b_p), q = relu(x Q + b_q);  h[g, i, j] = sqrt(p[g, i] q[g, j])  (mAND);  then TopK

Head g has m base features p and n base features q; feature (g m + i) n + j is the pair of its i-th and j-th, and is on
only where both are. The encoder has G (m + n) rows for F = G m n features.

Shape suffixes: T tokens, C tokens of a chunk, D input width, F features, G heads, P and Q base features of all heads,
I and J those of one, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, eq=False)
class Kron:
    """The base features, a row each, and how many pairs count for each token."""

    w_p_pd: Tensor
    w_q_qd: Tensor
    b_p_p: Tensor
    b_q_q: Tensor
    heads: int
    k: int

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.w_p_pd, self.w_q_qd, self.b_p_p, self.b_q_q))

    def encode(self, x_td: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td,
            len(self.w_p_pd) * len(self.w_q_qd) // self.heads,
            lambda x_cd: self.activate(self.pre_activations(x_cd), x_cd),
        )

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return h_tf, the pairs before TopK."""
        p_tgi = torch.addmm(self.b_p_p, x_td, self.w_p_pd.T).relu().unflatten(1, (self.heads, -1))
        q_tgj = torch.addmm(self.b_q_q, x_td, self.w_q_qd.T).relu().unflatten(1, (self.heads, -1))
        return (p_tgi[:, :, :, None] * q_tgj[:, :, None, :]).sqrt().flatten(1)

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return SparseActivations.from_topk(*h_tf.topk(self.k, dim=1), h_tf.shape[1])

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        """Return e_md, the mean of each pair's two rows: the gradient of h where both base features are equal."""
        n_i, n_j = len(self.w_p_pd) // self.heads, len(self.w_q_qd) // self.heads
        f_m = torch.arange(self.heads * n_i * n_j, device=self.w_p_pd.device)[indices_m]
        head_m = f_m // (n_i * n_j)
        return (self.w_p_pd[f_m // n_j] + self.w_q_qd[head_m * n_j + f_m % n_j]) / 2
