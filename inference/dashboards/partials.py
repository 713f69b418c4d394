"""Partial results of shards on disk: written whole or not at all, and never trusted without their checksum.

A pass owns a folder named by its fingerprint: whatever may change a number changes the name, so that a partial result
is never taken for another pass's. A shard is one npz file, `00012-<first 16 hex digits of its sha256>.npz`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from inference.errors import Conflict, Unavailable

_DIGITS = 16


class PassUnderWay(Conflict):
    """Another process is computing the same pass in the same folder."""

    code = "pass-under-way"


class WorkFolderUnusable(Unavailable):
    """The work folder cannot be written: full, read-only, not ours."""

    code = "work-folder-unusable"


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return the digest of everything that decides a pass's numbers."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


class PartialStore:
    """The partial results of one pass under `workdir`."""

    def __init__(self, workdir: Path, facts: Mapping[str, Any]) -> None:
        self.fingerprint = fingerprint(facts)
        self.folder = Path(workdir) / self.fingerprint[:_DIGITS]
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            _write_whole(self.folder / "pass.json", json.dumps(facts, indent=1, sort_keys=True).encode())

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the folder for this process; raise PassUnderWay where another holds it. A killed owner's hold ends."""
        with _explained(self.folder), (self.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PassUnderWay(
                    "The same build is already under way in another process.",
                    "Wait for it, or cancel it first.",
                    folder=self.folder.name,
                ) from error
            for leftover in self.folder.glob("*.part"):
                leftover.unlink()
            yield

    def load(self, shard: int) -> dict[str, np.ndarray] | None:
        """Return a shard's arrays, or None where there is no intact file; a corrupt one is removed."""
        for path in sorted(self.folder.glob(f"{shard:05d}-*.npz")):
            if _digest(path) == path.stem.partition("-")[2]:
                with np.load(path, allow_pickle=False) as arrays:
                    return dict(arrays)
            path.unlink()
        return None

    def save(self, shard: int, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write a shard's arrays and return the file: whatever happens, it is complete or absent."""
        part = self.folder / f"{shard:05d}.part"
        with _explained(self.folder):
            try:
                with part.open("wb") as file:
                    np.savez(file, **arrays)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError:
                part.unlink(missing_ok=True)
                raise
            return part.replace(self.folder / f"{shard:05d}-{_digest(part)}.npz")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def _write_whole(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = "The disk is full" if full else error.strerror or "The folder cannot be written"
        raise WorkFolderUnusable(
            f"{cause}: {folder.parent}.",
            "Free some space and resume the run: finished shards are kept."
            if full
            else "Make the folder writable, or set another one.",
            folder=str(folder.parent),
        ) from error
