"""Postings: which features have a token among those they peak on or promote, or a context among their top ones.

Features are partitioned by dictionary, and Postgres plans a statement over all of them for every partition, which takes
longer than the answer. These rows are one table, found by token or context: a row holds the features of one dictionary
for a block of keys, packed, so that a key of a thousand dictionaries is a thousand neighbours in one index.

A row is one byte for the width of its numbers, 2 or 4; the number of features of each key of the block; and a record
for each feature, ascending by key and index: its index, then the fields of the kind. Suffixes: P postings (a feature of
a key), R rows, B keys of a block.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import NamedTuple

import numpy as np
from django.db import connection

from features import packed_examples, packed_features
from features.models import Posting
from features.partitions import examples_of, features_of, quoted
from inference import packing

CHUNK = 4096
_WIDTHS = {2: np.dtype("<u2"), 4: np.dtype("<u4")}
WIDEST_RANK = 255


@dataclass(frozen=True, slots=True)
class Kind:
    """What is posted: keys lie in blocks of `block`; `fields` follow the index in a record."""

    number: int
    block: int
    fields: tuple[tuple[str, str], ...]

    @property
    def dtype(self) -> np.dtype:
        """What postings of the kind are: address, key and fields."""
        address = [("dictionary", np.int32), ("key", np.int32), ("index", np.int32)]
        return np.dtype([*address, *self.fields])

    def record(self, width: int) -> np.dtype:
        """What is stored of a posting, where numbers take some bytes."""
        return np.dtype([("index", _WIDTHS[width]), *self.fields])


# A token that a feature peaks on: the share of the activation that is on it, and how many firings are.
PEAK = Kind(0, 8, (("share", "<f2"), ("count", "<u4")))
# A token that it promotes: the centred logit effect.
PROMOTED = Kind(1, 8, (("effect", "<f2"),))
# A context among its top ones (ordinal in the tokenization): its place there, and the position of the peak in it.
CONTEXT = Kind(2, 32, (("rank", "u1"), ("position", "<u2")))
KINDS = (PEAK, PROMOTED, CONTEXT)


class Row(NamedTuple):
    """A stored row."""

    dictionary: int
    block: int
    packed: bytes


def replace(dictionary: int) -> None:
    """Write the postings of a dictionary anew from the tables that are about to become its features and examples.

    Runs in the transaction that attaches the tables: until its end readers see the old ones.
    """
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM features_posting WHERE dictionary_id = %s", [dictionary])
        for kind in KINDS:
            rows = list(pack(kind, _of_tables(kind, dictionary)))
            with cursor.copy("COPY features_posting (kind, block, dictionary_id, packed) FROM STDIN") as copy:
                for block, packed in rows:
                    copy.write_row((kind.number, block, dictionary, packed))


def remove(dictionary: int) -> None:
    """Remove the postings of a dictionary."""
    Posting.objects.filter(dictionary_id=dictionary).delete()


def _of_tables(kind: Kind, dictionary: int) -> np.ndarray:
    """Return the postings of the tables that are about to become a dictionary's."""
    features, examples = quoted(features_of(dictionary).next_name), quoted(examples_of(dictionary).next_name)
    parts = [np.zeros(0, dtype=kind.dtype)]
    with connection.chunked_cursor() as cursor:
        cursor.execute(f'SELECT "index", packed FROM {examples if kind is CONTEXT else features}')
        while rows := cursor.fetchmany(CHUNK):
            index, packed = zip(*rows, strict=True)
            keys, *columns = _unfolded(kind, packed)
            lengths = [len(of_feature) for of_feature in keys]
            part = np.zeros(sum(lengths), dtype=kind.dtype)
            part["index"] = np.repeat(index, lengths)
            part["key"] = [*chain.from_iterable(keys)]
            for (name, _), column in zip(kind.fields, columns, strict=True):
                part[name] = _storable(name, [*chain.from_iterable(column)])
            parts.append(part)
    record_p = np.concatenate(parts)
    record_p["dictionary"] = dictionary
    return record_p


def _unfolded(kind: Kind, packed: Sequence[bytes]) -> Iterator[Sequence[Sequence[float]]]:
    """Yield what rows say as columns: the keys of each, and each field of the kind."""
    if kind is CONTEXT:
        contexts, positions = zip(*map(packed_examples.top_places, packed), strict=True)
        yield from (contexts, [range(len(own)) for own in contexts], positions)
        return
    peaks, counts, shares, promoted, effects = zip(*map(packed_features.tokens_of, packed), strict=True)
    yield from (peaks, shares, counts) if kind is PEAK else (promoted, effects)


def _storable(name: str, values: Sequence[float]) -> np.ndarray:
    if name == "rank":
        return np.minimum(np.array(values, dtype=np.int64), WIDEST_RANK)
    return packing.to_half(np.array(values, dtype=np.float64)) if name in ("share", "effect") else np.array(values)


def pack(kind: Kind, posting_p: np.ndarray) -> Iterator[tuple[int, bytes]]:
    """Yield the blocks that have postings, ascending, and what is packed in each."""
    posting_p = posting_p[np.lexsort((posting_p["index"], posting_p["key"]))]
    block_p = posting_p["key"] // kind.block
    starts = np.flatnonzero(np.diff(block_p, prepend=-1))
    for start, stop in pairwise([*starts.tolist(), len(posting_p)]):
        own_p, block = posting_p[start:stop], int(block_p[start])
        size_b = np.bincount(own_p["key"] - block * kind.block, minlength=kind.block)
        width = 2 if max(size_b.max(), own_p["index"].max()) < 1 << 16 else 4
        record_p = own_p[["index", *(name for name, _ in kind.fields)]].astype(kind.record(width))
        yield block, bytes([width]) + size_b.astype(_WIDTHS[width]).tobytes() + record_p.tobytes()


def unpack(kind: Kind, rows: Sequence[Row], wanted: Sequence[Collection[int]]) -> np.ndarray:
    """Return the postings of the keys that are wanted of each row; raise ValueError for bytes that are no block."""
    parts = [np.zeros(0, dtype=kind.dtype)]
    masks: dict[tuple[int, int], np.ndarray] = {}
    of_width: dict[int, list[tuple[Row, np.ndarray]]] = {}
    for row, keys in zip(rows, wanted, strict=True):
        place = id(keys), row.block
        if place not in masks:
            first = row.block * kind.block
            masks[place] = np.array([key in keys for key in range(first, first + kind.block)])
        of_width.setdefault(row.packed[0] if row.packed else 0, []).append((row, masks[place]))
    for width, own in of_width.items():
        if width not in _WIDTHS:
            raise ValueError("a block of postings starts with the width of its numbers, 2 or 4")
        own_rows, mask_rb = [row for row, _ in own], np.stack([mask for _, mask in own])
        parts.append(_unpacked(kind, own_rows, mask_rb, width))
    return np.concatenate(parts)


def _unpacked(kind: Kind, rows: Sequence[Row], wanted_rb: np.ndarray, width: int) -> np.ndarray:
    """Return the wanted postings of rows whose numbers take `width` bytes."""
    head, record = 1 + width * kind.block, kind.record(width)
    size_rb = np.frombuffer(b"".join(row.packed[1:head].ljust(head - 1) for row in rows), dtype=_WIDTHS[width])
    size_rb = size_rb.reshape(len(rows), kind.block).astype(np.int64)
    for row, n in zip(rows, size_rb.sum(axis=1).tolist(), strict=True):
        if len(row.packed) != head + n * record.itemsize:
            raise ValueError(f"a block of {n} postings of kind {kind.number} has {len(row.packed)} bytes")
    record_p = np.frombuffer(b"".join(row.packed[head:] for row in rows), dtype=record)
    record_p = record_p[np.repeat(wanted_rb.ravel(), size_rb.ravel())]
    first_r = np.array([row.block for row in rows]) * kind.block
    kept_rb = size_rb * wanted_rb
    posting_p = np.empty(len(record_p), dtype=kind.dtype)
    posting_p["dictionary"] = np.repeat([row.dictionary for row in rows], kept_rb.sum(axis=1))
    posting_p["key"] = np.repeat((first_r[:, None] + np.arange(kind.block)).ravel(), kept_rb.ravel())
    for name in record.names:
        posting_p[name] = record_p[name]
    return posting_p


def read(kind: Kind, wanted: Iterable[tuple[Collection[int], Collection[int]]]) -> np.ndarray:
    """Return the postings of `(dictionary ids, keys)`, each dictionary in one of them. One query, none for no key."""
    keys_of: dict[int, Collection[int]] = {}
    clauses, params = [], []
    for dictionaries, keys in wanted:
        if not keys:
            continue
        own = frozenset(keys)
        keys_of |= dict.fromkeys(dictionaries, own)
        clauses.append("block = ANY(%s::int[]) AND dictionary_id = ANY(%s::int[])")
        params += [_array({key // kind.block for key in own}), _array(dictionaries)]
    if not clauses:
        return np.zeros(0, dtype=kind.dtype)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT dictionary_id, block, packed FROM features_posting"
            f" WHERE kind = {kind.number:d} AND (({') OR ('.join(clauses)}))",
            params,
        )
        rows = [Row(*row) for row in cursor.fetchall()]
    return unpack(kind, rows, [keys_of[row.dictionary] for row in rows])


def features_peaking(dictionary: int, tokens: Collection[int]) -> dict[int, float]:
    """Return `{index: share}` of a dictionary's features that peak on one of the tokens. At most one query."""
    shares: dict[int, float] = {}
    posting_p = read(PEAK, [([dictionary], tokens)])
    for index, share in zip(posting_p["index"].tolist(), posting_p["share"].tolist(), strict=True):
        shares[index] = min(1.0, shares.get(index, 0.0) + share)
    return shares


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, sorted(numbers))) + "}"
