"""PyTorch's files (.pt), read without running their pickle.

A file is a zip with `data.pkl`, which says which tensors there are, and one member for each storage. The unpickler here
knows tensors, containers and plain values: less than torch.load(weights_only=True) allows, and enough for weights. What
names anything else would run code, and is refused with that name.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile, is_zipfile

from inference.dictionaries.storage.weights import ELEMENT_BYTES, Span, Weights, damaged
from inference.errors import InvalidInput

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}


class RefusedPickle(InvalidInput):
    """A pickle that would run code of some package when it is loaded."""

    code = "refused-pickle"


@dataclass(frozen=True, slots=True)
class _Strided:
    """A tensor as the pickle describes it."""

    dtype: str
    key: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_contents(path: Path) -> Weights:
    """Return the contents of a .pt file; nested names are joined with dots. Raises DamagedDictionary, RefusedPickle."""
    try:
        if not is_zipfile(path):
            if path.open("rb").read(1) == b"\x80":
                raise _refused(path, "it is a bare pickle, as PyTorch wrote before version 1.6")
            raise damaged(path, "it is no complete PyTorch archive")
        with ZipFile(path) as archive:
            index = next((name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"), None)
            if index is None:
                raise damaged(path, "it holds no data.pkl")
            with archive.open(index) as file:
                content = _Reader(file).load()
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error
    except _Foreign as error:
        raise _refused(path, f"loading it would run {error}") from error
    # A pickle that is not what it says can raise nearly anything.
    except (BadZipFile, pickle.UnpicklingError, EOFError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise damaged(path, "its pickle cannot be read") from error
    # A file that is one tensor calls it as itself.
    leaves = dict(_leaves(content, "" if isinstance(content, Mapping) else f"{path.stem}."))
    folder = index.removesuffix("data.pkl")
    return Weights(
        path=path,
        spans={name: _span(path, folder, name, leaf) for name, leaf in leaves.items() if isinstance(leaf, _Strided)},
        facts={name: leaf for name, leaf in leaves.items() if not isinstance(leaf, _Strided)},
    )


class _Foreign(Exception):
    """The name of something that only its own package could make."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        known = {
            ("collections", "OrderedDict"): OrderedDict,
            ("torch", "Size"): tuple,
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
        }
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) in known:
            return known[module, name]
        raise _Foreign(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> tuple[str, str]:
        _, dtype, key, *_ = pid
        return dtype, str(key)


def _tensor(storage: tuple[str, str], offset: int, shape: tuple, strides: tuple, *_: Any) -> _Strided:
    return _Strided(*storage, offset, tuple(shape), tuple(strides))


def _leaves(content: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(content, Mapping):
        yield prefix.removesuffix("."), content
        return
    for name, value in content.items():
        yield from _leaves(value, f"{prefix}{name}.")


def _span(path: Path, folder: str, name: str, tensor: _Strided) -> Span:
    by_columns = len(tensor.shape) == 2 and tensor.strides == (1, tensor.shape[0])
    if not by_columns and tensor.strides != _row_major(tensor.shape):
        raise damaged(path, f"{name} is a view that cannot be read in one piece", tensor=name)
    offset = tensor.offset * ELEMENT_BYTES[tensor.dtype]
    return Span(tensor.shape, tensor.dtype, offset, f"{folder}data/{tensor.key}", transposed=by_columns)


def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _refused(path: Path, why: str) -> RefusedPickle:
    return RefusedPickle(
        f"{path.name} in {path.parent} is refused: {why}.",
        "Load it with the package that wrote it and save its tensors as safetensors, or as a state dict.",
        file=str(path),
    )
