"""Encode and top-k without storing pre-activations: each tile of features hands on only its best few.

Stage one is a matrix product whose epilogue keeps the `KEEP` largest entries of every row of a tile. Stage two takes
the top k of what all tiles kept. The result is exact unless some tile had more than KEEP of a row's top k, which shows:
its smallest kept entry reaches the row's k-th. Such rows are computed again by the reference. KEEP is chosen so that
this is rare where features are in no particular order, and it stays exact where they are sorted by kind.

Memory is T x K x (KEEP x tiles / K), some 32 times less than T x F for 65,536 features. Addresses are 64 bits wide.
Shape suffixes: T tokens, D input width, F features, K kept, C candidates, G tiles of features.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.encode_topk import reference

BLOCK_F = 128


@triton.jit
def keep_best_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    values_ptr,
    indices_ptr,
    n_tokens,
    d_in,
    n_features,
    n_candidates,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    KEEP: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    tile = tl.program_id(1)
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    f = tile.to(tl.int64) * BLOCK_F + tl.arange(0, BLOCK_F)
    d = tl.arange(0, BLOCK_D)
    h = tl.zeros((BLOCK_T, BLOCK_F), dtype=tl.float32)
    for start in range(0, d_in, BLOCK_D):
        inside = start + d < d_in
        x = tl.load(
            x_ptr + t[:, None] * stride_xt + (start + d)[None, :] * stride_xd,
            mask=(t < n_tokens)[:, None] & inside[None, :],
            other=0.0,
        )
        w = tl.load(
            w_ptr + (start + d)[:, None] * stride_wd + f[None, :] * stride_wf,
            mask=inside[:, None] & (f < n_features)[None, :],
            other=0.0,
        )
        h = tl.dot(x, w, h, input_precision=PRECISION)
    b = tl.load(b_ptr + f, mask=f < n_features, other=0.0).to(tl.float32)
    h = tl.where((f < n_features)[None, :], h + b[None, :], float("-inf"))
    column = tl.arange(0, BLOCK_F)[None, :]
    out = t * n_candidates + tile * KEEP
    for kept in range(KEEP):
        value, index = tl.max(h, axis=1, return_indices=True)
        tl.store(values_ptr + out + kept, value, mask=t < n_tokens)
        tl.store(indices_ptr + out + kept, tile * BLOCK_F + index, mask=t < n_tokens)
        h = tl.where(column == index[:, None], float("-inf"), h)


def encode_topk(x_td: Tensor, w_enc_df: Tensor, b_enc_f: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest pre-activations and their indices; weights may be a transposed view."""
    n_tokens, d_in = x_td.shape
    n_features = len(b_enc_f)
    n_tiles = triton.cdiv(n_features, BLOCK_F)
    keep = choose_keep(k, n_tiles)
    values_tc = torch.empty(n_tokens, n_tiles * keep, dtype=torch.float32, device=x_td.device)
    indices_tc = torch.empty(n_tokens, n_tiles * keep, dtype=torch.int32, device=x_td.device)
    if n_tokens == 0:
        return values_tc[:, :k], indices_tc[:, :k].long()
    block_t = min(128, max(16, triton.next_power_of_2(n_tokens)))
    keep_best_kernel[(triton.cdiv(n_tokens, block_t), n_tiles)](
        x_td,
        w_enc_df,
        b_enc_f,
        values_tc,
        indices_tc,
        n_tokens,
        d_in,
        n_features,
        n_tiles * keep,
        *x_td.stride(),
        *w_enc_df.stride(),
        KEEP=keep,
        BLOCK_T=block_t,
        BLOCK_F=BLOCK_F,
        BLOCK_D=32 if x_td.dtype == torch.float32 else 64,
        # TF32, the default for float32, would lose half of the digits.
        PRECISION="ieee",
        num_warps=8 if block_t == 128 else 4,
    )
    values_tk, places_tk = values_tc.topk(k, dim=1)
    indices_tk = indices_tc.gather(1, places_tk).long()
    return _rescue(x_td, w_enc_df, b_enc_f, values_tc.view(n_tokens, n_tiles, keep), values_tk, indices_tk)


def choose_keep(k: int, n_tiles: int) -> int:
    """Return how many entries a tile keeps: its fair share of the top k and four deviations more, a power of two."""
    share = k / n_tiles
    return min(BLOCK_F, triton.next_power_of_2(math.ceil(share + 4 * math.sqrt(share) + 2)))


def _rescue(
    x_td: Tensor, w_enc_df: Tensor, b_enc_f: Tensor, kept_tgc: Tensor, values_tk: Tensor, indices_tk: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute again the rows of which a tile may have dropped an entry of the top k."""
    if kept_tgc.shape[2] == BLOCK_F:
        return values_tk, indices_tk
    dropped_t = (kept_tgc[:, :, -1] >= values_tk[:, -1:]).any(1)
    rows = dropped_t.nonzero().squeeze(1)
    if len(rows):
        values_tk[rows], indices_tk[rows] = reference.encode_topk(x_td[rows], w_enc_df, b_enc_f, values_tk.shape[1])
    return values_tk, indices_tk
