"""The header of a safetensors file, checked against the file's size.

Layout: eight bytes with the header's length (little endian), the header as JSON, then the tensors' bytes.
https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
from pathlib import Path

from inference.dictionaries.storage.weights import Span, Weights, damaged

MAX_HEADER_BYTES = 100_000_000
DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}


def read_contents(path: Path) -> Weights:
    """Return the contents of a safetensors file; raise DamagedDictionary where it is missing or cut short."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size, MAX_HEADER_BYTES):
                raise damaged(path, "its header is cut short")
            header = json.loads(file.read(length))
        facts = header.pop("__metadata__", {})
        expected = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        spans = {
            name: Span(tuple(entry["shape"]), DTYPES[entry["dtype"]], 8 + length + entry["data_offsets"][0])
            for name, entry in header.items()
        }
        lengths = {name: entry["data_offsets"][1] - entry["data_offsets"][0] for name, entry in header.items()}
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise damaged(path, "its header cannot be read") from error
    if size != expected:
        raise damaged(path, f"it has {size:,} bytes where its header promises {expected:,}")
    for name, span in spans.items():
        if span.n_bytes != lengths[name]:
            raise damaged(path, f"{name} has {lengths[name]:,} bytes where its shape needs {span.n_bytes:,}")
    return Weights(path=path, spans=spans, facts=facts)
