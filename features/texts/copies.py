"""Texts that are copied to lines of JSON on this machine.

A copy is made once, under a name that says of what, and then it is as good as a file of the user's. Parquet needs
pyarrow, which is no part of Facet's environment.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import uuid4

from inference.errors import InvalidInput, Unavailable

PARQUET = (".parquet", ".pq")
_ROWS_AT_ONCE = 512


class ParquetNeedsPyarrow(Unavailable):
    """Parquet where pyarrow is not installed."""

    code = "parquet-needs-pyarrow"

    def __init__(self) -> None:
        super().__init__("Reading Parquet needs the package pyarrow.", "Install it, or convert the file to JSONL.")


def of_parquet(path: Path, *, field: str, copies_at: Path) -> Path:
    """Return the copy of a Parquet file; raise ParquetNeedsPyarrow, and InvalidInput where it is damaged."""
    stat = path.stat()
    name = name_of_copy(str(path.resolve()), stat.st_size, stat.st_mtime_ns, field)
    return _copied(copies_at / name, _parquet_rows(path, field))


def open_parquet(file: Any, field: str, name: str) -> Any:
    """Open a Parquet file that has a column; raise ParquetNeedsPyarrow, and InvalidInput where it is damaged."""
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise ParquetNeedsPyarrow from error
    try:
        table = parquet.ParquetFile(file)
    except Exception as error:
        raise InvalidInput(f"{name} is no Parquet file, or damaged: {error}.", "Write it again.") from error
    columns = table.schema_arrow.names
    if field not in columns:
        raise InvalidInput(
            f"{name} has no column {field!r}.", f"Name the one that holds the text; there are: {', '.join(columns)}."
        )
    return table


def _parquet_rows(path: Path, field: str) -> Iterator[dict[str, Any]]:
    table = open_parquet(path, field, path.name)
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _copied(path: Path, rows: Iterator[dict[str, Any]]) -> Path:
    """Write rows as lines of JSON, unless that was done: the file is complete or absent."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{uuid4().hex}.part")  # no process of any host has the same
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def name_of_copy(*facts: object) -> str:
    """Return the name of a copy of what some facts say."""
    return hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode()).hexdigest()[:24] + ".jsonl"
