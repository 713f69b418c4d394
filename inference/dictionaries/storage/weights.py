"""The tensors of one file as spans of bytes, and reading them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from zipfile import BadZipFile, ZipFile
from zlib import error as ZlibError

from inference.dictionaries.config import DamagedDictionary

if TYPE_CHECKING:
    from torch import Tensor

# Bytes of an element; the names are torch's.
ELEMENT_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "float8_e4m3fn": 1,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
PIECE_BYTES = 1 << 22
# Where on each of a tensor's first axes a part of it lies: None is all of an axis, a slice some of its second.
At = tuple[int | slice | None, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """A tensor's bytes: in the file, or in a `member` of it if that is a zip, from `offset` on.

    A `transposed` matrix is stored column by column.
    """

    shape: tuple[int, ...]
    dtype: str
    offset: int
    member: str | None = None
    transposed: bool = False

    @property
    def n_bytes(self) -> int:
        return math.prod(self.shape) * ELEMENT_BYTES[self.dtype]

    def narrowed(self, at: At) -> tuple[Span, int | slice | None]:
        """Return the span of what lies at the leading indices, and what of its second axis behind a whole first."""
        if at and self.transposed:
            raise ValueError("a matrix stored column by column has no contiguous rows")
        span = self
        while at and at[0] is not None:
            inner = Span(span.shape[1:], span.dtype, 0)
            span = replace(span, shape=inner.shape, offset=span.offset + at[0] * inner.n_bytes)
            at = at[1:]
        return span, at[1] if at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """The table of contents of a file. `facts` are the values in it that are no tensors."""

    path: Path
    spans: Mapping[str, Span]
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __contains__(self, name: str) -> bool:
        return name in self.spans

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape; raise DamagedDictionary if it is not there."""
        if name not in self.spans:
            raise damaged(self.path, f"it has no tensor {name}", tensor=name)
        return self.spans[name].shape

    def numbers(self, name: str, at: tuple[int, ...] = ()) -> list[float]:
        """Return the values of a short tensor, or of what lies at the indices of one, flat and without torch."""
        import numpy as np

        self.shape(name)
        span, _ = self.spans[name].narrowed(at)
        if span.dtype == "bfloat16":
            bits_n = np.frombuffer(self._bytes(span), np.uint16).astype(np.uint32) << 16
            return bits_n.view(np.float32).tolist()
        return np.frombuffer(self._bytes(span), span.dtype).tolist()

    def tensor(self, name: str, *, at: At = (), transpose: bool = False) -> Tensor:
        """Return a tensor in float32, row-major, or the part of it that lies at some indices of its first axes.

        (3,) is tensor[3], (None, 3) is tensor[:, 3], and (None, slice(3, 5)) is tensor[:, 3:5].flatten(1). Only what
        is asked for is kept, and little more is read. Raises DamagedDictionary if it is cut short or not finite.
        """
        import torch

        self.shape(name)
        span, second = self.spans[name].narrowed(at)
        flip = span.transposed != transpose
        stored = span.shape[::-1] if span.transposed else span.shape
        n_rows = stored[0] if stored else 1
        n_columns = math.prod(stored[1:])
        row_bytes = n_columns * ELEMENT_BYTES[span.dtype]
        shape, kept = span.shape, slice(None)
        if second is not None:
            n_inner = n_columns // span.shape[1]
            first, last, _ = second.indices(span.shape[1]) if isinstance(second, slice) else (second, second + 1, 1)
            kept = slice(first * n_inner, last * n_inner)
            n_columns = kept.stop - kept.start
            shape = (span.shape[0], n_columns) if isinstance(second, slice) else (span.shape[0], *span.shape[2:])
        result = torch.empty(shape[::-1] if transpose else shape)
        target = result.view(n_columns, n_rows).T if flip else result.view(n_rows, n_columns)
        step = max(1, PIECE_BYTES // max(1, row_bytes))
        with self._opened(span) as file:
            for start in range(0, n_rows if row_bytes else 0, step):
                stop = min(start + step, n_rows)
                data = bytearray(self._exactly(file, (stop - start) * row_bytes))
                piece = torch.frombuffer(data, dtype=getattr(torch, span.dtype)).view(stop - start, -1)[:, kept].float()
                if not piece.isfinite().all():
                    raise damaged(self.path, f"{name} has values that are not finite", tensor=name)
                target[start:stop] = piece
        return result

    def _bytes(self, span: Span) -> bytes:
        with self._opened(span) as file:
            return self._exactly(file, span.n_bytes)

    def _exactly(self, file: IO[bytes], n_bytes: int) -> bytes:
        data = file.read(n_bytes)
        if len(data) != n_bytes:
            raise damaged(self.path, "it is cut short")
        return data

    @contextmanager
    def _opened(self, span: Span) -> Iterator[IO[bytes]]:
        try:
            if span.member is None:
                with self.path.open("rb") as file:
                    file.seek(span.offset)
                    yield file
            else:
                with ZipFile(self.path) as archive, archive.open(span.member) as file:
                    file.seek(span.offset)
                    yield file
        except (BadZipFile, ZlibError, KeyError) as error:
            raise damaged(self.path, "its archive is damaged") from error
        except OSError as error:
            raise damaged(self.path, error.strerror or "it cannot be read") from error


def damaged(path: Path, why: str, **details: str) -> DamagedDictionary:
    return DamagedDictionary(
        f"{path.name} in {path.parent} cannot be used: {why}.", "Fetch or write it again.", file=str(path), **details
    )
