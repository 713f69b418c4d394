"""A dictionary's dashboards as Parquet files, for programs: features, examples, contexts, explanations.

SCHEMA is the documentation in docs/files.md. Nothing is packed: token ids, positions and values are lists, and texts
are texts. Needs pyarrow, which Facet does not install by itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.exports.rows import BATCH, StoredDictionary, snapshot
from features.rows import FEATURE_COLUMNS
from features.selectors.examples import NAMES
from features.words import storable_json
from inference.errors import Conflict, Unavailable

ROW_GROUP = 16_384
# Columns of each file with their types: Parquet's, with `list<...>` for lists.
SCHEMA: dict[str, dict[str, str]] = {
    "features": {
        "index": "int32",
        "label": "string",
        "density": "double",
        "firing_count": "int64",
        "context_count": "int64",
        "maximum": "float",
        "mean": "double",
        "total": "double",
        "total_2": "double",
        "total_3": "double",
        "total_4": "double",
        "token_entropy": "float",
        "n_tokens_seen": "int32",
        "band_counts": "list<float>",
        "histogram": "list<int64>",
        "logit_low": "float",
        "logit_high": "float",
        "logit_deviation": "float",
        "logit_skewness": "float",
        "logit_kurtosis": "float",
        "logit_histogram": "list<int64>",
        "peak_tokens": "list<string>",
        "peak_token_ids": "list<int32>",
        "peak_token_counts": "list<int32>",
        "peak_token_shares": "list<float>",
        "next_tokens": "list<string>",
        "next_token_ids": "list<int32>",
        "next_token_counts": "list<int32>",
        "promoted_tokens": "list<string>",
        "promoted_ids": "list<int32>",
        "promoted_values": "list<float>",
        "suppressed_tokens": "list<string>",
        "suppressed_ids": "list<int32>",
        "suppressed_values": "list<float>",
        "co_firing_ids": "list<int32>",
        "co_firing_jaccards": "list<float>",
        "decoder_neighbour_ids": "list<int32>",
        "decoder_neighbour_cosines": "list<float>",
        "encoder_neighbour_ids": "list<int32>",
        "encoder_neighbour_cosines": "list<float>",
    },
    "examples": {
        "index": "int32",
        "group": "int8",
        "group_name": "string",
        "rank": "int16",
        "context": "int32",
        "peak_position": "int32",
        "peak_value": "float",
        "held_out": "bool",
        "positions": "list<int32>",
        "values": "list<float>",
    },
    "contexts": {
        "context": "int32",
        "document": "string",
        "line": "int32",
        "held_out": "bool",
        "n_similar": "int32",
        "text": "string",
        "tokens": "list<string>",
        "token_ids": "list<int32>",
    },
    "explanations": {
        "index": "int32",
        "text": "string",
        "method": "string",
        "author": "string",
        "votes": "int32",
        "created_at": "timestamp",
        "evidence": "string",
    },
}
_TEXTS = {
    "peak_tokens": "peak_token_ids",
    "next_tokens": "next_token_ids",
    "promoted_tokens": "promoted_ids",
    "suppressed_tokens": "suppressed_ids",
}
Tell = Callable[[int, int], None]
Row = Mapping[str, Any]


class NoParquet(Unavailable):
    """pyarrow is not installed."""

    code = "no-parquet"


def write_parquet(model: str, source: str, folder: Path, *, tell: Tell = lambda done, total: None) -> Path:
    """Write `MODEL/SOURCE/*.parquet` below a folder; return that folder, which appears when it is complete.

    `tell` is told features done and in all. Raises NoParquet, UnknownAddress, NotBuilt, and Conflict where the folder
    is there.
    """
    arrow = _arrow()
    target = Path(folder) / model / source
    if target.exists():
        raise Conflict(f"{target} is there already.", "Remove it, or export to another folder.", path=str(target))
    scratch = target.with_name(f"{source}.part")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with snapshot():
        stored = StoredDictionary(model, source)
        for name, rows in (
            ("contexts", _contexts(stored)),
            ("explanations", _explanations(stored)),
            ("examples", _examples(stored, tell)),
            ("features", _features(stored)),
        ):
            _write(arrow, scratch / f"{name}.parquet", name, rows, stored)
    os.replace(scratch, target)
    return target


def _features(stored: StoredDictionary) -> Iterator[Row]:
    n_tokens = stored.n_tokens
    for first in stored.batches:
        labels: dict[int, str] = {}
        for explanation in stored.explanations(first):
            labels.setdefault(explanation.index, explanation.text)
        for row in stored.features(first):
            texts = {column: stored.texts(row[ids]) for column, ids in _TEXTS.items()}
            count = row["firing_count"]
            yield {
                **{name: row[name] for name in FEATURE_COLUMNS},
                **texts,
                "label": labels.get(row["index"], ""),
                "density": count / n_tokens if n_tokens else None,
                "mean": row["total"] / count if count else 0.0,
            }


def _examples(stored: StoredDictionary, tell: Tell) -> Iterator[Row]:
    for first in stored.batches:
        tell(first, stored.row.n_features)
        for row in stored.examples(first):
            yield {
                "index": row.index,
                "group": row.group,
                "group_name": NAMES[row.group],
                "rank": row.rank,
                "context": row.context,
                "peak_position": row.peak_position,
                "peak_value": row.peak_value,
                "held_out": stored.context(row.context).is_test,
                "positions": row.positions,
                "values": row.values,
            }
    tell(stored.row.n_features, stored.row.n_features)


def _contexts(stored: StoredDictionary) -> Iterator[Row]:
    for row in stored.contexts():
        yield {
            "context": row.ordinal,
            "document": row.document,
            "line": row.line,
            "held_out": row.is_test,
            "n_similar": row.n_similar,
            "text": row.text,
            "tokens": row.tokens,
            "token_ids": row.token_ids,
        }


def _explanations(stored: StoredDictionary) -> Iterator[Row]:
    for first in range(0, stored.row.n_features, BATCH):
        for row in stored.explanations(first):
            yield {
                "index": row.index,
                "text": row.text,
                "method": row.method,
                "author": row.author.get_username() if row.author else "",
                "votes": row.votes,
                "created_at": row.created_at,
                "evidence": storable_json(row.evidence),
            }


def _write(arrow: Any, path: Path, name: str, rows: Iterator[Row], stored: StoredDictionary) -> None:
    """Write rows in groups of ROW_GROUP, so that little is in memory at once."""
    facts = {
        "facet.model": stored.row.model.slug,
        "facet.source": stored.row.source,
        "facet.sha256": stored.row.sha256,
        "facet.hook_point": stored.row.hook_point,
        "facet.stats": storable_json(stored.row.stats),
    }
    fields = [arrow.field(column, _type(arrow, kind)) for column, kind in SCHEMA[name].items()]
    schema = arrow.schema(fields, metadata=facts)
    import pyarrow.parquet

    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for group in _groups(rows, ROW_GROUP):
            columns = {column: [row[column] for row in group] for column in SCHEMA[name]}
            writer.write_table(arrow.table(columns, schema=schema))


def _groups(rows: Iterator[Row], size: int) -> Iterator[Sequence[Row]]:
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _type(arrow: Any, kind: str) -> Any:
    if kind.startswith("list<"):
        return arrow.list_(_type(arrow, kind[5:-1]))
    names = {"float": "float32", "double": "float64", "bool": "bool_"}
    return arrow.timestamp("us", tz="UTC") if kind == "timestamp" else getattr(arrow, names.get(kind, kind))()


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise NoParquet(
            "Parquet files are written by pyarrow, which is not installed.",
            "Install it beside Facet: pip install 'facet[parquet]', or export to another format.",
        ) from error
    return pyarrow
