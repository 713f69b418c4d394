"""A program for every token, block of outputs and part of the token's activations.

One program that follows all activations of a token waits for one decoder row after another. With few tokens there are
few programs: the activations of a token are then split among several, whose sums are added up in a fixed order.

Shape suffixes: T tokens, F features, O output width, N activations, S parts of a token's activations.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_N, BLOCK_O = 16, 256
# Below this many programs an H100's 132 multiprocessors have too little to do.
_WORTH_SPLITTING = 512
_MOST_PARTS = 16


@triton.jit
def sparse_decode_kernel(
    indptr_ptr,
    indices_ptr,
    values_ptr,
    w_ptr,
    b_ptr,
    residual_ptr,
    out_ptr,
    n_tokens,
    d_out,
    n_parts,
    stride_wf,
    stride_wo,
    stride_rt,
    stride_ro,
    SIGN: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_O: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64)
    o = tl.program_id(1).to(tl.int64) * BLOCK_O + tl.arange(0, BLOCK_O)
    part = tl.program_id(2)
    row_start, row_stop = tl.load(indptr_ptr + t), tl.load(indptr_ptr + t + 1)
    share = tl.cdiv(row_stop - row_start, n_parts)
    first = row_start + part * share
    last = tl.minimum(first + share, row_stop)
    y = tl.zeros((BLOCK_O,), dtype=tl.float32)
    for start in range(first, last, BLOCK_N):
        n = start + tl.arange(0, BLOCK_N)
        f = tl.load(indices_ptr + n, mask=n < last, other=0)
        value = tl.load(values_ptr + n, mask=n < last, other=0.0).to(tl.float32)
        w = tl.load(
            w_ptr + f[:, None] * stride_wf + o[None, :] * stride_wo,
            mask=(n < last)[:, None] & (o < d_out)[None, :],
            other=0.0,
        )
        y += tl.sum(value[:, None] * w.to(tl.float32), axis=0)
    once = (o < d_out) & (part == 0)
    y = (y + tl.load(b_ptr + o, mask=once, other=0.0).to(tl.float32)) * SIGN
    if HAS_RESIDUAL:
        y += tl.load(residual_ptr + t * stride_rt + o * stride_ro, mask=once, other=0.0).to(tl.float32)
    tl.store(out_ptr + (part.to(tl.int64) * n_tokens + t) * d_out + o, y, mask=o < d_out)


def sparse_decode(
    indptr: Tensor,
    indices_n: Tensor,
    values_n: Tensor,
    w_fo: Tensor,
    b_o: Tensor,
    residual_to: Tensor | None = None,
    sign: int = 1,
) -> Tensor:
    """Return residual + sign * (a W + b) in float32."""
    n_tokens, d_out = len(indptr) - 1, w_fo.shape[1]
    n_blocks = triton.cdiv(d_out, BLOCK_O)
    n_parts = min(_MOST_PARTS, triton.next_power_of_2(triton.cdiv(_WORTH_SPLITTING, max(1, n_tokens * n_blocks))))
    sums_sto = torch.empty(n_parts, n_tokens, d_out, dtype=torch.float32, device=w_fo.device)
    if n_tokens:
        sparse_decode_kernel[(n_tokens, n_blocks, n_parts)](
            indptr,
            indices_n,
            values_n,
            w_fo,
            b_o,
            b_o if residual_to is None else residual_to,
            sums_sto,
            n_tokens,
            d_out,
            n_parts,
            *w_fo.stride(),
            *((0, 0) if residual_to is None else residual_to.stride()),
            SIGN=sign,
            HAS_RESIDUAL=residual_to is not None,
            BLOCK_N=BLOCK_N,
            BLOCK_O=BLOCK_O,
            num_warps=4,
        )
    return sums_sto[0] if n_parts == 1 else sums_sto.sum(0)
