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
# Measured: for fewer tokens a full encode costs no more than going through rivals.
_WORTH_RIVALS = 16
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
        """Return the chosen activations, computing no other feature where the k-th scores of a full encode are known.

        Where they are not, they are picked from a full encode, except for a single feature of many tokens: this is
        compared with rivals, in whatever order they are stored, only until k of them beat it, which takes a small part
        of them at most tokens.
        """
        if kth_t is not None and x_td.dtype == torch.float32:
            # One score computed by two products differs in its last digits; the k-th itself must fire in both.
            scale_tm = x_td.norm(dim=1, keepdim=True) * w_enc_fd[indices_m].norm(dim=1)
            floor_tm = (kth_t[:, None] - _ROUNDING * scale_tm).clamp(min=0)
            return encode_features(x_td, w_enc_fd, b_enc_f, indices_m, floor_tm)
        if len(indices_m) != 1 or len(x_td) < _WORTH_RIVALS:
            return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)
        index = int(indices_m)
        h_t = scores(x_td, w_enc_fd[index, None], b_enc_f[index, None])[:, 0]
        n_above_t = torch.zeros_like(h_t, dtype=torch.int64)
        for rivals in _growing_slices(len(b_enc_f)):
            open_r = ((h_t > 0) & (n_above_t < self.k)).nonzero().squeeze(1)
            if len(open_r) == 0:
                break
            h_rf = scores(x_td[open_r], w_enc_fd[rivals], b_enc_f[rivals])
            n_above_t[open_r] += _count_above(h_rf, h_t[open_r])
            if rivals.start <= index < rivals.stop:
                # Rounding may put a feature above itself.
                n_above_t[open_r] -= (h_rf[:, index - rivals.start] > h_t[open_r]).long()
        return torch.where((h_t > 0) & (n_above_t < self.k), h_t, 0.0)[:, None]


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
