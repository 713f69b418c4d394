"""The definition: activations as a dense matrix, times the decoder."""

from __future__ import annotations

import torch
from torch import Tensor


def sparse_decode(
    indptr: Tensor,
    indices_n: Tensor,
    values_n: Tensor,
    w_fo: Tensor,
    b_o: Tensor,
    residual_to: Tensor | None = None,
    sign: int = 1,
) -> Tensor:
    """Return residual + sign * (a W + b), in the precision of the tensors."""
    tokens_t = torch.arange(len(indptr) - 1, device=w_fo.device)
    token_n = tokens_t.repeat_interleave(indptr.diff())
    a_tf = w_fo.new_zeros(len(tokens_t), len(w_fo))
    a_tf.index_put_((token_n, indices_n), values_n.to(w_fo.dtype), accumulate=True)
    y_to = sign * (a_tf @ w_fo + b_o)
    return y_to if residual_to is None else residual_to + y_to
