"""On CPUs: a product of some tokens at a time; where there are many, a floor under the k-th score first.

The k-th largest maximum of groups of features is a floor: k groups have something as large. What reaches the floor is
little more than k entries, and selecting among them costs less than selecting among all. torch's selection alone takes
as long as the product for a dictionary of a narrow model.

Shape suffixes: T tokens, D input width, F features, K kept, G groups, C candidates.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels.rows import Best, chunks, count_not_finite, places_to_rows, scores

# Measured: below this many pre-activations the steps of finding a floor cost more than they save.
_WORTH_A_FLOOR = 1 << 19
_GROUP = 32


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int) -> Best:
    """Return the k largest pre-activations and their indices."""
    parts = [_best(scores(x_td[chunk], w_fd, b_f), k) for chunk in chunks(len(x_td), len(b_f))]
    parts = parts or [_best(scores(x_td, w_fd, b_f), k)]
    return parts[0] if len(parts) == 1 else Best(*map(torch.cat, zip(*parts, strict=True)))


def _best(h_tf: Tensor, k: int) -> Best:
    not_finite_t = count_not_finite(h_tf)
    if not not_finite_t.any():
        return Best(*select(h_tf, k), not_finite_t)
    values_tk, indices_tk = select(h_tf.nan_to_num_(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), k)
    return Best(values_tk, indices_tk.masked_fill(values_tk == -torch.inf, -1), not_finite_t)


def select(h_tf: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return `h_tf.topk(k)`."""
    n_tokens, n_features = h_tf.shape
    n_groups = n_features // _GROUP
    if h_tf.numel() < _WORTH_A_FLOOR or n_groups < 2 * k or h_tf.dtype not in (torch.float32, torch.float64):
        return h_tf.topk(k, dim=1)
    # Groups of features far apart, so that maxima are taken of whole rows of numbers at a time.
    highest_tg = h_tf[:, : n_groups * _GROUP].reshape(n_tokens, _GROUP, n_groups).amax(1)
    floor_t1 = highest_tg.topk(k, dim=1).values[:, -1:]
    places = np.flatnonzero(h_tf.numpy() >= floor_t1.numpy())
    indptr, indices_n = places_to_rows(places, (n_tokens, n_features))
    counts_t = indptr.diff()
    if int(counts_t.min()) < k:  # only where there is NaN
        return h_tf.topk(k, dim=1)
    place_n = torch.arange(len(places)) - indptr[:-1].repeat_interleave(counts_t)
    token_n = torch.arange(n_tokens).repeat_interleave(counts_t)
    values_tc = h_tf.new_full((n_tokens, int(counts_t.max())), -torch.inf)
    indices_tc = torch.zeros(values_tc.shape, dtype=torch.int64)
    values_tc[token_n, place_n] = h_tf.reshape(-1)[torch.from_numpy(places)]
    indices_tc[token_n, place_n] = indices_n
    values_tk, places_tk = values_tc.topk(k, dim=1)
    return values_tk, indices_tc.gather(1, places_tk)
