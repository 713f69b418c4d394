"""The header of a safetensors file, read without torch and checked against the file's size.

Layout: eight bytes with the header's length (little endian), the header as JSON, then the tensors' bytes.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from pathlib import Path

from inference.dictionaries.config import DamagedDictionary

MAX_HEADER_BYTES = 100_000_000


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor; raise DamagedDictionary where the file is missing or cut short."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, MAX_HEADER_BYTES):
                raise damaged(path, "its header is cut short")
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        expected = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(entry["shape"]) for name, entry in tensors.items()}
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "its header cannot be read") from error
    if size != expected:
        raise damaged(path, f"it has {size:,} bytes where its header promises {expected:,}")
    return shapes


def damaged(path: Path, why: str, **details: str) -> DamagedDictionary:
    return DamagedDictionary(
        f"{path.name} in {path.parent} cannot be used: {why}.", "Fetch or write it again.", file=str(path), **details
    )
