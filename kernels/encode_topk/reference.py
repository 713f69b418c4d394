"""Encode and top-k in PyTorch: the definition that the kernel is held to, and what CPUs run."""

from __future__ import annotations

import torch
from torch import Tensor

# Pre-activations of one chunk: small enough to stay near the caches, large enough for the matrix product.
CHUNK_ELEMENTS = 1 << 22


def encode_topk(x_td: Tensor, w_enc_df: Tensor, b_enc_f: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest pre-activations and their indices, chunk by chunk of tokens."""
    rows = max(1, CHUNK_ELEMENTS // max(1, len(b_enc_f)))
    values_tk = torch.empty(len(x_td), k, dtype=torch.float32, device=x_td.device)
    indices_tk = torch.empty(len(x_td), k, dtype=torch.int64, device=x_td.device)
    for start in range(0, len(x_td), rows):
        chunk = slice(start, start + rows)
        h_tf = torch.addmm(b_enc_f, x_td[chunk], w_enc_df).float()
        values_tk[chunk], indices_tk[chunk] = h_tf.topk(k, dim=1)
    return values_tk, indices_tk
