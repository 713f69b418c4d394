"""The features that fire most on token ids, BLOCK ids a row: the column `packed` of TokenFeature.

A record is: the width of features' indices, a byte; which ids of the block are there, a bit each; then varints: how
often the text has each, how many features are kept of it, and the firings of those; then their indices; then strengths
as float16. Suffixes: B blocks, V token ids, K kept.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inference.dashboards.token_features import TokenFeatures
from inference.packing import (
    Lists,
    Reader,
    half_rows,
    join_rows,
    record_rows,
    unsigned_rows,
    varint_rows,
    width_of,
)

BLOCK = 8


class OnToken(NamedTuple):
    """What is stored of a token id; lists are in order of strength."""

    occurrences: int
    feature_ids: list[int]
    counts: list[int]
    strengths: list[float]


def pack(index: TokenFeatures) -> tuple[np.ndarray, list[bytes]]:
    """Return the blocks that have token ids, ascending, and each packed; ids must ascend too."""
    token_v = index.token_ids_v.astype(np.int64)
    if (np.diff(token_v) <= 0).any():
        raise ValueError("token ids do not ascend")
    block_b, first = np.unique(token_v // BLOCK, return_index=True)
    n_b = np.diff(np.append(first, len(token_v)))
    row_v = np.repeat(np.arange(len(block_b)), n_b)
    kept_vk = index.feature_ids_vk >= 0
    kept_v = kept_vk.sum(axis=1)
    entries_b = np.bincount(row_v, weights=kept_v, minlength=len(block_b)).astype(np.int64)
    features = Lists(values_n=index.feature_ids_vk[kept_vk], lengths_r=entries_b)
    width = width_of(features.values_n)
    head_b = np.zeros((len(block_b), 2), dtype=np.uint8)
    head_b[:, 0] = width
    np.bitwise_or.at(head_b[:, 1], row_v, (1 << token_v % BLOCK).astype(np.uint8))
    return block_b, join_rows(
        record_rows(head_b),
        varint_rows(Lists(values_n=index.occurrences_v, lengths_r=n_b)),
        varint_rows(Lists(values_n=kept_v, lengths_r=n_b)),
        varint_rows(Lists(values_n=index.counts_vk[kept_vk], lengths_r=entries_b)),
        unsigned_rows(features, width),
        half_rows(Lists(values_n=index.strengths_vk[kept_vk], lengths_r=entries_b)),
    )


def unpack(data: bytes | memoryview, token_id: int) -> OnToken | None:
    """Return what a block says of a token id that lies in it; None where it is not there. Raises BadBytes."""
    reader = Reader(data)
    width, there = reader.byte(), reader.byte()
    place = token_id % BLOCK
    n = there.bit_count()
    occurrences, kept = reader.varints(n), reader.varints(n)
    counts = reader.varints(sum(kept))
    features = reader.unsigned(sum(kept), width)
    strengths = reader.halves(sum(kept))
    reader.end()
    if not there >> place & 1:
        return None
    row = (there & (1 << place) - 1).bit_count()
    own = slice(sum(kept[:row]), sum(kept[: row + 1]))
    return OnToken(occurrences[row], features[own], counts[own], strengths[own])
