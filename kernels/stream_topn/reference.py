"""The definition, keys that rank candidates, and what a state gives back."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Below every key.
EMPTY = -(1 << 63)
_LOW = 0xFFFFFFFF


class Kept(NamedTuple):
    """The best of each feature, best first; minus infinity at context and position -1 where there were fewer."""

    values_fn: Tensor
    contexts_fn: Tensor
    positions_fn: Tensor


def keys(value_e: Tensor, context_e: Tensor) -> Tensor:
    """Return int64 keys in the order of rank, best largest: float32 values first, then contexts below 2^32, falling."""
    bits_e = value_e.float().contiguous().view(torch.int32)
    ordered_e = bits_e ^ ((bits_e >> 31) & 0x7FFFFFFF)
    return (ordered_e.long() << 32) | (_LOW - context_e.long())


def unpacked(keys_fn: Tensor, positions_fn: Tensor) -> Kept:
    """Return values and contexts from keys."""
    ordered_fn = (keys_fn >> 32).int()
    values_fn = (ordered_fn ^ ((ordered_fn >> 31) & 0x7FFFFFFF)).view(torch.float32)
    there_fn = keys_fn > EMPTY
    return Kept(
        torch.where(there_fn, values_fn, -torch.inf),
        torch.where(there_fn, _LOW - (keys_fn & _LOW), -1),
        torch.where(there_fn, positions_fn, -1),
    )


def top_contexts(
    feature_e: Tensor, context_e: Tensor, position_e: Tensor, value_e: Tensor, n_features: int, size: int
) -> Kept:
    """Return the best of each feature by sorting all of its candidates."""
    keys_fn = torch.full((n_features, size), EMPTY)
    positions_fn = torch.full((n_features, size), -1)
    key_e = keys(value_e, context_e)
    for feature in range(n_features):
        own = ((feature_e == feature) & value_e.isfinite()).nonzero().squeeze(1)
        best = own[key_e[own].argsort(descending=True)][:size]
        keys_fn[feature, : len(best)], positions_fn[feature, : len(best)] = key_e[best], position_e[best].long()
    return unpacked(keys_fn, positions_fn)
