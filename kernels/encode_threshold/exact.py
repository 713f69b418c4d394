"""Screened: bfloat16 upper bounds of `pre-activation - threshold` find candidates, and float32 decides.

Every pre-activation above its threshold has a bound above zero (see `kernels.screening`), so none is missed. Where many
fire, float32 computes everything: a sample of the features shows that before anything is spent.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_threshold import cpu
from kernels.gather_dot import gather_dot
from kernels.products import Product
from kernels.rows import Rows, row_ends

# With more candidates than this share of all pre-activations a product of everything in float32 is cheaper; measured.
_IN_CACHE, _FROM_MEMORY = 1 / 48, 1 / 128
# Times as many, where the product of bounds has been computed already.
_SO_FAR = 3


def pays(product: Product) -> bool:
    """Return whether few enough fire for bounds to pay, going by a sample of the features."""
    assert product.screen is not None
    return product.screen.sampled_share(product.x_te) <= _worth(product)


def above_of(product: Product, threshold_f: Tensor) -> Rows:
    """Return what `encode_threshold` in float32 would, having computed little in float32."""
    indptr, indices_n = (_candidates if product.x_td.is_cuda else cpu.candidates)(product)
    if len(indices_n) > _SO_FAR * _worth(product) * len(product.x_td) * len(product.b_f):
        return _dense(product, threshold_f)
    h_n = gather_dot(product.x_td, product.w_fd, indptr, indices_n) + product.b_f[indices_n]
    fires_n = h_n > threshold_f[indices_n]
    return Rows(
        row_ends(_per_row(fires_n, indptr)), indices_n[fires_n], h_n[fires_n], _per_row(~h_n.isfinite(), indptr)
    )


def _worth(product: Product) -> float:
    assert product.screen is not None
    return product.screen.candidates_worth(len(product.x_td), _IN_CACHE, _FROM_MEMORY)


def _dense(product: Product, threshold_f: Tensor) -> Rows:
    """Compute everything, so that others who look at the product find it."""
    from kernels.encode_threshold import encode

    if product.x_td.is_cuda:
        return encode(product.x_td, product.w_fd, product.b_f, threshold_f)
    return cpu.keep_above(product.h_tf, threshold_f)


def _candidates(product: Product) -> tuple[Tensor, Tensor]:
    from kernels.encode_threshold import triton

    assert product.screen is not None
    w_fe = product.screen.w_fe
    zeros_f = torch.zeros(len(w_fe), device=w_fe.device)
    rows = triton.encode_threshold(product.x_te, w_fe, zeros_f, zeros_f)
    return rows.indptr, rows.indices_n


def _per_row(flags_n: Tensor, indptr: Tensor) -> Tensor:
    """Return how many flags are set in each row."""
    return row_ends(flags_n.long())[indptr].diff()
