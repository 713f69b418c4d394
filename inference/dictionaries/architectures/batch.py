"""Features that compete across the tokens of a batch, as in training; what fires depends on what is encoded together.

    BatchTopK (https://arxiv.org/abs/2412.06410), Mutual Choice (https://arxiv.org/abs/2411.02124):
        the k T largest of all relu(h), over tokens and features
    Feature Choice (https://arxiv.org/abs/2411.02124):
        for each feature the m tokens where it is largest, m = k T / F rounded, at least one

Trained dictionaries carry thresholds that stand for these rules at inference, where a token should not depend on its
neighbours: that is JumpReLU, and what Facet runs unless `batch_rule` is stated. k counts features per token on average.

Shape suffixes: T tokens, C tokens of a chunk, D input width, F features, M chosen features, K kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from inference.dictionaries.sparse import SparseActivations

CHUNK_ELEMENTS = 1 << 22


@dataclass(frozen=True, slots=True)
class BatchTopK:
    """The number of features of an average token."""

    k: int

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        """Return the activations of all features, holding 2 k T of them besides one chunk's pre-activations."""
        n_features, budget = len(b_enc_f), self.k * len(x_td)
        values_k, flat_k = x_td.new_empty(0), torch.empty(0, dtype=torch.int64, device=x_td.device)
        rows = max(1, CHUNK_ELEMENTS // n_features)
        for start in range(0, len(x_td), rows):
            h_c = torch.addmm(b_enc_f, x_td[start : start + rows], w_enc_fd.T).reshape(-1)
            best_k, place_k = h_c.topk(min(budget, len(h_c)))
            values_k = torch.cat([values_k, best_k])
            flat_k = torch.cat([flat_k, place_k + start * n_features])
            values_k, order_k = values_k.topk(min(budget, len(values_k)))
            flat_k = flat_k[order_k]
        fires_k = values_k > 0
        return _from_flat(values_k[fires_k], flat_k[fires_k], len(x_td), n_features)

    def activate(self, h_tf: Tensor) -> SparseActivations:
        values_k, flat_k = h_tf.reshape(-1).topk(min(self.k * len(h_tf), h_tf.numel()))
        fires_k = values_k > 0
        return _from_flat(values_k[fires_k], flat_k[fires_k], *h_tf.shape)

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return self.encode(x_td, w_enc_fd, b_enc_f).columns(indices_m)


@dataclass(frozen=True, slots=True)
class FeatureChoice:
    """The number of features of an average token, from which that of tokens of each feature follows."""

    k: int

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        """Return the activations of all features, computing some features at a time for all tokens."""
        n_features = len(b_enc_f)
        values, flat = [], []
        columns = max(1, CHUNK_ELEMENTS // max(1, len(x_td)))
        for first_f in torch.arange(n_features, device=x_td.device).split(columns):
            h_tc = torch.addmm(b_enc_f[first_f], x_td, w_enc_fd[first_f].T)
            best_kc, tokens_kc = self._choose(h_tc, n_features)
            fires_kc = best_kc > 0
            values.append(best_kc[fires_kc])
            flat.append((tokens_kc * n_features + first_f)[fires_kc])
        return _from_flat(torch.cat(values), torch.cat(flat), len(x_td), n_features)

    def activate(self, h_tf: Tensor) -> SparseActivations:
        best_kf, tokens_kf = self._choose(h_tf, h_tf.shape[1])
        fires_kf = best_kf > 0
        flat_kf = tokens_kf * h_tf.shape[1] + torch.arange(h_tf.shape[1], device=h_tf.device)
        return _from_flat(best_kf[fires_kf], flat_kf[fires_kf], *h_tf.shape)

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        h_tm = torch.addmm(b_enc_f[indices_m], x_td, w_enc_fd[indices_m].T)
        best_km, tokens_km = self._choose(h_tm, len(b_enc_f))
        return torch.zeros_like(h_tm).scatter(0, tokens_km, best_km.relu())

    def _choose(self, h_tf: Tensor, n_features: int) -> tuple[Tensor, Tensor]:
        """Return for each feature its largest pre-activations and their tokens."""
        n_tokens = min(len(h_tf), max(1, round(self.k * len(h_tf) / n_features)))
        return h_tf.topk(n_tokens, dim=0)


def _from_flat(values_n: Tensor, flat_n: Tensor, n_tokens: int, n_features: int) -> SparseActivations:
    """Return firings at flat positions, in whatever order these come, as rows."""
    flat_n, order_n = flat_n.sort()
    counts_t = torch.bincount(flat_n.div(n_features, rounding_mode="floor"), minlength=n_tokens)
    indptr = counts_t.new_zeros(n_tokens + 1)
    torch.cumsum(counts_t, 0, out=indptr[1:])
    return SparseActivations(indptr, flat_n % n_features, values_n[order_n], n_features)
