"""Encode and keep the k largest pre-activations of every token, without storing the others.

Shape suffixes: T tokens, D input width, F features, K kept.
"""

from __future__ import annotations

from torch import Tensor

from kernels.encode_topk import reference

__all__ = ["encode_topk"]


def encode_topk(x_td: Tensor, w_enc_df: Tensor, b_enc_f: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest entries of each row of `x_td @ w_enc_df + b_enc_f`, and their indices, largest first.

    Values are float32 and indices int64, both [T, K]. Values of equal size come in any order; inputs are finite. CUDA
    tensors take the Triton kernel, others PyTorch.
    """
    if x_td.is_cuda:
        from kernels.encode_topk import triton

        return triton.encode_topk(x_td, w_enc_df, b_enc_f, k)
    return reference.encode_topk(x_td, w_enc_df, b_enc_f, k)
