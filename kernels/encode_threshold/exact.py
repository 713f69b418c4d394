"""Screened: bfloat16 upper bounds of `pre-activation - threshold` find candidates, and float32 decides.

Every pre-activation above its threshold has a bound above zero (see `kernels.screening`), so none is missed.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_threshold import cpu
from kernels.gather_dot import gather_dot
from kernels.rows import Rows, row_ends, with_rows
from kernels.screening import Screen

# With more candidates than this share of all pre-activations, a product of everything in float32 is cheaper.
_MOST_CANDIDATES = 1 / 8


def encode_threshold(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor, screen: Screen) -> Rows:
    """Return what `encode_threshold` in float32 would, having computed little in float32."""
    x_te = screen.inputs(x_td)
    indptr, indices_n = _candidates(x_te, screen.w_fe)
    if len(indices_n) > _MOST_CANDIDATES * len(x_td) * len(b_f):
        return _dense(x_td, w_fd, b_f, threshold_f)
    h_n = gather_dot(x_td, w_fd, indptr, indices_n) + b_f[indices_n]
    fires_n = h_n > threshold_f[indices_n]
    rows = Rows(
        row_ends(_per_row(fires_n, indptr)), indices_n[fires_n], h_n[fires_n], _per_row(~h_n.isfinite(), indptr)
    )
    strange_r = (~x_te.isfinite().all(1)).nonzero().squeeze(1)
    if len(strange_r):
        # No bound holds for infinities and NaN.
        rows = with_rows(rows, strange_r, _dense(x_td[strange_r], w_fd, b_f, threshold_f))
    return rows


def _dense(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    from kernels.encode_threshold import encode

    return encode(x_td, w_fd, b_f, threshold_f)


def _candidates(x_te: Tensor, w_fe: Tensor) -> tuple[Tensor, Tensor]:
    if not x_te.is_cuda:
        return cpu.candidates(x_te, w_fe)
    from kernels.encode_threshold import triton

    zeros_f = torch.zeros(len(w_fe), device=w_fe.device)
    rows = triton.encode_threshold(x_te, w_fe, zeros_f, zeros_f)
    return rows.indptr, rows.indices_n


def _per_row(flags_n: Tensor, indptr: Tensor) -> Tensor:
    """Return how many flags are set in each row."""
    return row_ends(flags_n.long())[indptr].diff()
