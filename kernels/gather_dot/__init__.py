"""The products of chosen pairs of tokens and features: exact scores of candidates, attribution of events.

Shape suffixes: T tokens, D width, F features, N pairs.
"""

from __future__ import annotations

from torch import Tensor

from kernels.gather_dot import cpu

__all__ = ["gather_dot"]


def gather_dot(x_td: Tensor, w_fd: Tensor, indptr: Tensor, indices_n: Tensor, *, steady: bool = False) -> Tensor:
    """Return x[t] . w[f] in float32 for the features of each token: rows of an indptr, no feature twice in a row.

    With decoder rows and the gradient of a target at each token, a times this is the attribution of an event. Where it
    is to be `steady`, no digit depends on what else is asked for.
    """
    if x_td.is_cuda:
        from kernels.gather_dot import triton

        return triton.gather_dot(x_td, w_fd, indptr, indices_n)
    return cpu.gather_dot(x_td, w_fd, indptr, indices_n, steady=steady)
