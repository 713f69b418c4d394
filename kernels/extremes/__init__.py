"""What stands out in each row of a product: its largest and smallest entries, moments and histogram.

With directions for rows and the unembedding for columns these are features' direct effects on the logits, of which
there are features x vocabulary: no more than a part of them is ever there.

Shape suffixes: C rows, V columns, D width, K kept, B bins.
"""

from __future__ import annotations

from torch import Tensor

from kernels.extremes import cpu, reference
from kernels.extremes.reference import Extremes

__all__ = ["Extremes", "extremes", "extremes_of"]


def extremes(rows_cd: Tensor, columns_vd: Tensor, k: int, *, n_bins: int) -> Extremes:
    """Return what stands out in each row of `rows_cd @ columns_vd.T`, whose entries are finite."""
    if rows_cd.is_cuda:
        from kernels.extremes import triton

        return triton.extremes(rows_cd, columns_vd, k, n_bins)
    return cpu.extremes(rows_cd, columns_vd, k, n_bins)


def extremes_of(h_cv: Tensor, k: int, *, n_bins: int) -> Extremes:
    """Return what stands out in rows that are there already, and may be overwritten."""
    return (reference if h_cv.is_cuda else cpu).extremes_of(h_cv, k, n_bins)
