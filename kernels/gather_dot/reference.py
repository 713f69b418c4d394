"""The definition: gather both sides of every pair, multiply, add up."""

from __future__ import annotations

import torch
from torch import Tensor


def gather_dot(x_td: Tensor, w_fd: Tensor, indptr: Tensor, indices_n: Tensor) -> Tensor:
    """Return x[t] . w[f] for every pair."""
    token_n = torch.repeat_interleave(torch.arange(len(x_td), device=x_td.device), indptr.diff())
    return (x_td[token_n] * w_fd[indices_n]).sum(1)
