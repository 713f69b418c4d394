"""On CPUs: a product for each group of values, then the pattern's weights."""

from __future__ import annotations

import torch
from torch import Tensor


def source_attribution(pattern_nhs: Tensor, value_sgd: Tensor, w_nhd: Tensor) -> Tensor:
    """Return the attribution."""
    n_asked, n_heads, n_sources = pattern_nhs.shape
    n_groups, width = value_sgd.shape[1:]
    n_rows = n_heads // n_groups
    # The heads of a group read the same values: they are rows of one product.
    w_gmd = w_nhd.float().reshape(n_asked, n_groups, n_rows, width).transpose(0, 1).flatten(1, 2)
    score_gms = torch.bmm(w_gmd, value_sgd.float().permute(1, 2, 0))
    score_nhs = score_gms.view(n_groups, n_asked, n_rows, n_sources).transpose(0, 1).flatten(1, 2)
    return (score_nhs * pattern_nhs).sum(1)
