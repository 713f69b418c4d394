"""The definition: what fires as a matrix of ones, times itself."""

from __future__ import annotations

import torch
from torch import Tensor


def cooccurrence(table_ff: Tensor, indptr: Tensor, indices_n: Tensor) -> None:
    """Add the tokens' pairs to the table."""
    n_tokens = len(indptr) - 1
    token_n = torch.arange(n_tokens, device=table_ff.device).repeat_interleave(indptr.diff())
    fires_tf = torch.zeros(n_tokens, len(table_ff), dtype=torch.float64, device=table_ff.device)
    fires_tf[token_n, indices_n] = 1
    table_ff += (fires_tf.T @ fires_tf).triu(1).to(table_ff.dtype)
