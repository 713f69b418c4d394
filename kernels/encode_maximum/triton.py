"""A program for every context and tile of features: it goes through the context's tokens and keeps the best so far.

Shape suffixes: T tokens, D input width, F features, C contexts.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.encode_maximum.reference import Maximum
from kernels.tiles.triton import BLOCK_F, pre_activations


@triton.jit
def encode_maximum_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    indptr_ptr,
    values_ptr,
    tokens_ptr,
    d_in,
    n_features,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    context = tl.program_id(0).to(tl.int64)
    f = tl.program_id(1).to(tl.int64) * BLOCK_F + tl.arange(0, BLOCK_F)
    first, last = tl.load(indptr_ptr + context), tl.load(indptr_ptr + context + 1)
    best = tl.full((BLOCK_F,), float("-inf"), dtype=tl.float32)
    token = tl.full((BLOCK_F,), -1, dtype=tl.int64)
    for start in range(first, last, BLOCK_T):
        t = start + tl.arange(0, BLOCK_T)
        h = pre_activations(
            x_ptr, w_ptr, b_ptr, t, f, last, d_in, n_features,
            stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_D, PRECISION,
        )  # fmt: skip
        h = tl.where((t < last)[:, None] & (h == h), h, float("-inf"))
        highest, place = tl.max(h, axis=0, return_indices=True)
        token = tl.where(highest > best, start + place, token)
        best = tl.maximum(best, highest)
    out = context * n_features + f
    tl.store(values_ptr + out, best, mask=f < n_features)
    tl.store(tokens_ptr + out, token, mask=f < n_features)


def encode_maximum(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indptr: Tensor) -> Maximum:
    """Return the maxima in float32; weights may be a transposed view."""
    n_contexts, n_features = len(indptr) - 1, len(b_f)
    values_cf = torch.empty(n_contexts, n_features, dtype=torch.float32, device=x_td.device)
    tokens_cf = torch.empty(n_contexts, n_features, dtype=torch.int64, device=x_td.device)
    if n_contexts:
        encode_maximum_kernel[(n_contexts, triton.cdiv(n_features, BLOCK_F))](
            x_td,
            w_fd,
            b_f,
            indptr,
            values_cf,
            tokens_cf,
            x_td.shape[1],
            n_features,
            *x_td.stride(),
            w_fd.stride(1),
            w_fd.stride(0),
            BLOCK_T=64,
            BLOCK_F=BLOCK_F,
            BLOCK_D=32 if x_td.element_size() == 4 else 64,
            # TF32, the default for float32, would lose half of the digits.
            PRECISION="ieee",
            num_warps=8,
        )
    return Maximum(values_cf, tokens_cf)
