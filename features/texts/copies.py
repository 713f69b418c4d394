"""Texts that are copied to lines of JSON on this machine: Parquet, and datasets of a hub.

A copy is made once, under a name that says of what, and then it is as good as a file of the user's. Parquet needs
pyarrow, which is no part of Facet's environment.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from features.texts.skips import Skips
from inference.errors import InvalidInput, NotFound, Unavailable

PARQUET = (".parquet", ".pq")
LIMIT = 100_000
_ROWS_AT_ONCE = 512
_TEXTS = (*PARQUET, ".jsonl", ".ndjson")
_TIMEOUT_SECONDS = 10


class ParquetNeedsPyarrow(Unavailable):
    """Parquet where pyarrow is not installed."""

    code = "parquet-needs-pyarrow"

    def __init__(self) -> None:
        super().__init__("Reading Parquet needs the package pyarrow.", "Install it, or convert the file to JSONL.")


class DatasetUnavailable(Unavailable):
    """A dataset that the hub does not give, or a hub that does not answer."""

    code = "dataset-unavailable"


def of_parquet(path: Path, *, field: str, copies_at: Path, skips: Skips) -> Path:
    """Return the copy of a Parquet file; raise ParquetNeedsPyarrow, and InvalidInput where it is damaged."""
    stat = path.stat()
    name = _name(str(path.resolve()), stat.st_size, stat.st_mtime_ns, field)
    return _copied(copies_at / name, _parquet_rows(path, field, skips, path.name))


def of_dataset(dataset: str, *, field: str, limit: int, copies_at: Path, skips: Skips) -> Path:
    """Return the copy of the first `limit` rows of a hub's dataset, at the commit that it has now.

    Raises DatasetUnavailable within seconds where there is no network, NotFound where the hub does not know the id.
    """
    hub = import_module("huggingface_hub")
    errors = import_module("huggingface_hub.errors")
    if limit < 1:
        raise InvalidInput(f"{limit} documents cannot be read.", "Give a number above zero.", limit=limit)
    try:
        info = hub.HfApi().dataset_info(dataset, timeout=_TIMEOUT_SECONDS)
    except errors.RepositoryNotFoundError as error:
        raise NotFound(
            f"The hub has no dataset {dataset!r}, or it is private.", "Check the id: OWNER/NAME.", dataset=dataset
        ) from error
    except Exception as error:
        raise DatasetUnavailable(
            f"The hub cannot be asked for the dataset {dataset!r}: {type(error).__name__}.",
            "Connect to a network and unset HF_HUB_OFFLINE, or download the files and give their folder.",
            dataset=dataset,
        ) from error
    names = sorted(entry.rfilename for entry in info.siblings or () if entry.rfilename.endswith(_TEXTS))
    train = [name for name in names if "train" in name] or names
    if not train:
        raise InvalidInput(
            f"The dataset {dataset} has no files of JSONL or Parquet.", "Download it and convert it to JSONL."
        )
    rows = _dataset_rows(hub, dataset, info.sha, train, field, skips)
    return _copied(copies_at / _name(dataset, info.sha, limit, field), islice(rows, limit))


def _dataset_rows(
    hub: Any, dataset: str, commit: str, names: list[str], field: str, skips: Skips
) -> Iterator[dict[str, Any]]:
    """Yield rows of a dataset's files, one file at a time and only as far as they are wanted."""
    for name in names:
        address = f"datasets/{dataset}@{commit}/{name}"
        with hub.HfFileSystem().open(address, "rb") as file:
            if name.endswith(PARQUET):
                yield from _parquet_rows(file, field, skips, name)
                continue
            for number, line in enumerate(file, 1):
                try:
                    row = json.loads(line)
                except ValueError:
                    skips.add(f"{name}:{number}", "not JSON")
                else:
                    yield row


def _parquet_rows(file: Any, field: str, skips: Skips, name: str) -> Iterator[dict[str, Any]]:
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
    for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _copied(path: Path, rows: Iterator[dict[str, Any]]) -> Path:
    """Write rows as lines of JSON, unless that was done: the file is complete or absent."""
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _name(*facts: object) -> str:
    return hashlib.sha256(json.dumps([str(fact) for fact in facts]).encode()).hexdigest()[:24] + ".jsonl"
