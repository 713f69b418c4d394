"""The definition: a dense product, and the maximum over each context's rows."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Maximum(NamedTuple):
    """Maxima and where they are first reached, as numbers of tokens; minus infinity at -1 where there is nothing."""

    values_cf: Tensor
    tokens_cf: Tensor


def encode_maximum(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indptr: Tensor) -> Maximum:
    """Return the maxima, in the precision of the tensors."""
    h_tf = x_td @ w_fd.T + b_f
    h_tf = torch.where(h_tf.isnan(), -torch.inf, h_tf)
    values_cf = h_tf.new_full((len(indptr) - 1, len(b_f)), -torch.inf)
    tokens_cf = torch.full(values_cf.shape, -1, device=h_tf.device)
    for c, (start, stop) in enumerate(zip(indptr[:-1].tolist(), indptr[1:].tolist(), strict=True)):
        if stop > start:
            values_cf[c] = h_tf[start:stop].amax(0)
            first_f = (h_tf[start:stop] == values_cf[c]).int().argmax(0)
            tokens_cf[c] = torch.where(values_cf[c] > -torch.inf, first_f + start, -1)
    return Maximum(values_cf, tokens_cf)
