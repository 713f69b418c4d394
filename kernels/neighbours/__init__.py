"""The nearest rows of a matrix to each of its rows, by inner product, without the matrix of all pairs.

This is `encode_topk` of the rows against themselves with one place more, for each row finds itself: one kernel, its
merge and its certificate serve both.

Shape suffixes: F rows (features), D width, K kept.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.encode_topk import encode_topk
from kernels.screening import Screen

__all__ = ["neighbours"]

_NEVER = -1e4
# A screen is made for one call: measured to cost what it saves for some thousand rows.
_WORTH_A_SCREEN = 1024


def neighbours(unit_fd: Tensor, k: int, *, rows: slice = slice(None)) -> tuple[Tensor, Tensor]:
    """Return `(values_fk, indices_fk)` of the k rows with the largest products with each of `rows`, largest first.

    A row is no neighbour of itself. Rows of zeros have none and are none: where there are fewer than k, the value is
    zero at index -1. Rows have a length of about one, or zero.
    """
    n_rows = len(unit_fd)
    here_c = torch.arange(n_rows, device=unit_fd.device)[rows]
    absent_f = ~(unit_fd.square().sum(1) > 0)
    b_f = torch.where(absent_f, _NEVER, 0.0).to(unit_fd.dtype)
    screen = Screen.of(unit_fd, b_f) if len(here_c) >= _WORTH_A_SCREEN else None
    best = encode_topk(unit_fd[rows], unit_fd, b_f, min(k + 1, n_rows), screen=screen)
    # Each row is its own nearest, unless others equal it: what comes behind it moves up a place.
    behind_ck = (best.indices_tk == here_c[:, None]).cumsum(1)[:, :-1] > 0
    values_ck = torch.where(behind_ck, best.values_tk[:, 1:], best.values_tk[:, :-1])
    indices_ck = torch.where(behind_ck, best.indices_tk[:, 1:], best.indices_tk[:, :-1])
    known_ck = (values_ck > _NEVER / 2) & ~absent_f[rows, None]
    padding = (0, k - values_ck.shape[1])
    values_fk = torch.nn.functional.pad(torch.where(known_ck, values_ck, 0.0), padding)
    return values_fk, torch.nn.functional.pad(torch.where(known_ck, indices_ck, -1), padding, value=-1)
