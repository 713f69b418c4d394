"""What was read of one file, on disk: the step from which an import resumes.

A shard is a folder that appears under its name when it is complete. Its `shard.json` counts what the file held and
digests the arrays, so that a shard whose arrays are damaged is read again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

MANIFEST = "shard.json"
_LINES = msgspec.json.Encoder()


@dataclass(slots=True, kw_only=True)
class Counts:
    """What a file held: rows by kind, keys that nothing is known of, duplicates, and what was left out with why."""

    rows: Counter[str] = field(default_factory=Counter)
    unknown_keys: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add another file's counts."""
        for name in self.__slots__:
            getattr(self, name).update(getattr(other, name))

    def as_dict(self) -> dict[str, dict[str, int]]:
        """Return the counts JSON-ready."""
        return {name: dict(getattr(self, name)) for name in self.__slots__}

    @classmethod
    def from_dict(cls, data: Mapping[str, Mapping[str, int]]) -> Counts:
        """Return the counts of a manifest."""
        return cls(**{name: Counter(data[name]) for name in cls.__slots__})


class ShardWriter:
    """Writes one shard; leave the context without an error to make it appear."""

    def __init__(self, folder: Path, *, origin: Mapping[str, Any]) -> None:
        self.folder, self.origin = folder, dict(origin)
        self.counts = Counts()
        self.facts: dict[str, Any] = {}
        # Of its own: a process that outlived a killed import may still be writing the same shard.
        self._scratch = folder.with_name(f"{folder.name}.{os.getpid()}.part")
        self._digest = hashlib.blake2b(digest_size=16)
        self._files: list[str] = []

    def __enter__(self) -> ShardWriter:
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        return self

    def array(self, name: str, array: np.ndarray) -> None:
        """Add an array."""
        file = f"{name}.npy"
        np.save(self._scratch / file, array)
        self._files.append(file)
        self._digest.update(file.encode())
        self._digest.update(np.ascontiguousarray(array).data)

    def lines(self, name: str, objects: list[Any]) -> None:
        """Add JSON values, or text that is JSON already, one a line."""
        data = _LINES.encode_lines(objects)
        file = f"{name}.jsonl"
        (self._scratch / file).write_bytes(data)
        self._files.append(file)
        self._digest.update(file.encode())
        self._digest.update(data)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            return
        manifest = {"origin": self.origin, "facts": self.facts, "counts": self.counts.as_dict()}
        manifest |= {"files": self._files, "digest": self._digest.hexdigest()}
        path = self._scratch / MANIFEST
        path.write_text(json.dumps(manifest))
        shutil.rmtree(self.folder, ignore_errors=True)
        try:
            os.replace(self._scratch, self.folder)
        except OSError:
            if finished(self.folder, origin=self.origin) is None:
                raise
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def shard(self) -> Shard:
        """Return what was written, once it is complete."""
        digest = self._digest.hexdigest()
        return Shard(folder=self.folder, origin=self.origin, facts=self.facts, counts=self.counts, digest=digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A complete shard."""

    folder: Path
    origin: dict[str, Any]
    facts: dict[str, Any]
    counts: Counts
    digest: str

    def array(self, name: str) -> np.ndarray:
        """Return an array, read from disk as it is used."""
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")

    def lines(self, name: str) -> Iterator[Any]:
        """Yield the JSON values of a file."""
        with (self.folder / f"{name}.jsonl").open("rb") as file:
            yield from map(msgspec.json.decode, file)


def finished(folder: Path, *, origin: Mapping[str, Any]) -> Shard | None:
    """Return the shard if it is complete, undamaged and of the same file; else None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        if manifest["origin"] != dict(origin) or manifest["digest"] != _digest(folder, manifest["files"]):
            return None
        counts = Counts.from_dict(manifest["counts"])
    except (OSError, ValueError, KeyError):
        return None
    return Shard(
        folder=folder, origin=manifest["origin"], facts=manifest["facts"], counts=counts, digest=manifest["digest"]
    )


def origin_of(path: Path, name: str) -> dict[str, Any]:
    """Return what tells whether a file is still the one that a shard was read from."""
    status = path.stat()
    return {"file": name, "bytes": status.st_size, "modified": status.st_mtime_ns}


def _digest(folder: Path, files: list[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for file in files:
        path = folder / file
        digest.update(file.encode())
        if path.suffix == ".npy":
            digest.update(np.ascontiguousarray(np.load(path, mmap_mode="r")).data)
        else:
            digest.update(path.read_bytes())
    return digest.hexdigest()
