"""A feature's examples as one piece of bytes: the column `packed` of Example.

A record is: a byte of the width of positions and counts (1 or 2) and one of that of contexts; how many examples each
of the GROUPS has; then, of all examples in order of group and rank: their contexts, the position for which each was
chosen, how many activations are recorded, the rank of the best example of the same group
with an equal window of tokens (`leader`), and the positions of all that is recorded; then the value for which each
example was chosen, as float32, because it decides the band, and the recorded values as float16.

Suffixes: F features that have examples, X examples, S recorded activations end to end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inference.dashboards.results import BANDS, HARD_SILENT, RANDOM_SILENT, TOP, Examples
from inference.packing import (
    Lists,
    Reader,
    half_rows,
    join_rows,
    record_rows,
    single_rows,
    unsigned_rows,
    width_of,
)

GROUPS = (TOP, *BANDS, HARD_SILENT, RANDOM_SILENT)
# No example of a group has an equal window: there are no leaders to store.
_ALONE = 0x10
_WIDE = 2


class StoredExample(NamedTuple):
    """One example: `folded` is how many later ones of its group have an equal window, -1 of such a later one."""

    group: int
    rank: int
    context: int
    peak_position: int
    peak_value: float
    folded: int
    positions: list[int]
    values: list[float]


def pack(examples: Examples, window_x: np.ndarray) -> tuple[np.ndarray, list[bytes]]:
    """Return the features that have examples, and those of each packed.

    Examples lie in order of feature, group and rank; `window_x` is equal where windows of tokens are. Raises
    ValueError for another order, an unknown group, contexts of 65,536 tokens or more, and so many examples of a group.
    """
    n = len(examples)
    feature_x, group_x = examples.feature_x, examples.group_x.astype(np.int64)
    if n and int(group_x.max()) >= len(GROUPS):
        raise ValueError(f"there is no group {group_x.max()} of examples")
    starts = np.flatnonzero(np.diff(feature_x, prepend=-1)) if n else np.zeros(0, np.int64)
    n_features = len(starts)
    row_x = np.repeat(np.arange(n_features), np.diff(np.append(starts, n)))
    size_fg = np.bincount(row_x * len(GROUPS) + group_x, minlength=n_features * len(GROUPS))
    own_x = np.arange(n) - np.concatenate([[0], np.cumsum(size_fg)])[row_x * len(GROUPS) + group_x]
    if not np.array_equal(own_x, examples.rank_x) or (np.diff(row_x * len(GROUPS) + group_x) < 0).any():
        raise ValueError("examples are not in order of feature, group and rank")
    length_x = np.diff(examples.indptr_x)
    position_s = examples.positions_s[examples.indptr_x[0] : examples.indptr_x[-1]]
    value_s = examples.values_s[examples.indptr_x[0] : examples.indptr_x[-1]]
    leader_x = _leaders(row_x * len(GROUPS) + group_x, window_x)
    largest = (size_fg, length_x, position_s, examples.peak_position_x)
    width = max(map(width_of, largest))
    if width > _WIDE:
        raise ValueError("contexts of 65,536 tokens or more, or so many examples of a group, cannot be stored")
    context_width = width_of(examples.context_x)
    is_alone_f = np.ones(n_features, dtype=bool)
    is_alone_f[row_x[leader_x != own_x]] = False
    head_f = np.zeros((n_features, 2), dtype=np.uint8)
    head_f[:, 0] = width
    head_f[:, 1] = context_width + np.where(is_alone_f, _ALONE, 0)
    count_f = np.bincount(row_x, minlength=n_features)
    activations_f = np.bincount(row_x, weights=length_x, minlength=n_features).astype(np.int64)
    shown = ~is_alone_f[row_x]
    packed = join_rows(
        record_rows(head_f),
        unsigned_rows(Lists(values_n=size_fg, lengths_r=np.full(n_features, len(GROUPS))), width),
        unsigned_rows(Lists(values_n=examples.context_x, lengths_r=count_f), context_width),
        unsigned_rows(Lists(values_n=examples.peak_position_x, lengths_r=count_f), width),
        unsigned_rows(Lists(values_n=length_x, lengths_r=count_f), width),
        unsigned_rows(Lists(values_n=leader_x[shown], lengths_r=np.where(is_alone_f, 0, count_f)), width),
        unsigned_rows(Lists(values_n=position_s, lengths_r=activations_f), width),
        single_rows(Lists(values_n=examples.peak_value_x, lengths_r=count_f)),
        half_rows(Lists(values_n=value_s, lengths_r=activations_f)),
    )
    return feature_x[starts], packed


def unpack(data: bytes | memoryview) -> list[StoredExample]:
    """Return a feature's examples in order of group and rank; raise BadBytes."""
    reader = Reader(data)
    width, flags = reader.byte(), reader.byte()
    sizes = reader.unsigned(len(GROUPS), width)
    n = sum(sizes)
    contexts = reader.unsigned(n, flags & ~_ALONE)
    peaks = reader.unsigned(n, width)
    lengths = reader.unsigned(n, width)
    ranks = [rank for size in sizes for rank in range(size)]
    leaders = ranks if flags & _ALONE else reader.unsigned(n, width)
    positions = reader.unsigned(sum(lengths), width)
    peak_values = reader.singles(n)
    values = reader.halves(sum(lengths))
    reader.end()
    found, end, row = [], 0, 0
    for group, size in zip(GROUPS, sizes, strict=True):
        of_group = leaders[row : row + size]
        for rank, leader in enumerate(of_group):
            start, end = end, end + lengths[row]
            folded = of_group.count(rank) - 1 if leader == rank else -1
            found.append(
                StoredExample(
                    group, rank, contexts[row], peaks[row], peak_values[row], folded, positions[start:end],
                    values[start:end],
                )
            )  # fmt: skip
            row += 1
    return found


def top_places(data: bytes | memoryview) -> tuple[list[int], list[int]]:
    """Return the contexts of the top examples and the positions for which they were chosen, by rank; raise BadBytes."""
    reader = Reader(data)
    width, flags = reader.byte(), reader.byte()
    sizes = reader.unsigned(len(GROUPS), width)
    top, others = sizes[TOP], sum(sizes) - sizes[TOP]
    contexts = reader.unsigned(top, flags & ~_ALONE)
    reader.skip(others * (flags & ~_ALONE))
    return contexts, reader.unsigned(top, width)


def _leaders(group_x: np.ndarray, window_x: np.ndarray) -> np.ndarray:
    """Return for each example the rank of the first of its group, which lie together, with an equal window."""
    n = len(group_x)
    if not n:
        return np.zeros(0, dtype=np.int64)
    order = np.lexsort((np.arange(n), window_x, group_x))
    is_first = np.ones(n, dtype=bool)
    is_first[1:] = (np.diff(group_x[order]) != 0) | (window_x[order][1:] != window_x[order][:-1])
    firsts = np.flatnonzero(is_first)
    leader_x = np.empty(n, dtype=np.int64)
    leader_x[order] = order[np.repeat(firsts, np.diff(np.append(firsts, n)))]
    starts = np.flatnonzero(np.diff(group_x, prepend=-1))
    return leader_x - np.repeat(starts, np.diff(np.append(starts, n)))
