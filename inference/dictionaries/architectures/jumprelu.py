"""JumpReLU (https://arxiv.org/abs/2407.14435): a pre-activation counts as it is, if it exceeds its feature's threshold.

ReLU is JumpReLU with thresholds of zero. Below zero they let negative pre-activations through: most packages put a ReLU
before the jump, which is a threshold of at least zero.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inference.dictionaries.sparse import SparseActivations
from kernels.encode_features import encode_features
from kernels.encode_threshold import above_of, encode_threshold, keep_above
from kernels.products import Product
from kernels.screening import Screen


@dataclass(frozen=True, slots=True, eq=False)
class JumpReLU:
    """Thresholds of all features, and what finds candidates before anything is computed in float32, where that pays."""

    threshold_f: Tensor
    screen: Screen | None = None

    @classmethod
    def of(cls, threshold_f: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> JumpReLU:
        """Return JumpReLU for these weights, screened where that pays."""
        return cls(threshold_f, Screen.of(w_enc_fd, b_enc_f - threshold_f))

    def encode(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor) -> SparseActivations:
        rows = encode_threshold(x_td, w_enc_fd, b_enc_f, self.threshold_f, screen=self.screen)
        return SparseActivations(rows.indptr, rows.indices_n, rows.values_n.to(x_td.dtype), len(b_enc_f))

    def encode_product(self, product: Product) -> SparseActivations:
        rows = above_of(product, self.threshold_f)
        return SparseActivations(rows.indptr, rows.indices_n, rows.values_n, len(product.b_f))

    def activate(self, h_tf: Tensor) -> SparseActivations:
        rows = keep_above(h_tf, self.threshold_f)
        return SparseActivations(rows.indptr, rows.indices_n, rows.values_n.to(h_tf.dtype), h_tf.shape[1])

    def encode_features(self, x_td: Tensor, w_enc_fd: Tensor, b_enc_f: Tensor, indices_m: Tensor) -> Tensor:
        return encode_features(x_td, w_enc_fd, b_enc_f, indices_m, self.threshold_f[indices_m])
