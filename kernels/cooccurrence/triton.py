"""A program for every token, which counts the pairs of its features. Whole numbers add up the same in any order.

Suffixes: i, j places in a token's row.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 32


@triton.jit
def cooccurrence_kernel(table_ptr, indptr_ptr, indices_ptr, n_features, BLOCK: tl.constexpr):
    token = tl.program_id(0).to(tl.int64)
    first, last = tl.load(indptr_ptr + token), tl.load(indptr_ptr + token + 1)
    for left in range(first, last, BLOCK):
        i = left + tl.arange(0, BLOCK)
        feature_i = tl.load(indices_ptr + i, mask=i < last, other=0)
        for right in range(left, last, BLOCK):
            j = right + tl.arange(0, BLOCK)
            feature_j = tl.load(indices_ptr + j, mask=j < last, other=0)
            is_pair = (i[:, None] < j[None, :]) & (j < last)[None, :]
            lower = tl.minimum(feature_i[:, None], feature_j[None, :]).to(tl.int64)
            upper = tl.maximum(feature_i[:, None], feature_j[None, :])
            tl.atomic_add(table_ptr + lower * n_features + upper, 1, mask=is_pair)


def cooccurrence(table_ff: Tensor, indptr: Tensor, indices_n: Tensor) -> None:
    """Add the tokens' pairs to the table."""
    if len(indptr) > 1:
        cooccurrence_kernel[(len(indptr) - 1,)](table_ff, indptr, indices_n, len(table_ff), BLOCK=BLOCK, num_warps=4)
