"""Encoders with a gated linear unit (llamascopium's `use_glu_encoder`).

    h = (x W_enc.T + b_enc) sigmoid(x V.T + c),  a = activation(h)

Shape suffixes: T tokens, C tokens of a chunk, D input width, F features, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.architectures.linear import Activation
from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, eq=False)
class GLU:
    """Two matrices with their biases, and what decides behind their product."""

    w_enc_fd: Tensor
    b_enc_f: Tensor
    w_glu_fd: Tensor
    b_glu_f: Tensor
    activation: Activation

    @property
    def n_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (self.w_enc_fd, self.b_enc_f, self.w_glu_fd, self.b_glu_f))

    def encode(self, x_td: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(self.b_enc_f), lambda x_cd: self.activation.activate(self.pre_activations(x_cd))
        )

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        gate_tf = torch.addmm(self.b_glu_f, x_td, self.w_glu_fd.T).sigmoid_()
        return torch.addmm(self.b_enc_f, x_td, self.w_enc_fd.T).mul_(gate_tf)

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.activation.activate(h_tf)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_enc_fd[indices_m]
