"""Sparse activations of a stretch of text, turned from token order into feature order.

Suffixes: E events (one feature at one token), R runs (one feature in one context), F features, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def stable_order(numbers: np.ndarray, limit: int) -> np.ndarray:
    """Return the stable sorting order of integers below `limit`: by radix, 16 bits at a time, which is linear."""
    order = np.argsort((numbers & 0xFFFF).astype(np.uint16), kind="stable")
    if limit > 1 << 16:
        order = order[np.argsort((numbers[order] >> 16).astype(np.uint16), kind="stable")]
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Activations above zero, sorted by feature, then token; `token_e` counts over the whole corpus, BOS included."""

    n_features: int
    feature_e: np.ndarray  # int32
    token_e: np.ndarray  # int64
    value_e: np.ndarray  # float32

    @classmethod
    def from_tokens(
        cls, feature_e: np.ndarray, value_e: np.ndarray, firing_t: np.ndarray, token_t: np.ndarray, n_features: int
    ) -> Events:
        """Sort events given in token order, `firing_t` of them at each of the tokens `token_t`."""
        order = stable_order(feature_e, n_features)
        token_e = np.repeat(token_t, firing_t)
        return cls(
            n_features=n_features,
            feature_e=feature_e[order].astype(np.int32),
            token_e=token_e[order],
            value_e=value_e[order],
        )

    def __len__(self) -> int:
        return len(self.value_e)

    @property
    def count_f(self) -> np.ndarray:
        return np.bincount(self.feature_e, minlength=self.n_features)


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All events of one feature in one context, sorted by feature and context; the peak is the first highest."""

    feature_r: np.ndarray  # int32
    context_r: np.ndarray  # int32
    peak_token_r: np.ndarray  # int64
    peak_value_r: np.ndarray  # float32
    indptr_r: np.ndarray  # int64, into the events

    @classmethod
    def of(cls, events: Events, context_e: np.ndarray) -> Runs:
        """Group events by feature and context."""
        n = len(events)
        if not n:
            none = np.zeros(0, dtype=np.int32)
            return cls(
                feature_r=none,
                context_r=none,
                peak_token_r=none.astype(np.int64),
                peak_value_r=none.astype(np.float32),
                indptr_r=np.zeros(1, dtype=np.int64),
            )
        changes = (events.feature_e[1:] != events.feature_e[:-1]) | (context_e[1:] != context_e[:-1])
        starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
        indptr = np.append(starts, n)
        peak_r = np.maximum.reduceat(events.value_e, starts)
        run_e = np.repeat(np.arange(len(starts)), np.diff(indptr))
        highest = np.flatnonzero(events.value_e == peak_r[run_e])
        run_of_highest = run_e[highest]
        first = np.concatenate([[True], run_of_highest[1:] != run_of_highest[:-1]])
        return cls(
            feature_r=events.feature_e[starts],
            context_r=context_e[starts].astype(np.int32),
            peak_token_r=events.token_e[highest[first]],
            peak_value_r=peak_r,
            indptr_r=indptr,
        )

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
