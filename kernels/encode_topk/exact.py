"""Screened: upper bounds in few bits find candidates, float32 scores them, and the bounds prove that none is missing.

What is not a candidate is below its token's level. A row whose k-th score in float32 is no lower is certified; the
others are computed again in float32.

Shape suffixes: T tokens, D input width, F features, K kept, N candidates, R rows computed again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.bounds import InBfloat16
from kernels.encode_topk import cpu
from kernels.encode_topk.cpu import BESIDES as _BESIDES
from kernels.gather_dot import gather_dot
from kernels.products import Bounded, Product
from kernels.rows import Best, row_ends
from kernels.screening import above

# Where a larger share of the features is kept, a product of everything in float32 is cheaper; measured.
_IN_CACHE, _FROM_MEMORY = 1 / 64, 1 / 320
# And with so many candidates, although the product of bounds has been computed.
_MOST_CANDIDATES = 1 / 16


def best_of(product: Product, k: int) -> Best | None:
    """Return what `encode_topk` in float32 would, having computed little in float32; None where that costs more.

    That is where bounds do not hold, or too many are kept or are candidates for them to pay.
    """
    assert product.screen is not None
    n_tokens, n_features = len(product.x_td), len(product.b_f)
    worth = product.screen.candidates_worth(n_tokens, _IN_CACHE, _FROM_MEMORY)
    if k > worth * n_features or 2 * k + _BESIDES >= n_features:
        return None
    for bounded in product.bounded():
        indptr, indices_n, level_t = (_candidates if product.x_td.is_cuda else cpu.candidates)(product, bounded, k)
        if len(indices_n) <= _MOST_CANDIDATES * n_tokens * n_features:
            return _of_candidates(product, k, indptr, indices_n, level_t)
    return None


def _of_candidates(product: Product, k: int, indptr: Tensor, indices_n: Tensor, level_t: Tensor) -> Best:
    from kernels.encode_topk import encode

    h_n = gather_dot(product.x_td, product.w_fd, indptr, indices_n, steady=True) + product.b_f[indices_n]
    strange_n = ~h_n.isfinite()
    not_finite_t = row_ends(strange_n.long())[indptr].diff()
    h_n = h_n.masked_fill_(h_n.isnan(), -torch.inf)
    values_tk, indices_tk = (_top_of_rows if h_n.is_cuda else cpu.top_of_rows)(indptr, indices_n, h_n, k)
    again_r = (values_tk[:, -1] < level_t).nonzero().squeeze(1)
    if len(again_r):
        again = encode(product.x_td[again_r], product.w_fd, product.b_f, k)
        values_tk[again_r], indices_tk[again_r], not_finite_t[again_r] = again
    return Best(values_tk, torch.where(values_tk > -torch.inf, indices_tk, -1), not_finite_t)


def _candidates(product: Product, bounded: Bounded, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `(indptr, indices_n, level_t)`: what is not a candidate has a bound below its token's level."""
    from kernels.encode_topk import triton

    assert isinstance(bounded.format, InBfloat16)
    w_fe, n_kept = bounded.format.w_fe, 2 * k + _BESIDES
    bounds = triton.encode_topk(bounded.inputs, w_fe, w_fe.new_zeros(len(w_fe)), n_kept)
    indptr = torch.arange(len(bounded.inputs) + 1, device=w_fe.device) * n_kept
    return indptr, bounds.indices_tk.clamp(min=0).reshape(-1), above(bounds.values_tk[:, -1])


def _top_of_rows(indptr: Tensor, indices_n: Tensor, values_n: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest of each row and their indices; rows are equally long."""
    n_tokens = len(indptr) - 1
    values_tk, places_tk = values_n.view(n_tokens, -1).topk(k, dim=1)
    return values_tk, indices_n.view(n_tokens, -1).gather(1, places_tk)
