"""Columns of the partitioned tables, made from the arrays of a pass or an import, a chunk of rows at a time.

A chunk is what `partitions.fill` writes: the encoded columns after the key, in the order of the names here. Suffixes as
in inference.dashboards.results: F features, K kept entries, X examples, C contexts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from features import binary_copy, packed_examples, packed_features, packed_tokens
from features.words import storable
from inference import packing
from inference.dashboards.results import ContextTable, DictionaryDashboard, Examples
from inference.dashboards.token_features import TokenFeatures
from inference.packing import Lists

CHUNK = 4096
FOLD_RADIUS = 16
_OUTSIDE = np.uint64(1 << 40)
_FOLD_PRIME = np.uint64(0x100000001B3)
Chunk = Sequence[binary_copy.Column]
# The arrays of Examples that have an entry for each.
OF_EXAMPLES = ("feature_x", "group_x", "rank_x", "context_x", "peak_position_x", "peak_value_x", "split_x")

CONTEXT_COLUMNS = ("ordinal", "document", "line", "duplicate_of", "n_similar", "is_test", "text", "token_ids", "spans")
EXAMPLE_COLUMNS = ("index", "packed")
TOKEN_FEATURE_COLUMNS = ("block", "packed")

# Column of a feature: array of the dashboard, by feature.
_SCALARS = {
    "firing_count": "firing_count_f",
    "total": "total_f",
    "total_2": "total_sq_f",
    "total_3": "total_cube_f",
    "total_4": "total_fourth_f",
    "context_count": "context_count_f",
    "maximum": "maximum_f",
    "token_entropy": "token_entropy_f",
    "n_tokens_seen": "n_tokens_seen_f",
    "logit_deviation": "logit_deviation_f",
    "logit_skewness": "logit_skewness_f",
    "logit_kurtosis": "logit_kurtosis_f",
}
_BINS = {
    "band_counts": "band_count_fb",
    "histogram": "log_histogram_fb",
    "logit_histogram": "logit_histogram_fb",
}
# Ids, with what is paired with them; padding is -1.
_PAIRED = (
    ("peak_token_ids", "peak_token_counts", "peak_token_shares"),
    ("next_token_ids", "next_token_counts"),
    ("promoted_ids", "promoted_values"),
    ("suppressed_ids", "suppressed_values"),
    ("co_firing_ids", "co_firing_jaccards"),
    ("decoder_neighbour_ids", "decoder_neighbour_cosines"),
    ("encoder_neighbour_ids", "encoder_neighbour_cosines"),
)
# What is known of a feature, for whoever reads or writes all of it; stored are STORED_FEATURE_COLUMNS.
FEATURE_COLUMNS = (
    "index",
    *_SCALARS,
    "logit_low",
    "logit_high",
    *_BINS,
    *(column for group in _PAIRED for column in group),
)
# Columns that hold a list of each feature, with the kind of number.
LISTS = {
    name: np.float64 if name.endswith(("shares", "values", "jaccards", "cosines", "band_counts")) else np.int64
    for name in (*_BINS, *(column for group in _PAIRED for column in group))
}
_STORED = {
    "firing_count": binary_copy.INT8,
    "index": binary_copy.INT4,
    "maximum": binary_copy.FLOAT4,
    "token_entropy": binary_copy.FLOAT4,
}
STORED_FEATURE_COLUMNS = (*_STORED, "packed")


def context_chunk(
    *,
    ordinal: Sequence[int] | np.ndarray,
    document: Sequence[int] | np.ndarray,
    line: Sequence[int] | np.ndarray,
    duplicate_of: Sequence[int] | np.ndarray,
    n_similar: Sequence[int] | np.ndarray,
    is_test: Sequence[bool] | np.ndarray,
    text: Sequence[str],
    token_ids: Sequence[bytes],
    spans: Sequence[bytes],
) -> Chunk:
    """Return CONTEXT_COLUMNS of some contexts; ids and spans are packed, and texts storable."""
    whole = (ordinal, document, line, duplicate_of, n_similar)
    return [
        *(binary_copy.numbers(np.asarray(column), binary_copy.INT4) for column in whole),
        binary_copy.numbers(np.asarray(is_test, dtype=bool), binary_copy.BOOL),
        binary_copy.pieces([part.encode() for part in text]),
        binary_copy.pieces(token_ids),
        binary_copy.pieces(spans),
    ]


def context_rows(contexts: ContextTable, d_vocab: int) -> Iterator[Chunk]:
    """Yield the contexts of a pass."""
    for first in range(0, len(contexts), CHUNK):
        span = range(first, min(first + CHUNK, len(contexts)))
        own = slice(span.start, span.stop)
        tokens = [contexts.tokens(ordinal) for ordinal in span]
        yield context_chunk(
            ordinal=np.arange(span.start, span.stop),
            document=contexts.document_c[own],
            line=contexts.line_c[own],
            duplicate_of=contexts.duplicate_of_c[own],
            n_similar=contexts.n_similar_c[own],
            is_test=contexts.split_c[own],
            text=[storable(contexts.text[ordinal]) for ordinal in span],
            token_ids=[packing.pack_tokens(ids, d_vocab) for ids, _, _ in tokens],
            spans=[packing.pack_spans(starts, ends) for _, starts, ends in tokens],
        )


def feature_chunk(index_f: np.ndarray, columns: packed_features.Columns) -> Chunk:
    """Return STORED_FEATURE_COLUMNS of some features, given as FEATURE_COLUMNS: arrays, and Lists of what is many.

    A column that is not there is zero or empty. Raises ValueError for lists of a pair that differ in length.
    """
    n = len(index_f)
    known: dict[str, Any] = {name: np.zeros(n) for name in FEATURE_COLUMNS if name not in LISTS}
    known |= {name: Lists.empty(n, kind) for name, kind in LISTS.items()} | dict(columns) | {"index": index_f}
    stored = [binary_copy.numbers(known[name], kind) for name, kind in _STORED.items()]
    return [*stored, binary_copy.pieces(packed_features.pack(known))]


def feature_rows(dashboard: DictionaryDashboard) -> Iterator[Chunk]:
    """Yield the features of a pass, in order of index."""
    for first in range(0, dashboard.n_features, CHUNK):
        span = slice(first, min(first + CHUNK, dashboard.n_features))
        columns: dict[str, Any] = {column: getattr(dashboard, name)[span] for column, name in _SCALARS.items()}
        columns |= {"logit_low": dashboard.logit_edges_fe[span, 0], "logit_high": dashboard.logit_edges_fe[span, -1]}
        for column, name in _BINS.items():
            bins_fb = getattr(dashboard, name)[span]
            columns[column] = Lists(
                values_n=bins_fb.reshape(-1), lengths_r=np.full(len(bins_fb), bins_fb.shape[1], np.int64)
            )
        for group in _PAIRED:
            kept_fk = getattr(dashboard, f"{group[0]}_fk")[span] >= 0
            columns |= {name: Lists.padded(getattr(dashboard, f"{name}_fk")[span], kept_fk) for name in group}
        yield feature_chunk(np.arange(span.start, span.stop), columns)


def token_feature_rows(index: TokenFeatures) -> Iterator[Chunk]:
    """Yield what fires on every token id, in blocks of ids, ascending."""
    block_b, packed = packed_tokens.pack(index)
    yield [binary_copy.numbers(block_b, binary_copy.INT4), binary_copy.pieces(packed)]


def example_rows(examples: Examples, token_ids_t: np.ndarray, indptr_c: np.ndarray) -> Iterator[Chunk]:
    """Yield the examples of a pass or an import, a row for each feature that has some, in order of index.

    `token_ids_t` and `indptr_c` are the tokens of all contexts, as in ContextTable.
    """
    feature_x = examples.feature_x
    start = 0
    while start < len(examples):
        # Whole features: the last one that begins in this chunk is in it.
        stop = int(np.searchsorted(feature_x, feature_x[min(start + CHUNK, len(examples)) - 1], side="right"))
        own = slice(start, stop)
        part = replace(
            examples,
            **{name: getattr(examples, name)[own] for name in OF_EXAMPLES},
            indptr_x=examples.indptr_x[start : stop + 1],
        )
        window_x = folds_of(token_ids_t, indptr_c, part.context_x, part.peak_position_x)
        index_f, packed = packed_examples.pack(part, window_x)
        yield [binary_copy.numbers(index_f, binary_copy.INT4), binary_copy.pieces(packed)]
        start = stop


def folds_of(
    token_ids_t: np.ndarray, indptr_c: np.ndarray, context_x: np.ndarray, peak_position_x: np.ndarray
) -> np.ndarray:
    """Return a hash of the tokens within FOLD_RADIUS of each peak, in their order: int64, equal for equal windows."""
    start_x = indptr_c[context_x]
    stop_x = indptr_c[context_x + 1]
    peak_x = start_x + peak_position_x.astype(np.int64)
    last = max(0, len(token_ids_t) - 1)
    hash_x = np.zeros(len(context_x), dtype=np.uint64)
    for offset in range(-FOLD_RADIUS, FOLD_RADIUS + 1):
        place_x = peak_x + offset
        inside_x = (place_x >= start_x) & (place_x < stop_x)
        id_x = token_ids_t[np.clip(place_x, 0, last)].astype(np.uint64)
        # FNV-1a's step, with a number that is no token outside the context.
        hash_x = (hash_x ^ np.where(inside_x, id_x + np.uint64(1), _OUTSIDE)) * _FOLD_PRIME
        hash_x ^= hash_x >> np.uint64(29)
    return hash_x.view(np.int64)
