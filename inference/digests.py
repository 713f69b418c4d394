"""SHA-256 of weights, so that every figure can say what it was measured on; imports neither torch nor Django."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

WEIGHTS = ("*.safetensors", "pytorch_model*.bin")


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of one file; one that did not change meanwhile is read once by a process."""
    stat = path.stat()
    return _sha256(path.absolute(), stat.st_size, stat.st_mtime_ns, stat.st_ino)


@lru_cache(maxsize=1024)
def _sha256(path: Path, n_bytes: int, modified_ns: int, inode: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(paths: Iterable[Path]) -> str:
    """Return the file's SHA-256, or for several files that of their names and digests in order of name."""
    files = sorted(paths, key=lambda path: path.name)
    if len(files) == 1:
        return file_sha256(files[0])
    lines = "".join(f"{file_sha256(path)}  {path.name}\n" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def weights_of(folder: Path) -> list[Path]:
    """Return the files that hold a model's weights: its safetensors, or else its older PyTorch files."""
    for pattern in WEIGHTS:
        if found := sorted(folder.glob(pattern)):
            return found
    return []
