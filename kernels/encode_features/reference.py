"""The definition: a dense product of the chosen rows."""

from __future__ import annotations

import torch
from torch import Tensor


def encode_features(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indices_m: Tensor, floor: Tensor) -> Tensor:
    """Return the chosen activations, in the precision of the tensors."""
    h_tm = x_td @ w_fd[indices_m].T + b_f[indices_m]
    return torch.where(h_tm > floor, h_tm, 0.0)
