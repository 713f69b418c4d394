"""One program for a few pairs: both rows are read in blocks and never stored.

Suffixes: n pairs, d width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_N = 16


@triton.jit
def gather_dot_kernel(
    x_ptr,
    w_ptr,
    token_ptr,
    index_ptr,
    out_ptr,
    n_pairs,
    d_in,
    stride_xt,
    stride_xd,
    stride_wf,
    stride_wd,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)
    token = tl.load(token_ptr + n, mask=n < n_pairs, other=0)
    index = tl.load(index_ptr + n, mask=n < n_pairs, other=0)
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    total = tl.zeros((BLOCK_N,), dtype=tl.float32)
    for start in range(0, d_in, BLOCK_D):
        inside = (n < n_pairs)[:, None] & (start + d < d_in)[None, :]
        x = tl.load(x_ptr + token[:, None] * stride_xt + (start + d)[None, :] * stride_xd, mask=inside, other=0.0)
        w = tl.load(w_ptr + index[:, None] * stride_wf + (start + d)[None, :] * stride_wd, mask=inside, other=0.0)
        total += tl.sum(x.to(tl.float32) * w.to(tl.float32), axis=1)
    tl.store(out_ptr + n, total, mask=n < n_pairs)


def gather_dot(x_td: Tensor, w_fd: Tensor, indptr: Tensor, indices_n: Tensor) -> Tensor:
    """Return x[t] . w[f] in float32 for every pair."""
    n_pairs = len(indices_n)
    out_n = torch.empty(n_pairs, dtype=torch.float32, device=x_td.device)
    if n_pairs == 0:
        return out_n
    tokens_t = torch.arange(len(x_td), device=x_td.device)
    token_n = tokens_t.repeat_interleave(indptr.diff(), output_size=n_pairs)
    gather_dot_kernel[(triton.cdiv(n_pairs, BLOCK_N),)](
        x_td,
        w_fd,
        token_n,
        indices_n,
        out_n,
        n_pairs,
        x_td.shape[1],
        *x_td.stride(),
        *w_fd.stride(),
        BLOCK_N=BLOCK_N,
        BLOCK_D=128,
        num_warps=4,
    )
    return out_n
