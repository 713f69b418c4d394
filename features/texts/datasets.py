"""Datasets of a hub, read over the network as far as they are wanted, and copied once to lines of JSON here.

A copy goes on where it was stopped: beside the part that is written lies where its rows end in which of the dataset's
files, and there the network is read on. It is of one commit, that of the revision at the moment of the first request.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from features.texts.copies import PARQUET, name_of_copy, open_parquet
from features.texts.skips import Skips
from inference.errors import Conflict, FacetError, InvalidInput, NotFound, Unavailable

LIMIT = 100_000
_TEXTS = (*PARQUET, ".jsonl", ".ndjson")
_TIMEOUT_SECONDS = 10
# Rows between two looks at whether to stop, each with a note of how far the copy is.
_ROWS_AT_ONCE = 256
# Bytes that are asked of the hub at once.
_BLOCK_BYTES = 2**20
_SKIPS_KEPT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFiles:
    """The files of a dataset that hold its rows, at one commit, in order, with their bytes where the hub tells."""

    name: str
    commit: str
    sizes: Mapping[str, int | None]

    @contextmanager
    def reading(self, file: str) -> Iterator[Any]:
        """Open one of the files; what is read of it crosses the network, a block at a time."""
        # A client of its own: those that are shared keep what they heard of a repository.
        client = import_module("huggingface_hub").HfFileSystem(skip_instance_cache=True)
        with client.open(f"datasets/{self.name}@{self.commit}/{file}", "rb", block_size=_BLOCK_BYTES) as opened:
            yield opened


# Is told how many rows are copied; raises Cancelled to stop.
Told = Callable[[int], None]


class DatasetUnavailable(Unavailable):
    """A dataset that the hub does not give, or a hub that does not answer."""

    code = "dataset-unavailable"


@dataclass(slots=True, kw_only=True)
class _Mark:
    """How far a copy is: `at` bytes of lines, or rows of Parquet, of the file `file`; `n_bytes` are written."""

    file: int = 0
    at: int = 0
    n_rows: int = 0
    n_bytes: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def of_dataset(
    dataset: str, *, field: str, limit: int, copies_at: Path, skips: Skips, told: Told | None = None
) -> Path:
    """Return the copy of the first `limit` rows of a dataset, OWNER/NAME or OWNER/NAME@REVISION.

    Raises DatasetUnavailable within seconds where there is no network, NotFound where the hub does not know the id or
    the revision, Conflict where another process is copying the same; and what `told` raises.
    """
    if limit < 1:
        raise InvalidInput(f"{limit} documents cannot be read.", "Give a number above zero.", limit=limit)
    files = files_of_dataset(dataset)
    copy = copies_at / name_of_copy(files.name, files.commit, limit, field)
    note = copy.with_suffix(".json")
    if not copy.exists():
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _alone(copy.with_suffix(".part")) as part:
            _copy(files, field, limit, part, note, told or (lambda n_rows: None))
            Path(part.name).replace(copy)
    for name_of_row, reason in _read(note).skipped:
        skips.add(name_of_row, reason)
    return copy


def files_of_dataset(dataset: str) -> DatasetFiles:
    """Ask the hub which files hold the rows of a dataset. Raises what of_dataset does, and InvalidInput for none."""
    name, _, revision = dataset.partition("@")
    info = _info(name, revision)
    sizes = {entry.rfilename: entry.size for entry in info.siblings or () if entry.rfilename.endswith(_TEXTS)}
    files = sorted(file for file in sizes if "train" in file) or sorted(sizes)
    if not files:
        raise InvalidInput(
            f"The dataset {dataset} has no files of JSONL or Parquet.", "Download it and convert it to JSONL."
        )
    return DatasetFiles(name=name, commit=info.sha, sizes={file: sizes[file] for file in files})


def _info(name: str, revision: str) -> Any:
    hub, errors = import_module("huggingface_hub"), import_module("huggingface_hub.errors")
    try:
        return hub.HfApi().dataset_info(name, revision=revision or None, timeout=_TIMEOUT_SECONDS, files_metadata=True)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        asked = f"{name}@{revision}" if revision else name
        raise NotFound(
            f"The hub has no dataset {asked!r}, or it is private.",
            "Check the id: OWNER/NAME, or OWNER/NAME@REVISION.",
            dataset=asked,
        ) from error
    except Exception as error:
        raise DatasetUnavailable(
            f"The hub cannot be asked for the dataset {name!r}: {type(error).__name__}.",
            "Connect to a network and unset HF_HUB_OFFLINE, or download the files and give their folder.",
            dataset=name,
        ) from error


def _copy(files: DatasetFiles, field: str, limit: int, part: Any, note: Path, told: Told) -> None:
    """Write rows behind what is written already, noting after every few how far the copy is."""
    mark = _read(note)
    part.truncate(mark.n_bytes)
    part.seek(mark.n_bytes)
    told(mark.n_rows)
    rows = _rows(files, field, mark)
    while mark.n_rows < limit:
        try:
            row = next(rows, None)
        except FacetError:
            raise
        except Exception as error:
            _note(part, note, mark)
            raise DatasetUnavailable(
                f"The hub stopped giving the dataset {files.name!r} after {mark.n_rows:,} rows:"
                f" {type(error).__name__}.",
                "Resume the run, or add it again: it goes on where it stopped.",
                dataset=files.name,
            ) from error
        if row is None:
            break
        part.write(json.dumps(row, ensure_ascii=False, default=str).encode(errors="surrogatepass") + b"\n")
        mark.n_rows += 1
        if mark.n_rows % _ROWS_AT_ONCE == 0:
            _note(part, note, mark)
            told(mark.n_rows)
    _note(part, note, mark)


def _rows(files: DatasetFiles, field: str, mark: _Mark) -> Iterator[dict[str, Any]]:
    """Yield rows from a mark on, and move it behind each."""
    for number, name in list(enumerate(files.sizes))[mark.file :]:
        if number != mark.file:
            mark.file, mark.at = number, 0
        with files.reading(name) as file:
            if name.endswith(PARQUET):
                yield from _parquet_rows(file, field, name, mark)
            else:
                yield from _lines(file, name, mark)


def _lines(file: Any, name: str, mark: _Mark) -> Iterator[dict[str, Any]]:
    file.seek(mark.at)
    while line := file.readline():
        begins, mark.at = mark.at, mark.at + len(line)
        try:
            row = json.loads(line)
        except ValueError:
            if len(mark.skipped) < _SKIPS_KEPT:
                mark.skipped.append((f"{name}, byte {begins}", "not JSON"))
        else:
            yield row


def _parquet_rows(file: Any, field: str, name: str, mark: _Mark) -> Iterator[dict[str, Any]]:
    """Yield the rows of a Parquet file group by group; groups before the mark are not fetched."""
    table = open_parquet(file, field, name)
    first = 0
    for group in range(table.num_row_groups):
        n_rows = table.metadata.row_group(group).num_rows
        if first + n_rows > mark.at:
            for row in table.read_row_group(group).to_pylist()[mark.at - first :]:
                mark.at += 1
                yield row
        first += n_rows


@contextmanager
def _alone(path: Path) -> Iterator[Any]:
    """Open a part of a copy for this process alone, as far as it is written."""
    with path.open("ab+") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Conflict("Another process is copying this dataset.", "Wait until it is done, then add it.") from error
        yield part


def _note(part: Any, note: Path, mark: _Mark) -> None:
    part.flush()
    os.fsync(part.fileno())
    mark.n_bytes = part.tell()
    fresh = note.with_suffix(".fresh")
    fresh.write_text(json.dumps(asdict(mark)))
    fresh.replace(note)


def _read(note: Path) -> _Mark:
    try:
        return _Mark(**json.loads(note.read_text()))
    except (OSError, ValueError, TypeError):
        return _Mark()
