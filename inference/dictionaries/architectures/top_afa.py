"""Top-AFA (https://arxiv.org/abs/2503.24277): as many features as it takes to match the length of the input.

    a = relu((x - b_in) W_enc);  s = (a |W_dec|)^2, largest first;  k = argmin | sqrt(s_1 + ... + s_k) - |x - b_in| |

If decoder rows are nearly orthogonal, the length of what is written is about sqrt(sum s): k differs from token to
token, and none is set in training. As in the authors' code k stays below F. https://github.com/SewoongLee/top-afa-sae

Shape suffixes: T tokens, C tokens of a chunk, D input width, F features, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, eq=False)
class TopAFA:
    """The encoder, what is subtracted from the input, if anything is, and the lengths of the decoder's rows."""

    w_enc_fd: Tensor
    b_enc_f: Tensor
    b_in_d: Tensor | None
    norm_f: Tensor

    @property
    def n_bytes(self) -> int:
        return self.w_enc_fd.nbytes + self.b_enc_f.nbytes + self.norm_f.nbytes

    def encode(self, x_td: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(self.b_enc_f), lambda x_cd: self.activate(self.pre_activations(x_cd), x_cd)
        )

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        return torch.addmm(self.b_enc_f, x_td, self.w_enc_fd.T)

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        a_tf = h_tf.relu()
        written_tf, order_tf = (a_tf * self.norm_f).square().sort(dim=1, descending=True)
        length_t1 = (x_td if self.b_in_d is None else x_td - self.b_in_d).norm(dim=1, keepdim=True)
        gap_tf = (written_tf.cumsum(1).sqrt() - length_t1).abs()
        if gap_tf.shape[1] > 1:
            gap_tf[:, -1] = torch.inf
        k_t1 = gap_tf.argmin(1, keepdim=True) + 1
        kept_tf = torch.arange(a_tf.shape[1], device=a_tf.device) < k_t1
        fires_tf = torch.zeros_like(kept_tf).scatter(1, order_tf, kept_tf)
        return SparseActivations.from_mask(a_tf, fires_tf & (a_tf > 0))

    def directions(self, indices_m: Tensor) -> Tensor:
        return self.w_enc_fd[indices_m]
