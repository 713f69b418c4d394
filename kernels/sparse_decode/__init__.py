"""Decode sparse activations: read the decoder rows of what fires, and no others.

Shape suffixes: T tokens, F features, O output width, N activations.
"""

from __future__ import annotations

from torch import Tensor

from kernels.sparse_decode import cpu

__all__ = ["decode_error", "sparse_decode"]


def sparse_decode(
    indptr: Tensor, indices_n: Tensor, values_n: Tensor, w_fo: Tensor, b_o: Tensor, *, residual_to: Tensor | None = None
) -> Tensor:
    """Return y_to: the sum of each token's values times their decoder rows, plus the bias, plus a residual if given.

    With changes of activations for values, no bias and the stream for residual this is steering with the error term:
    x' = x + sum of (a' - a) w, without decoding twice.
    """
    return _kernel(w_fo)(indptr, indices_n, values_n, w_fo, b_o, residual_to, 1)


def decode_error(
    indptr: Tensor, indices_n: Tensor, values_n: Tensor, w_fo: Tensor, b_o: Tensor, y_to: Tensor
) -> Tensor:
    """Return y_to less what the activations decode to."""
    return _kernel(w_fo)(indptr, indices_n, values_n, w_fo, b_o, y_to, -1)


def _kernel(w_fo: Tensor):
    if w_fo.is_cuda:
        from kernels.sparse_decode import triton

        return triton.sparse_decode
    return cpu.sparse_decode
