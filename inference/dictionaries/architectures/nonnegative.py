"""Semi-nonnegative matrix factorization (https://arxiv.org/abs/2506.10920): how much of each factor is in an input.

    a = argmin |x - b_in - a W_dec|^2 over a >= 0

Factors are of either sign, and their coefficients are not negative. With the factors fixed these are solved exactly, by
block principal pivoting (https://doi.org/10.1137/110821172): a set of positive coefficients is solved for without the
constraint, and what violates it changes sides, until nothing does. Where factors depend on each other a ridge of 1e-9
of their mean squared length makes the coefficients unique. Works in float64.

Shape suffixes: T tokens, C tokens of a chunk, R tokens that are not done, D input width, F factors, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations

RIDGE = 1e-9
TOLERANCE = 1e-10
# Exchanges of whole blocks that may fail to help before only one coefficient changes sides, which always ends.
PATIENCE = 3


@dataclass(frozen=True, slots=True, eq=False)
class Nonnegative:
    """The factors, and what is subtracted from the input first, if anything is."""

    w_fd: Tensor
    b_in_d: Tensor | None

    @property
    def n_bytes(self) -> int:
        return self.w_fd.nbytes

    def encode(self, x_td: Tensor) -> SparseActivations:
        return SparseActivations.in_steps(
            x_td, len(self.w_fd) ** 2, lambda x_cd: self.activate(self.pre_activations(x_cd), x_cd)
        )

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return the projections on every factor, which are the coefficients only where factors are orthogonal."""
        return self._projections(x_td).to(x_td.dtype)

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        gram_ff = self.w_fd.double() @ self.w_fd.T.double()
        gram_ff.diagonal().add_(RIDGE * gram_ff.diagonal().mean())
        a_tf = _nonnegative_least_squares(gram_ff, self._projections(x_td)).to(x_td.dtype)
        return SparseActivations.from_mask(a_tf, a_tf > 0)

    def directions(self, indices_m: Tensor) -> Tensor:
        return self.w_fd[indices_m]

    def _projections(self, x_td: Tensor) -> Tensor:
        r_td = x_td.double() if self.b_in_d is None else x_td.double() - self.b_in_d.double()
        return r_td @ self.w_fd.T.double()


def _nonnegative_least_squares(gram_ff: Tensor, c_tf: Tensor) -> Tensor:
    """Return a_tf >= 0 that minimizes a G a / 2 - c a for each row."""
    n_features = len(gram_ff)
    tolerance_t1 = TOLERANCE * c_tf.abs().amax(1, keepdim=True).clamp(min=torch.finfo(c_tf.dtype).tiny)
    scale_f = gram_ff.diagonal()
    a_tf, positive_tf = torch.zeros_like(c_tf), torch.zeros_like(c_tf, dtype=torch.bool)
    slack_tf = -c_tf
    fewest_t = torch.full((len(c_tf),), n_features + 1, device=c_tf.device)
    patience_t = torch.full_like(fewest_t, PATIENCE)
    rows_r = torch.arange(len(c_tf), device=c_tf.device)
    while True:
        wrong_rf = torch.where(positive_tf[rows_r], a_tf[rows_r] * scale_f, slack_tf[rows_r]) < -tolerance_t1[rows_r]
        n_wrong_r = wrong_rf.sum(1)
        going_r = n_wrong_r > 0
        if not going_r.any():
            return a_tf.clamp_(min=0)
        rows_r, wrong_rf, n_wrong_r = rows_r[going_r], wrong_rf[going_r], n_wrong_r[going_r]
        better_r = n_wrong_r < fewest_t[rows_r]
        fewest_t[rows_r] = torch.where(better_r, n_wrong_r, fewest_t[rows_r])
        patience_t[rows_r] = torch.where(better_r, PATIENCE, patience_t[rows_r] - 1)
        last_rf = wrong_rf & (wrong_rf.flip(1).cumsum(1).flip(1) == 1)
        positive_tf[rows_r] ^= torch.where((patience_t[rows_r] >= 0)[:, None], wrong_rf, last_rf)
        mask_rf = positive_tf[rows_r].to(c_tf.dtype)
        system_rff = gram_ff * mask_rf[:, :, None] * mask_rf[:, None, :] + torch.diag_embed(1 - mask_rf)
        a_tf[rows_r] = torch.linalg.solve(system_rff, c_tf[rows_r] * mask_rf)
        slack_tf[rows_r] = a_tf[rows_r] @ gram_ff - c_tf[rows_r]
