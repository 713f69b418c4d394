"""The definition: the whole product, sorted and reduced."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Extremes(NamedTuple):
    """The k largest entries of each row, largest first, the k smallest, smallest first, and all of them summed up.

    `central_c4` has the mean and the second to fourth central moments; the bins are equally wide, from the smallest
    entry to the largest, which the last bin includes.
    """

    largest_ck: Tensor
    largest_indices_ck: Tensor
    smallest_ck: Tensor
    smallest_indices_ck: Tensor
    central_c4: Tensor
    histogram_cb: Tensor


def extremes(rows_cd: Tensor, columns_vd: Tensor, k: int, n_bins: int) -> Extremes:
    """Return what stands out in each row, in the precision of the tensors."""
    return extremes_of(rows_cd @ columns_vd.T, k, n_bins)


def extremes_of(h_cv: Tensor, k: int, n_bins: int) -> Extremes:
    """Return what stands out in rows that are there already."""
    largest, smallest = h_cv.topk(k, dim=1), h_cv.topk(k, dim=1, largest=False)
    return Extremes(*largest, *smallest, central_moments(h_cv), histogram(h_cv, n_bins))


def central_moments(h_cv: Tensor) -> Tensor:
    """Return the mean and the second to fourth central moments of each row."""
    mean_c1 = h_cv.mean(1, keepdim=True)
    away_cv = h_cv - mean_c1
    square_cv = away_cv.square()
    return torch.stack(
        [
            mean_c1[:, 0],
            square_cv.mean(1),
            torch.linalg.vecdot(square_cv, away_cv) / h_cv.shape[1],
            torch.linalg.vecdot(square_cv, square_cv) / h_cv.shape[1],
        ],
        dim=1,
    )


def histogram(h_cv: Tensor, n_bins: int) -> Tensor:
    """Return int64 counts of each row's entries in equal bins between its smallest and its largest."""
    lowest_c1, highest_c1 = h_cv.amin(1, keepdim=True), h_cv.amax(1, keepdim=True)
    bin_cv = ((h_cv - lowest_c1) * (n_bins / (highest_c1 - lowest_c1).clamp(min=1e-30))).int().clamp_(0, n_bins - 1)
    first_c1 = torch.arange(len(h_cv), device=h_cv.device, dtype=torch.int32)[:, None] * n_bins
    return torch.bincount((bin_cv + first_c1).view(-1), minlength=len(h_cv) * n_bins).view(-1, n_bins)
