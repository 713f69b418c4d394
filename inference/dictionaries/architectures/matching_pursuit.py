"""Matching pursuit: features explain away what they account for, in turn. The encoder is the decoder's transpose.

MP-SAE (https://arxiv.org/abs/2506.03093), as SAELens 6.54 has it:
    r = x - b_in;  repeat: j = argmax(r W_dec.T), v = relu(r W_dec[j]), a[j] += v, r -= v W_dec[j]
A token is done after a step that added no new feature, whose value still counts, or once |r| falls below the residual
threshold, or after a number of steps, which is D where none is given.

Pursuit of a fixed number of steps, in which values keep their sign:
    r = x - b_in;  k times: j = argmax(|r W_dec.T|), v = r W_dec[j], a[j] += v, r -= v W_dec[j]
ITDA (https://arxiv.org/abs/2505.17769) takes the feature of largest magnitude, as here; overcomplete's MpSAE that of
largest value, j = argmax(r W_dec.T), whose v is negative only where all are.

Shape suffixes: T tokens, C tokens of a chunk, R tokens that go on, D input width, F features, M chosen features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pursuit(ABC):
    """The directions, and what is subtracted first, if anything is."""

    w_fd: Tensor
    b_in_d: Tensor | None

    @abstractmethod
    def pursue(self, r_cd: Tensor) -> Tensor:
        """Return a_cf; what is left of the input may be changed in place."""

    @property
    def n_bytes(self) -> int:
        return self.w_fd.nbytes

    def encode(self, x_td: Tensor) -> SparseActivations:
        def pursued(x_cd: Tensor) -> SparseActivations:
            a_cf = self.pursue(self._centred(x_cd).clone())
            return SparseActivations.from_mask(a_cf, a_cf != 0)

        return SparseActivations.in_steps(x_td, len(self.w_fd), pursued)

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return the projections that the first step chooses from."""
        return self._centred(x_td) @ self.w_fd.T

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.encode(x_td)

    def directions(self, indices_m: Tensor | slice) -> Tensor:
        return self.w_fd[indices_m]

    def _centred(self, x_td: Tensor) -> Tensor:
        return x_td if self.b_in_d is None else x_td - self.b_in_d


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatchingPursuit(Pursuit):
    """When to stop."""

    residual_threshold: float
    max_steps: int
    stop_on_repeat: bool

    def pursue(self, r_cd: Tensor) -> Tensor:
        a_cf = r_cd.new_zeros(len(r_cd), len(self.w_fd))
        rows_r = torch.arange(len(r_cd), device=r_cd.device)
        for _ in range(self.max_steps):
            if len(rows_r) == 0:
                break
            best_r = (r_cd[rows_r] @ self.w_fd.T).relu().argmax(1)
            value_r = (r_cd[rows_r] * self.w_fd[best_r]).sum(1).relu()
            is_new_r = (a_cf[rows_r, best_r] == 0) & (value_r != 0)
            a_cf[rows_r, best_r] += value_r
            r_cd[rows_r] -= value_r[:, None] * self.w_fd[best_r]
            goes_on_r = r_cd[rows_r].norm(dim=1) >= self.residual_threshold
            if self.stop_on_repeat:
                goes_on_r &= is_new_r
            rows_r = rows_r[goes_on_r]
        return a_cf


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedPursuit(Pursuit):
    """The number of steps, and whether magnitude decides which feature is next."""

    steps: int
    by_magnitude: bool

    def pursue(self, r_cd: Tensor) -> Tensor:
        a_cf = r_cd.new_zeros(len(r_cd), len(self.w_fd))
        for _ in range(self.steps):
            h_cf = r_cd @ self.w_fd.T
            best_c1 = (h_cf.abs() if self.by_magnitude else h_cf).argmax(1, keepdim=True)
            value_c1 = h_cf.gather(1, best_c1)
            a_cf.scatter_add_(1, best_c1, value_c1)
            r_cd -= value_c1 * self.w_fd[best_c1[:, 0]]
        return a_cf
