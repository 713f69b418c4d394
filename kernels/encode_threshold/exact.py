"""Screened: upper bounds of `pre-activation - threshold` in few bits find candidates, and float32 decides.

Every pre-activation above its threshold has a bound above zero (see `kernels.bounds`), so none is missed. Where many
fire, float32 computes everything: a sample of the features shows that before anything is spent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.bounds import InBfloat16
from kernels.encode_threshold import cpu
from kernels.gather_dot import gather_dot
from kernels.products import Bounded, Product
from kernels.rows import Rows, row_ends

# With more candidates than this share of all pre-activations a product of everything in float32 is cheaper; measured.
_IN_CACHE, _FROM_MEMORY = 1 / 48, 1 / 128
# Times as many, where the product of bounds has been computed already.
_SO_FAR = 3


def above_of(product: Product, threshold_f: Tensor) -> Rows | None:
    """Return what `encode_threshold` in float32 would, having computed little in float32; None where that costs more.

    That is where bounds do not hold, or so many fire that they do not pay, going by a sample of the features.
    """
    assert product.screen is not None
    n_tokens, n_features = len(product.x_td), len(product.b_f)
    worth = product.screen.candidates_worth(n_tokens, _IN_CACHE, _FROM_MEMORY)
    for bounded in product.bounded():
        if bounded.sampled_share <= worth:
            indptr, indices_n = (_candidates if product.x_td.is_cuda else cpu.candidates)(bounded)
            if len(indices_n) <= _SO_FAR * worth * n_tokens * n_features:
                return _of_candidates(product, threshold_f, indptr, indices_n)
    return None


def _of_candidates(product: Product, threshold_f: Tensor, indptr: Tensor, indices_n: Tensor) -> Rows:
    h_n = gather_dot(product.x_td, product.w_fd, indptr, indices_n, steady=True) + product.b_f[indices_n]
    fires_n = h_n > threshold_f[indices_n]
    return Rows(
        row_ends(_per_row(fires_n, indptr)), indices_n[fires_n], h_n[fires_n], _per_row(~h_n.isfinite(), indptr)
    )


def _candidates(bounded: Bounded) -> tuple[Tensor, Tensor]:
    from kernels.encode_threshold import triton

    assert isinstance(bounded.format, InBfloat16)
    w_fe = bounded.format.w_fe
    zeros_f = torch.zeros(len(w_fe), device=w_fe.device)
    rows = triton.encode_threshold(bounded.inputs, w_fe, zeros_f, zeros_f)
    return rows.indptr, rows.indices_n


def _per_row(flags_n: Tensor, indptr: Tensor) -> Tensor:
    """Return how many flags are set in each row."""
    return row_ends(flags_n.long())[indptr].diff()
