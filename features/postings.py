"""Token -> features over all dictionaries: which features have a token among those they peak on, or promote.

Features are partitioned by dictionary, and Postgres plans a statement over all of them for every partition, which takes
longer than the answer. These rows are one table, found by token: a row holds the features of one dictionary for BLOCK
token ids, packed, so that a token of a thousand dictionaries is a thousand neighbours in one index.

A row is one byte for the width of its numbers, 2 or 4; the number of features of each token id of the block; their
indices, ascending by token and index; their values as 16-bit floats (of KIND_PEAK the share of the activation on the
token, of KIND_PROMOTED the centred logit effect); of KIND_PEAK, how many firings were on the token, 4 bytes each.
Suffixes: P postings (a feature of a token).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db import connection

from features.models import TokenPosting
from features.partitions import Partition, quoted
from inference import packing

KIND_PEAK, KIND_PROMOTED = 0, 1
BLOCK = 8
_COLUMNS = {
    KIND_PEAK: "peak_token_ids, peak_token_shares, peak_token_counts",
    KIND_PROMOTED: "promoted_ids, promoted_values, array_fill(0, ARRAY[cardinality(promoted_ids)])",
}
_RECORD = np.dtype([("token", ">i4"), ("index", ">i4"), ("value", ">f4"), ("count", ">i4")])
_HALF, _COUNT = np.dtype("<f2"), np.dtype("<u4")
_WIDTHS = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Postings:
    """Features of some token ids, in order of token and index; `counts_p` are zeros of promoted tokens."""

    token_p: np.ndarray
    index_p: np.ndarray
    value_p: np.ndarray
    count_p: np.ndarray

    def __len__(self) -> int:
        return len(self.index_p)


def replace(features: Partition) -> None:
    """Write the postings of a dictionary anew from the table that is about to become its features.

    Runs in the transaction that attaches the table: until its end readers see the old ones.
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM features_tokenposting WHERE dictionary_id = %s", [features.key])
        for kind in _COLUMNS:
            rows = list(_rows(kind, features.next_name))
            with cursor.copy("COPY features_tokenposting (kind, block, dictionary_id, packed) FROM STDIN") as copy:
                for block, packed in rows:
                    copy.write_row((kind, block, features.key, packed))


def remove(dictionary: int) -> None:
    """Remove the postings of a dictionary."""
    TokenPosting.objects.filter(dictionary_id=dictionary).delete()


def _rows(kind: int, table: str) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks of a table of features and what is packed in each."""
    sql = f"""
        SELECT t.id / {BLOCK}, string_agg(
            int4send(t.id) || int4send(f."index") || float4send(t.value) || int4send(t.count), ''::bytea
        )
        FROM {quoted(table)} f CROSS JOIN LATERAL unnest({_COLUMNS[kind]}) AS t(id, value, count)
        GROUP BY 1 ORDER BY 1
    """
    with connection.cursor() as cursor:
        cursor.execute(sql)
        for block, records in cursor:
            record_p = np.frombuffer(records, dtype=_RECORD)
            record_p = record_p[np.lexsort((record_p["index"], record_p["token"]))]
            postings = Postings(
                token_p=record_p["token"],
                index_p=record_p["index"],
                value_p=record_p["value"],
                count_p=record_p["count"],
            )
            yield block, pack(kind, block, postings)


def pack(kind: int, block: int, postings: Postings) -> bytes:
    """Pack the postings of a block, which are in order of token and index."""
    size_b = np.bincount(postings.token_p - block * BLOCK, minlength=BLOCK)
    width = 2 if max(size_b.max(), postings.index_p.max(initial=0)) < 1 << 16 else 4
    parts = [
        bytes([width]),
        size_b.astype(_WIDTHS[width]).tobytes(),
        postings.index_p.astype(_WIDTHS[width]).tobytes(),
        packing.to_half(postings.value_p.astype(np.float64)).astype(_HALF).tobytes(),
    ]
    if kind == KIND_PEAK:
        parts.append(postings.count_p.astype(_COUNT).tobytes())
    return b"".join(parts)


def unpack(kind: int, block: int, packed: bytes | memoryview, tokens: Collection[int]) -> Postings:
    """Return the postings of some tokens of a block; raise ValueError for bytes that are no block."""
    view = memoryview(packed)
    if not view or view[0] not in _WIDTHS:
        raise ValueError("a block of postings starts with the width of its numbers, 2 or 4")
    width = view[0]
    size_b = np.frombuffer(view, dtype=_WIDTHS[width], count=BLOCK, offset=1).astype(np.int64)
    n, at = int(size_b.sum()), 1 + width * BLOCK
    if len(view) != at + n * (width + 2 + (4 if kind == KIND_PEAK else 0)):
        raise ValueError(f"a block of {n} postings of kind {kind} has {len(view)} bytes")
    of_block = range(block * BLOCK, (block + 1) * BLOCK)
    wanted_p = np.repeat([token in tokens for token in of_block], size_b)
    index_p = np.frombuffer(view, dtype=_WIDTHS[width], count=n, offset=at)
    value_p = np.frombuffer(view, dtype=_HALF, count=n, offset=at + n * width)
    if kind == KIND_PEAK:
        count_p = np.frombuffer(view, dtype=_COUNT, count=n, offset=at + n * (width + 2))[wanted_p].astype(np.int64)
    else:
        count_p = np.zeros(int(wanted_p.sum()), dtype=np.int64)
    return Postings(
        token_p=np.repeat(of_block, size_b)[wanted_p],
        index_p=index_p[wanted_p].astype(np.int64),
        value_p=value_p[wanted_p].astype(np.float64),
        count_p=count_p,
    )


def read(kind: int, tokens: Mapping[int, Collection[int]]) -> Iterator[tuple[int, Postings]]:
    """Yield `(dictionary id, postings)` of `{dictionary id: token ids}`, one a block. One query, none for no token."""
    blocks = {token // BLOCK for wanted in tokens.values() for token in wanted}
    if not blocks:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT dictionary_id, block, packed FROM features_tokenposting"
            " WHERE kind = %s AND block = ANY(%s::int[]) AND dictionary_id = ANY(%s::int[])",
            [kind, _array(blocks), _array(key for key, wanted in tokens.items() if wanted)],
        )
        for dictionary, block, packed in cursor:
            postings = unpack(kind, block, packed, tokens[dictionary])
            if len(postings):
                yield dictionary, postings


def features_of(kind: int, dictionary: int, tokens: Collection[int]) -> dict[int, float]:
    """Return `{index: value}` of a dictionary's features with one of the tokens. At most one query.

    The value is the sum of the shares, or the largest effect.
    """
    values: dict[int, float] = {}
    for _, postings in read(kind, {dictionary: tokens}):
        for index, value in zip(postings.index_p.tolist(), postings.value_p.tolist(), strict=True):
            both = (
                min(1.0, values.get(index, 0.0) + value) if kind == KIND_PEAK else max(values.get(index, value), value)
            )
            values[index] = both
    return values


def _array(numbers: Any) -> str:
    return "{" + ",".join(map(str, sorted(numbers))) + "}"
