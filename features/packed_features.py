"""What is known of a feature as one piece of bytes: the column `packed` of Feature.

What SQL filters or sorts by has columns of its own (features.models). A record is: the width of token ids and of
features' indices, a byte each; sums of powers as float64 and moments of logit effects as float32; how much there is of
everything as varints; what lists and postings read, the tokens it peaks on and promotes; then other counts as varints,
ids, and values as float16. Suffixes: F features.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

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

SUMS = ("total", "total_2", "total_3", "total_4")
LOGITS = ("logit_low", "logit_high", "logit_deviation", "logit_skewness", "logit_kurtosis")
COUNTS = ("context_count", "n_tokens_seen")


class Tokens(NamedTuple):
    """The tokens that a feature peaks on, and those that it promotes, with what is paired with them."""

    peak_token_ids: list[int]
    peak_token_counts: list[int]
    peak_token_shares: list[float]
    promoted_ids: list[int]
    promoted_values: list[float]


# Lists of ids with what is paired with them.
_FIRST = (
    ("peak_token_ids", "peak_token_counts"),
    ("peak_token_ids", "peak_token_shares"),
    ("promoted_ids", "promoted_values"),
)
_TOKENS = (("next_token_ids", "next_token_counts"), ("suppressed_ids", "suppressed_values"))
_FEATURES = (
    ("co_firing_ids", "co_firing_jaccards"),
    ("decoder_neighbour_ids", "decoder_neighbour_cosines"),
    ("encoder_neighbour_ids", "encoder_neighbour_cosines"),
)
PACKED = (
    *SUMS,
    *COUNTS,
    *LOGITS,
    "band_counts",
    "histogram",
    "logit_histogram",
    *Tokens._fields,
    *(name for pair in (*_TOKENS, *_FEATURES) for name in pair),
)
_NUMBERS = 14
_HEAD = struct.Struct("<2B4d5f")
_HEAD_DTYPE = np.dtype([("widths", "u1", 2), ("sums", "<f8", 4), ("logits", "<f4", 5)])
Columns = Mapping[str, "np.ndarray | Lists"]


def pack(columns: Columns) -> list[bytes]:
    """Pack the columns of PACKED of many features: arrays, and Lists where a feature has several.

    `firing_count` is asked for too. Raises ValueError where paired lists differ in length or a count is below 0.
    """
    for ids, values in (*_FIRST, *_TOKENS, *_FEATURES):
        if not np.array_equal(columns[ids].lengths_r, columns[values].lengths_r):
            raise ValueError(f"{ids} and {values} are not in pairs")
    token_width = width_of(np.concatenate([columns[ids].values_n for ids, _ in (*_FIRST, *_TOKENS)]))
    index_width = width_of(np.concatenate([columns[ids].values_n for ids, _ in _FEATURES]))
    n = len(columns["total"])
    head_f = np.zeros(n, dtype=_HEAD_DTYPE)
    head_f["widths"] = token_width, index_width
    head_f["sums"] = np.stack([columns[name] for name in SUMS], axis=1)
    head_f["logits"] = np.stack([columns[name] for name in LOGITS], axis=1)
    bins_f, first_f, filled = _trimmed(columns["histogram"])
    logits, bands, following = columns["logit_histogram"], columns["band_counts"], columns["next_token_counts"]
    numbers_fk = np.stack(
        [
            columns["peak_token_ids"].lengths_r,
            columns["promoted_ids"].lengths_r,
            *(columns[name] for name in COUNTS),
            bands.lengths_r,
            bins_f,
            first_f,
            filled.lengths_r,
            logits.lengths_r,
            *(columns[ids].lengths_r for ids, _ in (*_TOKENS, *_FEATURES)),
        ],
        axis=1,
    ).astype(np.int64)
    count_n = np.repeat(np.maximum(columns["firing_count"], 1), bands.lengths_r)
    shares = Lists(values_n=bands.values_n / count_n, lengths_r=bands.lengths_r)
    return join_rows(
        record_rows(head_f),
        varint_rows(Lists(values_n=numbers_fk.reshape(-1), lengths_r=np.full(n, numbers_fk.shape[1]))),
        unsigned_rows(columns["peak_token_ids"], token_width),
        varint_rows(columns["peak_token_counts"]),
        half_rows(columns["peak_token_shares"]),
        unsigned_rows(columns["promoted_ids"], token_width),
        half_rows(columns["promoted_values"]),
        varint_rows(filled),
        varint_rows(logits),
        varint_rows(following),
        *(unsigned_rows(columns[ids], token_width) for ids, _ in _TOKENS),
        *(unsigned_rows(columns[ids], index_width) for ids, _ in _FEATURES),
        half_rows(shares),
        half_rows(columns["suppressed_values"]),
        *(half_rows(columns[values]) for _, values in _FEATURES),
    )


def unpack(data: bytes | memoryview, firing_count: int) -> dict[str, Any]:
    """Return the columns of PACKED of one feature; raise BadBytes.

    Values and shares come back as 16-bit floats keep them: to 11 bits.
    """
    reader = Reader(data)
    token_width, index_width, *floats = reader.record(_HEAD)
    n_peak, n_high, contexts, seen, n_bands, n_bins, first, *sizes = reader.varints(_NUMBERS)
    n_filled, n_logits, n_next, n_low, *others = sizes
    tokens = _tokens(reader, n_peak, n_high, token_width)
    histogram = [0] * n_bins
    histogram[first : first + n_filled] = reader.varints(n_filled)
    found: dict[str, Any] = dict(zip((*SUMS, *LOGITS), floats, strict=True))
    found |= tokens._asdict() | {"context_count": contexts, "n_tokens_seen": seen, "histogram": histogram}
    found["logit_histogram"] = reader.varints(n_logits)
    found["next_token_counts"] = reader.varints(n_next)
    found["next_token_ids"] = reader.unsigned(n_next, token_width)
    found["suppressed_ids"] = reader.unsigned(n_low, token_width)
    for (ids, _), size in zip(_FEATURES, others, strict=True):
        found[ids] = reader.unsigned(size, index_width)
    found["band_counts"] = [share * firing_count for share in reader.halves(n_bands)]
    found["suppressed_values"] = reader.halves(n_low)
    for (_, values), size in zip(_FEATURES, others, strict=True):
        found[values] = reader.halves(size)
    reader.end()
    return found


def tokens_of(data: bytes | memoryview) -> Tokens:
    """Return of what `unpack` does the tokens alone, in a quarter of the time; raise BadBytes."""
    reader = Reader(data)
    width, *_ = reader.record(_HEAD)
    n_peak, n_high, *_ = reader.varints(_NUMBERS)
    return _tokens(reader, n_peak, n_high, width)


def _tokens(reader: Reader, n_peak: int, n_high: int, width: int) -> Tokens:
    return Tokens(
        reader.unsigned(n_peak, width),
        reader.varints(n_peak),
        reader.halves(n_peak),
        reader.unsigned(n_high, width),
        reader.halves(n_high),
    )


def _trimmed(histogram: Lists) -> tuple[np.ndarray, np.ndarray, Lists]:
    """Return the bins of each histogram, the first that is not empty, and the counts from there to the last such."""
    bounds = histogram.bounds
    n = len(histogram)
    row_n = np.repeat(np.arange(n), histogram.lengths_r)
    place_n = np.arange(len(row_n)) - bounds[row_n]
    is_filled = histogram.values_n != 0
    first_f, last_f = np.full(n, np.iinfo(np.int64).max), np.full(n, -1)
    np.minimum.at(first_f, row_n[is_filled], place_n[is_filled])
    np.maximum.at(last_f, row_n[is_filled], place_n[is_filled])
    first_f[last_f < 0] = 0
    kept = (place_n >= first_f[row_n]) & (place_n <= last_f[row_n])
    return (
        histogram.lengths_r,
        first_f,
        Lists(values_n=histogram.values_n[kept], lengths_r=last_f + 1 - first_f),
    )
