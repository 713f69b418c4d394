"""A matrix product whose epilogue takes out of each tile what fires, feature by feature, into a few counted slots.

Every (token, tile of features) has SLOTS slots and a count. What fires is taken in the order of features: the first
that is left, until none is left in any row of the tile, which is few rounds where few features fire. No counter is
shared, so nothing depends on the order in which programs run. Rows with a tile that has more to give than slots are
computed again, densely. The slots take 5 SLOTS / 128 bytes for every pre-activation, a sixth of float32 at 16.

Shape suffixes: T tokens, D input width, F features, G tiles of features, S slots of a tile, R rows computed again.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.encode_threshold import reference
from kernels.rows import Rows, chunks, joined, row_ends, with_rows
from kernels.tiles.triton import BLOCK_F, block_sizes, count_not_finite, tile_of_product

SLOTS = 16


@triton.jit
def keep_firing_kernel(
    x_ptr,
    w_ptr,
    b_ptr,
    threshold_ptr,
    counts_ptr,
    not_finite_ptr,
    values_ptr,
    columns_ptr,
    n_tokens,
    d_in,
    n_features,
    n_tiles,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    SLOTS: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_F: tl.constexpr,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    t, f, h = tile_of_product(
        x_ptr, w_ptr, b_ptr, n_tokens, d_in, n_features,
        stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_T, BLOCK_F, BLOCK_D, PRECISION,
    )  # fmt: skip
    column = tl.arange(0, BLOCK_F)
    threshold = tl.load(threshold_ptr + f, mask=f < n_features, other=float("inf")).to(tl.float32)
    # A column where it fires, and none where it does not; NaN exceeds nothing.
    left = tl.where(h > threshold[None, :], column[None, :], BLOCK_F)
    count = tl.sum((left < BLOCK_F).to(tl.int32), axis=1)
    place = t * n_tiles + tl.program_id(1)
    tl.store(counts_ptr + place, count, mask=t < n_tokens)
    tl.store(not_finite_ptr + place, count_not_finite(h, f, n_features), mask=t < n_tokens)
    rounds = tl.minimum(tl.max(tl.where(t < n_tokens, count, 0), axis=0), SLOTS)
    for slot in range(rounds):
        first = tl.min(left, axis=1)
        taken = column[None, :] == first[:, None]
        value = tl.sum(tl.where(taken, h, 0.0), axis=1)
        fits = (t < n_tokens) & (slot < count)
        tl.store(values_ptr + place * SLOTS + slot, value, mask=fits)
        tl.store(columns_ptr + place * SLOTS + slot, first.to(tl.int8), mask=fits)
        left = tl.where(taken, BLOCK_F, left)


def encode_threshold(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    """Return the pre-activations above their threshold; weights may be a transposed view."""
    # As many tokens at once as keep the slots below some 200 MB.
    parts = [_encode(x_td[rows], w_fd, b_f, threshold_f) for rows in chunks(len(x_td), max(1, len(b_f) // 32))]
    return joined(parts) if parts else _encode(x_td, w_fd, b_f, threshold_f)


def _encode(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    n_tokens, d_in = x_td.shape
    n_features, device = len(b_f), x_td.device
    n_tiles = triton.cdiv(n_features, BLOCK_F)
    counts_tg = torch.empty(n_tokens, n_tiles, dtype=torch.int32, device=device)
    not_finite_tg = torch.empty(n_tokens, n_tiles, dtype=torch.int32, device=device)
    values_tgs = torch.empty(n_tokens, n_tiles, SLOTS, dtype=torch.float32, device=device)
    columns_tgs = torch.empty(n_tokens, n_tiles, SLOTS, dtype=torch.int8, device=device)
    sizes = block_sizes(n_tokens, x_td.element_size())
    if n_tokens:
        keep_firing_kernel[(triton.cdiv(n_tokens, sizes["BLOCK_T"]), n_tiles)](
            x_td,
            w_fd,
            b_f,
            threshold_f,
            counts_tg,
            not_finite_tg,
            values_tgs,
            columns_tgs,
            n_tokens,
            d_in,
            n_features,
            n_tiles,
            *x_td.stride(),
            w_fd.stride(1),
            w_fd.stride(0),
            SLOTS=SLOTS,
            BLOCK_F=BLOCK_F,
            # TF32, the default for float32, would lose half of the digits.
            PRECISION="ieee",
            **sizes,
        )
    filled_tgs = torch.arange(SLOTS, device=device) < counts_tg[:, :, None]
    filled_n = filled_tgs.view(-1).nonzero().squeeze(1)
    tile_n = filled_n // SLOTS % n_tiles
    rows = Rows(
        row_ends(counts_tg.clamp(max=SLOTS).sum(1)),
        tile_n * BLOCK_F + columns_tgs.view(-1)[filled_n],
        values_tgs.view(-1)[filled_n],
        not_finite_tg.sum(1),
    )
    full_r = (counts_tg > SLOTS).any(1).nonzero().squeeze(1)
    for chunk in chunks(len(full_r), n_features):
        again = reference.encode_threshold(x_td[full_r[chunk]], w_fd, b_f, threshold_f)
        rows = with_rows(rows, full_r[chunk], again._replace(values_n=again.values_n.float()))
    return rows
