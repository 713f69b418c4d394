"""On CPUs: some tokens at a time, a floor under the k-th score first, and NumPy to find and sort what reaches it.

The k-th largest maximum of groups of features is a floor: k groups have something as large. What reaches the floor is
little more than k entries, and selecting among them costs a fraction of selecting among all. NumPy partitions and
sorts ten times faster than torch selects, and finds what is set twice as fast.

Of bounds (`kernels.screening`) what is a little below the floor may still be among the k: as little as bounds and
scores can be apart.

Shape suffixes: T tokens, D input width, F features, K kept, G groups, C candidates, N candidates of all tokens.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from kernels.gather_dot import gather_dot
from kernels.products import Bounded, Product, ascending, from_bits, to_bits
from kernels.rows import Best, chunks, is_one_chunk, places_to_rows, scores, surely_finite, true_places
from kernels.screening import above

# Measured: below this many pre-activations the steps of finding a floor cost more than they save.
_WORTH_A_FLOOR = 1 << 16
# Groups for each entry kept, so that few of the k largest share one; fewer groups than this are no faster to rank.
_GROUPS_EACH, _FEWEST_GROUPS = 4, 256
_INDEX = np.int64(0xFFFFFFFF)
# Twice the entries kept, and so many more, are looked at where bounds are not close enough to tell.
BESIDES = 16


def encode_topk(x_td: Tensor, w_fd: Tensor, b_f: Tensor, k: int) -> Best:
    """Return the k largest pre-activations and their indices."""
    if is_one_chunk(len(x_td), len(b_f)):
        return best(scores(x_td, w_fd, b_f), k)
    return joined([best(scores(x_td[chunk], w_fd, b_f), k) for chunk in chunks(len(x_td), len(b_f))])


def joined(parts: list[Best]) -> Best:
    """Put the best of some tokens after the best of others."""
    return parts[0] if len(parts) == 1 else Best(*map(torch.cat, zip(*parts, strict=True)))


def best(h_tf: Tensor, k: int) -> Best:
    """Return the k largest of pre-activations."""
    if surely_finite(h_tf):
        return Best(*select(h_tf, k), torch.zeros(len(h_tf), dtype=torch.int64))
    not_finite_t = (~h_tf.isfinite()).sum(1)
    values_tk, indices_tk = select(h_tf.nan_to_num(nan=-torch.inf, posinf=torch.inf, neginf=-torch.inf), k)
    return Best(values_tk, indices_tk.masked_fill(values_tk == -torch.inf, -1), not_finite_t)


def select(h_tf: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return `h_tf.topk(k)`, the lower index first among equals where there are many numbers."""
    if h_tf.numel() < _WORTH_A_FLOOR or h_tf.dtype != torch.float32:
        return h_tf.topk(k, dim=1)
    highest_tg = _group_maxima(h_tf, k)
    places_n = true_places(h_tf.numpy() >= _kth_largest(highest_tg, k)[:, None])
    indptr, indices_n = places_to_rows(places_n, tuple(h_tf.shape))
    if int(indptr.diff().min()) < k:  # only where there is NaN
        return h_tf.topk(k, dim=1)
    return top_of_rows(indptr, indices_n, h_tf.reshape(-1)[torch.from_numpy(places_n)], k)


def candidates(product: Product, bounded: Bounded, k: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `(indptr, indices_n, level_t)`: what is not a candidate has a bound below its token's level."""
    bits_tf = bounded.bits_tf
    floor_t = _floors(bits_tf, product, bounded, k)
    if floor_t.min(initial=0) < 0:
        # Bits of numbers below zero are in the opposite order.
        bits_tf = ascending(bits_tf)
        floor_t = _floors(bits_tf, product, bounded, k)
    indptr, indices_n = places_to_rows(true_places(bits_tf >= floor_t[:, None]), bits_tf.shape)
    return indptr, indices_n, above(from_bits(ascending(floor_t)))


def top_of_rows(indptr: Tensor, indices_n: Tensor, values_n: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k largest float32 values of each row, which has as many, and their indices, the lower first."""
    counts_t = indptr.diff().numpy()
    if not len(counts_t):
        return values_n.new_zeros(0, k), indices_n.new_zeros(0, k)
    # One number to sort by: from the largest value on, then by index.
    key_n = ~ascending(values_n.numpy().view(np.int32)).astype(np.int64) << 32 | indices_n.numpy()
    key_tc = np.full((len(counts_t), int(counts_t.max())), np.iinfo(np.int64).max)
    key_tc[np.arange(key_tc.shape[1]) < counts_t[:, None]] = key_n
    key_tc.sort(axis=1)
    key_tk = key_tc[:, :k]
    values_tk = ascending((~(key_tk >> 32)).astype(np.int32)).view(np.float32)
    return torch.from_numpy(values_tk), torch.from_numpy(key_tk & _INDEX)


def _floors(bits_tf: np.ndarray, product: Product, bounded: Bounded, k: int) -> np.ndarray:
    """Return, like the bits, what the k-th score reaches at least.

    It is what k bounds reach, less what bounds and scores can be apart; where that is so much that many more would have
    to be looked at, it is what 2 k + 16 bounds reach, which may turn out to be too high. Where bounds are not close k
    features are scored instead: those of the highest bounds of k groups.
    """
    grouped_tsg = _grouped(torch.from_numpy(bits_tf), k)
    if not bounded.format.is_close:
        return ascending(to_bits(_below(_lowest_of(product, grouped_tsg, k)), bits_tf))
    highest_tg = grouped_tsg.amax(1).numpy()
    kth_t, later_t = (
        from_bits(ascending(_kth_largest(highest_tg, min(n, highest_tg.shape[1])))) for n in (k, 2 * k + BESIDES)
    )
    return ascending(to_bits(torch.maximum(_below(kth_t - bounded.gap_t), later_t), bits_tf))


def _below(level_t: Tensor) -> Tensor:
    """Return what bounds of scores at a level reach, however they were rounded when they were stored."""
    return level_t - level_t.abs() * 2**-6


def _lowest_of(product: Product, bits_tsg: Tensor, k: int) -> Tensor:
    """Return the lowest of the scores of k features, each the one of the highest bound in its group."""
    highest_tg, place_tg = bits_tsg.max(1)
    n_groups = highest_tg.shape[1]
    group_tk = torch.from_numpy(np.argpartition(highest_tg.numpy(), n_groups - k, axis=1)[:, n_groups - k :])
    index_tk = (place_tg.gather(1, group_tk) * n_groups + group_tk).sort(1).values
    indptr = torch.arange(len(index_tk) + 1) * k
    h_n = (
        gather_dot(product.x_td, product.w_fd, indptr, index_tk.view(-1), steady=True) + product.b_f[index_tk.view(-1)]
    )
    return h_n.masked_fill_(h_n.isnan(), -torch.inf).view(-1, k).amin(1)


def _group_maxima(values_tf: Tensor, k: int) -> np.ndarray:
    """Return the maxima of groups of features."""
    return _grouped(values_tf, k).amax(1).numpy()


def _grouped(values_tf: Tensor, k: int) -> Tensor:
    """Return [T, S, G], groups of S features far apart, so that their maxima are those of whole rows of numbers."""
    n_tokens, n_features = values_tf.shape
    size = max(1, n_features // max(_GROUPS_EACH * k, _FEWEST_GROUPS))
    n_groups = n_features // size
    return values_tf[:, : n_groups * size].reshape(n_tokens, size, n_groups)


def _kth_largest(values_tg: np.ndarray, k: int) -> np.ndarray:
    n_groups = values_tg.shape[1]
    return np.partition(values_tg, n_groups - k, axis=1)[:, n_groups - k]
