"""Activations of chosen features: no other feature is computed, and no copy of more than the chosen rows is made.

Shape suffixes: T tokens, D input width, F features, M chosen features.
"""

from __future__ import annotations

from torch import Tensor

from kernels.encode_features import cpu

__all__ = ["encode_features"]


def encode_features(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indices_m: Tensor, floor: Tensor) -> Tensor:
    """Return a_tm: the pre-activations of chosen features where they exceed a floor, and zero elsewhere.

    The floor is the threshold of each chosen feature, [M], or differs between tokens, [T, 1] or [T, M]: the score that
    a feature must beat in a competition. NaN exceeds nothing.
    """
    if x_td.is_cuda:
        from kernels.encode_features import triton

        return triton.encode_features(x_td, w_fd, b_f, indices_m, floor)
    return cpu.encode_features(x_td, w_fd, b_f, indices_m, floor)
