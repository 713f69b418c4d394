"""A program for each asked pair and block of sources, which goes through the heads.

Suffixes: n asked, s sources, h heads, d head width.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK_S = 32


@triton.jit
def source_attribution_kernel(
    pattern_ptr,
    value_ptr,
    w_ptr,
    out_ptr,
    n_sources,
    n_heads,
    heads_per_group,
    width,
    stride_pn,
    stride_ph,
    stride_ps,
    stride_vs,
    stride_vg,
    stride_vd,
    stride_wn,
    stride_wh,
    stride_wd,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    n = tl.program_id(0).to(tl.int64)
    s = tl.program_id(1).to(tl.int64) * BLOCK_S + tl.arange(0, BLOCK_S)
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    total = tl.zeros((BLOCK_S,), dtype=tl.float32)
    for h in range(n_heads):
        w = tl.load(w_ptr + n * stride_wn + h * stride_wh + d * stride_wd, mask=d < width, other=0.0)
        value = tl.load(
            value_ptr + s[:, None] * stride_vs + (h // heads_per_group) * stride_vg + d[None, :] * stride_vd,
            mask=(s < n_sources)[:, None] & (d < width)[None, :],
            other=0.0,
        )
        pattern = tl.load(pattern_ptr + n * stride_pn + h * stride_ph + s * stride_ps, mask=s < n_sources, other=0.0)
        total += pattern.to(tl.float32) * tl.sum(value.to(tl.float32) * w.to(tl.float32)[None, :], axis=1)
    tl.store(out_ptr + n * n_sources + s, total, mask=s < n_sources)


def source_attribution(pattern_nhs: Tensor, value_sgd: Tensor, w_nhd: Tensor) -> Tensor:
    """Return the attribution."""
    n_asked, n_heads, n_sources = pattern_nhs.shape
    out_ns = torch.empty(n_asked, n_sources, dtype=torch.float32, device=value_sgd.device)
    if out_ns.numel():
        source_attribution_kernel[(n_asked, triton.cdiv(n_sources, BLOCK_S))](
            pattern_nhs,
            value_sgd,
            w_nhd,
            out_ns,
            n_sources,
            n_heads,
            n_heads // value_sgd.shape[1],
            value_sgd.shape[2],
            *pattern_nhs.stride(),
            *value_sgd.stride(),
            *w_nhd.stride(),
            BLOCK_S=BLOCK_S,
            BLOCK_D=triton.next_power_of_2(value_sgd.shape[2]),
            num_warps=4,
        )
    return out_ns
