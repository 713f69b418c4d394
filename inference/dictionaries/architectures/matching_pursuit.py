"""Matching pursuit (MP-SAE, https://arxiv.org/abs/2506.03093): features explain away what they account for, in turn.

    r = x - b_in;  repeat: j = argmax(r W_dec.T), v = relu(r W_dec[j]), a[j] += v, r -= v W_dec[j]

The encoder is the decoder's transpose. A token is done after a step that added no new feature, whose value still
counts, or once |r| falls below the residual threshold, or after a number of steps, which is D where none is given.
Follows SAELens 6.54; `fixed_pursuit` is what ITDA and overcomplete make of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class MatchingPursuit:
    """The directions, what is subtracted first, if anything is, and when to stop."""

    w_fd: Tensor
    b_in_d: Tensor | None
    residual_threshold: float
    max_steps: int
    stop_on_repeat: bool

    @property
    def n_bytes(self) -> int:
        return self.w_fd.nbytes

    def encode(self, x_td: Tensor) -> SparseActivations:
        rows = max(1, CHUNK_ELEMENTS // len(self.w_fd))
        return SparseActivations.concatenate([self._pursue(x_cd) for x_cd in x_td.split(rows)])

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return the projections of which the first step takes the largest."""
        return self._centred(x_td) @ self.w_fd.T

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.encode(x_td)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_fd[indices_m]

    def _centred(self, x_td: Tensor) -> Tensor:
        return x_td if self.b_in_d is None else x_td - self.b_in_d

    def _pursue(self, x_td: Tensor) -> SparseActivations:
        w_fd, r_td = self.w_fd, self._centred(x_td).clone()
        a_tf = x_td.new_zeros(len(x_td), len(w_fd))
        # The tokens that are not done.
        rows_r = torch.arange(len(x_td), device=x_td.device)
        for _ in range(self.max_steps):
            if len(rows_r) == 0:
                break
            best_r = (r_td[rows_r] @ w_fd.T).relu().argmax(1)
            value_r = (r_td[rows_r] * w_fd[best_r]).sum(1).relu()
            is_new_r = (a_tf[rows_r, best_r] == 0) & (value_r != 0)
            a_tf[rows_r, best_r] += value_r
            r_td[rows_r] -= value_r[:, None] * w_fd[best_r]
            goes_on_r = r_td[rows_r].norm(dim=1) >= self.residual_threshold
            if self.stop_on_repeat:
                goes_on_r &= is_new_r
            rows_r = rows_r[goes_on_r]
        return SparseActivations.from_mask(a_tf, a_tf > 0)
