"""The definition: a dense product and the top of each of its rows."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.rows import Best


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int) -> Best:
    """Return the k largest pre-activations and their indices, in the precision of the tensors."""
    h_tf = x_td @ w_fd.T + b_f
    not_finite_t = (~h_tf.isfinite()).sum(1)
    values_tk, indices_tk = torch.where(h_tf.isnan(), -torch.inf, h_tf).topk(k, dim=1)
    return Best(values_tk, torch.where(values_tk > -torch.inf, indices_tk, -1), not_finite_t)
