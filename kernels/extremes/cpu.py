"""On CPUs: some rows at a time, with the selection of `encode_topk`, in float32 throughout."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_topk.cpu import select
from kernels.extremes.reference import Extremes, central_moments, histogram
from kernels.rows import chunks


def extremes(rows_cd: Tensor, columns_vd: Tensor, k: int, n_bins: int) -> Extremes:
    """Return what stands out in each row."""
    parts = [extremes_of(rows_cd[chunk] @ columns_vd.T, k, n_bins) for chunk in chunks(len(rows_cd), len(columns_vd))]
    return Extremes(*map(torch.cat, zip(*parts, strict=True))) if parts else _of_no_rows(k, n_bins)


def extremes_of(h_cv: Tensor, k: int, n_bins: int) -> Extremes:
    """Return what stands out in rows that are there already; they are overwritten."""
    central_c4, histogram_cb = central_moments(h_cv), histogram(h_cv, n_bins)
    largest = select(h_cv, k)
    smallest_ck, smallest_indices_ck = select(h_cv.neg_(), k)
    return Extremes(*largest, -smallest_ck, smallest_indices_ck, central_c4, histogram_cb)


def _of_no_rows(k: int, n_bins: int) -> Extremes:
    values, indices = torch.zeros(0, k), torch.zeros(0, k, dtype=torch.int64)
    return Extremes(values, indices, values, indices, torch.zeros(0, 4), torch.zeros(0, n_bins, dtype=torch.int64))
