"""How much text lies in files, here or in a dataset of a hub, as their beginnings and sizes tell: documents, bytes, and
about how many tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from features.texts.copies import PARQUET
from features.texts.datasets import DatasetFiles, DatasetUnavailable
from features.texts.lines import SUFFIXES

# What a token of a common vocabulary is long: less of code and small vocabularies, more of English and large ones.
BYTES_A_TOKEN = 4.0
_SAMPLE_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """Documents, their bytes of text and those of whole rows, estimated."""

    n_documents: float
    n_bytes: float
    n_row_bytes: float = 0.0

    @property
    def n_tokens(self) -> float:
        return self.n_bytes / BYTES_A_TOKEN


def amount_of(files: Sequence[Path], *, field: str, share_of_texts: float) -> Amount | None:
    """Return what files hold, of which `share_of_texts` of the plain texts are documents; None where nothing tells."""
    n_documents = n_bytes = 0.0
    for file in files:
        suffix = file.suffix.lower()
        if suffix in SUFFIXES:
            found = _of_lines(file, field)
        elif suffix in PARQUET:
            found = _of_parquet(file, field)
        else:
            size = file.stat().st_size
            found = Amount(n_documents=share_of_texts * bool(size), n_bytes=share_of_texts * size)
        if found is None:
            return None
        n_documents, n_bytes = n_documents + found.n_documents, n_bytes + found.n_bytes
    return Amount(n_documents=n_documents, n_bytes=n_bytes)


def amount_of_dataset(files: DatasetFiles, *, field: str, limit: int) -> Amount | None:
    """Return what the first `limit` documents of a dataset are, by its first file; None where that does not tell.

    A piece of the file crosses the network. Raises DatasetUnavailable.
    """
    name, size = next(iter(files.sizes.items()))
    if not size or None in files.sizes.values():
        return None
    try:
        with files.reading(name) as file:
            is_parquet = name.endswith(PARQUET)
            found = _of_parquet(file, field) if is_parquet else _of_head(file.read(_SAMPLE_BYTES), size, field)
    except Exception as error:
        raise DatasetUnavailable(
            f"The hub does not give {name} of the dataset {files.name!r}: {type(error).__name__}.",
            "Try again, or download the files and give their folder.",
            dataset=files.name,
        ) from error
    if found is None or not found.n_documents:
        return None
    scale = min(sum(map(int, files.sizes.values())) / size, limit / found.n_documents)
    return Amount(
        n_documents=scale * found.n_documents, n_bytes=scale * found.n_bytes, n_row_bytes=scale * found.n_row_bytes
    )


def _of_lines(file: Path, field: str) -> Amount | None:
    try:
        with file.open("rb") as opened:
            return _of_head(opened.read(_SAMPLE_BYTES), file.stat().st_size, field)
    except OSError:
        return None


def _of_head(head: bytes, size: int, field: str) -> Amount:
    """Scale what a file begins with to its size."""
    lines = head.splitlines(keepends=True)
    if len(head) < size and len(lines) > 1:
        lines.pop()
    texts = [text for line in lines if (text := _text(line, field))]
    n_seen = sum(map(len, lines))
    scale = size / n_seen if n_seen else 0.0
    n_bytes = sum(len(text.encode(errors="replace")) for text in texts)
    return Amount(n_documents=scale * len(texts), n_bytes=scale * n_bytes, n_row_bytes=size)


def _text(line: bytes, field: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        return ""
    text = row.get(field) if isinstance(row, dict) else None
    return text if isinstance(text, str) else ""


def _of_parquet(file: Any, field: str) -> Amount | None:
    """Return what the footer of a Parquet file tells of a column; None without pyarrow, or where it cannot be read."""
    try:
        metadata = import_module("pyarrow.parquet").ParquetFile(file).metadata
    except (ImportError, OSError, ValueError):
        return None
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    chunks = [group.column(place) for group in groups for place in range(group.num_columns)]
    n_bytes = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == field)
    return Amount(
        n_documents=metadata.num_rows if n_bytes else 0,
        n_bytes=n_bytes,
        n_row_bytes=sum(chunk.total_uncompressed_size for chunk in chunks),
    )
