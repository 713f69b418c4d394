"""On CPUs: a product of some tokens at a time, and NumPy to find what fires.

NumPy compares three to seven times faster than torch on one core, and finds the places of what is set twice as fast.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels.products import Product
from kernels.rows import Rows, chunks, count_not_finite, joined, places_to_rows, scores, wide


def encode_threshold(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    """Return the pre-activations above their threshold."""
    parts = [keep_above(scores(x_td[chunk], w_fd, b_f), threshold_f) for chunk in chunks(len(x_td), len(b_f))]
    return joined(parts) if parts else keep_above(scores(x_td, w_fd, b_f), threshold_f)


def keep_above(h_tf: Tensor, threshold_f: Tensor) -> Rows:
    """Return the entries above their threshold."""
    h_tf = wide(h_tf)
    places = torch.from_numpy(np.flatnonzero(h_tf.numpy() > wide(threshold_f).numpy()))
    indptr, indices_n = places_to_rows(places.numpy(), tuple(h_tf.shape))
    return Rows(indptr, indices_n, h_tf.reshape(-1)[places], count_not_finite(h_tf))


def candidates(product: Product) -> tuple[Tensor, Tensor]:
    """Return indptr and indices of the bounds that are not below zero: neither are their bits."""
    return places_to_rows(np.flatnonzero(product.bits_tf >= 0), product.bits_tf.shape)
