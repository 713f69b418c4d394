"""Encode and keep the pre-activations above their feature's threshold, without storing the others.

ReLU is a threshold of zero; JumpReLU, gated and BatchTopK dictionaries, and TopK run with a saved threshold, are this
once their weights are folded.

Shape suffixes: T tokens, D input width, F features, N kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_threshold import cpu, exact, reference
from kernels.products import Product
from kernels.rows import Rows, chunks, joined
from kernels.screening import Screen

__all__ = ["above_of", "encode_threshold", "keep_above"]


def encode_threshold(
    x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor, *, screen: Screen | None = None
) -> Rows:
    """Return the entries of `x_td @ w_fd.T + b_f` that exceed their threshold; a NaN never does.

    The precision is that of the tensors, except that bfloat16 products are added up, and values returned, in float32.
    With a screen, `Screen.of(w_fd, b_f - threshold_f)`, products of fewer bits find the candidates and float32 decides:
    which entries are kept is then the same as in float32, up to float32's own rounding.
    """
    if screen is None or not screen.pays_for(x_td):
        return encode(x_td, w_fd, b_f, threshold_f)
    parts = [
        above_of(Product(x_td=x_td[chunk], w_fd=w_fd, b_f=b_f, screen=screen), threshold_f)
        for chunk in chunks(len(x_td), len(b_f))
    ]
    return joined(parts) if parts else encode(x_td, w_fd, b_f, threshold_f)


def above_of(product: Product, threshold_f: Tensor) -> Rows:
    """Return the same of a product that others look at too."""
    rows = exact.above_of(product, threshold_f) if product.screen else None
    if rows is not None:
        return rows
    if product.x_td.is_cuda:
        return encode(product.x_td, product.w_fd, product.b_f, threshold_f)
    return cpu.keep_above(product.h_tf, threshold_f)


def encode(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    """Take the kernel of the tensors' device; those in Triton know nothing wider than float32."""
    if x_td.is_cuda and x_td.dtype != torch.float64:
        from kernels.encode_threshold import triton

        return triton.encode_threshold(x_td, w_fd, b_f, threshold_f)
    return (reference if x_td.is_cuda else cpu).encode_threshold(x_td, w_fd, b_f, threshold_f)


def keep_above(h_tf: Tensor, threshold_f: Tensor) -> Rows:
    """Return the entries above their threshold of pre-activations that are there already."""
    return (reference if h_tf.is_cuda else cpu).keep_above(h_tf, threshold_f)
