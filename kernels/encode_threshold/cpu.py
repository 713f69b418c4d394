"""On CPUs: a product of some tokens at a time, and NumPy to find what fires.

NumPy compares three to seven times faster than torch on one core, and finds the places of what is set faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.products import Bounded
from kernels.rows import Rows, chunks, count_not_finite, is_one_chunk, joined, places_to_rows, scores, true_places, wide


def encode_threshold(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Rows:
    """Return the pre-activations above their threshold."""
    if is_one_chunk(len(x_td), len(b_f)):
        return keep_above(scores(x_td, w_fd, b_f), threshold_f)
    return joined([keep_above(scores(x_td[chunk], w_fd, b_f), threshold_f) for chunk in chunks(len(x_td), len(b_f))])


def keep_above(h_tf: Tensor, threshold_f: Tensor) -> Rows:
    """Return the entries above their threshold."""
    h_tf = wide(h_tf)
    numbers_tf = h_tf.numpy()
    places_n = true_places(numbers_tf > wide(threshold_f).numpy())
    return Rows(
        *places_to_rows(places_n, numbers_tf.shape),
        torch.from_numpy(numbers_tf.take(places_n)),
        count_not_finite(h_tf),
    )


def candidates(bounded: Bounded) -> tuple[Tensor, Tensor]:
    """Return indptr and indices of the bounds that are not below zero: neither are their bits."""
    return places_to_rows(true_places(bounded.bits_tf >= 0), bounded.bits_tf.shape)
