"""Encode and top-k without storing pre-activations: each tile of features hands on only its best few.

Stage one is a matrix product whose epilogue keeps the `KEEP` largest entries of every row of a tile. Stage two takes
the top k of what all tiles kept. The result is exact unless some tile had more than KEEP of a row's top k, which shows:
its smallest kept entry reaches the row's k-th. Such rows are computed again, densely. KEEP is chosen so that this is
rare where features are in no particular order, and it stays exact where they are sorted by kind.

Memory is T x K x (KEEP x tiles / K), some 32 times less than T x F for 65,536 features. Addresses are 64 bits wide.
Shape suffixes: T tokens, D input width, F features, K kept, C candidates, G tiles of features, R rows computed again.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.encode_topk import reference
from kernels.rows import Best, chunks
from kernels.tiles.triton import BLOCK_F, block_sizes, count_not_finite, store_largest, tile_of_product


@triton.jit
def keep_best_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    values_ptr,
    indices_ptr,
    not_finite_ptr,
    n_tokens,
    d_in,
    n_features,
    n_tiles,
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
    t, f, h = tile_of_product(
        x_ptr, w_ptr, b_ptr, n_tokens, d_in, n_features,
        stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_T, BLOCK_F, BLOCK_D, PRECISION,
    )  # fmt: skip
    place = t * n_tiles + tl.program_id(1)
    tl.store(not_finite_ptr + place, count_not_finite(h, f, n_features), mask=t < n_tokens)
    # A maximum that meets NaN is NaN on one device and not on another.
    h = tl.where(h == h, h, float("-inf"))
    store_largest(h, values_ptr, indices_ptr, place, t < n_tokens, KEEP, BLOCK_F)


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int) -> Best:
    """Return the k largest pre-activations and their indices; weights may be a transposed view."""
    n_tokens, d_in = x_td.shape
    n_features, device = len(b_f), x_td.device
    n_tiles = triton.cdiv(n_features, BLOCK_F)
    keep = choose_keep(k, n_tiles)
    values_tc = torch.empty(n_tokens, n_tiles * keep, dtype=torch.float32, device=device)
    indices_tc = torch.empty(n_tokens, n_tiles * keep, dtype=torch.int32, device=device)
    not_finite_tg = torch.empty(n_tokens, n_tiles, dtype=torch.int32, device=device)
    sizes = block_sizes(n_tokens, x_td.element_size())
    if n_tokens:
        keep_best_kernel[(triton.cdiv(n_tokens, sizes["BLOCK_T"]), n_tiles)](
            x_td,
            w_fd,
            b_f,
            values_tc,
            indices_tc,
            not_finite_tg,
            n_tokens,
            d_in,
            n_features,
            n_tiles,
            *x_td.stride(),
            w_fd.stride(1),
            w_fd.stride(0),
            KEEP=keep,
            BLOCK_F=BLOCK_F,
            # TF32, the default for float32, would lose half of the digits.
            PRECISION="ieee",
            **sizes,
        )
    values_tk, places_tk = values_tc.topk(k, dim=1)
    indices_tk = torch.where(values_tk > -torch.inf, indices_tc.gather(1, places_tk).long(), -1)
    best = Best(values_tk, indices_tk, not_finite_tg.sum(1))
    return _rescue(x_td, w_fd, b_f, values_tc.view(n_tokens, n_tiles, keep), best)


def choose_keep(k: int, n_tiles: int) -> int:
    """Return how many entries a tile keeps: its fair share of the top k and four deviations more, a power of two."""
    share = k / n_tiles
    return min(BLOCK_F, triton.next_power_of_2(math.ceil(share + 4 * math.sqrt(share) + 2)))


def _rescue(x_td: Tensor, w_fd: Tensor, b_f: Tensor, kept_tgc: Tensor, best: Best) -> Best:
    """Compute again the rows of which a tile may have dropped an entry of the top k."""
    if kept_tgc.shape[2] == BLOCK_F:
        return best
    last_tg, kth_t1 = kept_tgc[:, :, -1], best.values_tk[:, -1:]
    dropped_r = ((last_tg >= kth_t1) & (last_tg > -torch.inf)).any(1).nonzero().squeeze(1)
    k = best.values_tk.shape[1]
    for chunk in chunks(len(dropped_r), len(b_f)):
        rows = dropped_r[chunk]
        again = reference.encode_topk(x_td[rows], w_fd, b_f, k)
        best.values_tk[rows], best.indices_tk[rows] = again.values_tk.float(), again.indices_tk
    return best
