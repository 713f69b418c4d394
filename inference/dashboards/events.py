"""Sparse activations of a stretch of text, turned from token order into feature order.

`Firings` and what they add up to are computed where the activations are, and then taken to the host, where examples are
chosen: `Events` and `Runs` are NumPy's.

Suffixes: E events (one feature at one token), R runs (one feature in one context), F features, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.event_stats import by_feature


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Activations above zero, sorted by feature, then token; `token_e` counts over the tokens of a shard."""

    n_features: int
    feature_e: np.ndarray  # int32
    token_e: np.ndarray  # int64
    value_e: np.ndarray  # float32

    def __len__(self) -> int:
        return len(self.value_e)


@dataclass(frozen=True, slots=True, kw_only=True)
class Firings:
    """The same as tensors, wherever the activations are; feature f's are `indptr_f[f]:indptr_f[f + 1]`."""

    indptr_f: Tensor
    feature_e: Tensor  # int32
    token_e: Tensor  # int64
    value_e: Tensor  # float32

    @classmethod
    def from_tokens(
        cls, feature_e: Tensor, value_e: Tensor, firing_t: Tensor, token_t: Tensor, n_features: int
    ) -> Firings:
        """Sort events given in token order, `firing_t` of them at each of the tokens `token_t`."""
        order_e, indptr_f = by_feature(feature_e, n_features)
        token_e = token_t.repeat_interleave(firing_t, output_size=len(feature_e))
        return cls(
            indptr_f=indptr_f, feature_e=feature_e[order_e].int(), token_e=token_e[order_e], value_e=value_e[order_e]
        )

    def on_host(self) -> Events:
        """Return the events as NumPy has them."""
        columns = {name: getattr(self, name).cpu().numpy() for name in ("feature_e", "token_e", "value_e")}
        return Events(n_features=len(self.indptr_f) - 1, **columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All events of one feature in one context, sorted by feature and context; the peak is the first highest."""

    feature_r: np.ndarray  # int32
    context_r: np.ndarray  # int32
    peak_token_r: np.ndarray  # int64
    peak_value_r: np.ndarray  # float32
    indptr_r: np.ndarray  # int64, into the events

    @classmethod
    def of(cls, firings: Firings, context_e: Tensor) -> Runs:
        """Group events by feature and context, where they are."""
        n, feature_e, value_e = len(context_e), firings.feature_e, firings.value_e
        if not n:
            starts, peak_r, peak_e = context_e.long(), value_e, context_e.long()
        else:
            changes = (feature_e[1:] != feature_e[:-1]) | (context_e[1:] != context_e[:-1])
            starts = torch.cat([changes.new_zeros(1).long(), changes.nonzero().squeeze(1) + 1])
            peak_r = torch.segment_reduce(value_e, "max", lengths=starts.diff(append=starts.new_tensor([n])))
            highest = (value_e == peak_r.repeat_interleave(starts.diff(append=starts.new_tensor([n])))).nonzero()
            highest = highest.squeeze(1)
            # The first of them at or after each start.
            peak_e = highest[torch.searchsorted(highest, starts)]
        columns = {
            "feature_r": feature_e[starts],
            "context_r": context_e[starts].int(),
            "peak_token_r": firings.token_e[peak_e],
            "peak_value_r": peak_r,
            "indptr_r": torch.cat([starts, starts.new_tensor([n])]),
        }
        return cls(**{name: column.cpu().numpy() for name, column in columns.items()})

    def __len__(self) -> int:
        return len(self.feature_r)


def gather_ranges(starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
    """Return the numbers of all ranges [start, stop) end to end."""
    lengths = stops - starts
    offsets = np.cumsum(lengths) - lengths
    return np.arange(int(lengths.sum())) + np.repeat(starts - offsets, lengths)


def sum_by_code(code_e: np.ndarray, value_e: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `(codes, sums, counts)` over the distinct codes, ascending; codes are below `limit`."""
    if limit <= 16 * len(code_e):
        counts = np.bincount(code_e, minlength=limit)
        sums = np.bincount(code_e, weights=value_e, minlength=limit)
        codes = np.flatnonzero(counts)
        return codes, sums[codes], counts[codes]
    if not len(code_e):
        return code_e, np.zeros(0), np.zeros(0, dtype=np.int64)
    # So few that sorting them costs less than a table of all codes.
    order = np.argsort(code_e, kind="stable")
    ordered = code_e[order]
    starts = np.concatenate([[0], np.flatnonzero(ordered[1:] != ordered[:-1]) + 1])
    lengths = np.diff(starts, append=len(ordered))
    return ordered[starts], np.add.reduceat(value_e[order].astype(np.float64), starts), lengths
