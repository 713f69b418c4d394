"""The definition: a dense product, a comparison, compressed rows."""

from __future__ import annotations

from torch import Tensor

from kernels.rows import Rows, row_ends


def encode_threshold(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    """Return the pre-activations above their threshold, in the precision of the tensors."""
    return keep_above(x_td @ w_fd.T + b_f, threshold_f)


def keep_above(h_tf: Tensor, threshold_f: Tensor) -> Rows:
    """Return the entries above their threshold."""
    fires_tf = h_tf > threshold_f
    return Rows(row_ends(fires_tf.sum(1)), fires_tf.nonzero()[:, 1], h_tf[fires_tf], (~h_tf.isfinite()).sum(1))
