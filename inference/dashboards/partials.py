"""Partial results on a local path or any fsspec URL: written whole or not at all, never trusted without their checksum.

A folder belongs to a fingerprint: whatever may change a number changes the name, so that a partial result is never
taken for another pass's. A file is `KEY-<first 16 hex digits of its sha256>.columns`. Several processes may write the
same key: their files are equally good, and whoever reads takes the first that is intact.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from inference.dashboards.columns import ColumnReader, ColumnWriter
from inference.errors import Unavailable

_DIGITS = 16
_SUFFIX = ".columns"
_HASHED_AT_ONCE = 1 << 22
_ANOTHER = "Make the folder writable, or set another one (FACET_BUILDS)."
_FULL = "The disk is full", "Free some space and resume the run: finished shards are kept."
_COMPLAINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EFBIG: (
        "A file may not become so large",
        "Raise the limit (ulimit -f) and resume the run: finished shards are kept.",
    ),
}


class WorkFolderUnusable(Unavailable):
    """The work folder cannot be written: full, read-only, not ours, away."""

    code = "work-folder-unusable"


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return the digest of everything that decides a pass's numbers."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def joined(place: str | Path, name: str) -> str:
    """Return the address of a folder inside a folder."""
    return f"{str(place).rstrip('/')}/{name}"


class CheckedFolder:
    """A folder of checksummed files of columns, by key."""

    def __init__(self, place: str | Path, facts: Mapping[str, Any]) -> None:
        self.fingerprint = fingerprint(facts)
        self.place = joined(place, self.fingerprint[:_DIGITS])
        with explained(place):
            self._fs, self._root = _file_system(self.place)
            self._fs.makedirs(self._root, exist_ok=True)

    def has(self, key: str) -> bool:
        """Tell whether there is a file of a key, intact or not."""
        return bool(self._paths(key))

    def load(self, key: str) -> ColumnReader | None:
        """Return a key's file, or None where there is no intact one; corrupt ones are removed."""
        with explained(self.place):
            for path in self._paths(key):
                if self._digest(path) == _said_digest(path):
                    return ColumnReader(self._reader(path), self._fs.size(path))
                self._fs.rm_file(path)
        return None

    def save(self, key: str, write: Callable[[ColumnWriter], None]) -> str:
        """Write a key's file and return its path: whatever happens, it is complete or absent."""
        part = self._part(key)
        with explained(self.place):
            try:
                with part.open("wb") as file:
                    writer = ColumnWriter(file)
                    write(writer)
                    writer.close()
                    file.flush()
                    os.fsync(file.fileno())
                path = f"{self._root}/{key}-{writer.digest[:_DIGITS]}{_SUFFIX}"
                if self._is_local:
                    part.replace(path)
                else:
                    self._fs.put_file(str(part), path)
            finally:
                part.unlink(missing_ok=True)
        return path

    @property
    def _is_local(self) -> bool:
        return isinstance(self._fs, LocalFileSystem)

    def _part(self, key: str) -> Path:
        """Return where a file is written before it has its name: beside its place, or here if that is elsewhere."""
        folder = self._root if self._is_local else tempfile.gettempdir()
        return Path(folder) / f"{key}-{os.getpid()}-{secrets.token_hex(4)}.part"

    def _paths(self, key: str) -> list[str]:
        self._fs.invalidate_cache(self._root)
        return sorted(map(str, self._fs.glob(f"{self._root}/{key}-*{_SUFFIX}")))

    def _reader(self, path: str) -> Callable[[int, int], bytes]:
        if not self._is_local:
            return lambda start, stop: self._fs.cat_file(path, start=start, end=stop)

        def read(start: int, stop: int) -> bytes:
            with open(path, "rb") as file:
                file.seek(start)
                return file.read(stop - start)

        return read

    def _digest(self, path: str) -> str:
        found = hashlib.sha256()
        with self._fs.open(path, "rb") as file:
            while data := file.read(_HASHED_AT_ONCE):
                found.update(data)
        return found.hexdigest()[:_DIGITS]


def remove(place: str | Path) -> None:
    """Remove a folder and what is in it, if it is there."""
    file_system, root = _file_system(str(place))
    if file_system.exists(root):
        file_system.rm(root, recursive=True)


def trim(place: str, keep: int) -> None:
    """Remove all but the newest folders of a local folder; what lies elsewhere stays."""
    file_system, root = _file_system(place)
    if isinstance(file_system, LocalFileSystem) and file_system.exists(root):
        folders = sorted(Path(root).iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for folder in folders[keep:]:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def explained(place: object) -> Iterator[None]:
    """Turn what a file system complains of into an error that says what to do."""
    try:
        yield
    except OSError as error:
        cause, remedy = _COMPLAINTS.get(error.errno or 0, (error.strerror or str(error), _ANOTHER))
        raise WorkFolderUnusable(
            f"{cause or 'The folder cannot be written'}: {place}.",
            remedy,
            folder=str(place),
        ) from error


def _file_system(place: str) -> tuple[AbstractFileSystem, str]:
    try:
        file_system, root = url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise WorkFolderUnusable(
            f"{place} cannot be used: {error}.", "Install the package that it names, or set another FACET_BUILDS."
        ) from error
    return file_system, str(root)


def _said_digest(path: str) -> str:
    return path.removesuffix(_SUFFIX).rpartition("-")[2]
