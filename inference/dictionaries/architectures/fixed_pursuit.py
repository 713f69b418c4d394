"""Matching pursuit of a fixed number of steps, in which values keep their sign.

    r = x - b_in;  k times: j = argmax(|r W_dec.T|), v = r W_dec[j], a[j] += v, r -= v W_dec[j]

ITDA (https://arxiv.org/abs/2505.17769) takes the feature of largest magnitude, as here; overcomplete's MpSAE that of
largest value, j = argmax(r W_dec.T), whose v is negative only where all are. The encoder is the decoder's transpose.

Shape suffixes: T tokens, C tokens of a chunk, D input width, F features, M chosen features.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inference.dictionaries.sparse import SparseActivations

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class FixedPursuit:
    """The directions, what is subtracted first, if anything is, the number of steps, and what decides the next."""

    w_fd: Tensor
    b_in_d: Tensor | None
    steps: int
    by_magnitude: bool

    @property
    def n_bytes(self) -> int:
        return self.w_fd.nbytes

    def encode(self, x_td: Tensor) -> SparseActivations:
        rows = max(1, CHUNK_ELEMENTS // len(self.w_fd))
        return SparseActivations.concatenate([self._pursue(x_cd) for x_cd in x_td.split(rows)])

    def encode_features(self, x_td: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td).columns(indices_m)

    def pre_activations(self, x_td: Tensor) -> Tensor:
        """Return the projections that the first step chooses from."""
        return self._centred(x_td) @ self.w_fd.T

    def activate(self, h_tf: Tensor, x_td: Tensor) -> SparseActivations:
        return self.encode(x_td)

    def directions(self, indices_m: Tensor) -> Tensor:
        return self.w_fd[indices_m]

    def _centred(self, x_td: Tensor) -> Tensor:
        return x_td if self.b_in_d is None else x_td - self.b_in_d

    def _pursue(self, x_cd: Tensor) -> SparseActivations:
        r_cd = self._centred(x_cd).clone()
        a_cf = x_cd.new_zeros(len(x_cd), len(self.w_fd))
        for _ in range(self.steps):
            h_cf = r_cd @ self.w_fd.T
            best_c1 = (h_cf.abs() if self.by_magnitude else h_cf).argmax(1, keepdim=True)
            value_c1 = h_cf.gather(1, best_c1)
            a_cf.scatter_add_(1, best_c1, value_c1)
            r_cd -= value_c1 * self.w_fd[best_c1[:, 0]]
        return SparseActivations.from_mask(a_cf, a_cf != 0)
