"""NumPy's npz: a zip of arrays, each behind a header of its own.

https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
"""

from __future__ import annotations

from pathlib import Path
from zipfile import BadZipFile, ZipFile

from numpy.lib import format as npy

from inference.dictionaries.storage.weights import ELEMENT_BYTES, Span, Weights, damaged


def read_contents(path: Path) -> Weights:
    """Return the contents of an npz file; raise DamagedDictionary where it is missing, damaged or holds objects."""
    spans = {}
    try:
        with ZipFile(path) as archive:
            for info in archive.infolist():
                with archive.open(info) as file:
                    version = npy.read_magic(file)
                    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, by_columns, dtype = read_header(file)
                    if dtype.name not in ELEMENT_BYTES:
                        raise damaged(path, f"{info.filename} holds {dtype.name} values", tensor=info.filename)
                    spans[info.filename.removesuffix(".npy")] = Span(
                        shape, dtype.name, file.tell(), info.filename, transposed=by_columns and len(shape) == 2
                    )
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error
    except (BadZipFile, ValueError) as error:
        raise damaged(path, "it is no complete npz archive") from error
    return Weights(path=path, spans=spans)
