"""The highest pre-activation of every feature in each context, and where it is, without storing the others.

Silent contexts are ranked by it, and features by how active a prompt makes them.

Shape suffixes: T tokens of all contexts end to end, D input width, F features, C contexts; `indptr` has C + 1 entries.
"""

from __future__ import annotations

from torch import Tensor

from kernels.encode_maximum import cpu
from kernels.encode_maximum.heights import Dense, Heights, Spans, heights
from kernels.encode_maximum.reference import Maximum

__all__ = ["Dense", "Heights", "Maximum", "Spans", "encode_maximum", "heights"]


def encode_maximum(x_td: Tensor, w_fd: Tensor, b_f: Tensor, indptr: Tensor) -> Maximum:
    """Return the maximum of each feature over the tokens of each context and its first token; NaN is never one."""
    if x_td.is_cuda:
        from kernels.encode_maximum import triton

        return triton.encode_maximum(x_td, w_fd, b_f, indptr)
    return cpu.encode_maximum(x_td, w_fd, b_f, indptr)
