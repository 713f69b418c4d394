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
def count_not_finite(h_tf, f, n_features):
    """Return for each row how many of its features have a pre-activation that is infinite or not a number."""
    is_finite = tl.abs(h_tf) < float("inf")  # not so of NaN
    return tl.sum(tl.where(is_finite | (f >= n_features)[None, :], 0, 1), axis=1)


def block_sizes(n_tokens: int, element_size: int) -> dict[str, int]:
    """Return the tile's BLOCK_T, BLOCK_D and num_warps for so many tokens of so many bytes an element."""
    block_t = min(128, max(16, triton.next_power_of_2(n_tokens)))
    return {
        "BLOCK_T": block_t,
        "BLOCK_D": 32 if element_size == 4 else 64,
        "num_warps": 8 if block_t == 128 else 4,
    }
