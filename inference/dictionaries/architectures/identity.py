"""Pre-activations as they are: every feature fires at every token where it is not zero, with its sign.

Raw neurons of a model are such a dictionary, and so is the mean path of a variational SAE without a ReLU.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True)
class Identity:
    """Nothing to decide."""

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(b_enc_f), lambda x_cd: self.activate(torch.addmm(b_enc_f, x_cd, w_enc_fd.T))
        )

    def activate(self, h_tf: Tensor) -> SparseActivations:
        return SparseActivations.from_mask(h_tf, h_tf != 0)

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return torch.addmm(b_enc_f[indices_m], x_td, w_enc_fd[indices_m].T)
