"""TopK (https://arxiv.org/abs/2406.04093): the k largest pre-activations of a token count, if they are above zero."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations
from kernels.encode_features import encode_features
from kernels.encode_topk import best_of, encode_topk, keep_best
from kernels.products import Product
from kernels.rows import scores
from kernels.screening import Screen

FIRST_RIVALS = 64
MANY = 8
_ROUNDING = 2**-21


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """The number of features that fire at a token, and what finds candidates before float32 does, where that pays."""

    k: int
    screen: Screen | None = None

    @classmethod
    def of(cls, k: int, w_enc_fd: Tensor, b_enc_f: Tensor) -> TopK:
        """Return TopK for these weights, screened where that pays."""
        return cls(k, Screen.of(w_enc_fd, b_enc_f))

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        best = encode_topk(x_td, w_enc_fd, b_enc_f, self.k, screen=self.screen)
        return SparseActivations.from_topk(best.values_tk.to(x_td.dtype), best.indices_tk, len(b_enc_f))

    def encode_product(self, product: Product) -> SparseActivations:
        best = best_of(product, self.k)
        return SparseActivations.from_topk(best.values_tk, best.indices_tk, len(product.b_f))

    def activate(self, h_tf: Tensor) -> SparseActivations:
        return SparseActivations.from_topk(*keep_best(h_tf, self.k), h_tf.shape[1])

    def kth_scores(self, activations: SparseActivations) -> Tensor:
        """Return what a feature must reach to fire at each token, zero where fewer than k fire."""
        full_t = activations.counts_t == self.k
        kth_t = activations.values_n.new_zeros(activations.n_tokens)
        kth_t[full_t] = activations.values_n[activations.indptr[1:][full_t] - 1]
        return kth_t

    def encode_features(
        self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor, kth_t: Tensor | None = None
    ) -> Tensor:
        """Return the chosen activations, computing rivals only until k of them beat each chosen feature of a token.

        With the k-th scores of a full encode of these tokens nothing else is computed. Without, most tokens are decided
        by a small part of the other features, in whatever order these are stored. For many chosen features at once the
        whole competition is cheaper.
        """
        if kth_t is not None and x_td.dtype == torch.float32:
            # One score computed by two products differs in its last digits; the k-th itself must fire in both.
            scale_tm = x_td.norm(dim=1, keepdim=True) * w_enc_fd[indices_m].norm(dim=1)
            floor_tm = (kth_t[:, None] - _ROUNDING * scale_tm).clamp(min=0)
            return encode_features(x_td, w_enc_fd, b_enc_f, indices_m, floor_tm)
        if len(indices_m) > MANY:
            return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)
        h_tm = scores(x_td, w_enc_fd[indices_m], b_enc_f[indices_m])
        n_above_tm = torch.zeros_like(h_tm, dtype=torch.int64)
        for rivals in _growing_slices(len(b_enc_f)):
            rows_r = ((h_tm > 0) & (n_above_tm < self.k)).any(1).nonzero().squeeze(1)
            if len(rows_r) == 0:
                break
            h_rf = scores(x_td[rows_r], w_enc_fd[rivals], b_enc_f[rivals])
            h_rm = h_tm[rows_r]
            for m, index in enumerate(indices_m.tolist()):
                above_r = _count_above(h_rf, h_rm[:, m])
                if rivals.start <= index < rivals.stop:
                    # Rounding may put a feature above itself.
                    above_r -= (h_rf[:, index - rivals.start] > h_rm[:, m]).long()
                n_above_tm[rows_r, m] += above_r
        return torch.where((h_tm > 0) & (n_above_tm < self.k), h_tm, 0.0)


def _growing_slices(n_features: int) -> Iterator[slice]:
    """Split the features into a small part and parts that double what has been seen."""
    start, stop = 0, max(FIRST_RIVALS, n_features // 16)
    while start < n_features:
        yield slice(start, min(stop, n_features))
        start, stop = stop, 2 * stop


def _count_above(h_rf: Tensor, level_r: Tensor) -> Tensor:
    """Return for each row how many entries are above its level; on a CPU NumPy counts several times faster."""
    if h_rf.is_cuda:
        return (h_rf > level_r[:, None]).sum(1)
    return torch.from_numpy(np.count_nonzero(h_rf.numpy() > level_r.numpy()[:, None], axis=1))
