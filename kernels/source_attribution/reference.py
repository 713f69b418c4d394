"""The definition: what each head moves from each source, projected on the feature."""

from __future__ import annotations

import torch
from torch import Tensor


def source_attribution(pattern_nhs: Tensor, value_sgd: Tensor, w_nhd: Tensor) -> Tensor:
    """Return the attribution, in the precision of the tensors."""
    n_heads = pattern_nhs.shape[1]
    value_shd = value_sgd.repeat_interleave(n_heads // value_sgd.shape[1], dim=1)
    moved_nshd = pattern_nhs.transpose(1, 2)[..., None] * value_shd
    return torch.einsum("nshd,nhd->ns", moved_nshd, w_nhd)
