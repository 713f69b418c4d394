"""Rows of the partitioned tables, made from the arrays of a pass.

Suffixes as in inference.dashboards.results: F features, K kept entries, X examples, C contexts, T tokens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from features.words import storable
from inference import packing
from inference.dashboards.results import ContextTable, DictionaryDashboard
from inference.dashboards.token_features import TokenFeatures

CHUNK = 4096
FOLD_RADIUS = 16
_OUTSIDE = np.uint64(1 << 40)
_FOLD_PRIME = np.uint64(0x100000001B3)

CONTEXT_COLUMNS = ("ordinal", "document", "line", "duplicate_of", "n_similar", "is_test", "text", "token_ids", "spans")

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
_ARRAYS = {
    "band_counts": "band_count_fb",
    "histogram": "log_histogram_fb",
    "logit_histogram": "logit_histogram_fb",
}
# Ids, with what is paired with them; padding is -1.
_PAIRED = (
    (
        ("peak_token_ids", "peak_token_ids_fk"),
        ("peak_token_counts", "peak_token_counts_fk"),
        ("peak_token_shares", "peak_token_shares_fk"),
    ),
    (("next_token_ids", "next_token_ids_fk"), ("next_token_counts", "next_token_counts_fk")),
    (("promoted_ids", "promoted_ids_fk"), ("promoted_values", "promoted_values_fk")),
    (("suppressed_ids", "suppressed_ids_fk"), ("suppressed_values", "suppressed_values_fk")),
    (("co_firing_ids", "co_firing_ids_fk"), ("co_firing_jaccards", "co_firing_jaccards_fk")),
    (
        ("decoder_neighbour_ids", "decoder_neighbour_ids_fk"),
        ("decoder_neighbour_cosines", "decoder_neighbour_cosines_fk"),
    ),
    (
        ("encoder_neighbour_ids", "encoder_neighbour_ids_fk"),
        ("encoder_neighbour_cosines", "encoder_neighbour_cosines_fk"),
    ),
)
FEATURE_COLUMNS = (
    "index",
    *_SCALARS,
    "logit_low",
    "logit_high",
    *_ARRAYS,
    *(column for group in _PAIRED for column, _ in group),
)
EXAMPLE_COLUMNS = (
    "index",
    "group",
    "rank",
    "context",
    "peak_position",
    "peak_value",
    "is_test",
    "fold",
    "positions",
    "values",
)


TOKEN_FEATURE_COLUMNS = ("token_id", "occurrences", "feature_ids", "counts", "strengths")


def context_rows(contexts: ContextTable, d_vocab: int) -> Iterator[tuple[Any, ...]]:
    """Yield CONTEXT_COLUMNS of every context."""
    for ordinal, text in enumerate(contexts.text):
        ids, starts, ends = contexts.tokens(ordinal)
        yield (
            ordinal,
            int(contexts.document_c[ordinal]),
            int(contexts.line_c[ordinal]),
            int(contexts.duplicate_of_c[ordinal]),
            int(contexts.n_similar_c[ordinal]),
            bool(contexts.split_c[ordinal]),
            storable(text),
            packing.pack_tokens(ids, d_vocab),
            packing.pack_spans(starts, ends),
        )


def feature_rows(dashboard: DictionaryDashboard) -> Iterator[tuple[Any, ...]]:
    """Yield FEATURE_COLUMNS of every feature, in order of index."""
    for first in range(0, dashboard.n_features, CHUNK):
        span = slice(first, min(first + CHUNK, dashboard.n_features))
        columns: list[Sequence[Any]] = [range(span.start, span.stop)]
        columns += [getattr(dashboard, name)[span].tolist() for name in _SCALARS.values()]
        columns += [dashboard.logit_edges_fe[span, 0].tolist(), dashboard.logit_edges_fe[span, -1].tolist()]
        columns += [getattr(dashboard, name)[span].tolist() for name in _ARRAYS.values()]
        for group in _PAIRED:
            kept_f = (getattr(dashboard, group[0][1])[span] >= 0).sum(axis=1).tolist()
            for _, name in group:
                lists = getattr(dashboard, name)[span].tolist()
                columns.append([entries[:kept] for entries, kept in zip(lists, kept_f, strict=True)])
        yield from zip(*columns, strict=True)


def token_feature_rows(index: TokenFeatures) -> Iterator[tuple[Any, ...]]:
    """Yield TOKEN_FEATURE_COLUMNS of every token id, ascending."""
    for first in range(0, len(index), CHUNK):
        span = slice(first, first + CHUNK)
        kept_v = (index.feature_ids_vk[span] >= 0).sum(axis=1).tolist()
        columns = (index.feature_ids_vk, index.counts_vk, index.strengths_vk)
        lists = ([row[:n] for row, n in zip(column[span].tolist(), kept_v, strict=True)] for column in columns)
        yield from zip(index.token_ids_v[span].tolist(), index.occurrences_v[span].tolist(), *lists, strict=True)


def example_rows(dashboard: DictionaryDashboard, contexts: ContextTable) -> Iterator[tuple[Any, ...]]:
    """Yield EXAMPLE_COLUMNS of every example, in order of feature, group and rank."""
    examples = dashboard.examples
    for first in range(0, len(examples), CHUNK):
        span = slice(first, min(first + CHUNK, len(examples)))
        bounds = examples.indptr_x[span.start : span.stop + 1].tolist()
        positions, values = packing.pack_segments(examples.positions_s, examples.values_s, bounds)
        yield from zip(
            examples.feature_x[span].tolist(),
            examples.group_x[span].tolist(),
            examples.rank_x[span].tolist(),
            examples.context_x[span].tolist(),
            examples.peak_position_x[span].tolist(),
            examples.peak_value_x[span].tolist(),
            examples.split_x[span].astype(bool).tolist(),
            folds(contexts, examples.context_x[span], examples.peak_position_x[span]).tolist(),
            positions,
            values,
            strict=True,
        )


def folds(contexts: ContextTable, context_x: np.ndarray, peak_position_x: np.ndarray) -> np.ndarray:
    """Return a hash of the tokens within FOLD_RADIUS of each peak, in their order: int64, equal for equal windows."""
    return folds_of(contexts.token_ids_t, contexts.indptr_c, context_x, peak_position_x)


def folds_of(
    token_ids_t: np.ndarray, indptr_c: np.ndarray, context_x: np.ndarray, peak_position_x: np.ndarray
) -> np.ndarray:
    """Return the same for contexts given by their token ids end to end."""
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
