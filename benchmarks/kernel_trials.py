"""What was tried for encoding on CPUs and is not used, measured all the same so that it can be looked at again.

Shape suffixes: T tokens, D width, F features, N candidates.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kernels.gather_dot import gather_dot
from kernels.rows import places_to_rows


def weights_first(x_td: Tensor, w_fd: Tensor, b_f: Tensor, threshold_f: Tensor) -> Tensor:
    """Return the values above their threshold of W X^T, feature by feature."""
    h_ft = torch.addmm(b_f[:, None], w_fd, x_td.T)
    places = np.flatnonzero(h_ft.numpy() > threshold_f.numpy()[:, None])
    return h_ft.view(-1)[torch.from_numpy(places)]


def int8_screen(w_fd: Tensor, b_f: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return a threshold encode that finds candidates by an 8-bit product and its error bound, float32 deciding."""
    scale_f = w_fd.abs().amax(1) / 127
    rounded_fd = (w_fd / scale_f[:, None]).round() * scale_f[:, None]
    missing, longest = float((w_fd - rounded_fd).norm(dim=1).max()), float(rounded_fd.norm(dim=1).max())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that its 8-bit types will move
        quantized = torch.quantize_per_channel(
            w_fd, scale_f.double(), torch.zeros(len(w_fd), dtype=torch.int64), 0, torch.qint8
        )
        packed = torch.ops.quantized.linear_prepack(quantized, b_f)

    def encode(x_td: Tensor, threshold_f: Tensor) -> Tensor:
        h_tf = torch.ops.quantized.linear_dynamic(x_td, packed)
        # All tokens share one scale: half a step in each coordinate.
        step = float(x_td.max() - x_td.min()) / 255
        bound_t1 = step / 2 * x_td.shape[1] ** 0.5 * longest + x_td.norm(dim=1, keepdim=True) * missing
        places = np.flatnonzero(h_tf.numpy() + bound_t1.numpy() > threshold_f.numpy())
        indptr, indices_n = places_to_rows(places, tuple(h_tf.shape))
        exact_n = gather_dot(x_td, w_fd, indptr, indices_n) + b_f[indices_n]
        return exact_n[exact_n > threshold_f[indices_n]]

    return encode
