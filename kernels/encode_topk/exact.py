"""Screened: bfloat16 upper bounds find candidates, float32 scores them, and the bounds prove that none is missing.

What is not a candidate is below the lowest bound of the candidates. A row whose k-th score in float32 is no lower is
certified; the others are computed again in float32.

Shape suffixes: T tokens, D input width, F features, K kept, C candidates, R rows computed again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.gather_dot import gather_dot
from kernels.rows import Best
from kernels.screening import Screen, above


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int, screen: Screen) -> Best:
    """Return what `encode_topk` in float32 would, having computed little in float32."""
    from kernels.encode_topk import encode

    n_candidates = 2 * k + 16
    if n_candidates >= len(b_f):
        return encode(x_td, w_fd, b_f, k)
    x_te = screen.inputs(x_td)
    bounds = encode(x_te, screen.w_fe, screen.w_fe.new_zeros(len(b_f)), n_candidates)
    indices_tc = bounds.indices_tk.clamp(min=0)
    indptr = torch.arange(len(x_td) + 1, device=x_td.device) * n_candidates
    h_tc = gather_dot(x_td, w_fd, indptr, indices_tc.reshape(-1)).view(indices_tc.shape) + b_f[indices_tc]
    not_finite_t = (~h_tc.isfinite()).sum(1)
    values_tk, places_tk = torch.where(h_tc.isnan(), -torch.inf, h_tc).topk(k, dim=1)
    indices_tk = indices_tc.gather(1, places_tk)
    proven_t = values_tk[:, -1] >= above(bounds.values_tk[:, -1])
    again_r = (~(proven_t & x_te.isfinite().all(1))).nonzero().squeeze(1)
    if len(again_r):
        values_tk[again_r], indices_tk[again_r], not_finite_t[again_r] = encode(x_td[again_r], w_fd, b_f, k)
    return Best(values_tk, torch.where(values_tk > -torch.inf, indices_tk, -1), not_finite_t)
