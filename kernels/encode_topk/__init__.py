"""Encode and keep the k largest pre-activations of every token, without storing the others.

Shape suffixes: T tokens, D input width, F features, K kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_topk import cpu, exact, reference
from kernels.products import Product
from kernels.rows import Best, chunks
from kernels.screening import Screen

__all__ = ["best_of", "encode_topk", "keep_best"]


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int, *, screen: Screen | None = None) -> Best:
    """Return the k largest entries of each row of `x_td @ w_fd.T + b_f`, largest first; a NaN is never among them.

    Values of equal size come in any order. The precision is that of the tensors, except that bfloat16 products are
    added up, and values returned, in float32. With a screen, `Screen.of(w_fd, b_f)`, products of fewer bits find
    the candidates and float32 decides: the result is then the same as in float32, up to float32's own rounding.
    """
    if screen is None or not screen.pays_for(x_td):
        return encode(x_td, w_fd, b_f, k)
    parts = [
        best_of(Product(x_td=x_td[chunk], w_fd=w_fd, b_f=b_f, screen=screen), k)
        for chunk in chunks(len(x_td), len(b_f))
    ]
    return cpu.joined(parts) if parts else encode(x_td, w_fd, b_f, k)


def best_of(product: Product, k: int) -> Best:
    """Return the same of a product that others look at too."""
    best = exact.best_of(product, k) if product.screen else None
    if best is not None:
        return best
    if product.x_td.is_cuda:
        return encode(product.x_td, product.w_fd, product.b_f, k)
    return cpu.best(product.h_tf, k)


def encode(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int) -> Best:
    """Take the kernel of the tensors' device; those in Triton know nothing wider than float32."""
    if x_td.is_cuda and x_td.dtype != torch.float64:
        from kernels.encode_topk import triton

        return triton.encode_topk(x_td, w_fd, b_f, k)
    return (reference if x_td.is_cuda else cpu).encode_topk(x_td, w_fd, b_f, k)


def keep_best(h_tf: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row, largest first, and their indices, of pre-activations that are there already."""
    return h_tf.topk(k, dim=1) if h_tf.is_cuda else cpu.select(h_tf, k)
