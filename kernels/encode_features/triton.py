"""One tile of pre-activations whose features are looked up: weights are read where they lie.

Suffixes: t tokens, m chosen features.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.tiles.triton import block_sizes, pre_activations


@triton.jit
def encode_features_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    indices_ptr,
    floor_ptr,
    out_ptr,
    n_tokens,
    d_in,
    n_features,
    n_chosen,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    stride_floor_t,
    stride_floor_m,
    BLOCK_T: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    m = tl.program_id(1).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    f = tl.load(indices_ptr + m, mask=m < n_chosen, other=n_features)  # n_features: there is no such feature
    h = pre_activations(
        x_ptr, w_ptr, b_ptr, t, f, n_tokens, d_in, n_features,
        stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_D, PRECISION,
    )  # fmt: skip
    inside = (t < n_tokens)[:, None] & (m < n_chosen)[None, :]
    floor = tl.load(
        floor_ptr + t[:, None] * stride_floor_t + m[None, :] * stride_floor_m, mask=inside, other=float("inf")
    )
    tl.store(out_ptr + t[:, None] * n_chosen + m[None, :], tl.where(h > floor.to(tl.float32), h, 0.0), mask=inside)


def encode_features(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indices_m: Tensor, floor: Tensor) -> Tensor:
    """Return the chosen activations in float32."""
    n_tokens, n_chosen = len(x_td), len(indices_m)
    out_tm = torch.empty(n_tokens, n_chosen, dtype=torch.float32, device=x_td.device)
    if out_tm.numel() == 0:
        return out_tm
    sizes = block_sizes(n_tokens, x_td.element_size())
    block_m = min(64, max(16, triton.next_power_of_2(n_chosen)))
    encode_features_kernel[(triton.cdiv(n_tokens, sizes["BLOCK_T"]), triton.cdiv(n_chosen, block_m))](
        x_td,
        w_fd,
        b_f,
        indices_m,
        floor,
        out_tm,
        n_tokens,
        x_td.shape[1],
        len(b_f),
        n_chosen,
        *x_td.stride(),
        w_fd.stride(1),
        w_fd.stride(0),
        *floor.expand(n_tokens, n_chosen).stride(),
        BLOCK_M=block_m,
        # TF32, the default for float32, would lose half of the digits.
        PRECISION="ieee",
        **sizes,
    )
    return out_tm
