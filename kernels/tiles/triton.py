"""One tile of a matrix product with bias, and what is done with a tile before anything is selected from it.

Positions are 64 bits wide throughout: the weights of a million features have more than 2^31 entries.
Suffixes: t tokens, f features, d input width, in the order of a tensor's dimensions.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Features of a tile. Compiled for an H100, 128 x 128 tiles on eight warps keep every epilogue here in registers.
BLOCK_F = 128


@triton.jit
def pre_activations(
    x_ptr,
    w_ptr,
    b_ptr,
    t,
    f,
    n_tokens,
    d_in,
    n_features,
    stride_xt,
    stride_xd,
    stride_wd,
    stride_wf,
    BLOCK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Return x w + b at tokens t and features f (int64) in float32; minus infinity where there is no such feature."""
    d = tl.arange(0, BLOCK_D).to(tl.int64)
    x_td = x_ptr + t[:, None] * stride_xt + d[None, :] * stride_xd
    w_df = w_ptr + d[:, None] * stride_wd + f[None, :] * stride_wf
    h_tf = tl.zeros((t.shape[0], f.shape[0]), dtype=tl.float32)
    for start in range(0, d_in, BLOCK_D):
        inside_d = d < d_in - start
        x = tl.load(x_td, mask=(t < n_tokens)[:, None] & inside_d[None, :], other=0.0)
        w = tl.load(w_df, mask=inside_d[:, None] & (f < n_features)[None, :], other=0.0)
        h_tf = tl.dot(x, w, h_tf, input_precision=PRECISION)
        x_td += BLOCK_D * stride_xd
        w_df += BLOCK_D * stride_wd
    b_f = tl.load(b_ptr + f, mask=f < n_features, other=0.0).to(tl.float32)
    return tl.where((f < n_features)[None, :], h_tf + b_f[None, :], float("-inf"))


@triton.jit
def tile_of_product(
    x_ptr,
    w_ptr,
    b_ptr,
    n_tokens,
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
    """Return a program's tokens, features and pre-activations: programs count tokens first, then features."""
    t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    f = tl.program_id(1).to(tl.int64) * BLOCK_F + tl.arange(0, BLOCK_F)
    h_tf = pre_activations(
        x_ptr, w_ptr, b_ptr, t, f, n_tokens, d_in, n_features,
        stride_xt, stride_xd, stride_wd, stride_wf, BLOCK_D, PRECISION,
    )  # fmt: skip
    return t, f, h_tf


@triton.jit
def store_largest(left, values_ptr, indices_ptr, place, inside, KEEP: tl.constexpr, BLOCK_F: tl.constexpr):
    """Store the largest entries of each row of a tile, and their features, at its place; rows may end before."""
    tile = tl.program_id(1)
    column = tl.arange(0, BLOCK_F)[None, :]
    for kept in range(KEEP):
        value, index = tl.max(left, axis=1, return_indices=True)
        tl.store(values_ptr + place * KEEP + kept, value, mask=inside)
        tl.store(indices_ptr + place * KEEP + kept, tile * BLOCK_F + index, mask=inside)
        left = tl.where(column == index[:, None], float("-inf"), left)


@triton.jit
def count_not_finite(h_tf, f, n_features):
    """Return for each row how many of its features have a pre-activation that is infinite or not a number."""
    is_finite = tl.abs(h_tf) < float("inf")  # not so of NaN
    return tl.sum(tl.where(is_finite | (f >= n_features)[None, :], 0, 1), axis=1)


def block_sizes(n_tokens: int, element_size: int, *, most: int = 128) -> dict[str, int]:
    """Return the tile's BLOCK_T, at most so much, BLOCK_D and num_warps for tokens of so many bytes an element."""
    block_t = min(most, max(16, triton.next_power_of_2(n_tokens)))
    return {
        "BLOCK_T": block_t,
        # Compiled for an H100, float32 tiles of a middling number of tokens spill with wider blocks.
        "BLOCK_D": 64 if element_size < 4 else 16 if 16 < block_t < 128 else 32,
        "num_warps": 8 if block_t >= 64 else 4,
    }
